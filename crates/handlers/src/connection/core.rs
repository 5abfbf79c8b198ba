//! What a connection is at any time, and what its handler may do with it.
//!
//! A [`Core`] knows neither the type of its stream nor that of its handler. A [`Connection`] is a core together with its
//! stream for the length of a callback.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::take;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reactor::{Interest, Key, Readiness};
use rustix::net::sockopt::set_socket_linger;

use super::key::ConnectionKey;
use super::options::{ConnectionOptions, Settings};
use super::outbox::Outbox;
use super::stream::AnyStream;
use super::times::{Times, Waits};
use super::{CloseReason, Flow, Timeout};
use crate::listener::Permit;

/// What is written in one callback is gathered up to so much; from there on it is not copied any more but written as it is.
const GATHERED_MAX: usize = 16 * 1024;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody has answered yet.
    Connecting,
    /// Its handler does not know of it yet.
    Opening,
    Open,
    /// Sends what is queued, and reads nothing.
    Flushing,
    /// Has sent all, and the end of it. Waits for the peer's end, and throws away what comes until then: to close a
    /// socket with something unread would take back what the peer has not read yet.
    Lingering,
    Over,
}

/// How far the direction of writing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// It ends when everything has been sent.
    Ending,
    Ended,
}

pub(super) struct Core {
    pub(super) settings: Arc<Settings>,
    /// `None` while nothing is queued.
    outbox: Option<Box<Outbox>>,
    /// What the handler has left.
    pub(super) unconsumed: Vec<u8>,
    /// `None` where no timeout and no rate is asked for.
    pub(super) times: Option<Box<Times>>,
    counters: Counters,
    /// The interest that the loop knows of.
    pub(super) interest: Interest,
    pub(super) phase: Phase,
    writing: Writing,
    paused: bool,
    /// The producer has been told that the queue is full, and not yet that it is not.
    full: bool,
    /// What comes has nothing to do with what is queued.
    reads_while_full: bool,
    pub(super) read_ended: bool,
    /// Its handler is running.
    pub(super) calling: bool,
    /// What was left may be consumed now: the handler was paused, or full, meanwhile.
    pub(super) redeliver: bool,
    pub(super) reason: Option<CloseReason>,
    /// It cannot be read, so that nothing but an error says that its peer has gone.
    write_only: bool,
    accepted_by: Key,
    _permit: Option<Permit>,
}

/// What has passed through a connection, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Read from the peer.
    pub read: u64,
    /// Taken by the socket.
    pub written: u64,
}

impl Core {
    pub(super) fn new(options: &ConnectionOptions, phase: Phase, reads: bool, writes: bool) -> Self {
        let mut core = Self {
            settings: options.0.clone(),
            outbox: None,
            unconsumed: Vec::new(),
            times: Times::of(&options.0),
            counters: Counters::default(),
            interest: Interest::NONE,
            phase,
            writing: if writes { Writing::Open } else { Writing::Ended },
            paused: false,
            full: false,
            reads_while_full: false,
            read_ended: !reads,
            calling: false,
            redeliver: false,
            reason: None,
            write_only: !reads,
            accepted_by: Key::NULL,
            _permit: None,
        };
        core.interest = core.wanted();
        core
    }

    pub(super) fn accepted(mut self, by: Key, permit: Option<Permit>) -> Self {
        (self.accepted_by, self._permit) = (by, permit);
        self
    }

    /// Whether the handler is to be given what comes.
    pub(super) const fn delivers(&self) -> bool {
        matches!(self.phase, Phase::Open) && !self.paused && (!self.full || self.reads_while_full)
    }

    /// Whether the handler is to be given what it has left, with nothing new behind it.
    pub(super) const fn owes_what_was_left(&self) -> bool {
        self.redeliver && self.delivers() && !self.unconsumed.is_empty()
    }

