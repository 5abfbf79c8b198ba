//! Pauses: turns that took long, since the process was stopped or a callback was slow.
//!
//! The callbacks of a turn share one reading of the clock. A handler that was called after a pause in the middle of its
//! turn has set its timeout by the time before the pause, and would be told at once, though its peer has had no time to
//! answer. So the timeouts that were set in a turn that took long count from its end.
//!
//! The end of a turn is known without another reading: [`Reactor::run`](crate::Reactor::run) reads the clock before the
//! next wait. Where a user takes the turns, the time between them is not a part of them, so there only
//! [`Registry::refresh_now`](crate::Registry::refresh_now) and a manual clock tell.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::turn::nanos::nanos;

/// A shorter turn is daily life, and what it takes off a timeout is not worth a note.
const LONG: Duration = Duration::from_millis(50);

/// Those that are remembered: enough for some seconds in which each turn is long.
const PAUSES_MAX: usize = 64;

/// A turn, or the part of it before the clock was read again.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// The number of the turn.
    turn: u64,
    /// The time that its callbacks saw.
    began: Instant,
    /// What was armed in it: later than the first of these, up to the second.
    armings: (u64, u64),
}

#[derive(Debug, Default)]
pub(crate) struct Pauses {
    /// The parts that took long and when they ended, in order of time.
    latest: VecDeque<(Part, Instant)>,
    /// The number of this turn.
    turn: u64,
    /// How many armings there had been when it began, or the clock was read again in it.
    armings_before: u64,
    /// When the last turn began, while it is not known when it ended, and how many armings there were then.
    open: Option<Instant>,
    armings_after: u64,
}

impl Pauses {
    /// A turn begins.
    #[inline]
    pub(crate) const fn begin(&mut self, turn: u64, armings: u64) {
        (self.turn, self.armings_before) = (turn, armings);
    }

    /// The clock has been read again within a turn that began, as far as its callbacks know, at `began`.
    pub(crate) fn split(&mut self, began: Option<Instant>, now: Instant, armings: u64) {
        if let Some(began) = began {
            self.end(began, now, armings);
        }
        self.armings_before = armings;
    }

    /// The turn that began at `began` is over at `ended`.
    #[inline]
    pub(super) fn end(&mut self, began: Instant, ended: Instant, armings: u64) {
        // A sum costs half of a difference.
        if began.checked_add(LONG).is_some_and(|long| ended >= long) {
            self.remember(began, ended, armings);
        }
    }

    /// The turn that began at `began` is over. When that was is told next.
    #[inline]
    pub(super) const fn leave_open(&mut self, began: Instant, armings: u64) {
        (self.open, self.armings_after) = (Some(began), armings);
    }

    /// Nobody will tell when the last turn was over.
    #[inline]
    pub(crate) const fn forget_open(&mut self) {
        self.open = None;
    }

    /// The turn that was left open was over at `ended`.
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

    /// By how many nanoseconds a timer was armed too early, since its turn took long.
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

    /// When a turn was over, if it took long.
    pub(super) fn end_of(&self, turn: u64) -> Option<Instant> {
        self.latest
            .iter()
            .rev()
            .find(|(part, _)| part.turn == turn)
            .map(|(_, ended)| *ended)
    }
}
