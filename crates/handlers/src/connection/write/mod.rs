//! Writing: what a handler writes, and how it leaves.
//!
//! What one callback writes is collected in a [`WriteBuffer`](buffer::WriteBuffer) of the loop, and sent by one system
//! call when the callback returns. What the socket does not take goes into the [`WriteQueue`](queue::WriteQueue) of the
//! connection, and is sent when the socket is writable again.
//!
//! Ground rule: a socket that can no longer be written to may hold bytes of the peer. So a failed write ends nothing:
//! it is recorded ([`Writing::Failed`]), the connection reads on until the kernel has nothing more, and then ends with
//! that error.

pub(super) mod buffer;
pub(super) mod queue;
mod send;

use std::io::{self, ErrorKind};

use bytes::Bytes;

use self::buffer::BUFFER_MAX;
use super::connection::Connection;
use super::state::{Flags, Phase, Writing};

/// Whether a producer may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a producer that does not pause when the queue is full fills it to its limit"]
pub enum Flow {
    /// There is room.
    Open,
    /// As much is queued as [`ConnectionOptions::watermarks`](crate::ConnectionOptions::watermarks) allows: pause until
    /// [`on_drain`](crate::ConnectionHandler::on_drain). What was written is queued all the same.
    Full,
}

impl<S> Connection<'_, S> {
    /// Sends `bytes` after everything that was written before, as soon as the peer takes them.
    ///
    /// Small pieces that are written in one callback are sent by one system call when it returns. A piece of 16 KiB or
    /// more is tried at once, and only the part that the socket does not take is copied. Never blocks.
    ///
    /// # Errors
    /// `BrokenPipe` after [`shutdown`](Self::shutdown) or [`close_after_flush`](Self::close_after_flush);
    /// `QuotaExceeded` beyond [`ConnectionOptions::max_write_queue`](crate::ConnectionOptions::max_write_queue): nothing of `bytes`
    /// was queued then, and the connection is as it was.
    ///
    /// A socket that has failed, by `ConnectionReset` for example, takes no more, and what is written is dropped. A
    /// handler that reads is first given the rest of what has come, and then told the error by
    /// [`on_close`](crate::ConnectionHandler::on_close): until then the answer is [`Flow::Full`], and no
    /// [`on_drain`](crate::ConnectionHandler::on_drain) follows. Where nothing is read, since the handler
    /// [pauses](Self::pause_reading) or the peer has ended its direction, the error is returned here.
    #[doc(alias("bufferevent_write", "uv_write", "writeChain"))]
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Flow> {
        if self.only_buffers(bytes.len()) {
            self.buffer.push(bytes);
            return Ok(Flow::Open);
        }
        self.write_unsteady(bytes)
    }

    /// Returns whether a write of `more` bytes only has to copy them into the buffer.
    #[inline]
    fn only_buffers(&self, more: usize) -> bool {
        !self.from_outside
            && self.state.is_steady()
            && self.buffer.len() + more < self.state.settings.buffer_max
    }

    #[cold]
    #[inline(never)]
    fn write_unsteady(&mut self, bytes: &[u8]) -> io::Result<Flow> {
        if let Some(answer) = self.answer_after_failure() {
            return answer;
        }
        self.send_if_beyond(
            self.state
                .settings
                .max_write_queue
                .saturating_sub(bytes.len()),
        );
        self.expect_room(bytes.len())?;
        let is_small = self.buffer.len() + bytes.len() < BUFFER_MAX;
        self.defer_flush_if(is_small);
        if self.state.is_queued() || !self.may_try() || is_small && self.from_outside {
            self.queue_buffer();
            if !bytes.is_empty() {
                self.state.queue_or_new().push(bytes);
            }
            self.send_if_beyond(self.state.settings.high_watermark);
        } else if is_small {
            self.buffer.push(bytes);
        } else {
            let sent = self.try_buffer_and(bytes);
            if let Some(answer) = self.answer_after_failure() {
                return answer;
            }
            if sent < bytes.len() {
                self.state.queue_or_new().push(&bytes[sent..]);
            }
        }
        Ok(self.flow())
    }

    /// Sends shared bytes, as [`write`](Self::write) does. A piece of 1 KiB or more that must be queued is not copied.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_bytes(&mut self, mut bytes: Bytes) -> io::Result<Flow> {
        let is_small = bytes.len() < BUFFER_MAX;
        if is_small && !self.state.is_queued() && !self.from_outside {
            return self.write(&bytes);
        }
        if let Some(answer) = self.answer_after_failure() {
            return answer;
        }
        self.send_if_beyond(
            self.state
                .settings
                .max_write_queue
                .saturating_sub(bytes.len()),
        );
        self.expect_room(bytes.len())?;
        self.defer_flush_if(is_small);
        if !self.state.is_queued() && !is_small && self.may_try() {
            let sent = self.try_buffer_and(&bytes);
            if let Some(answer) = self.answer_after_failure() {
                return answer;
            }
            bytes = bytes.split_off(sent);
        } else {
            self.queue_buffer();
        }
        if !bytes.is_empty() {
            self.state.queue_or_new().push_shared(bytes);
        }
        self.send_if_beyond(self.state.settings.high_watermark);
        Ok(self.flow())
    }

    /// Defers the flush of a small piece that is about to be queued from outside, if nothing is queued before it.
    fn defer_flush_if(&mut self, is_small: bool) {
        if is_small && self.from_outside && !self.state.is_queued() && self.may_try() {
            self.state.flags.insert(Flags::FLUSH_DEFERRED);
        }
    }

    /// Sends what was queued from outside before a writer there is told that it is too much: the peer may read.
    fn send_if_beyond(&mut self, most: usize) {
        if self.from_outside
            && self.state.flags.has(Flags::FLUSH_DEFERRED)
            && self.state.queued() >= most
        {
            self.send_queued();
        }
    }

    /// Sends now what was written and is queued, as much as the socket takes.
    ///
    /// For a caller [from outside](crate::ConnectionKey::with) that cannot wait for the [deferred
    /// callbacks](reactor::Registry::defer), and for a callback that goes on for long. One system call, none if nothing
    /// is queued.
    pub fn flush(&mut self) -> Flow {
        if self.state.writing() != Writing::Failed && self.state.phase() != Phase::Connecting {
            self.send_buffer();
            self.send_queued();
        }
        self.flow()
    }

    /// Returns how many bytes were written and not yet taken by the socket.
    pub fn queued(&self) -> usize {
        self.state.queued() + self.buffer.len()
    }

    /// Returns the answer to a write on a socket that has failed, if it has: an error for a handler that reads nothing.
    /// One that reads is notified when it has been given what has come, and until then what it writes is dropped.
    fn answer_after_failure(&self) -> Option<io::Result<Flow>> {
        let is_read = self.state.phase() == Phase::Open
            && !self.state.flags.has(Flags::READ_ENDED.union(Flags::PAUSED));
        let answer = || {
            if is_read {
                Ok(Flow::Full)
            } else {
                Err(self.state.copy_of_failure())
            }
        };
        (self.state.writing() == Writing::Failed).then(answer)
    }

    fn expect_room(&self, more: usize) -> io::Result<()> {
        let ended = self.state.writing() != Writing::Open || self.state.phase() == Phase::Over;
        if ended {
            return Err(io::Error::new(
                ErrorKind::BrokenPipe,
                "write on a connection after its end",
            ));
        }
        let max = self.state.settings.max_write_queue;
        if more > max.saturating_sub(self.queued()) && more > 0 {
            let text = format!(
                "{more} bytes beside {} queued are more than max_write_queue, {max}",
                self.queued()
            );
            return Err(io::Error::new(ErrorKind::QuotaExceeded, text));
        }
        Ok(())
    }

    fn flow(&mut self) -> Flow {
        if self.queued() >= self.state.settings.high_watermark {
            self.state.flags.insert(Flags::QUEUE_FULL);
        }
        if self.state.flags.has(Flags::QUEUE_FULL) {
            Flow::Full
        } else {
            Flow::Open
        }
    }

    /// Returns whether a write that nothing is queued before may be tried without [`flush`](Self::flush).
    pub(super) fn may_try(&self) -> bool {
        let limited = self
            .state
            .times
            .as_ref()
            .is_some_and(|times| times.limits_writing());
        !limited && self.state.phase() != Phase::Connecting
    }
}