    pub(super) const fn wants_to_read(&self) -> bool {
        !self.read_ended && (self.delivers() || matches!(self.phase, Phase::Lingering))
    }

    /// Whether these facts say that nobody will read what is written, where that is not learnt by reading.
    pub(super) const fn is_unread(&self, readiness: Readiness) -> bool {
        self.write_only && readiness.is_write_closed()
    }

    pub(super) const fn wants_to_write(&self) -> bool {
        match self.phase {
            Phase::Connecting => true,
            Phase::Over => false,
            // A producer that was told to pause is told to go on even if everything left at once.
            _ => self.outbox.is_some() || self.full,
        }
    }

    /// What the loop is to call for.
    pub(super) fn wanted(&self) -> Interest {
        let held = |what: fn(&Times) -> bool| self.times.as_deref().is_some_and(what);
        let read = matches!(self.phase, Phase::Opening) && !self.read_ended || self.wants_to_read();
        let read = if read && !held(Times::holds_reading) { Interest::READABLE } else { Interest::NONE };
        let write = self.wants_to_write() && !held(Times::holds_writing);
        // Of all interests the one in urgent data is least likely to be met by anything but an error.
        let errors = if self.write_only { Interest::PRIORITY } else { Interest::NONE };
        read | errors | if write { Interest::WRITABLE } else { Interest::NONE }
    }

    pub(super) fn note_read(&mut self, bytes: usize) {
        self.counters.read += bytes as u64;
        if let Some(times) = &mut self.times {
            times.note_read(bytes);
        }
    }

    fn note_written(&mut self, bytes: usize) {
        self.counters.written += bytes as u64;
        if let Some(times) = &mut self.times {
            times.note_written(bytes);
        }
    }

    /// What the timeouts count.
    pub(super) const fn waits(&self) -> Waits {
        Waits {
            to_read: self.wants_to_read(),
            to_write: self.outbox.is_some(),
            closing: !matches!(self.phase, Phase::Opening | Phase::Open),
        }
    }

    fn queued(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len())
    }

    fn outbox(&mut self) -> &mut Outbox {
        if self.outbox.is_none()
            && let Some(times) = &mut self.times
        {
            times.begin_writing();
        }
        self.outbox.get_or_insert_default()
    }

    /// Ends the connection, if it has not ended for another reason.
    pub(super) fn end(&mut self, reason: CloseReason) {
        self.phase = Phase::Over;
        self.reason.get_or_insert(reason);
    }
}

