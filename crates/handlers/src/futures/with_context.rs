//! The state within a future: a closure that the executor calls after the poll.

use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, Waker};

use reactor::Context;

use super::executor::Executor;
use super::of_thread;
use super::requests::{Call, LoopRequest, PendingCall};
use crate::carried::CallerContext;

/// Returns a future that calls `callback` with the state and the registry of the loop, and returns
/// what `callback` returns.
///
/// A future cannot reach the state while it is polled. So `callback` is called right after the
/// poll, and the task is polled once more. If the future is dropped before, `callback` is dropped
/// without a call.
///
/// If `callback` panics, the task that awaits it ends, as if its own poll had panicked.
///
/// # Cost
/// One allocation and one more poll of the task, in the same turn unless the budget of the turn is
/// used up.
///
/// # Panics
/// The future panics if its first poll is outside of a task of this module, or if `S` is not the
/// type of the loop's state. If another task awaits it after that, it panics there when the
/// callback has panicked, or when the loop of the first poll has ended before the call.
///
/// ```
/// use handlers::futures;
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::<u32>::new()?;
/// let double = async {
///     let before = futures::with_context(|cx| {
///         let state: &mut u32 = cx.state;
///         *state *= 2;
///         *state
///     });
///     before.await
/// };
/// futures::spawn(&mut reactor, double, |doubled, cx| assert_eq!(doubled, *cx.state))?;
/// let mut state = 21;
/// reactor.run(&mut state)?;
/// assert_eq!(state, 42);
/// # Ok(())
/// # }
/// ```
pub fn with_context<S, R, C>(callback: C) -> WithContext<S, R, C>
where
    S: 'static,
    R: 'static,
    C: FnOnce(&mut Context<'_, S>) -> R + 'static,
{
    WithContext {
        stage: Stage::New(Some(callback)),
        state: PhantomData,
    }
}

/// The future of [`with_context`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct WithContext<S, R, C> {
    stage: Stage<R, C>,
    state: PhantomData<fn(S)>,
}

enum Stage<R, C> {
    New(Option<C>),
    Asked(Rc<Asked<R, C>>),
}

/// A callback on its way to the executor, and its answer on the way back.
struct Asked<R, C> {
    callback: Cell<Option<C>>,
    answer: Cell<Option<R>>,
    waker: RefCell<Option<Waker>>,
    /// No answer comes any more.
    has_ended: Cell<bool>,
    context: CallerContext,
}

impl<S, R, C> Call<S> for Asked<R, C>
where
    C: FnOnce(&mut Context<'_, S>) -> R,
{
    fn run(&self, cx: &mut Context<'_, S>) {
        if let Some(callback) = self.callback.take() {
            let answer = self.context.scope(|| callback(cx));
            self.answer.set(Some(answer));
        }
    }

    fn end(&self) {
        self.has_ended.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl<S, R, C> Unpin for WithContext<S, R, C> {}

impl<S, R, C> Future for WithContext<S, R, C>
where
    S: 'static,
    R: 'static,
    C: FnOnce(&mut Context<'_, S>) -> R + 'static,
{
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<R> {
        match &mut self.stage {
            Stage::New(callback) => {
                let asked = Rc::new(Asked {
                    callback: Cell::new(callback.take()),
                    answer: Cell::new(None),
                    waker: RefCell::new(Some(cx.waker().clone())),
                    has_ended: Cell::new(false),
                    context: CallerContext::current(),
                });
                let is_accepted = ask(PendingCall(Rc::clone(&asked) as Rc<dyn Call<S>>));
                let state = type_name::<S>();
                assert!(
                    is_accepted,
                    "no task of a loop with the state {state} is polled"
                );
                self.stage = Stage::Asked(asked);
                Poll::Pending
            }
            Stage::Asked(asked) => match asked.answer.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    assert!(
                        !asked.has_ended.get(),
                        "the callback of with_context has panicked, or its loop has ended"
                    );
                    let is_known = |known: &Waker| known.will_wake(cx.waker());
                    if !asked.waker.borrow().as_ref().is_some_and(is_known) {
                        let _old = asked.waker.replace(Some(cx.waker().clone()));
                    }
                    Poll::Pending
                }
            },
        }
    }
}

/// Passes a callback to the executor whose task is polled. Returns `false` if there is none, or if
/// its loop has another state.
fn ask<S: 'static>(call: PendingCall<S>) -> bool {
    let Some(local) = of_thread::current() else {
        return false;
    };
    let Some(tasks) = local.tasks.upgrade() else {
        return true; // the loop is ending: nothing polls this future again
    };
    let executor = tasks.as_any().downcast_ref::<Executor<S>>();
    executor.is_some_and(|executor| {
        executor.push_request(LoopRequest::Call(call, local.polling()));
        local.announce_pass();
        true
    })
}

impl<S, R, C> Drop for WithContext<S, R, C> {
    fn drop(&mut self) {
        if let Stage::Asked(asked) = &self.stage {
            let _unused = asked.waker.take();
            drop(asked.callback.take());
        }
    }
}

impl<S, R, C> fmt::Debug for WithContext<S, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithContext")
            .field("is_asked", &matches!(self.stage, Stage::Asked(_)))
            .finish_non_exhaustive()
    }
}
