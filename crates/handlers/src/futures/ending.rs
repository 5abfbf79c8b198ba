//! How a task ends: by its output, by a panic, by its key, or with its loop.
//!
//! Ground rule: the key of a task is stale before its code is dropped. Its destructor may do
//! anything, and may panic.

use std::any::Any;
use std::cell::RefMut;
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::Waker;

use reactor::{PanicPolicy, Registry};

use super::executor::Executor;
use super::join::{JoinError, Joined};
use super::local::Pass;
use super::of_thread;
use super::places::Place;
use super::task::{Body, Code, Handle, Slot};
use super::tasks::TaskKey;
use super::waiter::WakerId;
use crate::error::{discard, panic_message};

/// The payload of a panic.
pub(super) type Panic = Box<dyn Any + Send>;

/// The line that spawned a task.
type Origin = &'static Location<'static>;

/// How a task ends.
pub(super) enum End {
    /// Its future has ended.
    Finished,
    Cancelled,
    Panicked(Panic),
}

impl<S: 'static> Executor<S> {
    /// Ends the claim of a task on its key. Returns its body, unless it is being polled. The caller
    /// ends the task by [`end`](Self::end).
    #[inline]
    pub(super) fn remove<'a>(
        &self,
        key: TaskKey,
        slot: &'a Place<Slot<S>>,
    ) -> Option<RefMut<'a, Body<S>>> {
        let body = slot.body.try_borrow_mut().ok()?;
        slot.retire();
        self.foreground.forget(key, slot.is_background.get());
        self.local.with_woken(|woken| woken.end(key));
        Some(body)
    }

    /// Ends a task that was removed: keeps its result for its handle, or drops it. Treats its panic
    /// and that of its destructor.
    pub(super) fn end(
        &self,
        key: TaskKey,
        slot: &Place<Slot<S>>,
        mut body: RefMut<'_, Body<S>>,
        end: End,
        registry: &mut Registry<S>,
    ) -> Result<(), Panic> {
        let Body { code, context, .. } = &mut *body;
        let context = mem::take(context);
        let (name, origin) = (
            code.as_ref().map_or("", Code::type_name),
            Some(slot.origin.get()),
        );
        let mut first = None;
        let mut treat = |ended: Result<(), Panic>| {
            if let Err(panic) = ended {
                keep_first(&mut first, self.treat(name, origin, panic, registry));
            }
        };
        context.scope_if_any(|| {
            let failure = match end {
                End::Finished => None,
                End::Cancelled => Some(JoinError::Cancelled),
                End::Panicked(panic) => {
                    let message = panic_message(&*panic);
                    treat(Err(panic));
                    Some(JoinError::Panicked(message))
                }
            };
            let settled = {
                let _in_task = self.local.enter_task(key, WakerId::NONE);
                settle(slot, code, failure)
            };
            treat(settled);
        });
        let awaited_by = slot.awaited_by.take();
        if slot.handle.get() != Handle::HasResult {
            self.tasks.free(key, slot);
        }
        drop(body);
        treat(catch_unwind(AssertUnwindSafe(|| context.end())));
        if let Some(waker) = awaited_by {
            treat(catch_unwind(AssertUnwindSafe(|| waker.wake())));
        }
        first.map_or(Ok(()), Err)
    }

    /// Takes a task whose place holds its result, and frees the place. Without a result, none is
    /// kept from now on.
    pub(super) fn take_result(&self, key: TaskKey) -> Option<Pin<Box<dyn Joined>>> {
        let slot = self.tasks.get_retired(key)?;
        let result = take_result(slot)?;
        self.tasks.free(key, slot);
        Some(result)
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
        let slot = self.tasks.get(key)?;
        let body = self.remove(key, slot)?;
        if self.local.pass.get() != Pass::Running {
            self.local.now.set(registry.now()); // a destructor may begin a time
        }
        let _entered = of_thread::enter(&self.local);
        Some(self.end(key, slot, body, End::Cancelled, registry))
    }

    /// Ends the task whose closure has panicked.
    pub(super) fn fail_caller(
        &self,
        key: Option<TaskKey>,
        panic: Panic,
        registry: &mut Registry<S>,
    ) -> Result<(), Panic> {
        let found = key.and_then(|key| {
            let slot = self.tasks.get(key)?;
            Some((key, slot, self.remove(key, slot)?))
        });
        match found {
            Some((key, slot, body)) => self.end(key, slot, body, End::Panicked(panic), registry),
            None => self.treat("with_context", None, panic, registry),
        }
    }
}

