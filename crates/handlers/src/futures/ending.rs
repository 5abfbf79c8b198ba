//! How a task ends: by its output, by a panic, by its key, or with its loop.
//!
//! Ground rule: a task is out of the table before its code is dropped. Its destructor may do
//! anything, and may panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};

use reactor::{PanicPolicy, Registry};

use super::executor::Executor;
use super::task::Body;
use super::tasks::TaskKey;
use super::waker::TaskWaker;
use crate::error::{discard, panic_message};

/// The payload of a panic.
pub(super) type Panic = Box<dyn Any + Send>;

/// The line that spawned a task.
type Origin = &'static Location<'static>;

/// The number of wakers that are kept for new tasks.
const SPARE_KEPT: usize = 1024;

impl<S: 'static> Executor<S> {
    /// Ends the claim of a task on its key. Returns the line that spawned it, and its body unless
    /// it is being polled. The caller ends the task by [`end`](Self::end).
    #[inline]
    pub(super) fn remove(&self, key: TaskKey) -> Option<(Origin, Option<Body<S>>)> {
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.retire(key)?;
        self.foreground.forget(key, entry.is_background);
        self.local.with_woken(|woken| woken.end(key));
        Some((entry.origin, entry.take_body()))
    }

    /// Frees the place of a task that has ended. The place keeps the waker for its next task,
    /// unless somebody still holds it.
    #[inline]
    fn free(&self, key: TaskKey, waker: TaskWaker) {
        let spare = self.spare_wakers.get();
        let is_kept = spare < SPARE_KEPT && waker.is_unused();
        let mut tasks = self.tasks.borrow_mut();
        if let (Some(entry), true) = (tasks.free(key), is_kept) {
            self.spare_wakers.set(spare + 1);
            entry.waker = Some(waker);
        }
    }

    /// Drops a task that was removed, and treats its panic and that of its destructor.
    pub(super) fn end(
        &self,
        key: TaskKey,
        body: Body<S>,
        origin: Option<Origin>,
        panic: Option<Panic>,
        registry: &mut Registry<S>,
    ) -> Result<(), Panic> {
        let Body {
            mut code,
            waker,
            context,
        } = body;
        let ended = context.scope_if_any(|| {
            let name = code.type_name();
            let treated = match panic {
                None => Ok(()),
                Some(panic) => {
                    let message = panic_message(&*panic);
                    let _ = catch_unwind(AssertUnwindSafe(|| code.set_panicked(&message)));
                    self.treat(name, origin, panic, registry)
                }
            };
            let dropped = {
                let _in_task = self.local.enter_task(key);
                catch_unwind(AssertUnwindSafe(|| drop(code)))
            };
            let Err(panic) = dropped else {
                return treated;
            };
            let mut first = treated.err();
            keep_first(&mut first, self.treat(name, origin, panic, registry));
            first.map_or(Ok(()), Err)
        });
        self.free(key, waker);
        let dropped = catch_unwind(AssertUnwindSafe(|| context.end()));
        ended.and(dropped)
    }

    /// Treats a panic of a task as the policy of the loop says. Returns the panic if it is to
    /// unwind.
    pub(super) fn treat(
        &self,
        name: &str,
        origin: Option<Origin>,
        panic: Panic,
        registry: &mut Registry<S>,
    ) -> Result<(), Panic> {
        let message = panic_message(&*panic);
        let at = origin.map_or_else(String::new, |origin| format!(" ({origin})"));
        let report = format!("task {name}{at}: {message}");
        match registry.report_panic(self.queue, &report) {
            Ok(PanicPolicy::RemoveHandler) => {
                discard(panic);
                Ok(())
            }
            _ => Err(panic),
        }
    }

    /// Cancels a task. Returns `None` if the key is stale.
    pub(super) fn cancel(
        &self,
        key: TaskKey,
        registry: &mut Registry<S>,
    ) -> Option<Result<(), Panic>> {
        let (origin, body) = self.remove(key)?;
        let _entered = self.local.enter();
        Some(self.end(key, body?, Some(origin), None, registry))
    }

    /// Ends the task whose closure has panicked.
    pub(super) fn fail_caller(
        &self,
        key: Option<TaskKey>,
        panic: Panic,
        registry: &mut Registry<S>,
    ) -> Result<(), Panic> {
        let removed = key.and_then(|key| Some((key, self.remove(key)?)));
        match removed {
            Some((key, (origin, Some(body)))) => {
                self.end(key, body, Some(origin), Some(panic), registry)
            }
            Some((_, (_, None))) => Err(panic),
            None => self.treat("with_context", None, panic, registry),
        }
    }
}

/// The end of the loop. Each task is dropped separately.
impl<S> Drop for Executor<S> {
    fn drop(&mut self) {
        self.local.retire();
        // A destructor that spawns a task gets a handle whose task is cancelled.
        let _entered = self.local.enter();
        let _in_task = self.local.enter_task(TaskKey::NONE);
        let mut first = None;
        let mut drop_one = |dropping: &mut dyn FnMut()| {
            keep_first(&mut first, catch_unwind(AssertUnwindSafe(dropping)));
        };
        for task in self.tasks.get_mut().take_all() {
            let mut task = Some(task);
            drop_one(&mut || drop(task.take()));
        }
        while let Some(request) = self.requests.get_mut().pop_front() {
            let mut request = Some(request);
            drop_one(&mut || drop(request.take()));
        }
        drop_one(&mut || self.local.clear());
        if let Some(panic) = first.filter(|_| !std::thread::panicking()) {
            resume_unwind(panic);
        }
    }
}

/// Keeps the first of several panics, and logs the others.
fn keep_first(first: &mut Option<Panic>, result: Result<(), Panic>) {
    match result {
        Ok(()) => (),
        Err(panic) if first.is_none() => *first = Some(panic),
        Err(panic) => {
            let message = panic_message(&*panic);
            tracing::error!(message, "the destructor of another task has panicked");
            discard(panic);
        }
    }
}
