//! The phases of a turn, in their order. Each is bounded, so no phase delays the next one forever.

use std::time::Duration;

use super::dispatch::Running;
use super::hook_list::Place;
use crate::error::Error;
use crate::registry::Registry;

impl<S> Registry<S> {
    /// Takes a turn. Returns how many callbacks ran. If a panic unwinds through a handler, its
    /// entry is left in `running`.
    #[inline]
    pub(crate) fn take_turn(
        &mut self,
        running: &mut Running<S>,
        state: &mut S,
        timeout: Option<Duration>,
        is_left: fn(&Self) -> bool,
    ) -> Result<usize, Error> {
        self.metrics.turns += 1;
        self.time.begin_turn();
        if self.hooks.is_empty(Place::BeforeWait) {
            self.wait(timeout)?;
        } else {
            self.wait_behind_hooks(state, timeout, is_left)?;
        }
        self.run_hooks_at(Place::AfterWait, state);
        let began = self.turn.supervision.times_turns().then(|| self.now());

        // At most one call for each source, timeouts apart.
        let mut ran = self.call_sources(running, state);
        if !self.turn.needs_full_turn {
            ran += self.call_deferred(state);
        } else {
            // The timers due now. A timer that they arm runs next turn at the earliest.
            ran += self.call_timers(running, state);
            // Each queue up to the rest of its limit. Further values wait for the next turn.
            ran += self.call_queues(running, state);
            // Last, so that all others can defer. A callback deferred here runs next turn.
            ran += self.call_deferred(state);
            self.time.close_turn(self.timers.armings());
        }
        if ran == 0 {
            ran = self.run_hooks_at(Place::Idle, state);
        }

        if let Some(began) = began {
            let took = self.time.read() - began;
            self.turn.supervision.record_turn(took);
        }
        Ok(ran)
    }

    /// Runs the hooks before the wait, and waits. The wait has no time if a wake came before the
    /// hooks, since the hooks answer the wake. It has no time either if nothing is left to wait
    /// for.
    #[cold]
    #[inline(never)]
    fn wait_behind_hooks(
        &mut self,
        state: &mut S,
        timeout: Option<Duration>,
        is_left: fn(&Self) -> bool,
    ) -> Result<(), Error> {
        let is_woken = self.take_wake();
        self.run_hooks(Place::BeforeWait, state);
        let nothing_is_left = !is_left(self);
        self.wait(if is_woken || nothing_is_left {
            Some(Duration::ZERO)
        } else {
            timeout
        })
    }

    /// Calls every source that is ready, up to the budget. Returns how many were called.
    fn call_sources(&mut self, running: &mut Running<S>, state: &mut S) -> usize {
        let before = self.metrics.calls;
        if self.sources.has_priorities() {
            self.collect_all();
        }
        // Divided before delivery: a source that a delivery leaves ready belongs to the next turn.
        let shares = self.sources.ready.shares(self.turn.max_calls);
        self.deliver_all(running, state);
        if let Some(shares) = shares {
            self.run_ready(shares, running, state);
        }
        (self.metrics.calls - before) as usize
    }

    fn call_timers(&mut self, running: &mut Running<S>, state: &mut S) -> usize {
        let Self { timers, time, .. } = self;
        if timers.is_empty() || timers.are_quiet(time) {
            0
        } else {
            self.run_timers(running, state)
        }
    }

    /// Delivers the values that other threads have sent. Returns how many were handled.
    fn call_queues(&mut self, running: &mut Running<S>, state: &mut S) -> usize {
        if self.inbox.hub.is_none() {
            return 0;
        }
        let before = self.metrics.calls;
        self.deliver_messages(running, state);
        (self.metrics.calls - before) as usize
    }

    fn call_deferred(&mut self, state: &mut S) -> usize {
        if self.deferred.is_empty() {
            0
        } else {
            self.run_deferred(state)
        }
    }

    fn run_hooks_at(&mut self, place: Place, state: &mut S) -> usize {
        if self.hooks.is_empty(place) {
            0
        } else {
            self.run_hooks(place, state)
        }
    }
}
