//! Closing: every way in which a connection ends.
//!
//! Ground rules:
//! - A connection does not end while the kernel has bytes of the peer for the handler.
//! - A stream that was cut never looks whole to the peer.

mod failure;
mod graceful;
mod linger;

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::reason::CloseReason;
use super::state::{Flags, Pending, Phase, Writing};
use super::stream::Shutdown;
use crate::error::is_nothing_done;
use crate::sockets::reset_on_close;

impl<S> Connection<'_, S> {
    /// Closes our write side once all bytes that were written before this call have been sent. The
    /// peer then reads the end of the stream, and can still write. The connection ends when the
    /// peer has closed its write side too. If the stream [cannot](crate::Shutdown::Unsupported)
    /// close its write side alone, the connection ends once everything has been sent.
    ///
    /// ```
    /// use handlers::{Connection, on_data};
    ///
    /// // Sends one response, then the end of the stream.
    /// let respond_once = on_data(|data, connection: &mut Connection<'_, ()>, _cx| {
    ///     let _ = connection.write(b"bye\n")?;
    ///     connection.shutdown();
    ///     Ok(data.len())
    /// });
    /// # let _: handlers::OnData<_> = respond_once;
    /// ```
    #[doc(alias("uv_shutdown", "shutdownWrite"))]
    pub fn shutdown(&mut self) {
        if self.state.writing() == Writing::Open {
            self.state.set_writing(Writing::Ending);
        }
    }

    /// Closes our write side, as [`shutdown`](Self::shutdown) does, once no response is
    /// [pending](Self::begin_response).
    pub const fn shutdown_after_responses(&mut self) {
        self.state
            .flags
            .insert(Flags::SHUTDOWN_WHEN_ANSWERED.union(Flags::NEEDS_UPDATE));
    }

    /// Closes the connection gracefully: sends everything that is queued, closes our write side,
    /// and discards further input until the peer has closed its write side too. The handler gets no
    /// further callback except [`on_close`](crate::ConnectionHandler::on_close). This method does
    /// not wait for [pending responses](Self::begin_response). To wait for them, use
    /// [`close_gracefully`](Self::close_gracefully).
    ///
    /// If the close takes longer than `deadline`, the connection is closed at once. If bytes are
    /// still queued at that time, the connection is reset, so that the peer does not mistake the
    /// bytes that it has for the whole stream. During the close no other timeout runs. If the
    /// connection is closing already, the earliest of all deadlines applies.
    ///
    /// Prefer this method to a [`close`](Self::close) right after the last write. If bytes of the
    /// peer are still unread, `close(2)` resets the connection, and the last write can be lost.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use handlers::{Connection, on_data};
    ///
    /// let refuse = on_data(|data, connection: &mut Connection<'_, ()>, _cx| {
    ///     let _ = connection.write(b"421 try again later\r\n")?;
    ///     connection.close_after_flush(Duration::from_secs(5));
    ///     Ok(data.len())
    /// });
    /// # let _: handlers::OnData<_> = refuse;
    /// ```
    pub fn close_after_flush(&mut self, deadline: Duration) {
        match self.state.phase() {
            Phase::Connecting => self.state.end(CloseReason::Closed),
            Phase::Opening | Phase::Open => {
                self.begin_closing();
                self.close_within(deadline);
            }
            Phase::Flushing | Phase::Lingering => self.close_within(deadline),
            Phase::Over => {}
        }
    }

    /// Sets a deadline for the end of the connection. The earliest of several deadlines holds.
    pub(super) fn close_within(&mut self, deadline: Duration) {
        self.state
            .times
            .get_or_insert_with(Box::default)
            .close_within(deadline);
        self.state.flags.insert(Flags::NEEDS_UPDATE);
    }

    /// Returns the time that is left until the deadline of the close, if there is one.
    pub(super) fn close_deadline(&self, now: Instant) -> Option<Duration> {
        self.state.times.as_ref()?.close_deadline(now)
    }

    /// Resets the connection (RST) once all bytes that were written before this call have been
    /// sent, or after `deadline`. Use it if your source of bytes breaks off: the peer gets all
    /// bytes that you have written, and cannot mistake them for the whole stream.
    ///
    /// If a packet is lost just before the reset, it is not sent again. A stream that is not TCP
    /// has no reset, so it is only closed.
    pub fn abort_after_flush(&mut self, deadline: Duration) {
        if matches!(
            self.state.phase(),
            Phase::Opening | Phase::Open | Phase::Flushing
        ) {
            self.state.flags.insert(Flags::CUT);
        }
        self.close_after_flush(deadline);
    }

    /// Closes the connection gracefully, or by a reset if the stream is `cut`. There is no
    /// deadline: the connection ends once the peer has taken no byte for `stall_timeout`.
    pub(crate) fn close_unless_stalled(&mut self, stall_timeout: Duration, cut: bool) {
        match self.state.phase() {
            Phase::Connecting => self.state.end(CloseReason::Closed),
            Phase::Opening | Phase::Open => {
                self.state.flags.set(Flags::CUT, cut);
                self.begin_closing();
                self.state
                    .times
                    .get_or_insert_with(Box::default)
                    .set_close_stall_timeout(stall_timeout);
            }
            Phase::Flushing | Phase::Lingering | Phase::Over if cut => {
                self.state.flags.insert(Flags::CUT)
            }
            Phase::Flushing | Phase::Lingering | Phase::Over => {}
        }
    }

    /// Closes the connection once the peer has taken no byte for `stall_timeout`. The time runs
    /// even if nothing is queued. It starts again with the first byte that is queued.
    pub(super) fn close_if_stalled_for(&mut self, stall_timeout: Duration) {
        self.state
            .times
            .get_or_insert_with(Box::default)
            .set_close_stall_timeout(stall_timeout);
        self.state.flags.insert(Flags::NEEDS_UPDATE);
    }

    /// Begins to send the queue and then close, for a connection that is open.
    pub(super) fn begin_closing(&mut self) {
        self.state.set_phase(Phase::Flushing);
        self.state.unconsumed = Vec::new();
        self.shutdown();
    }

    /// Closes the connection after the requests that have arrived are answered. Use it in a server
    /// that stops. The steps are:
    ///
    /// 1. [`on_graceful_close`](crate::ConnectionHandler::on_graceful_close) is called. In this
    ///    callback the handler can write everything that it still has to send.
    /// 2. [`on_data`](crate::ConnectionHandler::on_data) is called with all input that has arrived
    ///    until then.
    /// 3. The close waits for each response that was [announced](Self::begin_response). It does not
    ///    wait for a response that is made elsewhere and was not announced.
    /// 4. The queue is sent, and the connection is closed as
    ///    [`close_after_flush`](Self::close_after_flush) does.
    ///
    /// If reading is [paused](Self::pause_reading), step 2 is left out, and the unread input is
    /// discarded. So to close without reading the requests that have arrived, pause reading before
    /// this call.
    ///
    /// If the steps take longer than `deadline`, the connection is closed at once, even if the peer
    /// is still sending. If several calls have set deadlines, for example because
    /// [`close_after_flush`](Self::close_after_flush) was called before or during the close, the
    /// earliest applies.
    pub fn close_gracefully(&mut self, deadline: Duration) {
        if matches!(self.state.phase(), Phase::Opening | Phase::Open) {
            if self.state.graceful_close() == Pending::No {
                self.state.set_graceful_close(Pending::Asked);
            }
            self.close_within(deadline);
        } else {
            self.close_after_flush(deadline);
        }
    }

    /// Announces a response that is made elsewhere, by a worker or by another connection.
    /// [`close_gracefully`](Self::close_gracefully) and [`ServerKey::stop`](crate::ServerKey::stop)
    /// wait for the response, until their deadline.
    ///
    /// Call this method once for each response, and [`end_response`](Self::end_response) when the
    /// response is written. Until then the response is *pending*. If the peer closes its write side
    /// while a response is pending, the default [`on_end`](crate::ConnectionHandler::on_end) also
    /// waits for the response. If a connection ends while a response is pending, for example by a
    /// timeout, the connection is reset. The timeouts of the connection also run while a response
    /// is pending.
    ///
    /// ```
    /// use std::io;
    /// use handlers::{Connection, ConnectionHandler, PoolHandle};
    /// use reactor::Context;
    ///
    /// /// Answers every byte by its double, which takes long.
    /// struct Doubles {
    ///     pool: PoolHandle<()>,
    /// }
    ///
    /// impl ConnectionHandler<()> for Doubles {
    ///     fn on_data(
    ///         &mut self,
    ///         data: &[u8],
    ///         connection: &mut Connection<'_, ()>,
    ///         _cx: &mut Context<'_, ()>,
    ///     ) -> io::Result<usize> {
    ///         let (key, bytes) = (connection.key(), data.to_vec());
    ///         let job = self.pool.submit(
    ///             move || bytes.repeat(2),
    ///             move |answer, cx| {
    ///                 // The connection may have ended meanwhile.
    ///                 let _ = key.with(cx, |connection, _cx| {
    ///                     connection.end_response();
    ///                     connection.write(&answer.unwrap_or_default())
    ///                 });
    ///             },
    ///         );
    ///         job?;
    ///         connection.begin_response();
    ///         Ok(data.len())
    ///     }
    /// }
    /// ```
    pub const fn begin_response(&mut self) {
        self.state.pending_responses = self.state.pending_responses.saturating_add(1);
    }

    /// Marks one [pending response](Self::begin_response) as complete. Call it in the callback that
    /// writes the response, or in the closure of
    /// [`ConnectionKey::with`](crate::ConnectionKey::with) that writes the response.
    pub const fn end_response(&mut self) {
        self.state.pending_responses = self.state.pending_responses.saturating_sub(1);
        if self.state.flags.has(Flags::SHUTDOWN_WHEN_ANSWERED) {
            self.state.flags.insert(Flags::NEEDS_UPDATE);
        }
    }

    /// Closes the connection when the running callback returns. Before that, this call tries once
    /// more to send the bytes that were written, and drops those that it cannot send at once. If
    /// bytes are dropped, or if a response is [pending](Self::begin_response), the connection is
    /// reset, so that the peer gets an error.
    #[doc(alias("bufferevent_free", "uv_close", "closeNow"))]
    pub fn close(&mut self) {
        if !matches!(self.state.phase(), Phase::Connecting | Phase::Over) {
            self.queue_buffer();
            self.send_queued();
        }
        self.state.end(CloseReason::Closed);
    }

    /// Resets the connection (RST) when the running callback returns. The peer gets an error. All
    /// bytes that were written and not yet sent are dropped, both here and in the kernel. A stream
    /// that is not TCP has no reset, so it is only closed.
    #[doc(alias("closeWithReset", "uv_tcp_close_reset"))]
    pub fn abort(&mut self) {
        if self.state.phase() == Phase::Over {
            return; // the first reason for the end holds
        }
        self.buffer.clear();
        reset_on_close(self.stream.fd());
        self.state.end(CloseReason::Aborted);
    }

    /// Resets the connection once the kernel has sent all bytes that it was given. An earlier reset
    /// would drop them.
    fn abort_when_sent(&mut self) {
        let is_waiting = self.state.flags.take(Flags::AWAITS_SENT);
        let waits = if is_waiting {
            !self.stream.is_writable()
        } else {
            self.stream.await_sent()
        };
        self.state.flags.insert(Flags::AWAITS_SENT);
        if !waits {
            self.abort();
        }
    }

    /// Ends our direction of the stream.
    fn end_stream(&mut self) -> io::Result<Shutdown> {
        if self.state.flags.has(Flags::HANDSHAKING) {
            return Err(ErrorKind::WouldBlock.into());
        }
        // If the read side has ended too, closing a bare socket has the same effect, and it is
        // closed anyway. A layered stream has an end of its own to send.
        if self.state.flags.has(Flags::READ_ENDED) && !self.state.flags.has(Flags::LAYERED) {
            Ok(Shutdown::Done)
        } else {
            self.stream.shutdown()
        }
    }

    /// Takes the steps of a close that are possible now.
    pub(super) fn advance_close(&mut self) {
        if self
            .state
            .flags
            .has(Flags::QUEUED.union(Flags::HOLDS_OUTPUT))
        {
            return;
        }
        // A stream that was cut ends by a reset, and not by an end of stream.
        if self.state.phase() == Phase::Flushing && self.state.flags.has(Flags::CUT) {
            return self.abort_when_sent();
        }
        if self.state.writing() == Writing::Ending && self.state.phase() != Phase::Connecting {
            match self.end_stream() {
                Ok(Shutdown::Done) => self.state.set_writing(Writing::Ended),
                Ok(Shutdown::Unsupported) => {
                    self.state.set_writing(Writing::Ended);
                    self.state.end(CloseReason::Finished);
                }
                Err(error) if self.state.flags.has(Flags::LAYERED) && is_nothing_done(&error) => {
                    return self.state.flags.insert(Flags::AWAITS_SHUTDOWN);
                }
                Err(error) => return self.fail_writing("shutdown", error),
            }
            self.state.flags.remove(Flags::AWAITS_SHUTDOWN);
        }
        if self.state.phase() == Phase::Flushing {
            self.state.set_phase(Phase::Lingering);
            if self.state.flags.has(Flags::READ_ONLY) {
                self.state.end(CloseReason::Finished);
            }
        }
        // Both sides are closed: nothing is left to wait for.
        let open = matches!(self.state.phase(), Phase::Open | Phase::Lingering);
        if open && self.state.flags.has(Flags::READ_ENDED) && self.state.writing() == Writing::Ended
        {
            self.state.end(CloseReason::Finished);
        }
    }
}
