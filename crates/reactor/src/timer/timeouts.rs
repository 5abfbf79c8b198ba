//! Delivery of the timeouts of sources. A timeout is not delivered while its source may have unread
//! events.
//!
//! Two things come first, in this order: the kernel is asked at the deadline or later
//! (`sys/reported_until.rs`), and the source is called for its readiness. If the handler of the
//! source has not restarted the timeout by then, the handler is notified. While a timeout is held
//! the loop does not sleep.

use super::TIMERS_PER_TURN_MAX;
use super::wheel::Due;
use crate::registry::Registry;
use crate::slots::Key;
use crate::turn::dispatch::Running;

/// The maximum number of held timeouts delivered in a turn. It is half of the timers of a turn, so
/// that timers which become due are not delayed by held timeouts.
const DELIVERED_PER_TURN_MAX: usize = TIMERS_PER_TURN_MAX / 2;

impl<S> Registry<S> {
    /// Delivers held timeouts that need not be held any longer. Returns how many were delivered.
    #[cold]
    #[inline(never)]
    pub(super) fn deliver_held(&mut self, running: &mut Running<S>, state: &mut S) -> usize {
        let mut delivered = 0;
        // Each record is looked at once. A record whose source is still queued goes to the end.
        for _ in 0..self.timers.held.unserved.len() {
            if delivered == DELIVERED_PER_TURN_MAX {
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
                    delivered += 1;
                    self.deliver_timeout(source, running, state);
                }
                None => {} // it has been restarted, or has ended
            }
        }
        while delivered < DELIVERED_PER_TURN_MAX
            && let Some((due, sweep)) = self.timers.held.unasked.front().copied()
            && (self.is_reported(due) || self.sys.reported.is_over(sweep))
        {
            self.timers.held.unasked.pop_front();
            if let Some(source) = self.source_of(due) {
                delivered += usize::from(self.deliver_or_serve(due, source, running, state));
            }
        }
        if self.timers.held.unasked.is_empty() {
            // A pause may have held back a million timeouts.
            self.timers.held.unasked.shrink_to(TIMERS_PER_TURN_MAX);
        }
        delivered
    }

    /// Notifies a source of its timeout, or holds the timeout back. Returns `true` if the source
    /// was notified.
    pub(super) fn deliver_or_hold(
        &mut self,
        due: Due,
        source: Key,
        running: &mut Running<S>,
        state: &mut S,
    ) -> bool {
        let lag_ns = self.time.pauses.lag_ns(due.arming);
        if lag_ns > 0 && self.postpone_after_pause(due, lag_ns) {
            return false;
        }
        if self.is_reported(due) {
            return self.deliver_or_serve(due, source, running, state);
        }
        // All descriptors about which the kernel may have something to report.
        let watched = self.sources.len() + self.sys.poller.own();
        let sweep = self.sys.reported.begin_sweep(watched);
        self.timers.held.unasked.push_back((due, sweep));
        false
    }

    /// Postpones a timeout that was set in a turn that took long, if it would be too early when
    /// counted from the end of that turn. Returns `true` if it was re-armed.
    #[cold]
    fn postpone_after_pause(&mut self, due: Due, lag_ns: u64) -> bool {
        let (deadline, now_ns) = (due.deadline.saturating_add(lag_ns), self.time.now_ns());
        deadline > now_ns && self.timers.wheel.rearm(due.key, deadline, now_ns)
    }

    /// Notifies a source of its timeout, or holds the timeout back until the source has been
    /// called. The kernel's reports up to the deadline have been read.
    fn deliver_or_serve(
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

    /// Returns `true` if the kernel has been asked at the deadline or later, and since the timeout
    /// was set: before that, the source may not have been watched.
    fn is_reported(&self, due: Due) -> bool {
        due.deadline <= self.time.nanos_at(self.sys.reported.until())
            && !self.time.pauses.is_after_wait(due.arming)
    }

    /// Returns the source whose timeout is held, unless the timeout has been restarted or ended
    /// meanwhile.
    fn source_of(&mut self, due: Due) -> Option<Key> {
        if self.timers.wheel.is_current(due) {
            self.timers.timeout_of(due.key)
        } else {
            None
        }
    }

    /// Returns the number of calls of a source so far, if the source is queued for another call.
    fn calls_if_queued(&self, source: Key) -> Option<u64> {
        self.sources
            .get(source)
            .filter(|slot| slot.queued && slot.ready.intersects(slot.wanted))
            .map(|slot| slot.calls)
    }
}
