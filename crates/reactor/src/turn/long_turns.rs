//! Pauses: turns that took long, because the process was stopped or a callback was slow.
//!
//! The callbacks of a turn share one reading of the clock. A handler that was called after a pause
//! in the middle of its turn has set its timeout by the time before the pause. The timeout would be
//! due at once, although the peer has had no time to answer. Timeouts that were set in a turn that
//! took long therefore count from the end of the turn.
//!
//! The end of a turn is known without another reading: [`Reactor::run`](crate::Reactor::run) reads
//! the clock before the next wait. If a user takes the turns, the time between them is not part of
//! them. The end of a pause is then known only from
//! [`Registry::refresh_now`](crate::Registry::refresh_now) or a manual clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::turn::nanos::nanos;

/// The duration from which a turn is long. Shorter turns are frequent, and shorten a timeout too
/// little to be recorded.
const LONG: Duration = Duration::from_millis(50);

/// The number of pauses that are remembered: enough for some seconds in which each turn is long.
const PAUSES_MAX: usize = 64;

/// A turn, or the part of it before the clock was read again.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// The number of the turn.
    turn: u64,
    /// The time that its callbacks saw.
    began: Instant,
    /// The numbers of the armings in it: greater than the first number, up to the second.
    armings: (u64, u64),
}

#[derive(Debug, Default)]
pub(crate) struct Pauses {
    /// The parts that took long and when they ended, in order of time.
    latest: VecDeque<(Part, Instant)>,
    /// The number of this turn.
    turn: u64,
    /// The number of armings when this turn began, or when the clock was read again in it.
    armings_before: u64,
    /// The number of armings when the kernel was asked in this turn.
    armings_at_wait: u64,
    /// The time when the last turn began, while its end is not known, and the number of armings
    /// then.
    open: Option<Instant>,
    armings_after: u64,
}

impl Pauses {
    /// Begins a turn.
    #[inline]
    pub(crate) const fn begin(&mut self, turn: u64, armings: u64) {
        (self.turn, self.armings_before) = (turn, armings);
        self.armings_at_wait = armings;
    }

    /// Ends a part of the turn, because the clock has been read again. Its callbacks know `began`
    /// as the time of the turn.
    pub(crate) fn split(&mut self, began: Option<Instant>, now: Instant, armings: u64) {
        if let Some(began) = began {
            self.end(began, now, armings);
        }
        self.armings_before = armings;
    }

    /// Ends the turn that began at `began`, at `ended`.
    #[inline]
    pub(super) fn end(&mut self, began: Instant, ended: Instant, armings: u64) {
        // A sum costs half of a difference.
        if began.checked_add(LONG).is_some_and(|long| ended >= long) {
            self.remember(began, ended, armings);
        }
    }

    /// Ends the turn that began at `began`. The time of its end is recorded later, by `close`.
    #[inline]
    pub(super) const fn leave_open(&mut self, began: Instant, armings: u64) {
        (self.open, self.armings_after) = (Some(began), armings);
    }

    /// Forgets the open turn: the time of its end will not be known.
    #[inline]
    pub(crate) const fn forget_open(&mut self) {
        self.open = None;
    }

    /// Closes the turn that was left open, at `ended`.
    #[inline]
    pub(crate) fn close(&mut self, ended: Instant) {
        if let Some(began) = self.open.take() {
            self.end(began, ended, self.armings_after);
        }
    }

    #[cold]
    fn remember(&mut self, began: Instant, ended: Instant, armings: u64) {
        if self.latest.len() == PAUSES_MAX {
            self.latest.pop_front();
        }
        let part = Part {
            turn: self.turn,
            began,
            armings: (self.armings_before, armings),
        };
        self.latest.push_back((part, ended));
    }

    /// Returns `true` if a timer was armed in this turn, after the wait.
    #[inline]
    pub(crate) const fn is_after_wait(&self, arming: u64) -> bool {
        arming > self.armings_at_wait
    }

    /// Returns by how many nanoseconds a timer was armed too early, because its turn took long.
    #[inline]
    pub(crate) fn lag_ns(&self, arming: u64) -> u64 {
        if self.latest.is_empty() {
            0
        } else {
            self.find_lag_ns(arming)
        }
    }

    #[cold]
    fn find_lag_ns(&self, arming: u64) -> u64 {
        let next = self
            .latest
            .partition_point(|(part, _)| part.armings.1 < arming);
        let found = self
            .latest
            .get(next)
            .filter(|(part, _)| part.armings.0 < arming);
        found.map_or(0, |(part, ended)| {
            nanos(ended.saturating_duration_since(part.began))
        })
    }

    /// Returns when a turn ended, if it took long.
    pub(super) fn end_of(&self, turn: u64) -> Option<Instant> {
        self.latest
            .iter()
            .rev()
            .find(|(part, _)| part.turn == turn)
            .map(|(_, ended)| *ended)
    }
}
