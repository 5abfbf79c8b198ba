//! Conclusions from the state of a connection: whether it reads, writes and delivers, and its
//! interest.

use reactor::{Interest, Readiness};

use super::{Flags, Phase, State, Writing};
use crate::connection::times::{Times, Waits};

impl State {
    /// Returns `true` if the handler is called with bytes that arrive.
    pub(in crate::connection) const fn delivers(&self) -> bool {
        let is_held_by_queue =
            self.flags.has(Flags::QUEUE_FULL) && !self.flags.has(Flags::READS_WHILE_FULL);
        let is_stopped = self.flags.has(Flags::STOPS_READING);
        matches!(self.phase, Phase::Open) && !is_stopped && !is_held_by_queue
    }

    /// Returns `true` if the handler must be called with unconsumed bytes or an end of stream
    /// before new input is read.
    pub(in crate::connection) const fn must_redeliver(&self) -> bool {
        let is_left = !self.unconsumed.is_empty() || self.flags.has(Flags::END_AGAIN);
        self.flags.has(Flags::REDELIVER) && self.delivers() && is_left
    }

    pub(in crate::connection) const fn wants_to_read(&self) -> bool {
        let discards = matches!(self.phase, Phase::Flushing | Phase::Lingering);
        !self.flags.has(Flags::READ_ENDED.union(Flags::HANDSHAKING))
            && (self.delivers() || discards)
    }

    /// Returns `true` if the connection is open and reads nothing at the moment. Then only an error
    /// shows that its peer is gone.
    pub(in crate::connection) fn is_not_reading(&self) -> bool {
        matches!(self.phase, Phase::Open)
            && (!self.wants_to_read() || self.is_held(Times::holds_reading))
    }

    fn is_held(&self, by: fn(&Times) -> bool) -> bool {
        self.times.as_deref().is_some_and(by)
    }

    /// Returns how many of `most` bytes can be read now. If the peer is gone, rate limits do not
    /// hold back the rest of its stream.
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

    /// Returns how many of `most` bytes of the queue can be sent now.
    pub(in crate::connection) fn write_allowance(&mut self, most: usize) -> usize {
        let queued = self.queued();
        self.times
            .as_mut()
            .map_or(most, |times| times.may_write(queued).min(most))
    }

    /// Returns `true` if `readiness` shows that no peer will read the written bytes. Only for a
    /// connection that cannot be read: others find this by reading.
    pub(in crate::connection) const fn is_unread(&self, readiness: Readiness) -> bool {
        self.flags.has(Flags::WRITE_ONLY) && readiness.is_write_closed()
    }

    pub(in crate::connection) const fn wants_to_write(&self) -> bool {
        match self.phase {
            Phase::Connecting => true,
            Phase::Over => false,
            // If a producer was notified of a full queue, it must be notified of room too, even if
            // all bytes were sent at once.
            _ => self.flags.has(
                Flags::QUEUED
                    .union(Flags::QUEUE_FULL)
                    .union(Flags::AWAITS_SENT)
                    .union(Flags::HOLDS_OUTPUT)
                    .union(Flags::AWAITS_SHUTDOWN),
            ),
        }
    }

    /// Returns the interest that the loop must watch.
    pub(in crate::connection) fn wanted_interest(&self) -> Interest {
        let opens = matches!(self.phase, Phase::Opening) && !self.flags.has(Flags::READ_ENDED);
        let holds_reading = self.writing != Writing::Failed && self.is_held(Times::holds_reading);
        let reads = (opens || self.wants_to_read()) && !holds_reading;
        let defers_flush = self.flags.has(Flags::FLUSH_DEFERRED);
        let writes = self.wants_to_write() && !defers_flush && !self.is_held(Times::holds_writing);
        // Errors are only reported to a registration with some interest. Urgent data is the one
        // that is least likely to be reported otherwise.
        let errors = self.flags.has(Flags::WRITE_ONLY) || self.is_not_reading();
        let when = |wanted, interest| if wanted { interest } else { Interest::NONE };
        when(reads, Interest::READABLE)
            | when(errors, Interest::PRIORITY)
            | when(writes, Interest::WRITABLE)
    }

    /// Returns the events whose timeouts run now.
    pub(in crate::connection) const fn waits(&self) -> Waits {
        Waits {
            to_read: self.wants_to_read(),
            to_write: self.flags.has(Flags::QUEUED.union(Flags::HOLDS_OUTPUT)),
            handshaking: self.flags.has(Flags::HANDSHAKING),
            closing: !matches!(self.phase, Phase::Opening | Phase::Open),
        }
    }
}
