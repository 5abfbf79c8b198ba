//! Requests: what futures ask of their loop.
//!
//! A future cannot reach the registry while it is polled. So it adds a request to a list, which the
//! executor carries out right after the poll. A request that is made outside of a poll on the
//! thread of the loop is carried out with the next pass. On another thread a request goes through
//! the queue of the loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Instant;

use reactor::{Context, Key, Registry, TimerKey};

use super::ending::Panic;
use super::executor::Executor;
use super::io::watch;
use super::sources::access::Access;
use super::tasks::TaskKey;
use super::time;

/// The name of a sleep in the table of sleeps.
pub(super) type SleepKey = TaskKey;

/// The name of a source in the table of sources.
pub(super) type SourceKey = TaskKey;

/// A value in the queue of an executor.
#[derive(Debug)]
pub(super) enum Message {
    /// Another thread has woken a task.
    Wake(TaskKey),
    /// The thread of the loop has woken a task, or made a request, outside of a pass.
    Pass,
    /// Another thread has made a request.
    Request(Request),
}

/// A request that needs no types of the user.
#[derive(Debug)]
pub(super) enum Request {
    /// Arms the timer of a sleep, or moves it.
    Arm(SleepKey, Instant),
    /// Cancels the timer of a sleep that was dropped.
    CancelTimer(TimerKey),
    /// Forgets a sleep that another thread has dropped.
    ForgetSleep(SleepKey),
    /// Forgets a sleep that another thread has moved, and wakes its task to poll it anew.
    RestartSleep(SleepKey),
    /// Cancels a task.
    Abort(TaskKey),
    /// Watches a source in the directions that its futures wait for.
    Watch(SourceKey),
    /// Ends the registration of a source that was dropped.
    Unwatch(Key),
    /// Forgets a source that another thread has dropped.
    ForgetSource(SourceKey),
}

/// A request with the state type of its loop.
pub(super) enum LoopRequest<S> {
    Plain(Request),
    /// A closure that needs the registry of the loop, but not the type of its state.
    Access(Access),
    /// A closure of [`with_context`](super::with_context), and the task that asked for it.
    Call(PendingCall<S>, Option<TaskKey>),
}

/// A call whose future learns that nothing will come any more, if this is dropped.
pub(super) struct PendingCall<S>(pub(super) Rc<dyn Call<S>>);

impl<S> Drop for PendingCall<S> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A closure that runs once, with a context that has the state.
pub(super) trait Call<S> {
    fn run(&self, cx: &mut Context<'_, S>);

    /// Wakes the task that waits, if one does: the closure was called, has panicked, or was given
    /// up.
    fn end(&self) {}
}

impl<S: 'static> Executor<S> {
    pub(super) fn push_request(&self, request: LoopRequest<S>) {
        self.requests.borrow_mut().push_back(request);
    }

    pub(super) fn has_requests(&self) -> bool {
        !self.requests.borrow().is_empty()
    }

    fn next_request(&self) -> Option<LoopRequest<S>> {
        self.requests.borrow_mut().pop_front()
    }

    /// Carries out the requests that were made by now, and those that they make.
    pub(super) fn carry_out_requests(&self, cx: &mut Context<'_, S>) -> Result<(), Panic> {
        while let Some(request) = self.next_request() {
            self.carry_out(request, cx)?;
        }
        Ok(())
    }

    fn carry_out(&self, request: LoopRequest<S>, cx: &mut Context<'_, S>) -> Result<(), Panic> {
        match request {
            LoopRequest::Call(call, asked_by) => {
                let called = catch_unwind(AssertUnwindSafe(|| call.0.run(cx)));
                let called = called.or_else(|panic| self.fail_caller(asked_by, panic, cx.registry));
                // Wakes the task, and drops the answer of a call whose task has ended meanwhile.
                let dropped = self.guard("with_context", cx.registry, |_| drop(call));
                called.and(dropped)
            }
            LoopRequest::Access(access) => {
                self.guard("a request", cx.registry, |registry| access(registry))
            }
            LoopRequest::Plain(Request::Abort(key)) => {
                self.cancel(key, cx.registry).unwrap_or(Ok(()))
            }
            LoopRequest::Plain(request) => {
                let carry_out =
                    |registry: &mut Registry<S>| self.carry_out_plain(request, registry);
                self.guard("a source", cx.registry, carry_out)
            }
        }
    }

    /// Runs code that may drop or wake what belongs to the user. Treats its panic.
    fn guard(
        &self,
        name: &str,
        registry: &mut Registry<S>,
        run: impl FnOnce(&mut Registry<S>),
    ) -> Result<(), Panic> {
        catch_unwind(AssertUnwindSafe(|| run(registry)))
            .or_else(|panic| self.treat(name, None, panic, registry))
    }

    fn carry_out_plain(&self, request: Request, registry: &mut Registry<S>) {
        match request {
            Request::Abort(_) => {} // it needs no guard
            Request::Arm(sleep, deadline) => time::arm(&self.local, sleep, deadline, registry),
            Request::CancelTimer(timer) => {
                let _ = registry.cancel(timer); // it may have run meanwhile
            }
            Request::ForgetSleep(sleep) => drop(time::forget(&self.local, sleep, registry)),
            Request::RestartSleep(sleep) => {
                if let Some(waiter) = time::forget(&self.local, sleep, registry) {
                    waiter.wake(&self.local);
                }
            }
            Request::Watch(source) => watch::update(&self.local, source, registry),
            Request::Unwatch(registration) => {
                let _ = registry.remove(registration); // it may have ended meanwhile
            }
            Request::ForgetSource(source) => watch::forget(&self.local, source, registry),
        }
    }
}
