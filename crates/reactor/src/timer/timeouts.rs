//! How the timeouts of sources are told: not while the source may have something that was not looked at.
//!
//! Two things are waited for, one after the other: that the kernel is asked at the deadline or later (`sys/reported_until.rs`), and
//! that the source is called for what it is ready for. If its handler has not set the timeout anew by then, it is told.
//! While anything is held the loop does not sleep.

use super::TIMERS_PER_TURN_MAX;
use super::wheel::Due;
use crate::registry::Registry;
use crate::slots::Key;
use crate::turn::dispatch::Running;

/// A part of those that may run in a turn, so that timers that become due do not wait for those that were held.
const TOLD_PER_TURN_MAX: usize = TIMERS_PER_TURN_MAX / 2;

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
            let Some((due, calls)) = self.timers.held.unserved.pop_front() else {
                break;
            };
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
            && (self.is_reported(due) || self.sys.reported.is_over(sweep))
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
    pub(super) fn tell_or_hold(
        &mut self,
        due: Due,
        source: Key,
        running: &mut Running<S>,
        state: &mut S,
    ) -> bool {
        let lag_ns = self.time.pauses.lag_ns(due.arming);
        if lag_ns > 0 && self.put_off_after_pause(due, lag_ns) {
            return false;
        }
        if self.is_reported(due) {
            return self.tell_or_serve(due, source, running, state);
        }
        // All that the kernel may have to report.
        let watched = self.sources.len() + self.sys.poller.own();
        let sweep = self.sys.reported.begin_sweep(watched);
        self.timers.held.unasked.push_back((due, sweep));
        false
    }

    /// For a timeout that was set in a turn that took long: whether it is too early, counted from the end of that turn,
    /// and armed anew.
    #[cold]
    fn put_off_after_pause(&mut self, due: Due, lag_ns: u64) -> bool {
        let (deadline, now_ns) = (due.deadline.saturating_add(lag_ns), self.time.now_ns());
        deadline > now_ns && self.timers.wheel.rearm(due.key, deadline, now_ns)
    }

    /// The same where all that the kernel has reported by the deadline is here.
    fn tell_or_serve(
        &mut self,
        due: Due,
        source: Key,
        running: &mut Running<S>,
        state: &mut S,
    ) -> bool {
        if let Some(calls) = self.calls_if_queued(source) {
            self.timers.held.unserved.push_back((due, calls));
            return false;
        }
        self.deliver_timeout(source, running, state);
        true
    }

    /// Whether the kernel has been asked at the deadline or later.
    fn is_reported(&self, due: Due) -> bool {
        due.deadline <= self.time.nanos_at(self.sys.reported.until())
    }

    /// The source whose timeout is held, unless that has been set anew or has ended meanwhile.
    fn source_of(&mut self, due: Due) -> Option<Key> {
        if self.timers.wheel.is_current(due) {
            self.timers.timeout_of(due.key)
        } else {
            None
        }
    }

    /// How often a source has been called that is to be called again for what it is ready for.
    fn calls_if_queued(&self, source: Key) -> Option<u64> {
        self.sources
            .get(source)
            .filter(|slot| slot.queued && slot.ready.intersects(slot.wanted))
            .map(|slot| slot.calls)
    }
}
