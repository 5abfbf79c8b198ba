//! Writing: from the handler to the socket.
//!
//! The writes of one callback are collected in a [`WriteBuffer`](buffer::WriteBuffer) of the loop,
//! and sent by one system call when the callback returns. Bytes that the socket does not take go
//! into the [`WriteQueue`](queue::WriteQueue) of the connection. They are sent when the socket is
//! writable again.
//!
//! Ground rule: a socket that can no longer be written to can still hold bytes of the peer. So a
//! failed write does not end the connection. It is recorded ([`Writing::Failed`]). The connection
//! keeps reading until the kernel has no more bytes, and then ends with that error.

pub(super) mod buffer;
pub(super) mod queue;
mod send;

use std::io::{self, ErrorKind};

use bytes::Bytes;

use self::buffer::BUFFER_MAX;
use super::connection::Connection;
use super::state::{Flags, Phase, Writing};

/// Tells a producer whether to go on writing. Returned by [`Connection::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a producer that does not pause while the queue is full fills it to its limit"]
pub enum Flow {
    /// The write queue has room.
    Open,
    /// The write queue has reached its [high watermark](crate::ConnectionOptions::watermarks). The
    /// bytes of this write were still accepted. Write no more until
    /// [`on_drain`](crate::ConnectionHandler::on_drain) is called.
    ///
    /// `Full` is also returned after the socket has failed: see [`Connection::write`].
    Full,
}

