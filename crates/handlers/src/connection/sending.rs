//! How what was written leaves, and how a connection comes to its end.
//!
//! What is written in one callback is gathered, and tried when it returns; what the socket does not take is queued, and
//! flushed when it is writable again.
//!
//! Ground rule: a socket that can no longer be written to may hold bytes of the peer. So a failed write ends nothing: it is
//! noted ([`Writing::Failed`]), the connection reads on until the kernel has nothing more, and then ends with that error.

use std::io::{self, ErrorKind, IoSlice};

use super::core::{Phase, Writing};
use super::lent::Connection;
use super::{CloseReason, Flow};
use crate::error::is_nothing_done;

impl<S> Connection<'_, S> {
    /// The answer to a write on a socket that has failed, if it has: an error for a handler that reads nothing. One that reads is
    /// told when it has been given what has come, and until then what it writes is dropped.
    pub(super) fn after_failure(&self) -> Option<io::Result<Flow>> {
        let is_read = self.core.phase == Phase::Open && !self.core.read_ended && !self.core.paused;
        let answer = || if is_read { Ok(Flow::Full) } else { Err(self.core.failure_again()) };
        (self.core.writing == Writing::Failed).then(answer)
    }

    pub(super) fn expect_room(&self, more: usize) -> io::Result<()> {
        let ended = self.core.writing != Writing::Open || self.core.phase == Phase::Over;
        if ended {
            return Err(io::Error::new(ErrorKind::BrokenPipe, "write on a connection after its end"));
        }
        let max = self.core.settings.queue_max;
        if more > max.saturating_sub(self.queued()) && more > 0 {
            let text = format!("{more} bytes beside {} queued are more than queue_max, {max}", self.queued());
            return Err(io::Error::new(ErrorKind::QuotaExceeded, text));
        }
        Ok(())
    }

    pub(super) fn flow(&mut self) -> Flow {
        self.core.full |= self.queued() >= self.core.settings.high_watermark;
        if self.core.full { Flow::Full } else { Flow::Open }
    }

    /// Whether a write that nothing is queued before may be tried without [`flush`](Self::flush).
    pub(super) fn may_try(&self) -> bool {
        let limited = self.core.times.as_ref().is_some_and(|times| times.limits_writing());
        !limited && self.core.phase != Phase::Connecting
    }

    /// Writes what was gathered and `bytes` behind it; gives how much of `bytes` is done with. There is no outbox.
    pub(super) fn try_gathered_and(&mut self, bytes: &[u8]) -> usize {
        let slices = [IoSlice::new(self.gathered.bytes()), IoSlice::new(bytes)];
        let slices = match (self.gathered.is_empty(), bytes.is_empty()) {
            (true, true) => return 0,
            (true, false) => &slices[1..],
            (false, true) => &slices[..1],
            (false, false) => &slices,
        };
        let tried = self.stream.write(slices);
        self.conclude(tried)
    }

    /// After a write of what was gathered, and perhaps of more: queues what was gathered and not sent, and gives how much of
    /// the rest is done with.
    pub(super) fn conclude(&mut self, tried: io::Result<usize>) -> usize {
        let sent = match tried {
            Ok(sent @ 1..) => sent,
            Err(error) if is_nothing_done(&error) => 0,
            failed => {
                self.fail(failed.err().unwrap_or_else(|| ErrorKind::WriteZero.into()));
                return 0;
            }
        };
        self.core.note_written(sent);
        let of_gathered = sent.min(self.gathered.len());
        if of_gathered < self.gathered.len() {
            self.core.outbox().push(&self.gathered.bytes()[of_gathered..]);
        }
        self.gathered.clear();
        sent - of_gathered
    }

    /// Notes that the socket takes no more.
    fn fail(&mut self, error: io::Error) {
        self.gathered.clear();
        self.core.fail(error);
    }

    pub(super) fn queue_gathered(&mut self) {
        if !self.gathered.is_empty() {
            self.core.outbox().push(self.gathered.bytes());
            self.gathered.clear();
        }
    }

    /// What was gathered leaves, or is queued.
    pub(super) fn send_gathered(&mut self) {
        if self.core.outbox.is_none() && self.may_try() {
            self.try_gathered_and(&[]);
        } else {
            self.queue_gathered();
        }
    }

    /// Sends what is queued, as much as a turn has room for. Whether the queue, which was full, has room again, and somebody
    /// may still write.
    pub(super) fn flush_queue(&mut self) -> bool {
        self.send_queued();
        let drained = self.core.full && self.core.queued() <= self.core.settings.low_watermark;
        if drained {
            self.core.full = false;
            self.core.redeliver = true;
            if let Some(times) = &mut self.core.times {
                times.begin_reading();
            }
        }
        drained && self.core.writing == Writing::Open
    }

    /// Sends what is queued, as much as a turn has room for.
    pub(super) fn send_queued(&mut self) {
        let mut budget = self.core.settings.bytes_per_turn;
        while let Some(outbox) = &mut self.core.outbox
            && budget > 0
        {
            let queued = outbox.len();
            let allowed = self.core.times.as_mut().map_or(usize::MAX, |times| times.may_write(queued));
            if allowed == 0 {
                break;
            }
            let stream = &mut self.stream;
            match outbox.write_to(budget.min(allowed), |slices| stream.write(slices)) {
                Ok(sent @ 1..) => {
                    budget -= sent;
                    if outbox.len() == 0 {
                        self.core.outbox = None;
                    }
                    self.core.note_written(sent);
                }
                Err(error) if is_nothing_done(&error) => break,
                failed => self.fail(failed.err().unwrap_or_else(|| ErrorKind::WriteZero.into())),
            }
        }
    }

    /// Resets once the kernel has sent all that it was given, which a reset would drop.
    fn abort_when_sent(&mut self) {
        let waits = if self.core.awaits_sent { !self.stream.is_writable() } else { self.stream.await_sent() };
        self.core.awaits_sent = true;
        if !waits {
            self.abort();
        }
    }

    /// Goes as far towards the end as is possible now.
    pub(super) fn advance_end(&mut self) {
        if self.core.outbox.is_some() {
            return;
        }
        if self.core.phase == Phase::Flushing && self.core.is_cut {
            return self.abort_when_sent();
        }
        if self.core.writing == Writing::Ending && self.core.phase != Phase::Connecting {
            self.core.writing = Writing::Ended;
            // A socket whose other direction has ended is closed anyway, which says the same.
            let ended = if self.core.read_ended { Ok(true) } else { self.stream.shutdown() };
            match ended {
                Ok(true) => {}
                Ok(false) => self.core.end(CloseReason::Finished),
                Err(error) => return self.fail(error),
            }
        }
        if self.core.phase == Phase::Flushing {
            self.core.phase = Phase::Lingering;
            if self.core.read_only {
                self.core.end(CloseReason::Finished);
            }
        }
        let open = matches!(self.core.phase, Phase::Open | Phase::Lingering);
        if open && self.core.read_ended && self.core.writing == Writing::Ended {
            self.core.end(CloseReason::Finished);
        }
    }
}
