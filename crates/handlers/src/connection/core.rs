//! What a connection is at any time. A [`Core`] knows neither the type of its stream nor that of its handler.

use std::io::{self, ErrorKind};
use std::mem::take;
use std::sync::Arc;

use reactor::errno;
use reactor::{Context, Interest, Key, Readiness};

use super::options::{ConnectionOptions, Settings};
use super::outbox::Outbox;
use super::times::{Times, Waits};
use super::{CloseReason, Timeout};
use crate::listener::Permit;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody has answered yet.
    Connecting,
    /// Its handler does not know of it yet.
    Opening,
    Open,
    /// Sends what is queued. Throws away what comes: a peer that writes before it reads would never read otherwise.
    Flushing,
    /// Has sent all, and the end of it. Waits for the peer's end, and throws away what comes until then: to close a
    /// socket with something unread would take back what the peer has not read yet.
    Lingering,
    Over,
}

/// How far the direction of writing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    Open,
    /// It ends when everything has been sent.
    Ending,
    Ended,
    /// The socket takes no more: [`Core::failure`] says why. What has come is still read.
    Failed,
}

/// How far something has come that waits until the kernel has been asked once more what has come: a
/// [finish](super::Connection::finish), and the end of a connection that cannot be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    No,
    Asked,
    /// Until the kernel has been asked: of a new connection nothing is known yet.
    Awaited,
    /// It happens once what has come has been given to the handler.
    Due,
}

impl Pending {
    /// The kernel has been asked.
    fn advance(&mut self) {
        if *self == Self::Awaited {
            *self = Self::Due;
        }
    }
}

