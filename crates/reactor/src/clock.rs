//! The clock: one reading serves a whole turn.

use std::cell::Cell;
use std::time::Instant;

/// Reads the monotonic clock at most once a turn, and only if somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    now: Cell<Option<Instant>>,
    in_turn: bool,
    reads: Cell<u64>,
}

impl Clock {
    /// A turn has begun: what is read from now on holds until it ends, but for the wait.
    #[inline]
    pub(crate) fn begin_turn(&mut self) {
        self.now.set(None);
        self.in_turn = true;
    }

    /// Time has passed in the wait.
    #[inline]
    pub(crate) fn end_wait(&mut self) {
        self.now.set(None);
    }

    #[inline]
    pub(crate) fn end_turn(&mut self) {
        self.in_turn = false;
    }

    /// The time of this turn; outside of a turn the time.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match self.now.get() {
            Some(now) if self.in_turn => now,
            _ => {
                let now = self.read();
                self.now.set(Some(now));
                now
            }
        }
    }

    /// The time, whatever the turn's is.
    pub(crate) fn read(&self) -> Instant {
        self.reads.set(self.reads.get() + 1);
        Instant::now()
    }

    /// How often the clock has been read.
    pub(crate) const fn reads(&self) -> u64 {
        self.reads.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_reads_the_clock_once_and_only_when_asked() {
        let mut clock = Clock::default();
        clock.begin_turn();
        assert_eq!(clock.reads(), 0);
        let now = clock.now();
        assert_eq!((clock.now(), clock.reads()), (now, 1));
        clock.end_wait();
        assert!(clock.now() >= now);
        assert_eq!(clock.reads(), 2);
        clock.end_turn();
        clock.begin_turn();
        clock.now();
        assert_eq!(clock.reads(), 3);
    }

    #[test]
    fn outside_of_a_turn_each_question_is_answered_anew() {
        let clock = Clock::default();
        clock.now();
        clock.now();
        assert_eq!(clock.reads(), 2);
    }
}
