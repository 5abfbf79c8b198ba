//! Closing: every way in which a connection ends.
//!
//! Ground rule: nothing is over while the kernel has bytes of the peer that the handler is to be given, and a stream
//! that was cut never looks whole.

mod failure;
mod graceful;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use socket2::SockRef;

use super::connection::Connection;
use super::reason::CloseReason;
use super::state::{Flags, Pending, Phase, Writing};
use super::stream::Shutdown;

impl<S> Connection<'_, S> {
    /// Ends our direction once everything that was written has been sent. The peer reads an end of stream, and can
    /// still write. The connection ends when both directions have ended.
    #[doc(alias("uv_shutdown", "shutdownWrite"))]
    pub fn shutdown(&mut self) {
        if self.state.writing() == Writing::Open {
            self.state.set_writing(Writing::Ending);
        }
    }

    /// Ends our direction as [`shutdown`](Self::shutdown) does, but not before every [pending](Self::begin_response)
    /// response was written.
    pub const fn shutdown_after_responses(&mut self) {
        self.state
            .flags
            .insert(Flags::SHUTDOWN_WHEN_ANSWERED.union(Flags::NEEDS_UPDATE));
    }

    /// Closes the connection gracefully: sends what is queued, ends our direction, and discards what the peer still
    /// sends until it has ended too.
    ///
    /// After `deadline` the connection is closed as it is. If something is still queued then, it is reset, so that what
    /// the peer has does not look whole. A close right after the last write would lose that where the peer has sent
    /// something that was not read: `close(2)` resets the connection then.
    pub fn close_after_flush(&mut self, deadline: Duration) {
        match self.state.phase() {
            Phase::Connecting => self.state.end(CloseReason::Closed),
            Phase::Opening | Phase::Open => {
                self.begin_closing();
                self.state
                    .times
                    .get_or_insert_with(Box::default)
                    .close_within(deadline);
            }
            Phase::Flushing | Phase::Lingering | Phase::Over => {}
        }
    }

    /// Closes the connection by a reset (RST) once what is queued has been sent, within `deadline`. For a stream that
    /// breaks off: its peer is to have what there is of it, and must not take it for the whole.
    ///
    /// A packet that is lost just before the reset is not sent again. A stream that is not TCP knows no resets, and is
    /// closed.
    pub fn abort_after_flush(&mut self, deadline: Duration) {
        if matches!(
            self.state.phase(),
            Phase::Opening | Phase::Open | Phase::Flushing
        ) {
            self.state.flags.insert(Flags::CUT);
        }
        self.close_after_flush(deadline);
    }

    /// Closes the connection gracefully, by a reset where the stream is `cut`. It has no deadline, and ends once the
    /// peer has taken no byte for `stall_timeout`.
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

    /// Closes the connection once the peer has taken no byte for `stall_timeout`, while something is queued for it.
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

    /// Closes the connection [gracefully](Self::close_after_flush) once the handler was given what has come up to now,
    /// within `deadline`. For a server that ends, and answers what it has been asked.
    ///
    /// The handler is first asked, by [`on_graceful_close`](crate::ConnectionHandler::on_graceful_close), what it still has to send.
    /// Pending responses are waited for only if they were [announced](Self::begin_response). Input that a paused handler
    /// has not read is discarded: to finish without reading what has come, [pause](Self::pause_reading) as well. At the
    /// deadline the connection is closed even if the peer is still sending. Of several deadlines, also of a
    /// [close](Self::close_after_flush) meanwhile, the earliest holds.
    pub fn close_gracefully(&mut self, deadline: Duration) {
        if matches!(self.state.phase(), Phase::Opening | Phase::Open) {
            if self.state.graceful_close() == Pending::No {
                self.state.set_graceful_close(Pending::Asked);
            }
            self.state
                .times
                .get_or_insert_with(Box::default)
                .close_within(deadline);
        } else {
            self.close_after_flush(deadline);
        }
    }

    /// Announces a response that is made elsewhere, by a worker or by another connection. A [`close_gracefully`](Self::close_gracefully),
    /// and so a [stop](crate::ServerKey::stop) of the server, waits for it until its deadline.
    ///
    /// Call it once for each response, and [`end_response`](Self::end_response) when that was written. If the peer ends its
    /// direction before, the default [`on_end`](crate::ConnectionHandler::on_end) waits for it too. A connection that
    /// ends with a response pending, by a timeout for example, ends by a reset. The timeouts run on.
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
    ///     fn on_data(&mut self, data: &[u8], connection: &mut Connection<'_, ()>, _cx: &mut Context<'_, ()>) -> io::Result<usize> {
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

    /// Marks one pending response, see [`begin_response`](Self::begin_response), as complete. Call it in the callback, or
    /// in the call of [`ConnectionKey::with`](crate::ConnectionKey::with), that writes the response.
    pub const fn end_response(&mut self) {
        self.state.pending_responses = self.state.pending_responses.saturating_sub(1);
        if self.state.flags.has(Flags::SHUTDOWN_WHEN_ANSWERED) {
            self.state.flags.insert(Flags::NEEDS_UPDATE);
        }
    }

    /// Closes the connection when this callback returns. What was written is tried once more. What the peer does not
    /// take at once is dropped: then, and while a response is pending, the connection is reset.
    #[doc(alias("bufferevent_free", "uv_close", "closeNow"))]
    pub fn close(&mut self) {
        if !matches!(self.state.phase(), Phase::Connecting | Phase::Over) {
            self.queue_buffer();
            self.send_queued();
        }
        self.state.end(CloseReason::Closed);
    }

    /// Closes the connection when this callback returns, by a reset (RST). The peer learns that something is wrong, and
    /// what is queued here and in the kernel is dropped.
    #[doc(alias("closeWithReset", "uv_tcp_close_reset"))]
    pub fn abort(&mut self) {
        if self.state.phase() == Phase::Over {
            return; // the first word on the end holds
        }
        self.buffer.clear();
        reset_on_close(self.stream.fd());
        self.state.end(CloseReason::Aborted);
    }

    /// Resets once the kernel has sent all that it was given, which a reset would drop.
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

    /// Goes as far towards the end as is possible now.
    pub(super) fn advance_close(&mut self) {
        if self.state.is_queued() {
            return;
        }
        if self.state.phase() == Phase::Flushing && self.state.flags.has(Flags::CUT) {
            return self.abort_when_sent();
        }
        if self.state.writing() == Writing::Ending && self.state.phase() != Phase::Connecting {
            self.state.set_writing(Writing::Ended);
            // A socket whose other direction has ended is closed anyway, which says the same.
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
        let open = matches!(self.state.phase(), Phase::Open | Phase::Lingering);
        if open && self.state.flags.has(Flags::READ_ENDED) && self.state.writing() == Writing::Ended
        {
            self.state.end(CloseReason::Finished);
        }
    }
}

/// Makes the close of the socket a reset. A stream that is not TCP knows no resets, and is closed.
pub(super) fn reset_on_close(fd: BorrowedFd<'_>) {
    let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
}