/// Its fields lie in the order in which they are written down, for the sake of [`Core::is_steady`].
#[repr(C)]
pub(super) struct Core {
    pub(super) settings: Arc<Settings>,
    /// `None` while nothing is queued.
    pub(super) outbox: Option<Box<Outbox>>,
    /// What the handler has left.
    pub(super) unconsumed: Vec<u8>,
    /// `None` where no timeout and no rate is asked for.
    pub(super) times: Option<Box<Times>>,
    pub(super) counters: Counters,
    // The next eight are those of `is_steady`, in its order.
    pub(super) phase: Phase,
    pub(super) writing: Writing,
    pub(super) finishing: Pending,
    pub(super) paused: bool,
    /// The producer has been told that the queue is full, and not yet that it is not.
    pub(super) full: bool,
    pub(super) read_ended: bool,
    /// What was left may be consumed now: the handler was paused, or full, meanwhile.
    pub(super) redeliver: bool,
    /// The loop is to be told when its times have it call next: after every call where there are rates. Bytes that come and go
    /// do not change that: see `times.rs`.
    pub(super) untimed: bool,
    /// It cannot be read, so that nothing but an error says that its peer has gone.
    write_only: bool,
    /// It cannot be written to, so that its end needs no word to the peer.
    pub(super) read_only: bool,
    /// What comes has nothing to do with what is queued.
    pub(super) reads_while_full: bool,
    /// Its handler is running.
    pub(super) calling: bool,
    /// A visitor has queued something, which is sent with the deferred callbacks.
    pub(super) flushes_later: bool,
    /// The interest that the loop knows of.
    pub(super) interest: Interest,
    /// How many answers are made elsewhere, for which a finish waits.
    pub(super) answers_owed: u32,
    /// Our direction ends once no answer is owed.
    pub(super) ends_when_answered: bool,
    /// The stream breaks off, and must not look whole: the connection ends by a reset once all of its bytes have left.
    pub(super) is_cut: bool,
    /// Its queue is empty, and that of the kernel perhaps not.
    pub(super) awaits_sent: bool,
    /// The error of the socket after which nothing can be sent.
    pub(super) failure: Option<io::Error>,
    /// The end after that error.
    pub(super) failing: Pending,
    /// The handler, which was paused, has been told of that error.
    pub(super) failure_is_told: bool,
    pub(super) reason: Option<CloseReason>,
    pub(super) accepted_by: Key,
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
            untimed: options.0.watch_time(),
            counters: Counters::default(),
            interest: Interest::NONE,
            phase,
            writing: if writes { Writing::Open } else { Writing::Ended },
            paused: false,
            full: false,
            reads_while_full: false,
            read_ended: !reads,
            calling: false,
            flushes_later: false,
            redeliver: false,
            finishing: Pending::No,
            answers_owed: 0,
            ends_when_answered: false,
            is_cut: false,
            awaits_sent: false,
            failure: None,
            failing: Pending::No,
            failure_is_told: false,
            reason: None,
            write_only: !reads,
            read_only: !writes,
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
        !self.read_ended && (self.delivers() || matches!(self.phase, Phase::Flushing | Phase::Lingering))
    }

    /// Whether an open connection reads nothing at the moment, so that nothing but an error says that its peer has gone.
    pub(super) fn rests(&self) -> bool {
        matches!(self.phase, Phase::Open) && (!self.wants_to_read() || self.is_held(Times::holds_reading))
    }

    fn is_held(&self, by: fn(&Times) -> bool) -> bool {
        self.times.as_deref().is_some_and(by)
    }

    /// Returns how many of `most` bytes are to be read now. A rate does not hold back the rest of a stream whose peer is gone.
    pub(super) fn may_read(&mut self, most: usize) -> usize {
        if most == 0 || !self.wants_to_read() {
            return 0;
        }
        if self.writing == Writing::Failed {
            return most;
        }
        self.times.as_mut().map_or(most, |times| times.may_read().min(most))
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
            _ => self.outbox.is_some() || self.full || self.awaits_sent,
        }
    }

    /// Whether nothing has to be seen to but what comes: as it is between most calls of most connections.
    ///
    /// It is asked several times with every message, so by words: eight bytes that lie together are compared at once.
    #[inline]
    pub(super) fn is_steady(&self) -> bool {
        let standing = [
            self.phase as u8,
            self.writing as u8,
            self.finishing as u8,
            self.paused as u8,
            self.full as u8,
            self.read_ended as u8,
            self.redeliver as u8,
            self.untimed as u8,
        ];
        let steady = [Phase::Open as u8, Writing::Open as u8, Pending::No as u8, 0, 0, 0, 0, 0];
        u64::from_ne_bytes(standing) == u64::from_ne_bytes(steady)
            && self.interest == Interest::READABLE
            && self.outbox.is_none()
    }

    /// What the loop is to call for.
    pub(super) fn wanted(&self) -> Interest {
        let read = matches!(self.phase, Phase::Opening) && !self.read_ended || self.wants_to_read();
        let holds_reading = self.writing != Writing::Failed && self.is_held(Times::holds_reading);
        let read = if read && !holds_reading { Interest::READABLE } else { Interest::NONE };
        let write = self.wants_to_write() && !self.flushes_later && !self.is_held(Times::holds_writing);
        // Of all interests the one in urgent data is least likely to be met by anything but an error.
        let errors = if self.write_only || self.rests() { Interest::PRIORITY } else { Interest::NONE };
        read | errors | if write { Interest::WRITABLE } else { Interest::NONE }
    }

    /// From now on it is treated as these options say.
    pub(super) fn set_options(&mut self, options: &ConnectionOptions) {
        let before = self.times.take().filter(|times| times.has_to_close());
        self.settings = options.0.clone();
        self.times = Times::of(&options.0);
        self.untimed = true;
        if let Some(before) = before {
            self.times.get_or_insert_with(Box::default).close_as(&before);
        }
    }

    #[inline]
    pub(super) fn note_read<S>(&mut self, bytes: usize, cx: &Context<'_, S>) {
        self.counters.read += bytes as u64;
        if let Some(times) = &mut self.times {
            times.note_read(bytes, cx.now(), cx.registry.turn_number());
        }
    }

    #[inline]
    pub(super) fn note_written(&mut self, bytes: usize) {
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

    pub(super) fn queued(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len())
    }

    pub(super) fn outbox(&mut self) -> &mut Outbox {
        if self.outbox.is_none()
            && let Some(times) = &mut self.times
        {
            times.begin_writing();
        }
        self.outbox.get_or_insert_default()
    }

    /// Notes that the socket takes no more. What is queued is lost; what has come is still to be read.
    #[cold]
    pub(super) fn fail(&mut self, error: io::Error) {
        self.outbox = None;
        self.redeliver |= take(&mut self.full);
        self.writing = Writing::Failed;
        self.failure.get_or_insert(error);
    }

    /// Another error of the same kind and errno as the one after which nothing can be sent.
    pub(super) fn failure_again(&self) -> io::Error {
        match &self.failure {
            Some(failure) => errno(failure).map_or(failure.kind().into(), io::Error::from_raw_os_error),
            None => ErrorKind::BrokenPipe.into(),
        }
    }

    /// Whether the peer had ended its direction before it went, so that what it has sent is whole: tcp(7) gives a reset as `EPIPE`
    /// to a socket that has received the end already, and as another error to all others.
    pub(super) fn is_end_whole(&self) -> bool {
        self.failure.as_ref().is_none_or(|failure| failure.kind() == ErrorKind::BrokenPipe)
    }

    /// Ends the connection by the error after which nothing can be sent.
    #[cold]
    pub(super) fn end_failed(&mut self) {
        let failure = self.failure.take().unwrap_or_else(|| ErrorKind::BrokenPipe.into());
        self.end(CloseReason::Failed(failure));
    }

    /// The kernel has been asked once more what has come.
    pub(super) fn kernel_was_asked(&mut self) {
        self.finishing.advance();
        self.failing.advance();
    }

    /// Whether something that was to be sent will not be, so that the peer must not take what it has for the whole.
    pub(super) const fn owes(&self) -> bool {
        let may_send = matches!(self.writing, Writing::Open | Writing::Ending);
        may_send && (self.outbox.is_some() || self.answers_owed > 0 || self.is_cut || self.calling)
    }

    /// Ends the connection, if it has not ended for another reason.
    #[cold]
    pub(super) fn end(&mut self, reason: CloseReason) {
        self.phase = Phase::Over;
        self.reason.get_or_insert(reason);
    }

    /// Ends the connection because a timeout has passed, if its handler has closed it.
    pub(super) fn end_timed_out(&mut self, timeout: Timeout) {
        if matches!(self.reason, Some(CloseReason::Closed)) {
            self.reason = Some(CloseReason::TimedOut(timeout));
        }
    }
}
