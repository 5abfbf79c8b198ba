//! Timeouts of sources that are due and not told yet, since the source may have something that was not looked at.
//!
//! Two things are waited for, one after the other: that the kernel is asked at the deadline or later (`asked.rs`), and
//! that the source is called for what it is ready for. If its handler has not set the timeout anew by then, it is told.
//! While anything is held the loop does not sleep.

use std::collections::VecDeque;

use super::run::TIMERS_PER_TURN_MAX;
use super::wheel::Due;
use crate::asked::Sweep;
use crate::dispatch::Running;
use crate::registry::Registry;
use crate::slots::Key;

/// A part of those that may run in a turn, so that timers that become due do not wait for those that were held.
const TOLD_PER_TURN_MAX: usize = TIMERS_PER_TURN_MAX / 2;

/// Records stay when a timeout is set anew or ended, and are found to be over when their turn comes.
#[derive(Debug, Default)]
pub(super) struct HeldTimeouts {
    /// Due later than the kernel is known to have been asked, by deadline. With the sweep that is waited for at most.
    unasked: VecDeque<(Due, Sweep)>,
    /// The source is queued. With how often it had been called when the timeout was held.
    unserved: VecDeque<(Due, u64)>,
}

impl HeldTimeouts {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.unasked.is_empty() && self.unserved.is_empty()
    }
}

impl<S> Registry<S> {
    /// Tells those that need not be held any longer. Gives how many.
    #[cold]
    #[inline(never)]
    pub(super) fn tell_held(&mut self, running: &mut Running<S>, state: &mut S) -> usize {
        let mut told = 0;
        for _ in 0..self.timers.held.unserved.len() {
            if told == TOLD_PER_TURN_MAX {
                break;
            }
            let Some((due, calls)) = self.timers.held.unserved.pop_front() else { break };
            match self.source_of(due) {
                Some(source) if self.calls_if_queued(source) == Some(calls) => {
                    self.timers.held.unserved.push_back((due, calls));
                }
                Some(source) => {
                    told += 1;
                    self.deliver_timeout(source, running, state);
                }
                None => {} // it has been set anew, or has ended
            }
        }
        while told < TOLD_PER_TURN_MAX
            && let Some((due, sweep)) = self.timers.held.unasked.front().copied()
            && (self.is_asked(due) || self.asked.is_over(sweep))
        {
            self.timers.held.unasked.pop_front();
            if let Some(source) = self.source_of(due) {
                told += usize::from(self.tell_or_serve(due, source, running, state));
            }
        }
        if self.timers.held.unasked.is_empty() {
            self.timers.held.unasked.shrink_to(TIMERS_PER_TURN_MAX); // a pause may have held back a million
        }
        told
    }

    /// Tells a source that its timeout has passed, or holds that back. Gives whether it was told.
    pub(super) fn tell_or_hold(&mut self, due: Due, source: Key, running: &mut Running<S>, state: &mut S) -> bool {
        let lag_ns = self.timers.pauses.lag_ns(due.arming);
        if lag_ns > 0 && self.put_off_after_pause(due, lag_ns) {
            return false;
        }
        if self.is_asked(due) {
            return self.tell_or_serve(due, source, running, state);
        }
        let sweep = self.asked.begin_sweep(self.watched());
        self.timers.held.unasked.push_back((due, sweep));
        false
    }

    /// For a timeout that was set in a turn that took long: whether it is too early, counted from the end of that turn,
    /// and armed anew.
    #[cold]
    fn put_off_after_pause(&mut self, due: Due, lag_ns: u64) -> bool {
        let (deadline, now_ns) = (due.deadline.saturating_add(lag_ns), self.clock.now_ns());
        deadline > now_ns && self.timers.wheel.rearm(due.key, deadline, now_ns)
    }

    /// The same where all that the kernel has reported by the deadline is here.
    fn tell_or_serve(&mut self, due: Due, source: Key, running: &mut Running<S>, state: &mut S) -> bool {
        if let Some(calls) = self.calls_if_queued(source) {
            self.timers.held.unserved.push_back((due, calls));
            return false;
        }
        self.deliver_timeout(source, running, state);
        true
    }

    /// Whether the kernel has been asked at the deadline or later.
    fn is_asked(&self, due: Due) -> bool {
        due.deadline <= self.clock.nanos_at(self.asked.until())
    }

    /// The source whose timeout is held, unless that has been set anew or has ended meanwhile.
    fn source_of(&mut self, due: Due) -> Option<Key> {
        if self.timers.wheel.is_current(due) { self.timers.timeout_of(due.key) } else { None }
    }

    /// How often a source has been called that is to be called again for what it is ready for.
    fn calls_if_queued(&self, source: Key) -> Option<u64> {
        self.sources.get(source).filter(|slot| slot.queued && slot.ready.intersects(slot.wanted)).map(|slot| slot.calls)
    }
}
