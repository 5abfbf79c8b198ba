//! What a handler, or a visitor, may do with a connection that is lent to it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::mem::take;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use bytes::Bytes;
use reactor::Key;
use socket2::SockRef;

use super::core::{Core, Counters, Pending, Phase, Writing};
use super::gathered::{GATHERED_MAX, Gathered};
use super::key::ConnectionKey;
use super::options::ConnectionOptions;
use super::stream::AnyStream;
use super::{CloseReason, Flow};
use crate::socket::plain;

/// A connection in the hands of its handler, or of a visitor.
pub struct Connection<'a, S> {
    pub(super) stream: &'a mut dyn AnyStream,
    pub(super) core: &'a mut Core,
    /// What was written in this callback, and is still to be tried. Empty while there is an outbox.
    pub(super) gathered: &'a mut Gathered,
    pub(super) key: ConnectionKey<S>,
    /// Whether a visitor calls. Writes of the handler leave at the end of its callback. Small writes of visitors wait for
    /// those of others, and leave with the deferred callbacks.
    pub(super) is_visit: bool,
}

impl<S> Connection<'_, S> {
    /// The name of this connection, to reach it from elsewhere.
    pub const fn key(&self) -> ConnectionKey<S> {
        self.key
    }

    /// Sends `bytes` after everything that was written before, as soon as the peer takes them.
    ///
    /// Small pieces that are written in one callback leave by one system call at its end; from 16 KiB on a piece is tried at
    /// once, and only what the socket does not take is copied. Never blocks.
    ///
    /// # Errors
    /// `BrokenPipe` after [`shutdown`](Self::shutdown) or [`close_after_flush`](Self::close_after_flush);
    /// `QuotaExceeded` beyond [`ConnectionOptions::queue_max`]: nothing of `bytes` was queued then, and the
    /// connection is as it was.
    ///
    /// A socket that has failed, by `ConnectionReset` for example, takes no more, and what is written is dropped. A handler that
    /// reads is first given the rest of what has come, and then told the error by
    /// [`on_close`](super::ConnectionHandler::on_close): until then the answer is [`Flow::Full`], and no
    /// [`on_drain`](super::ConnectionHandler::on_drain) follows. Where nothing is read, since the handler
    /// [pauses](Self::pause_reading) or the peer has ended its direction, the error is returned here.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Flow> {
        if self.gathers(bytes.len()) {
            self.gathered.push(bytes);
            return Ok(Flow::Open);
        }
        self.write_unsteady(bytes)
    }

    /// Whether so many bytes more can be gathered, and that is all there is to a write of them.
    #[inline]
    fn gathers(&self, more: usize) -> bool {
        !self.is_visit && self.core.is_steady() && self.gathered.len() + more < self.core.settings.gathered_max
    }

    #[cold]
    #[inline(never)]
    fn write_unsteady(&mut self, bytes: &[u8]) -> io::Result<Flow> {
        if let Some(answer) = self.after_failure() {
            return answer;
        }
        self.send_if_beyond(self.core.settings.queue_max.saturating_sub(bytes.len()));
        self.expect_room(bytes.len())?;
        let is_small = self.gathered.len() + bytes.len() < GATHERED_MAX;
        self.flush_later_if(is_small);
        if self.core.outbox.is_some() || !self.may_try() || is_small && self.is_visit {
            self.queue_gathered();
            if !bytes.is_empty() {
                self.core.outbox().push(bytes);
            }
            self.send_if_beyond(self.core.settings.high_watermark);
        } else if is_small {
            self.gathered.push(bytes);
        } else {
            let sent = self.try_gathered_and(bytes);
            if let Some(answer) = self.after_failure() {
                return answer;
            }
            if sent < bytes.len() {
                self.core.outbox().push(&bytes[sent..]);
            }
        }
        Ok(self.flow())
    }

    /// The same for bytes that are shared: what has to be queued is kept as it is, not copied, if it is a KiB or more.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_bytes(&mut self, mut bytes: Bytes) -> io::Result<Flow> {
        let is_small = bytes.len() < GATHERED_MAX;
        if is_small && self.core.outbox.is_none() && !self.is_visit {
            return self.write(&bytes);
        }
        if let Some(answer) = self.after_failure() {
            return answer;
        }
        self.send_if_beyond(self.core.settings.queue_max.saturating_sub(bytes.len()));
        self.expect_room(bytes.len())?;
        self.flush_later_if(is_small);
        if self.core.outbox.is_none() && !is_small && self.may_try() {
            let sent = self.try_gathered_and(&bytes);
            if let Some(answer) = self.after_failure() {
                return answer;
            }
            bytes = bytes.split_off(sent);
        } else {
            self.queue_gathered();
        }
        if !bytes.is_empty() {
            self.core.outbox().push_shared(bytes);
        }
        self.send_if_beyond(self.core.settings.high_watermark);
        Ok(self.flow())
    }

    /// Has the small piece that a visitor is about to queue leave with the deferred callbacks, if nothing is queued before it.
    fn flush_later_if(&mut self, is_small: bool) {
        self.core.flushes_later |= is_small && self.is_visit && self.core.outbox.is_none() && self.may_try();
    }

    /// Tries the writes of visitors before any of them is told that they are too much: the peer may read.
    fn send_if_beyond(&mut self, most: usize) {
        if self.is_visit && self.core.flushes_later && self.core.queued() >= most {
            self.send_queued();
        }
    }

    /// Sends what was written and is queued now, as much as the socket takes: for a visitor that cannot wait for the
    /// [deferred callbacks](reactor::Registry::defer). A handler needs it in a callback that goes on for long, since what it writes
    /// leaves by itself when the callback returns. One system call, none if nothing is queued.
    pub fn flush(&mut self) -> Flow {
        if self.core.writing != Writing::Failed && self.core.phase != Phase::Connecting {
            self.send_gathered();
            self.send_queued();
        }
        self.flow()
    }

    /// How many bytes are queued, and not yet taken by the socket.
    pub fn queued(&self) -> usize {
        self.core.queued() + self.gathered.len()
    }

    /// What has passed through it.
    pub const fn counters(&self) -> Counters {
        self.core.counters
    }

    /// Reads no more, until [`resume_reading`](Self::resume_reading). The peer is held up once the kernel's buffer is full.
    ///
    /// Nothing is lost by it: what the peer has sent, and its end, wait in the kernel until reading is resumed, also where the
    /// peer has closed the connection or reset it. A reset is reported at once: by
    /// [`on_failure`](super::ConnectionHandler::on_failure), or where nothing is unread by the end of the connection.
    pub const fn pause_reading(&mut self) {
        self.core.paused = true;
    }

    /// Reads again; what the handler has left is given to it anew, later this turn or next.
    pub fn resume_reading(&mut self) {
        if take(&mut self.core.paused) {
            self.core.redeliver = true;
            if let Some(times) = &mut self.core.times {
                times.begin_reading();
            }
        }
    }

    /// Reads on while the queue is full: for a handler who is not the one to fill it, since what comes goes elsewhere.
    pub const fn read_while_full(&mut self) {
        self.core.reads_while_full = true;
    }

    /// Whether its handler is to be given more of what has come.
    #[cfg(feature = "child")]
    pub(crate) const fn takes_data(&self) -> bool {
        self.core.delivers()
    }

    /// Whether [`pause_reading`](Self::pause_reading) holds.
    pub const fn is_paused(&self) -> bool {
        self.core.paused
    }

    /// Whether the peer has ended its direction.
    pub const fn is_read_ended(&self) -> bool {
        self.core.read_ended
    }

    /// Ends our direction once everything that was written has been sent: the peer reads an end of stream, and can still
    /// write. When both directions have ended, so has the connection.
    pub fn shutdown(&mut self) {
        if self.core.writing == Writing::Open {
            self.core.writing = Writing::Ending;
        }
    }

    /// Ends our direction as [`shutdown`](Self::shutdown) does, but not before every answer that was
    /// [announced](Self::answer_later) has been given.
    pub const fn shutdown_when_answered(&mut self) {
        self.core.ends_when_answered = true;
        self.core.untimed = true; // so that it is seen to when this callback, or visit, returns
    }

    /// Closes the connection in order: what is queued is sent, then our direction ends, and what the peer still sends is
    /// thrown away until it has ended too. All that for at most `deadline`, after which it is closed as it is: by a reset where
    /// something is still queued, so that what the peer has does not look whole.
    ///
    /// To close at once after the last write would lose it where the peer has sent something that was not read:
    /// `close(2)` resets the connection then.
    pub fn close_after_flush(&mut self, deadline: Duration) {
        match self.core.phase {
            Phase::Connecting => self.core.end(CloseReason::Closed),
            Phase::Opening | Phase::Open => {
                self.begin_closing();
                self.core.times.get_or_insert_with(Box::default).close_within(deadline);
            }
            Phase::Flushing | Phase::Lingering | Phase::Over => {}
        }
    }

    /// Closes the connection by a reset (RST) once what is queued has been sent, within `deadline`: for a stream that breaks off,
    /// whose peer is to have what there is of it and must not take it for the whole.
    ///
    /// A packet that is lost on its way just before the reset is not sent again. A stream that is no TCP knows no resets, and is
    /// closed.
    pub fn abort_after_flush(&mut self, deadline: Duration) {
        if matches!(self.core.phase, Phase::Opening | Phase::Open | Phase::Flushing) {
            self.core.is_cut = true;
        }
        self.close_after_flush(deadline);
    }

    /// The same close, by a reset where the stream is `cut`, without a deadline: it ends once the peer has taken no byte for
    /// `patience`.
    pub(super) fn close_patiently(&mut self, patience: Duration, cut: bool) {
        match self.core.phase {
            Phase::Connecting => self.core.end(CloseReason::Closed),
            Phase::Opening | Phase::Open => {
                self.core.is_cut = cut;
                self.begin_closing();
                self.core.times.get_or_insert_with(Box::default).close_patiently(patience);
            }
            Phase::Flushing | Phase::Lingering | Phase::Over => self.core.is_cut |= cut,
        }
    }

    /// Closes the connection once the peer has taken no byte for `patience`, while something is queued for it.
    pub(super) fn lose_patience_after(&mut self, patience: Duration) {
        self.core.times.get_or_insert_with(Box::default).close_patiently(patience);
        self.core.untimed = true;
    }

    /// Begins a close in order of a connection that is open.
    pub(super) fn begin_closing(&mut self) {
        self.core.phase = Phase::Flushing;
        self.core.unconsumed = Vec::new();
        self.shutdown();
    }

    /// Closes the connection [in order](Self::close_after_flush) once the handler has been given what has come up to now, all
    /// within `deadline`: for a server that ends, and answers what it has been asked. What a handler that is paused has not
    /// read is not waited for, and an answer that is still being made only where it was [announced](Self::answer_later); a
    /// peer that never stops asking is cut at the deadline. Of several deadlines, also of a
    /// [close](Self::close_after_flush) meanwhile, the earliest holds.
    ///
    /// The handler is asked first, by [`on_finish`](super::ConnectionHandler::on_finish), what it still has to send. To finish
    /// without reading what has come, [pause](Self::pause_reading) as well.
    pub fn finish(&mut self, deadline: Duration) {
        if matches!(self.core.phase, Phase::Opening | Phase::Open) {
            if self.core.finishing == Pending::No {
                self.core.finishing = Pending::Asked;
            }
            self.core.times.get_or_insert_with(Box::default).close_within(deadline);
        } else {
            self.close_after_flush(deadline);
        }
    }

    /// Says that the answer to what has come is made elsewhere, by a worker or by another connection: a
    /// [`finish`](Self::finish), that of a server which [stops](crate::ServerKey::stop) too, waits for it until its deadline.
    ///
    /// For each answer once, and [`answered`](Self::answered) when it has been written. A peer that ends its direction before it
    /// has its answer is waited for likewise, by the default [`on_end`](crate::ConnectionHandler::on_end). A connection that
    /// ends with an answer owed, by a timeout for example, ends by a reset. It changes nothing else: the timeouts run on.
    ///
    /// ```
    /// use std::io;
    /// use handlers::{Connection, ConnectionHandler, Pool};
    /// use reactor::Context;
    ///
    /// /// Answers every byte by its double, which takes long.
    /// struct Doubles {
    ///     pool: Pool<()>,
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
    ///                     connection.answered();
    ///                     connection.write(&answer.unwrap_or_default())
    ///                 });
    ///             },
    ///         );
    ///         job?;
    ///         connection.answer_later();
    ///         Ok(data.len())
    ///     }
    /// }
    /// ```
    pub const fn answer_later(&mut self) {
        self.core.answers_owed = self.core.answers_owed.saturating_add(1);
    }

    /// One that was to be [answered later](Self::answer_later) is answered by what has been written until this callback, or
    /// visit, returns.
    pub const fn answered(&mut self) {
        self.core.answers_owed = self.core.answers_owed.saturating_sub(1);
        self.core.untimed |= self.core.ends_when_answered;
    }

    /// Closes the connection when this callback returns. What was written and is queued is tried once more, and dropped where
    /// the peer does not take it at once: then, and where an answer is owed, by a reset.
    pub fn close(&mut self) {
        if !matches!(self.core.phase, Phase::Connecting | Phase::Over) {
            self.queue_gathered();
            self.send_queued();
        }
        self.core.end(CloseReason::Closed);
    }

    /// Closes the connection when this callback returns, by a reset (RST): the peer is told that something is wrong, and
    /// what is queued here and in the kernel is dropped.
    pub fn abort(&mut self) {
        if self.core.phase == Phase::Over {
            return; // the first word on the end holds
        }
        self.gathered.clear();
        reset_on_close(self.stream.fd());
        self.core.end(CloseReason::Aborted);
    }

    /// Treats this connection as these options say from now on. Timeouts begin anew, but for that of a close, and so do rates
    /// that are not shared.
    pub fn set_options(&mut self, options: &ConnectionOptions) {
        self.core.set_options(options);
    }

    /// The socket, to ask it or set its options. What is read from it or written to it is missing here.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.fd()
    }

    /// Returns the address of the peer of a TCP connection, an IPv4 one in [plain form](crate::Peer::Tcp). One system call.
    ///
    /// # Errors
    /// `ENOTCONN` for a peer that has gone; `InvalidInput` for a stream that is no TCP.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(&self.stream.fd()).peer_addr()?;
        Ok(plain(address.as_socket().ok_or(ErrorKind::InvalidInput)?))
    }

    /// The listener that has accepted it, or the null key.
    pub(crate) const fn accepted_by(&self) -> Key {
        self.core.accepted_by
    }
}

/// Has the end of the socket be a reset. A stream that is no TCP knows no resets, and is closed.
pub(super) fn reset_on_close(fd: BorrowedFd<'_>) {
    let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
}

impl<S> fmt::Debug for Connection<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("key", &self.key)
            .field("phase", &self.core.phase)
            .field("queued", &self.queued())
            .field("counters", &self.core.counters)
            .finish_non_exhaustive()
    }
}