impl<S> Connection<'_, S> {
    /// Sends `bytes` after all bytes that were written earlier. Never blocks: bytes that the socket
    /// does not take at once are queued, and sent as soon as the peer makes room.
    ///
    /// Small pieces that are written in one callback are sent together, by one system call, when
    /// the callback returns. If `bytes` has 16 KiB or more, this method tries to send it at once,
    /// and copies only the part that the socket does not take.
    ///
    /// ```
    /// use std::io;
    /// use handlers::{Connection, ConnectionHandler, Flow};
    /// use reactor::Context;
    ///
    /// /// Sends all numbers, at the pace of the peer.
    /// struct Numbers(std::ops::Range<u32>);
    ///
    /// impl Numbers {
    ///     fn send(&mut self, connection: &mut Connection<'_, ()>) -> io::Result<()> {
    ///         for number in &mut self.0 {
    ///             if connection.write(&number.to_be_bytes())? == Flow::Full {
    ///                 return Ok(()); // `on_drain` goes on
    ///             }
    ///         }
    ///         Ok(connection.shutdown())
    ///     }
    /// }
    ///
    /// impl ConnectionHandler<()> for Numbers {
    ///     fn on_open(
    ///         &mut self,
    ///         connection: &mut Connection<'_, ()>,
    ///         _cx: &mut Context<'_, ()>,
    ///     ) -> io::Result<()> {
    ///         self.send(connection)
    ///     }
    ///
    ///     fn on_drain(
    ///         &mut self,
    ///         connection: &mut Connection<'_, ()>,
    ///         _cx: &mut Context<'_, ()>,
    ///     ) -> io::Result<()> {
    ///         self.send(connection)
    ///     }
    /// #   fn on_data(&mut self, data: &[u8], _: &mut Connection<'_, ()>, _: &mut Context<'_, ()>)
    /// #       -> io::Result<usize> { Ok(data.len()) }
    /// }
    /// ```
    ///
    /// # Errors
    /// - `BrokenPipe` if our write side is closed: after [`shutdown`](Self::shutdown) or a close of
    ///   the connection, and for a stream that can only be read.
    /// - `QuotaExceeded` if more than
    ///   [`ConnectionOptions::max_write_queue`](crate::ConnectionOptions::max_write_queue) bytes
    ///   would be queued. In this case no byte of `bytes` was queued, and the connection is
    ///   unchanged.
    /// - The error of the socket, for example `ConnectionReset`, if the socket has failed and the
    ///   connection is not reading. A connection is not reading if reading is
    ///   [paused](Self::pause_reading), the peer has closed its write side, or the connection is
    ///   closing.
    ///
    /// If the socket has failed while the connection is reading, `write` drops `bytes` and returns
    /// [`Flow::Full`], and no [`on_drain`](crate::ConnectionHandler::on_drain) follows. The handler
    /// is called with the rest of the input. Then [`on_close`](crate::ConnectionHandler::on_close)
    /// reports the error.
    #[doc(alias("bufferevent_write", "uv_write", "writeChain"))]
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Flow> {
        if self.only_buffers(bytes.len()) {
            self.buffer.push(bytes);
            return Ok(Flow::Open);
        }
        self.write_unsteady(bytes)
    }

    /// Returns `true` if a write of `more` bytes only has to be copied into the buffer.
    #[inline]
    fn only_buffers(&self, more: usize) -> bool {
        !self.from_outside
            && self.state.is_steady()
            && self.buffer.len() + more < self.state.settings.buffer_max
    }

    #[cold]
    #[inline(never)]
    fn write_unsteady(&mut self, bytes: &[u8]) -> io::Result<Flow> {
        self.send_if_beyond(
            self.state
                .settings
                .max_write_queue
                .saturating_sub(bytes.len()),
        );
        if let Some(answer) = self.answer_after_failure() {
            return answer;
        }
        self.expect_room(bytes.len())?;
        let is_small = self.buffer.len() + bytes.len() < BUFFER_MAX;
        self.defer_flush_if(is_small);
        // A piece must not overtake queued bytes, so it joins the queue. A small piece from outside
        // is queued too, so that one system call sends many of them.
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
        self.answer()
    }

    /// Returns the most bytes that may be queued.
    #[cfg(feature = "futures")]
    pub(crate) fn max_write_queue(&self) -> usize {
        self.state.settings.max_write_queue
    }

    /// Returns `true` if the socket has failed to take bytes, so an empty queue does not mean that
    /// they were sent.
    #[cfg(feature = "futures")]
    pub(crate) fn has_failed_to_write(&self) -> bool {
        self.state.writing() == Writing::Failed
    }

    /// Sends `bytes`, as [`write`](Self::write) does, and in most cases does not copy them.
    ///
    /// # Cost
    /// These bytes are copied, and no others:
    /// - A piece shorter than 1 KiB.
    /// - A piece shorter than 16 KiB, if a callback of the handler writes it while nothing is
    ///   queued.
    /// - The rest of a longer piece that the socket does not take at once, if this rest is shorter
    ///   than 1 KiB.
    ///
    /// # Errors
    /// - `BrokenPipe` if our write side is closed: after [`shutdown`](Self::shutdown) or a close of
    ///   the connection, and for a stream that can only be read.
    /// - `QuotaExceeded` if more than
    ///   [`ConnectionOptions::max_write_queue`](crate::ConnectionOptions::max_write_queue) bytes
    ///   would be queued. In this case no byte of `bytes` was queued, and the connection is
    ///   unchanged.
    /// - The error of the socket, if the socket has failed and the connection is not reading. If it
    ///   is reading, this call returns no error, and
    ///   [`on_close`](crate::ConnectionHandler::on_close) reports the failure later.
    ///
    /// [`write`](Self::write) describes these errors in detail.
    pub fn write_bytes(&mut self, mut bytes: Bytes) -> io::Result<Flow> {
        let is_small = bytes.len() < BUFFER_MAX;
        if is_small && !self.state.is_queued() && !self.from_outside {
            return self.write(&bytes);
        }
        self.send_if_beyond(
            self.state
                .settings
                .max_write_queue
                .saturating_sub(bytes.len()),
        );
        if let Some(answer) = self.answer_after_failure() {
            return answer;
        }
        self.expect_room(bytes.len())?;
        self.defer_flush_if(is_small);
        // A large piece is tried at once, unless it would overtake queued bytes.
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
        self.answer()
    }

    /// Defers the flush of a small piece that is about to be queued from outside, if the queue is
    /// empty.
    fn defer_flush_if(&mut self, is_small: bool) {
        if is_small && self.from_outside && !self.state.is_queued() && self.may_try() {
            self.state.flags.insert(Flags::FLUSH_DEFERRED);
        }
    }

    /// Sends the bytes that were queued from outside if `most` bytes or more are queued. Called
    /// before a write from outside could find the queue full: the peer may be reading.
    fn send_if_beyond(&mut self, most: usize) {
        if self.from_outside
            && self.state.flags.has(Flags::FLUSH_DEFERRED)
            && self.state.queued() >= most
        {
            self.send_queued();
        }
    }

    /// Sends now the bytes that this callback has written, and the bytes that were queued before
    /// them. Sends as many of these bytes as the socket and the rate limits allow. At most
    /// [`max_bytes_per_turn`](crate::ConnectionOptions::max_bytes_per_turn) bytes are taken from
    /// the write queue. This limit does not count the bytes that go directly to the socket, which
    /// is possible only while the write queue is empty.
    ///
    /// Without this method, the bytes that a callback has written are sent when the callback
    /// returns. Bytes that are written in the closure of
    /// [`ConnectionKey::with`](crate::ConnectionKey::with) are usually sent with the [deferred
    /// callbacks](reactor::Registry::defer) of the turn. Call `flush` if the bytes must be sent
    /// earlier, for example in a callback that runs for long.
    ///
    /// # Cost
    /// No system call if there is nothing to send. Otherwise one system call, or several if much is
    /// queued.
    pub fn flush(&mut self) -> Flow {
        if self.state.writing() != Writing::Failed && self.state.phase() != Phase::Connecting {
            self.send_buffer();
            self.send_queued();
        }
        self.flow()
    }

    /// Returns the number of written bytes that the socket has not taken yet. Bytes that were lost
    /// because the socket has failed do not count.
    pub fn queued(&self) -> usize {
        self.state.queued() + self.held_output() + self.buffer.len()
    }

    /// Returns the number of bytes that were written on this connection so far, including the
    /// queued ones. It is the position at which the next write begins. When the socket fails,
    /// queued bytes are dropped and no longer counted. Bytes that a callback writes by the
    /// [key](Self::key) of its own connection are written after the callback, and count from then.
    pub fn write_position(&self) -> u64 {
        self.state.write_position(self.buffer.len())
    }

    /// Sets a mark after all bytes that were written so far, and returns its
    /// [position](Self::write_position). Once the kernel has taken all bytes before the mark,
    /// [`on_sent`](crate::ConnectionHandler::on_sent) is called, after the running callback at the
    /// earliest. If a [layered stream](crate::Stream#layered-streams) holds output, the mark is
    /// reached when the stream holds none.
    ///
    /// The mark is not reported if the connection is closed or closing, fails or is
    /// [taken](crate::ConnectionKey::take) before.
    /// [`on_final_metrics`](crate::ConnectionHandler::on_final_metrics) then says how many bytes
    /// the kernel has taken.
    ///
    /// ```
    /// use std::io;
    /// use handlers::{Connection, ConnectionHandler};
    /// use reactor::Context;
    ///
    /// /// Notes which lines the kernel has taken.
    /// #[derive(Default)]
    /// struct Journal {
    ///     unsent: Vec<(u64, String)>,
    /// }
    ///
    /// impl Journal {
    ///     fn send(&mut self, line: &str, connection: &mut Connection<'_, ()>) -> io::Result<()> {
    ///         let _ = connection.write(line.as_bytes())?;
    ///         self.unsent.push((connection.notify_sent(), line.to_owned()));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// impl ConnectionHandler<()> for Journal {
    ///     fn on_sent(
    ///         &mut self,
    ///         position: u64,
    ///         _connection: &mut Connection<'_, ()>,
    ///         _cx: &mut Context<'_, ()>,
    ///     ) -> io::Result<()> {
    ///         self.unsent.retain(|(end, _line)| *end > position);
    ///         Ok(())
    ///     }
    /// #   fn on_data(&mut self, data: &[u8], _: &mut Connection<'_, ()>, _: &mut Context<'_, ()>)
    /// #       -> io::Result<usize> { Ok(data.len()) }
    /// }
    /// ```
    ///
    /// # Cost
    /// O(1). Eight bytes for each mark that is not reached. Marks at one position are one mark.
    /// While a mark is not reached, each call of the connection takes a few steps more.
    pub fn notify_sent(&mut self) -> u64 {
        self.state.add_mark(self.buffer.len())
    }

    /// Returns the result of a write on a socket that has failed, or `None` if the socket has not
    /// failed. If the connection is not reading, the result is an error. If it is reading, the
    /// write is dropped: the handler is notified after it has been called with the rest of the
    /// input.
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

    /// Returns the result of a write whose bytes were sent or queued. The socket may have failed
    /// meanwhile.
    fn answer(&mut self) -> io::Result<Flow> {
        match self.answer_after_failure() {
            Some(answer) => answer,
            None => Ok(self.flow()),
        }
    }

    fn expect_room(&self, more: usize) -> io::Result<()> {
        let ended = self.state.writing() != Writing::Open || self.state.phase() == Phase::Over;
        if ended {
            return Err(io::Error::new(
                ErrorKind::BrokenPipe,
                "write on a connection whose write side is closed",
            ));
        }
        let max = self.state.settings.max_write_queue;
        if more > max.saturating_sub(self.queued()) && more > 0 {
            let text = format!(
                "cannot queue {more} bytes: {} are queued, and max_write_queue is {max}",
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
        if self.state.flags.has(Flags::QUEUE_FULL) || self.state.writing() == Writing::Failed {
            Flow::Full
        } else {
            Flow::Open
        }
    }

    /// Returns `true` if a write to an empty queue may be tried without [`flush`](Self::flush).
    pub(super) fn may_try(&self) -> bool {
        let limited = self
            .state
            .times
            .as_ref()
            .is_some_and(|times| times.limits_writing());
        !limited
            && self.state.phase() != Phase::Connecting
            && !self.state.flags.has(Flags::HANDSHAKING)
    }
}