/// Keeps the result of a task in its place, until its handle asks for it. Drops all else. Returns
/// the panic of a destructor.
fn settle<S>(
    slot: &Slot<S>,
    code: &mut Option<Code<S>>,
    failure: Option<JoinError>,
) -> Result<(), Panic> {
    let is_cancelled = failure == Some(JoinError::Cancelled);
    let is_awaited = || slot.handle.get() == Handle::Waits && !is_cancelled;
    let mut failed = Ok(());
    if let (Some(Code::Joined(task)), Some(error)) = (&mut *code, failure)
        && is_awaited()
    {
        failed = catch_unwind(AssertUnwindSafe(|| task.as_mut().fail(error)));
    }
    if is_awaited() {
        slot.handle.set(Handle::HasResult);
        return failed;
    }
    failed.and(catch_unwind(AssertUnwindSafe(|| *code = None)))
}

/// Takes the result that a place holds.
fn take_result<S>(slot: &Slot<S>) -> Option<Pin<Box<dyn Joined>>> {
    if slot.handle.replace(Handle::None) != Handle::HasResult {
        return None;
    }
    match slot.body.borrow_mut().code.take()? {
        Code::Joined(task) => Some(task),
        Code::WithState(_) => None,
    }
}

/// The end of the loop. Each task is dropped separately.
impl<S> Drop for Executor<S> {
    fn drop(&mut self) {
        of_thread::remove(&self.local);
        // A destructor that spawns a task gets a handle whose task is cancelled.
        let _entered = of_thread::enter(&self.local);
        let _in_task = self.local.enter_task(TaskKey::NONE, WakerId::NONE);
        let mut first = None;
        let mut drop_one = |dropping: &mut dyn FnMut()| {
            keep_first(&mut first, catch_unwind(AssertUnwindSafe(dropping)));
        };
        for (key, slot) in self.tasks.iter_retired() {
            if let Some(task) = take_result(slot) {
                self.local.keep_unclaimed(key, task);
            }
        }
        // First, since a destructor may join a thread that takes a source back.
        self.local.clear(&mut drop_one);
        for (_, slot) in self.tasks.iter_places(usize::MAX) {
            let (mut body, mut awaited_by) = (slot.body.take(), slot.awaited_by.take());
            drop_one(&mut || drop(body.code.take()));
            drop_one(&mut || mem::take(&mut body.context).end());
            drop_one(&mut || awaited_by.take().into_iter().for_each(Waker::wake));
        }
        while let Some(request) = self.requests.get_mut().pop_front() {
            let mut request = Some(request);
            drop_one(&mut || drop(request.take()));
        }
        self.local.clear(&mut drop_one); // what destructors have added
        if let Some(panic) = first.filter(|_| !std::thread::panicking()) {
            resume_unwind(panic);
        }
    }
}

/// Keeps the first of several panics, and logs the others.
pub(super) fn keep_first(first: &mut Option<Panic>, result: Result<(), Panic>) {
    match result {
        Ok(()) => (),
        Err(panic) if first.is_none() => *first = Some(panic),
        Err(panic) => {
            let message = panic_message(&*panic);
            tracing::error!(message, "another waker or destructor has panicked");
            discard(panic);
        }
    }
}
