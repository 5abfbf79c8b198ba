//! Sending: from the buffer and the queue to the socket.

use std::io::{self, ErrorKind, IoSlice};

use crate::connection::connection::Connection;
use crate::connection::state::{Flags, Writing};
#[cfg(feature = "futures")]
use crate::connection::write::Flow;
use crate::error::{is_nothing_done, named_on};

impl<S> Connection<'_, S> {
    /// Sends `bytes` at once, and copies only the part that the socket does not take. Used for
    /// bytes that were collected already.
    ///
    /// # Errors
    /// The errors of [`write`](Self::write).
    #[cfg(feature = "futures")]
    pub(crate) fn write_now(&mut self, bytes: &[u8]) -> io::Result<Flow> {
        let is_direct = self.state.is_steady()
            && self.buffer.is_empty()
            && (1..=self.state.settings.max_write_queue).contains(&bytes.len())
            && self.may_try();
        if !is_direct {
            return self.write_now_unsteady(bytes);
        }
        let tried = self.stream.write(&[IoSlice::new(bytes)]);
        match tried {
            Ok(sent) if sent == bytes.len() => {
                self.state.count_written(sent);
                Ok(self.flow())
            }
            tried => {
                let sent = self.after_write(tried);
                self.queue_rest(&bytes[sent..])
            }
        }
    }

    #[cfg(feature = "futures")]
    #[cold]
    #[inline(never)]
    fn write_now_unsteady(&mut self, bytes: &[u8]) -> io::Result<Flow> {
        if let Some(answer) = self.answer_after_failure() {
            return answer;
        }
        self.expect_room(bytes.len())?;
        let sent = if self.state.is_queued() || !self.may_try() {
            self.queue_buffer();
            0
        } else {
            self.try_buffer_and(bytes)
        };
        self.queue_rest(&bytes[sent..])
    }

    /// Queues the bytes that a write has left.
    #[cfg(feature = "futures")]
    fn queue_rest(&mut self, rest: &[u8]) -> io::Result<Flow> {
        if let Some(answer) = self.answer_after_failure() {
            return answer;
        }
        if !rest.is_empty() {
            self.state.queue_or_new().push(rest);
        }
        self.answer()
    }

    /// Writes the buffer and `bytes` after it. Returns how many bytes of `bytes` were sent. Does
    /// not queue the rest of `bytes`.
    pub(super) fn try_buffer_and(&mut self, bytes: &[u8]) -> usize {
        let slices = [IoSlice::new(self.buffer.bytes()), IoSlice::new(bytes)];
        let slices = match (self.buffer.is_empty(), bytes.is_empty()) {
            (true, true) => return 0,
            (true, false) => &slices[1..],
            (false, true) => &slices[..1],
            (false, false) => &slices,
        };
        let tried = self.stream.write(slices);
        self.after_write(tried)
    }

    /// Completes a write of the buffer, and perhaps of more bytes. Queues the unsent part of the
    /// buffer, and returns how many of the other bytes were sent.
    pub(in crate::connection) fn after_write(&mut self, tried: io::Result<usize>) -> usize {
        let sent = match tried {
            Ok(sent @ 1..) => sent,
            Err(error) if is_nothing_done(&error) => 0,
            failed => {
                self.write_failed(failed);
                return 0;
            }
        };
        self.state.count_written(sent);
        let of_buffer = sent.min(self.buffer.len());
        if of_buffer < self.buffer.len() {
            self.state
                .queue_or_new()
                .push(&self.buffer.bytes()[of_buffer..]);
        }
        self.buffer.clear();
        sent - of_buffer
    }

    #[cold]
    pub(in crate::connection) fn write_failed(&mut self, failed: io::Result<usize>) {
        let error = failed.err().unwrap_or_else(|| ErrorKind::WriteZero.into());
        self.fail_writing("write", error);
    }

    /// Records that the socket takes no more bytes, because this call has failed.
    #[cold]
    pub(in crate::connection) fn fail_writing(&mut self, call: &str, error: io::Error) {
        self.buffer.clear();
        self.state
            .fail_writing(named_on(self.stream.fd(), call, error));
    }

    pub(in crate::connection) fn queue_buffer(&mut self) {
        if !self.buffer.is_empty() {
            self.state.queue_or_new().push(self.buffer.bytes());
            self.buffer.clear();
        }
    }

    /// Sends or queues the buffer.
    pub(in crate::connection) fn send_buffer(&mut self) {
        if !self.state.is_queued() && self.may_try() {
            self.try_buffer_and(&[]);
        } else {
            self.queue_buffer();
        }
    }

    /// Sends the queue, as much as one turn allows. Returns `true` if all of these hold: the queue
    /// was full, it has room again, and the connection can still be written to.
    pub(in crate::connection) fn flush_queue(&mut self) -> bool {
        self.send_queued();
        let drained = self.state.flags.has(Flags::QUEUE_FULL)
            && self.state.queued() + self.held_output() <= self.state.settings.low_watermark;
        if drained {
            self.state.flags.remove(Flags::QUEUE_FULL);
            self.state.begin_reading();
        }
        drained && self.state.writing() == Writing::Open
    }

    /// Sends the queue, as much as one turn allows.
    pub(in crate::connection) fn send_queued(&mut self) {
        if !self.flush_layer() {
            return;
        }
        let mut budget = self.state.settings.max_bytes_per_turn;
        while budget > 0 && self.state.is_queued() {
            let allowed = self.state.write_allowance(budget);
            if allowed == 0 {
                break;
            }
            let stream = &mut self.stream;
            let written = self
                .state
                .write_queue_to(allowed, |slices| stream.write(slices));
            match written {
                Ok(sent @ 1..) => budget -= sent,
                Err(error) if is_nothing_done(&error) => break,
                failed => self.write_failed(failed),
            }
        }
    }
}
