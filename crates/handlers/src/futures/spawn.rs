//! Spawning a future from a callback and from a task.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};

use pin_project_lite::pin_project;
use reactor::{Context, Error, Registry};

use super::executor;
use super::join::JoinHandle;
use super::of_thread;
use super::stage::Stage;
use super::task::{Code, Pollable};
use super::tasks::TaskKey;

/// A task that ends with a callback which has the state.
pub(super) trait Task<S>: Pollable {
    /// Calls the callback. Called once, after `poll` has returned `Ready`.
    fn finish(self: Pin<&mut Self>, cx: &mut Context<'_, S>);
}

pin_project! {
    /// A future, and the callback for its output: one allocation.
    struct WithThen<F: Future, C> {
        #[pin]
        stage: Stage<F>,
        then: Option<C>,
    }
}

impl<F: Future, C> Pollable for WithThen<F, C> {
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        self.project().stage.poll(cx)
    }

    fn type_name(&self) -> &'static str {
        self.stage.type_name()
    }
}

impl<S, F, C> Task<S> for WithThen<F, C>
where
    F: Future,
    C: FnOnce(F::Output, &mut Context<'_, S>),
{
    fn finish(self: Pin<&mut Self>, cx: &mut Context<'_, S>) {
        let this = self.project();
        if let (Some(Ok(output)), Some(then)) = (this.stage.take(), this.then.take()) {
            then(output, cx);
        }
    }
}

/// Spawns a future as a task of this loop. When the future is done, `then` is called with its
/// output, and with a context that has the state. Returns the key of the task.
///
/// The future is polled on the thread of the loop, among the [deferred](Registry::defer) callbacks,
/// for the first time in this turn or the next one. It need not be `Send`. It is dropped before
/// `then` is called, within the same callback that has polled it.
///
/// The task keeps [`Reactor::run`](reactor::Reactor::run) alive until it ends, unless it is put
/// [into the background](TaskKey::set_background). If the future or `then` panics, the [panic
/// policy](reactor::PanicPolicy) of the loop applies: with `RemoveHandler` the panic is logged with
/// the type of the future and the line of this call, and only this task ends.
///
/// # Cost
/// O(1), one allocation. A further one if more tasks live than ever before, or if a waker of a task
/// that has ended is still held. The loop keeps the place of a task and its waker for a later task,
/// about 170 bytes, until the loop is dropped. The first task of a loop registers a queue, under
/// the name "futures".
///
/// # Errors
/// - [`Error::Full`], [`Error::Loop`] and [`Error::Os`] if the queue of the first task cannot be
///   registered, as [`Registry::consume`] says.
/// - [`Error::StaleKey`] if that queue was removed by its key.
///
/// ```
/// use handlers::futures;
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::<Vec<u32>>::new()?;
/// futures::spawn(&mut reactor, async { 6 * 7 }, |answer, cx| cx.state.push(answer))?;
/// let mut answers = Vec::new();
/// reactor.run(&mut answers)?;
/// assert_eq!(answers, [42]);
/// # Ok(())
/// # }
/// ```
#[doc(alias("spawn_local", "schedule", "co_spawn"))]
#[track_caller]
pub fn spawn<S, F, C>(registry: &mut Registry<S>, future: F, then: C) -> Result<TaskKey, Error>
where
    S: 'static,
    F: Future + 'static,
    C: FnOnce(F::Output, &mut Context<'_, S>) + 'static,
{
    spawn_from(Location::caller(), registry, future, then)
}

/// Spawns a future for the line `origin`.
pub(super) fn spawn_from<S, F, C>(
    origin: &'static Location<'static>,
    registry: &mut Registry<S>,
    future: F,
    then: C,
) -> Result<TaskKey, Error>
where
    S: 'static,
    F: Future + 'static,
    C: FnOnce(F::Output, &mut Context<'_, S>) + 'static,
{
    let task = Box::pin(WithThen {
        stage: Stage::new(future),
        then: Some(then),
    });
    executor::of_loop(registry)?.spawn(registry, Code::WithState(task), origin)
}

/// Spawns a future as a task of this loop, as [`spawn`] does, and returns a handle that another
/// task can await.
///
/// # Errors
/// - [`Error::Full`], [`Error::Loop`] and [`Error::Os`] if the queue of the first task cannot be
///   registered, as [`Registry::consume`] says.
/// - [`Error::StaleKey`] if that queue was removed by its key.
#[track_caller]
pub fn spawn_joinable<S, F>(
    registry: &mut Registry<S>,
    future: F,
) -> Result<JoinHandle<F::Output>, Error>
where
    S: 'static,
    F: Future + 'static,
    F::Output: 'static,
{
    spawn_joinable_from(Location::caller(), registry, future)
}

/// Spawns a future that can be awaited, for the line `origin`.
pub(super) fn spawn_joinable_from<S, F>(
    origin: &'static Location<'static>,
    registry: &mut Registry<S>,
    future: F,
) -> Result<JoinHandle<F::Output>, Error>
where
    S: 'static,
    F: Future + 'static,
    F::Output: 'static,
{
    let task = Box::pin(Stage::new(future));
    let executor = executor::of_loop(registry)?;
    let key = executor.spawn(registry, Code::Joined(task), origin)?;
    Ok(JoinHandle::new(key, Rc::clone(&executor.local)))
}

/// Spawns a future from within a task, on the same loop. Returns a handle that can be awaited.
///
/// The new task is polled for the first time in this turn or in the next one. It is in the
/// [background](TaskKey::set_background) if the task that spawns it is.
///
/// While the loop ends, futures are dropped. A task that is spawned by such a destructor is dropped
/// at once, and its handle returns [`JoinError::Cancelled`](super::JoinError::Cancelled).
///
/// # Panics
/// If it is called outside of a task of this module. Use [`spawn`] or [`spawn_joinable`] there.
///
/// ```
/// use handlers::futures;
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::<u32>::new()?;
/// let sum = async {
///     let one = futures::spawn_local(async { 1 });
///     let two = futures::spawn_local(async { 2 });
///     one.await.unwrap_or(0) + two.await.unwrap_or(0)
/// };
/// futures::spawn(&mut reactor, sum, |sum, cx| *cx.state = sum)?;
/// let mut sum = 0;
/// reactor.run(&mut sum)?;
/// assert_eq!(sum, 3);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let (local, origin) = (of_thread::current(), Location::caller());
    assert!(local.is_some(), "spawn_local was called outside of a task");
    let Some(local) = local else { unreachable!() };
    let task = Box::pin(Stage::new(future));
    let key = local
        .tasks
        .upgrade()
        .and_then(|tasks| tasks.spawn(task, origin));
    JoinHandle::new(key.unwrap_or(TaskKey::NONE), local)
}