/// A connection in the hands of its handler, or of a visitor.
pub struct Connection<'a, S> {
    pub(super) stream: &'a mut dyn AnyStream,
    pub(super) core: &'a mut Core,
    /// What was written in this callback, and is still to be tried. Empty while there is an outbox.
    pub(super) gathered: &'a mut Vec<u8>,
    pub(super) key: ConnectionKey<S>,
    /// Who calls: its handler, whose writes leave at the end of the callback, or a visitor, whose small ones wait for the
    /// next turn, when all of them leave at once.
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
    /// connection is as it was. What the socket says, `ConnectionReset` for one, after which the connection ends.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Flow> {
        self.expect_room(bytes.len())?;
        let is_small = self.gathered.len() + bytes.len() < GATHERED_MAX;
        if self.core.outbox.is_some() || !self.may_try() || is_small && self.is_visit {
            self.queue_gathered();
            if !bytes.is_empty() {
                self.core.outbox().push(bytes);
            }
        } else if is_small {
            self.gathered.extend_from_slice(bytes);
        } else {
            let sent = self.try_gathered_and(bytes)?;
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
        self.expect_room(bytes.len())?;
        if self.core.outbox.is_none() && !is_small && self.may_try() {
            let sent = self.try_gathered_and(&bytes)?;
            bytes = bytes.split_off(sent);
        } else {
            self.queue_gathered();
        }
        if !bytes.is_empty() {
            self.core.outbox().push_shared(bytes);
        }
        Ok(self.flow())
    }

    /// How many bytes are queued, and not yet taken by the socket.
    pub fn queued(&self) -> usize {
        self.core.queued() + self.gathered.len()
    }

    /// What has passed through it.
    pub const fn counters(&self) -> Counters {
        self.core.counters
    }

    /// Reads no more, until [`resume_reading`](Self::resume_reading). The peer is held up once the kernel's buffer is
    /// full. That it has gone is not noticed meanwhile, but for the timeouts.
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

    /// Closes the connection in order: what is queued is sent, then our direction ends, and what the peer still sends is
    /// thrown away until it has ended too. All that for at most `deadline`, after which it is closed as it is.
    ///
    /// To close at once after the last write would lose it where the peer has sent something that was not read:
    /// `close(2)` resets the connection then.
    pub fn close_after_flush(&mut self, deadline: Duration) {
        match self.core.phase {
            Phase::Connecting => self.core.end(CloseReason::Closed),
            Phase::Opening | Phase::Open => {
                self.core.phase = Phase::Flushing;
                self.core.unconsumed = Vec::new();
                self.shutdown();
                self.core.times.get_or_insert_with(Box::default).close_within = Some(deadline);
            }
            Phase::Flushing | Phase::Lingering | Phase::Over => {}
        }
    }

    /// Closes the connection when this callback returns. What was written and is queued is tried once more, and dropped where
    /// the peer does not take it at once.
    pub fn close(&mut self) {
        if !matches!(self.core.phase, Phase::Connecting | Phase::Over) {
            self.queue_gathered();
            let _ = self.flush(); // it is over either way
        }
        self.core.end(CloseReason::Closed);
    }

    /// Closes the connection when this callback returns, by a reset (RST): the peer is told that something is wrong, and
    /// what is queued here and in the kernel is dropped.
    pub fn abort(&mut self) {
        self.gathered.clear();
        // A stream that is no TCP knows no resets, and is closed.
        let _ = set_socket_linger(self.stream.fd(), Some(Duration::ZERO));
        self.core.end(CloseReason::Aborted);
    }

    /// Treats this connection as these options say from now on. Timeouts begin anew, but for that of a close, and so do rates
    /// that are not shared.
    pub fn set_options(&mut self, options: &ConnectionOptions) {
        let before = self.core.times.take().filter(|times| times.close_within.is_some());
        self.core.settings = options.0.clone();
        self.core.times = Times::of(&options.0);
        if let Some(before) = before {
            self.core.times.get_or_insert_with(Box::default).close_as(&before);
        }
    }

    /// The socket, to ask it or set its options. What is read from it or written to it is missing here.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.fd()
    }

    /// The address of the peer of a TCP connection. One system call.
    ///
    /// # Errors
    /// `ENOTCONN` for a peer that has gone; `InvalidInput` for a stream that is no TCP.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        Ok(rustix::net::getpeername(self.stream.fd())?.ok_or(ErrorKind::NotConnected)?.try_into()?)
    }

    /// The listener that has accepted it, or the null key.
    pub(crate) const fn accepted_by(&self) -> Key {
        self.core.accepted_by
    }

    fn expect_room(&self, more: usize) -> io::Result<()> {
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

    fn flow(&mut self) -> Flow {
        self.core.full |= self.queued() >= self.core.settings.high_watermark;
        if self.core.full { Flow::Full } else { Flow::Open }
    }

    /// Whether a write that nothing is queued before may be tried without [`flush`](Self::flush).
    fn may_try(&self) -> bool {
        let limited = self.core.times.as_ref().is_some_and(|times| times.limits_writing());
        !limited && self.core.phase != Phase::Connecting
    }

    /// Writes what was gathered and `bytes` behind it; gives how much of `bytes` is done with. There is no outbox.
    fn try_gathered_and(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let slices = [IoSlice::new(self.gathered), IoSlice::new(bytes)];
        let slices = match (self.gathered.is_empty(), bytes.is_empty()) {
            (true, true) => return Ok(0),
            (true, false) => &slices[1..],
            (false, true) => &slices[..1],
            (false, false) => &slices,
        };
        let sent = match self.stream.write(slices) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Err(error) if is_nothing_done(&error) => Ok(0),
            other => other,
        };
        let sent = sent.map_err(|error| self.fail(error))?;
        self.core.note_written(sent);
        let of_gathered = sent.min(self.gathered.len());
        if of_gathered < self.gathered.len() {
            self.core.outbox().push(&self.gathered[of_gathered..]);
        }
        self.gathered.clear();
        Ok(sent - of_gathered)
    }

    /// Notes that the socket has failed; gives an error of the same kind for who was writing.
    fn fail(&mut self, error: io::Error) -> io::Error {
        self.gathered.clear();
        let told = match error.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => error.kind().into(),
        };
        self.core.end(CloseReason::Failed(error));
        told
    }

    fn queue_gathered(&mut self) {
        if !self.gathered.is_empty() {
            self.core.outbox().push(self.gathered);
            self.gathered.clear();
        }
    }

    /// What was gathered leaves, or is queued.
    pub(super) fn end_callback(&mut self) -> io::Result<()> {
        if !self.gathered.is_empty() {
            if self.core.outbox.is_none() && self.may_try() && !self.is_visit {
                self.try_gathered_and(&[])?;
            } else {
                self.queue_gathered();
            }
        }
        Ok(())
    }

    /// Sends what is queued, as much as a turn has room for. Whether the queue, which was full, has room again, and somebody
    /// may still write.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let mut budget = self.core.settings.bytes_per_turn;
        while let Some(outbox) = &mut self.core.outbox
            && budget > 0
        {
            let allowed = self.core.times.as_mut().map_or(usize::MAX, |times| times.may_write());
            if allowed == 0 {
                break;
            }
            let stream = &mut self.stream;
            match outbox.write_to(budget.min(allowed), |slices| stream.write(slices)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    budget -= sent;
                    if outbox.len() == 0 {
                        self.core.outbox = None;
                    }
                    self.core.note_written(sent);
                }
                Err(error) if is_nothing_done(&error) => break,
                Err(error) => return Err(error),
            }
        }
        let drained = self.core.full && self.core.queued() <= self.core.settings.low_watermark;
        if drained {
            self.core.full = false;
            self.core.redeliver = true;
            if let Some(times) = &mut self.core.times {
                times.begin_reading();
            }
        }
        Ok(drained && self.core.writing == Writing::Open)
    }

    /// Goes as far towards the end as is possible now.
    pub(super) fn advance_end(&mut self) -> io::Result<()> {
        if self.core.outbox.is_some() {
            return Ok(());
        }
        if self.core.writing == Writing::Ending && self.core.phase != Phase::Connecting {
            self.core.writing = Writing::Ended;
            // A socket whose other direction has ended is closed anyway, which says the same.
            if !self.core.read_ended && !self.stream.shutdown()? {
                self.core.end(CloseReason::Finished);
            }
        }
        if self.core.phase == Phase::Flushing {
            self.core.phase = Phase::Lingering;
        }
        let open = matches!(self.core.phase, Phase::Open | Phase::Lingering);
        if open && self.core.read_ended && self.core.writing == Writing::Ended {
            self.core.end(CloseReason::Finished);
        }
        Ok(())
    }

    /// Ends the connection because a timeout has passed, if its handler has closed it.
    pub(super) fn end_timed_out(&mut self, timeout: Timeout) {
        if matches!(self.core.reason, Some(CloseReason::Closed)) {
            self.core.reason = Some(CloseReason::TimedOut(timeout));
        }
    }
}

/// Errors that only say that nothing was done.
pub(super) fn is_nothing_done(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
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
