//! Runs the timers that are due.

use std::io::ErrorKind;
use std::time::Duration;

use super::{Payload, TIMERS_PER_TURN_MAX, Then, TimerKey, mark};
use crate::callback::TimerFn;
use crate::context::Context;
use crate::outcome::CloseReason;
use crate::registry::Registry;
use crate::slots::{Blank, Key};
use crate::source::readiness::Readiness;
use crate::turn::dispatch::Running;
use crate::turn::disposal::OnStack;
use crate::turn::nanos::nanos;
use crate::turn::policies::Label;
use crate::turn::supervised_call::supervise;

impl<S> Registry<S> {
    /// Ends the timer that was running when a panic unwound, unless the timer had ended before.
    pub(crate) fn cancel_unwound(&mut self) {
        if let Some(timer) = self.timers.running.take() {
            self.end_entry(timer);
        }
    }

    /// Runs the timers that are due, at most 1024 in a turn, and delivers the timeouts that are
    /// due. Returns how many ran.
    #[inline(never)]
    pub(crate) fn run_timers(&mut self, running: &mut Running<S>, state: &mut S) -> usize {
        self.rearm_after_set_wall();
        self.timers.wheel.expire(self.time.now_ns());
        let ran_before = self.metrics.timers + self.metrics.calls;
        let mut ran = if self.timers.has_held() {
            self.deliver_held(running, state)
        } else {
            0
        };
        while ran < TIMERS_PER_TURN_MAX {
            let Some((due, origin, payload)) = self.timers.wheel.pop_due() else {
                break;
            };
            if let Payload::TimeoutOf(source) = *payload {
                // Holding a timeout back costs almost nothing, so it does not count against the
                // limit.
                ran += usize::from(self.deliver_or_hold(due, source, running, state));
            } else if let Payload::Callback(callback) = std::mem::replace(payload, Payload::blank())
            {
                ran += 1;
                self.run_timer(TimerKey(due.key), origin, callback, state);
                self.leave_context();
            }
        }
        (self.metrics.timers + self.metrics.calls - ran_before) as usize
    }

    fn run_timer(
        &mut self,
        timer: TimerKey,
        origin: u16,
        callback: Box<TimerFn<S>>,
        state: &mut S,
    ) {
        if self.timers.is_marked(timer, mark::MATTER_WHEN_DUE) {
            if self.timers.is_marked(timer, mark::WALL) && self.postpone_until_wall(timer) {
                return self.put_back(timer, callback);
            }
            if self.timers.is_marked(timer, mark::CONTEXT) {
                self.enter_context(self.contexts.of_timers.get(timer.0).clone());
            }
        }
        self.metrics.timers += 1;
        self.timers.running = Some(timer);
        // Out of its entry while it runs. A panic that unwinds drops it here, and `cancel_unwound`
        // ends the timer.
        let mut taken = OnStack(Some(callback));
        let Some(callback) = &mut taken.0 else { return };
        let mut cx = Context::new(state, self, Key::NULL, Readiness::EMPTY);
        let result = if cx.registry.turn.supervision.is_active() {
            let verdict = supervise(&mut cx, |cx| callback(cx));
            verdict.report(self, |registry| registry.timer_label(origin));
            verdict.result.map_err(CloseReason::Panicked)
        } else {
            Ok(callback(&mut cx))
        };
        let Some(callback) = taken.0.take() else {
            return;
        };
        self.timers.running = None;
        let then = match result {
            Ok(Ok(Then::Done)) => return self.end_timer(timer, callback),
            Ok(Ok(then)) => then,
            Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => Then::After(Duration::ZERO),
            Ok(Err(error)) => {
                return self.end_failed_timer(timer, origin, callback, CloseReason::Failed(error));
            }
            Err(panicked) => return self.end_failed_timer(timer, origin, callback, panicked),
        };
        self.put_back(timer, callback);
        self.arm_next(timer, then);
    }

    /// Ends a timer that has just run, unless it has been cancelled meanwhile. Its callback is
    /// dropped last.
    fn end_timer(&mut self, timer: TimerKey, callback: Box<TimerFn<S>>) {
        self.end_entry(timer); // its entry is blank: the callback is here
        self.dispose(
            callback,
            Label {
                name: "timer",
                origin: None,
            },
        );
    }

    /// Ends a timer that has failed. Its callback and the reason are dropped last.
    #[cold]
    #[inline(never)]
    fn end_failed_timer(
        &mut self,
        timer: TimerKey,
        origin: u16,
        callback: Box<TimerFn<S>>,
        reason: CloseReason,
    ) {
        let is_essential = self.timers.is_marked(timer, mark::ESSENTIAL);
        self.end_entry(timer);
        let label = self.timer_label(origin);
        if let CloseReason::Failed(error) = &reason {
            self.metrics.failures += 1;
            tracing::warn!(callback = %label, %error, "timer failed and ends");
        }
        if is_essential {
            self.stop_run_if_failed(&reason, label);
        }
        self.dispose((callback, reason), label);
    }

    /// Puts the callback of a timer back into its entry, unless the timer has been cancelled
    /// meanwhile.
    fn put_back(&mut self, timer: TimerKey, callback: Box<TimerFn<S>>) {
        match self.timers.wheel.payload(timer.0) {
            Some(place) => *place = Payload::Callback(callback),
            None => self.dispose(
                callback,
                Label {
                    name: "timer",
                    origin: None,
                },
            ),
        }
    }

    fn timer_label(&self, origin: u16) -> Label<'static> {
        Label {
            name: "timer",
            origin: self.timers.origins.get(origin),
        }
    }

    fn arm_next(&mut self, timer: TimerKey, then: Then) {
        let now_ns = self.time.now_ns();
        let deadline = match then {
            Then::Done => return,
            Then::After(delay) => now_ns.saturating_add(nanos(delay)),
            Then::At(time) => self.time.nanos_at(time),
            Then::AtWall(time) => return self.arm_at_wall(timer, time),
        };
        self.timers.rearm(timer.0, deadline, now_ns);
    }
}
