//! How a task ends: by its output, by a panic, by its key, or with its loop.
//!
//! Ground rule: a task is out of the table before its code is dropped. Its destructor may do
//! anything, and may panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};

use reactor::{PanicPolicy, Registry};

use super::executor::Executor;
use super::task::{Body, Entry};
use super::tasks::TaskKey;
use crate::error::{discard, panic_message};

/// The payload of a panic.
pub(super) type Panic = Box<dyn Any + Send>;

impl<S: 'static> Executor<S> {
    /// Removes a task that is out of the table. Returns its origin.
    pub(super) fn forget(&self, key: TaskKey) -> Option<&'static Location<'static>> {
        self.remove(key).map(|entry| entry.origin)
    }

    pub(super) fn remove(&self, key: TaskKey) -> Option<Entry<S>> {
        let entry = self.tasks.borrow_mut().remove(key)?;
        self.foreground.remove(usize::from(!entry.is_background));
        self.local.with_woken(|woken| woken.end(key));
        Some(entry)
    }

    /// Drops a task that was removed, and treats its panic and that of its destructor.
    pub(super) fn end(
        &self,
        key: TaskKey,
        body: Body<S>,
        origin: Option<&'static Location<'static>>,
        panic: Option<Panic>,
        registry: &mut Registry<S>,
    ) -> Result<(), Panic> {
        let Body { mut code, waker } = body;
        let name = code.type_name();
        let treated = panic.map_or(Ok(()), |panic| {
            let message = panic_message(&*panic);
            let _ = catch_unwind(AssertUnwindSafe(|| code.set_panicked(&message)));
            self.treat(name, origin, panic, registry)
        });
        let dropped = {
            let _in_task = self.local.enter_task(key);
            catch_unwind(AssertUnwindSafe(|| drop(code)))
        };
        self.spare_wakers.borrow_mut().put(waker);
        let dropped = dropped.or_else(|panic| self.treat(name, origin, panic, registry));
        let mut first = treated.err();
        keep_first(&mut first, dropped);
        first.map_or(Ok(()), Err)
    }

    /// Treats a panic of a task as the policy of the loop says. Returns the panic if it is to
    /// unwind.
    pub(super) fn treat(
        &self,
        name: &str,
        origin: Option<&'static Location<'static>>,
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
        let mut entry = self.remove(key)?;
        let body = entry.body.take()?;
        let _entered = self.local.enter();
        Some(self.end(key, body, Some(entry.origin), None, registry))
    }

    /// Ends the task whose closure has panicked.
    pub(super) fn fail_caller(
        &self,
        key: Option<TaskKey>,
        panic: Panic,
        registry: &mut Registry<S>,
    ) -> Result<(), Panic> {
        let entry = key.and_then(|key| Some((key, self.remove(key)?)));
        let Some((key, mut entry)) = entry else {
            return self.treat("with_context", None, panic, registry);
        };
        match entry.body.take() {
            Some(body) => self.end(key, body, Some(entry.origin), Some(panic), registry),
            None => Err(panic),
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
