//! The pass of an executor over its woken tasks.
//!
//! A pass runs among the deferred callbacks of a turn, at most once a turn. It polls the woken
//! tasks in the order of their wakes, and those that are woken meanwhile, until its budget is used
//! up. The rest waits for the next turn, which does not sleep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::{self, Poll};

use reactor::{Context, Registry};

use super::ending::{End, Panic};
use super::executor::{self, Executor};
use super::local::Pass;
use super::of_thread;
use super::places::Place;
use super::task::{Body, Code, Slot};
use super::tasks::TaskKey;
use super::waiter::WakerId;
use super::woken::Woken;
use crate::carried::for_no_request;

/// The number of polls before the first reading of the clock in a pass. Later readings follow after
/// as many polls again if the time runs short, and otherwise after twice as many.
const POLLS_PER_CLOCK_READING: usize = 8;

/// Polls the woken tasks of a loop.
fn run_pass<S: 'static>(cx: &mut Context<'_, S>) {
    let Some(executor) = executor::find(cx.registry) else {
        return;
    };
    let entered = of_thread::enter(&executor.local);
    // A pass that is cut short must be ended too, or no task would be polled again.
    let outcome = catch_unwind(AssertUnwindSafe(|| executor.pass(cx))).unwrap_or_else(Err);
    drop(entered);
    executor.end_pass(cx.registry);
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

impl<S: 'static> Executor<S> {
    /// Makes sure that a pass comes, without a message.
    pub(super) fn defer_pass(&self, registry: &mut Registry<S>) {
        if matches!(self.local.pass.get(), Pass::None | Pass::Announced) {
            self.local.pass.set(Pass::Deferred);
            for_no_request(|| registry.defer(run_pass)); // it polls the tasks of all requests
        }
    }

    /// Polls the woken tasks, up to the budget. Returns the panic that is to unwind, if any.
    fn pass(&self, cx: &mut Context<'_, S>) -> Result<(), Panic> {
        let (max_polls, max_time) = self.budget.get();
        let began = cx.registry.now();
        self.local.begin_pass(began);
        self.carry_out_requests(cx)?;
        let mut next_reading = POLLS_PER_CLOCK_READING;
        for polled in 1..=max_polls {
            let Some(key) = self.next_woken() else {
                break;
            };
            self.poll_task(key, cx)?;
            if self.has_requests() {
                self.carry_out_requests(cx)?;
            }
            if polled == next_reading {
                let took = cx.registry.refresh_now().saturating_duration_since(began);
                if took >= max_time {
                    break;
                }
                next_reading += match took >= max_time / 4 {
                    true => POLLS_PER_CLOCK_READING,
                    false => polled,
                };
            }
        }
        Ok(())
    }

    fn next_woken(&self) -> Option<TaskKey> {
        self.local.with_woken(Woken::next)
    }

    /// Ends a pass, also after a panic.
    fn end_pass(&self, registry: &mut Registry<S>) {
        self.local.pass.set(Pass::None);
        self.keep_alive_if_needed(registry, None);
        let has_more = !self.local.with_woken(|woken| woken.is_empty())
            || self.has_requests()
            || self.local.has_yielded();
        if has_more {
            self.defer_pass(registry);
        }
        self.local.wake_yielded(); // last, since a waker may be the code of a user
    }

    /// Polls one task, unless it has ended.
    fn poll_task(&self, key: TaskKey, cx: &mut Context<'_, S>) -> Result<(), Panic> {
        let Some(slot) = self.tasks.get(key) else {
            return Ok(());
        };
        let polled = {
            let Some(mut body) = slot.begin_poll() else {
                return Ok(());
            };
            let Body {
                code: Some(code),
                waker: Some(waker),
                context,
            } = &mut *body
            else {
                return Ok(());
            };
            let waker = waker.waker();
            let _in_task = self.local.enter_task(key, WakerId::of(waker));
            let mut task_cx = task::Context::from_waker(waker);
            catch_unwind(AssertUnwindSafe(|| {
                context.scope_if_any(|| code.poll(&mut task_cx))
            }))
        };
        match polled {
            Ok(Poll::Pending) => Ok(()),
            Ok(Poll::Ready(())) => self.finish(key, slot, cx),
            Err(panic) => match self.remove(key, slot) {
                Some(body) => self.end(key, slot, body, End::Panicked(panic), cx.registry),
                None => Err(panic),
            },
        }
    }

    /// Ends a task whose future has ended.
    fn finish(
        &self,
        key: TaskKey,
        slot: &Place<Slot<S>>,
        cx: &mut Context<'_, S>,
    ) -> Result<(), Panic> {
        let Some(mut body) = self.remove(key, slot) else {
            return Ok(());
        };
        let mut end = End::Finished;
        if let Body {
            code: Some(Code::WithState(task)),
            context,
            ..
        } = &mut *body
        {
            let call = || context.scope(|| task.as_mut().finish(cx));
            if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
                end = End::Panicked(panic);
            }
        }
        self.end(key, slot, body, end, cx.registry)
    }
}
