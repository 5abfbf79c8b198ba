//! What follows from the state of a connection: whether it reads, writes and delivers, and the interest that the loop
//! has to watch.

use reactor::{Interest, Readiness};

use super::{Flags, Phase, State, Writing};
use crate::connection::times::{Times, Waits};

impl State {
    /// Returns whether the handler is to be given what comes.
    pub(in crate::connection) const fn delivers(&self) -> bool {
        let is_held_by_queue =
            self.flags.has(Flags::QUEUE_FULL) && !self.flags.has(Flags::READS_WHILE_FULL);
        matches!(self.phase, Phase::Open) && !self.flags.has(Flags::PAUSED) && !is_held_by_queue
    }

    /// Returns whether the handler is to be given what was left, or an end, with nothing new before that.
    pub(in crate::connection) const fn must_redeliver(&self) -> bool {
        let is_left = !self.unconsumed.is_empty() || self.flags.has(Flags::END_AGAIN);
        self.flags.has(Flags::REDELIVER) && self.delivers() && is_left
    }

    pub(in crate::connection) const fn wants_to_read(&self) -> bool {
        let discards = matches!(self.phase, Phase::Flushing | Phase::Lingering);
        !self.flags.has(Flags::READ_ENDED) && (self.delivers() || discards)
    }

    /// Returns whether the connection is open and reads nothing at the moment, so that only an error tells that its
    /// peer is gone.
    pub(in crate::connection) fn is_not_reading(&self) -> bool {
        matches!(self.phase, Phase::Open)
            && (!self.wants_to_read() || self.is_held(Times::holds_reading))
    }

    fn is_held(&self, by: fn(&Times) -> bool) -> bool {
        self.times.as_deref().is_some_and(by)
    }

    /// Returns how many of `most` bytes are to be read now. A rate does not hold back the rest of a stream whose peer
    /// is gone.
    pub(in crate::connection) fn read_allowance(&mut self, most: usize) -> usize {
        if most == 0 || !self.wants_to_read() {
            return 0;
        }
        if self.writing == Writing::Failed {
            return most;
        }
        self.times
            .as_mut()
            .map_or(most, |times| times.may_read().min(most))
    }

    /// Returns how many of `most` bytes may be sent from the queue now.
    pub(in crate::connection) fn write_allowance(&mut self, most: usize) -> usize {
        let queued = self.queued();
        self.times
            .as_mut()
            .map_or(most, |times| times.may_write(queued).min(most))
    }

    /// Returns whether these facts say that no peer will read what is written, where that is not learnt by reading.
    pub(in crate::connection) const fn is_unread(&self, readiness: Readiness) -> bool {
        self.flags.has(Flags::WRITE_ONLY) && readiness.is_write_closed()
    }

    pub(in crate::connection) const fn wants_to_write(&self) -> bool {
        match self.phase {
            Phase::Connecting => true,
            Phase::Over => false,
            // A producer that was told to pause is told to go on even if everything left at once.
            _ => self.flags.has(
                Flags::QUEUED
                    .union(Flags::QUEUE_FULL)
                    .union(Flags::AWAITS_SENT),
            ),
        }
    }

    /// Returns what the loop is to call for.
    pub(in crate::connection) fn wanted_interest(&self) -> Interest {
        let opens = matches!(self.phase, Phase::Opening) && !self.flags.has(Flags::READ_ENDED);
        let holds_reading = self.writing != Writing::Failed && self.is_held(Times::holds_reading);
        let reads = (opens || self.wants_to_read()) && !holds_reading;
        let defers_flush = self.flags.has(Flags::FLUSH_DEFERRED);
        let writes = self.wants_to_write() && !defers_flush && !self.is_held(Times::holds_writing);
        // Of all interests the one in urgent data is least likely to be met by anything but an error.
        let errors = self.flags.has(Flags::WRITE_ONLY) || self.is_not_reading();
        let when = |wanted, interest| if wanted { interest } else { Interest::NONE };
        when(reads, Interest::READABLE)
            | when(errors, Interest::PRIORITY)
            | when(writes, Interest::WRITABLE)
    }

    /// Returns what the timeouts count.
    pub(in crate::connection) const fn waits(&self) -> Waits {
        Waits {
            to_read: self.wants_to_read(),
            to_write: self.is_queued(),
            closing: !matches!(self.phase, Phase::Opening | Phase::Open),
        }
    }
}
