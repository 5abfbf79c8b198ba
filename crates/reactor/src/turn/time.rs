//! The time of a turn: one reading of the clock, which all callbacks of the turn share.
//!
//! This file holds everything that a turn knows of time: the reading that its callbacks share, and
//! which turns took long ([`Pauses`]).

use std::cell::Cell;
use std::time::Instant;

use super::long_turns::Pauses;
use super::nanos::{LAST_NS, nanos};
use crate::sys::clock::Clock;

/// Marks that no count has been made. It is later than any time.
const NOT_COUNTED: u64 = u64::MAX;

/// Reads the monotonic clock at most once a turn, and only if a callback needs it.
#[derive(Debug)]
pub(crate) struct Time {
    pub(crate) clock: Clock,
    started: Instant,
    /// The time of this turn, once it has been read; `None` outside of turns.
    now: Cell<Option<Instant>>,
    /// The same in nanoseconds since the start, once it has been counted; [`NOT_COUNTED`] until
    /// then.
    now_ns: Cell<u64>,
    in_turn: bool,
    reads: Cell<u64>,
    pub(crate) pauses: Pauses,
}

impl Time {
    pub(crate) fn new(clock: Clock) -> Self {
        let started = clock.read();
        Self {
            clock,
            started,
            now: Cell::new(None),
            now_ns: Cell::new(NOT_COUNTED),
            in_turn: false,
            reads: Cell::new(0),
            pauses: Pauses::default(),
        }
    }

    /// Returns the time at which the loop was built.
    pub(crate) const fn started(&self) -> Instant {
        self.started
    }

    /// Begins a turn. From now on a reading is kept until the turn ends. Only the wait drops it.
    #[inline]
    pub(crate) fn begin_turn(&mut self) {
        self.in_turn = true;
    }

    /// Forgets the reading, because time has passed: in the wait, or in a handler that asks for a
    /// new reading.
    #[inline]
    pub(crate) fn forget(&mut self) {
        self.now.set(None);
        self.now_ns.set(NOT_COUNTED);
    }

    /// Ends a turn.
    #[inline]
    pub(crate) fn end_turn(&mut self) {
        self.in_turn = false;
        self.forget();
    }

    /// Ends the part of a turn in which timers may have been armed. `armings` is the number of
    /// armings so far.
    #[inline]
    pub(crate) fn close_turn(&mut self, armings: u64) {
        let Some(began) = self.known() else {
            return self.pauses.forget_open();
        };
        match self.clock.standing() {
            Some(now) => self.pauses.end(began, now, armings),
            None => self.pauses.leave_open(began, armings),
        }
    }

    /// Returns the time of this turn. Outside a turn, reads the clock.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.now.get().unwrap_or_else(|| self.look())
    }

    /// Returns [`now`](Self::now) in nanoseconds since the start, at most [`LAST_NS`].
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        match self.now_ns.get() {
            NOT_COUNTED => self.count(),
            now_ns => now_ns,
        }
    }

    /// Reads the clock, and keeps the time for this turn.
    #[inline(never)]
    fn look(&self) -> Instant {
        let now = self.read();
        if self.in_turn {
            self.now.set(Some(now));
        }
        now
    }

    /// Returns the time of this turn, if it has been read.
    #[inline]
    pub(crate) const fn known(&self) -> Option<Instant> {
        self.now.get()
    }

    /// Makes a reading the time of this turn. A clock that stands still costs nothing to read
    /// again, so its time is not kept.
    #[inline]
    pub(crate) fn keep(&mut self, now: Instant) {
        if self.clock.standing().is_none() {
            self.now.set(Some(now));
            self.now_ns.set(NOT_COUNTED);
        }
    }

    /// Counts the nanoseconds of the current time, and keeps the count for this turn.
    #[inline(never)]
    fn count(&self) -> u64 {
        let now_ns = self.nanos_at(self.now()).min(LAST_NS);
        if self.in_turn {
            self.now_ns.set(now_ns);
        }
        now_ns
    }

    /// Returns a time in nanoseconds since the start. A time before the start is 0.
    pub(crate) fn nanos_at(&self, time: Instant) -> u64 {
        nanos(time.saturating_duration_since(self.started))
    }

    /// Reads the clock, even if the time of the turn is known.
    pub(crate) fn read(&self) -> Instant {
        self.reads.set(self.reads.get() + 1);
        self.clock.read()
    }

    /// Returns how often the clock has been read.
    pub(crate) const fn reads(&self) -> u64 {
        self.reads.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::ManualClock;
    use std::time::Duration;

    #[test]
    fn a_turn_reads_the_clock_once_and_only_when_asked() {
        let mut time = Time::new(Clock::new(None));
        time.begin_turn();
        assert_eq!(time.reads(), 0);
        let now = time.now();
        assert_eq!((time.now(), time.reads()), (now, 1));
        time.forget();
        assert!(time.now() >= now);
        assert_eq!(time.reads(), 2);
        time.end_turn();
        time.begin_turn();
        time.now();
        assert_eq!(time.reads(), 3);
    }

    #[test]
    fn outside_of_a_turn_each_call_reads_the_clock() {
        let time = Time::new(Clock::new(None));
        time.now();
        time.now();
        assert_eq!(time.reads(), 2);
    }

    #[test]
    fn a_manual_clock_and_its_clones_move_together_and_only_on_advance() {
        let manual = ManualClock::new();
        let time = Time::new(Clock::new(Some(manual.clone())));
        let began = time.now();
        assert_eq!(time.now(), began);
        manual.advance(Duration::from_secs(5));
        assert_eq!(time.now() - began, Duration::from_secs(5));
    }
}
