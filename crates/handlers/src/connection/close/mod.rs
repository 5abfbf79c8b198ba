//! Closing: every way in which a connection ends.
//!
//! Ground rules: a connection does not end while the kernel has bytes of the peer that the handler
//! must still be called with. A stream that was cut never looks whole to the peer.

mod failure;
mod graceful;

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::reason::CloseReason;
use super::state::{Flags, Pending, Phase, Writing};
use super::stream::Shutdown;
use crate::sockets::reset_on_close;

impl<S> Connection<'_, S> {
    /// Closes our write side once everything written before has been sent. The peer reads an end of
    /// stream, and can still write. The connection ends when both sides are closed.
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

    /// Closes our write side as [`shutdown`](Self::shutdown) does, but waits until every
    /// [pending](Self::begin_response) response is written.
    pub const fn shutdown_after_responses(&mut self) {
        self.state
            .flags
            .insert(Flags::SHUTDOWN_WHEN_ANSWERED.union(Flags::NEEDS_UPDATE));
    }

    /// Closes the connection gracefully. Sends everything that is queued, closes our write side,
    /// and discards further input until the peer has closed its side too.
    ///
    /// After `deadline` the connection is closed in any case. If bytes are still queued then, the
    /// connection is reset, so that the data which the peer has does not look whole. If the
    /// connection is closing already, the earliest of all deadlines holds. Prefer this
    /// method to a [`close`](Self::close) right after the last write. If the peer has sent bytes
    /// that were not read, `close(2)` resets the connection, and the last write can be lost.
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

    /// Resets the connection (RST) once the queue has been sent, or after `deadline`. Use it for a
    /// stream that breaks off: the peer gets all bytes that exist, and cannot mistake them for the
    /// whole stream.
    ///
    /// A packet that is lost just before the reset is not sent again. A stream that is not TCP has
    /// no reset: it is closed.
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
    pub(super) fn close_unless_stalled(&mut self, stall_timeout: Duration, cut: bool) {
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

    /// Closes the connection once bytes are queued and the peer has taken none of them for
    /// `stall_timeout`.
    pub(super) fn close_if_stalled_for(&mut self, stall_timeout: Duration) {
        self.state
            .times
            .get_or_insert_with(Box::default)
            .set_close_stall_timeout(stall_timeout);
        self.state.flags.insert(Flags::NEEDS_UPDATE);
    }

    /// Begins a graceful close of a connection that is open.
    pub(super) fn begin_closing(&mut self) {
        self.state.set_phase(Phase::Flushing);
        self.state.unconsumed = Vec::new();
        self.shutdown();
    }

    /// Closes the connection [gracefully](Self::close_after_flush) once the handler has been called
    /// with all input that has arrived up to now, within `deadline`. Use it in a server that stops
    /// and still answers the requests it has received.
    ///
    /// 1. [`on_graceful_close`](crate::ConnectionHandler::on_graceful_close) is called first. The
    ///    handler can write there what it still has to send, even if the deadline is zero.
    /// 2. Pending responses are waited for only if they were [announced](Self::begin_response).
    /// 3. Input that a paused handler has not read is discarded. To finish without reading what has
    ///    arrived, [pause](Self::pause_reading) as well.
    ///
    /// At the deadline the connection is closed even if the peer is still sending. If there are
    /// several deadlines, for example by a [close](Self::close_after_flush) before or after this
    /// call, the earliest one holds.
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

    /// Announces a response that is made elsewhere, by a worker or by another connection. A
    /// [`close_gracefully`](Self::close_gracefully) waits for the response until its deadline, and
    /// so does a [stop](crate::ServerKey::stop) of the server.
    ///
    /// Call it once for each response. Call [`end_response`](Self::end_response) when that response
    /// is written. If the peer closes its write side before, the default
    /// [`on_end`](crate::ConnectionHandler::on_end) waits for the response too. A connection that
    /// ends with a response pending, for example by a timeout, is reset. Timeouts keep running.
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

    /// Marks one pending response as complete (see [`begin_response`](Self::begin_response)). Call
    /// it in the callback that writes the response, or in the call of
    /// [`ConnectionKey::with`](crate::ConnectionKey::with) that does so.
    pub const fn end_response(&mut self) {
        self.state.pending_responses = self.state.pending_responses.saturating_sub(1);
        if self.state.flags.has(Flags::SHUTDOWN_WHEN_ANSWERED) {
            self.state.flags.insert(Flags::NEEDS_UPDATE);
        }
    }

    /// Closes the connection when this callback returns. Tries once more to send everything written
    /// before, and drops the bytes that the socket does not take at once. If bytes are dropped, or
    /// a response is pending, the connection is reset.
    #[doc(alias("bufferevent_free", "uv_close", "closeNow"))]
    pub fn close(&mut self) {
        if !matches!(self.state.phase(), Phase::Connecting | Phase::Over) {
            self.queue_buffer();
            self.send_queued();
        }
        self.state.end(CloseReason::Closed);
    }

    /// Resets the connection (RST) when this callback returns. The peer is notified of an error.
    /// All bytes that are queued here or in the kernel are dropped.
    #[doc(alias("closeWithReset", "uv_tcp_close_reset"))]
    pub fn abort(&mut self) {
        if self.state.phase() == Phase::Over {
            return; // the first reason for the end holds
        }
        self.buffer.clear();
        reset_on_close(self.stream.fd());
        self.state.end(CloseReason::Aborted);
    }

    /// Resets the connection once the kernel has sent all bytes that it was given. A reset before
    /// that would drop them.
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

    /// Goes as far towards the end of the connection as is possible now.
    pub(super) fn advance_close(&mut self) {
        if self.state.is_queued() {
            return;
        }
        // A cut stream ends by a reset instead of an end of stream.
        if self.state.phase() == Phase::Flushing && self.state.flags.has(Flags::CUT) {
            return self.abort_when_sent();
        }
        if self.state.writing() == Writing::Ending && self.state.phase() != Phase::Connecting {
            self.state.set_writing(Writing::Ended);
            // If the read side has ended too, the socket is closed anyway, which has the same
            // effect.
            let ended = if self.state.flags.has(Flags::READ_ENDED) {
                Ok(Shutdown::Done)
            } else {
                self.stream.shutdown()
            };
            match ended {
                Ok(Shutdown::Done) => {}
                Ok(Shutdown::Unsupported) => self.state.end(CloseReason::Finished),
                Err(error) => return self.fail_writing(error),
            }
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
