//! The state of a connection. A [`State`] depends neither on the type of the stream nor on that of
//! the handler.

mod carried;
mod flags;
mod interest;
mod marks;
mod phase;

use std::any::Any;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Instant;

use reactor::{Context, Interest, TimerKey};

pub(super) use self::carried::Carried;
pub(super) use self::flags::Flags;
use self::marks::Marks;
pub(super) use self::phase::{Pending, Phase, Writing};
use super::options::{ConnectionOptions, Settings};
use super::reason::CloseReason;
use super::times::{Timeout, Times};
use super::write::queue::WriteQueue;
use crate::error::copy_error;
#[cfg(feature = "futures")]
use crate::limit::ConnectionLimit;
use crate::limit::Permit;
use crate::server::{GracefulClose, Server, ServerId};

pub(super) struct State {
    pub(super) settings: Arc<Settings>,
    /// `None` while nothing is queued.
    queue: Option<Box<WriteQueue>>,
    /// The bytes that the handler has not consumed.
    pub(super) unconsumed: Vec<u8>,
    /// `None` if neither a timeout nor a rate limit is set.
    pub(super) times: Option<Box<Times>>,
    /// `None` while the handler has set no mark.
    marks: Option<Box<Marks>>,
    /// The handler that replaces the present one when the callback returns.
    pub(super) replacement: Option<Box<dyn Any>>,
    /// The timer that takes the stream, once everything has been sent or the time is over.
    pub(super) take_timer: Option<TimerKey>,
    pub(super) counters: ConnectionMetrics,
    pub(super) flags: Flags,
    phase: Phase,
    writing: Writing,
    graceful_close: Pending,
    /// The interest that is registered with the loop.
    interest: Interest,
    /// The number of responses that are made elsewhere. A graceful close waits for them.
    pub(super) pending_responses: u32,
    /// The error after which nothing can be sent.
    failure: Option<io::Error>,
    /// The progress of the end that follows this error.
    pub(super) failing: Pending,
    pub(super) reason: Option<CloseReason>,
    accepted_by: Option<Arc<Server>>,
    permit: Option<Permit>,
}

/// The numbers of bytes that a connection has read and written. Returned by
/// [`Connection::metrics`](crate::Connection::metrics), and passed to
/// [`on_final_metrics`](crate::ConnectionHandler::on_final_metrics).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionMetrics {
    /// The number of bytes read from the peer.
    pub read: u64,
    /// The number of written bytes that the stream has taken. Bytes that are still queued are not
    /// counted.
    pub written: u64,
    /// The number of written bytes that the kernel has taken. It is equal to `written`, except on a
    /// [layered stream](crate::Stream#layered-streams): there it is the value of `written` when the
    /// stream last held no output, so the kernel may have taken a part of the bytes between the
    /// two. Bytes that the kernel has taken may still be on their way to the peer.
    pub sent: u64,
}

impl State {
    pub(super) fn new(
        options: &ConnectionOptions,
        phase: Phase,
        reads: bool,
        writes: bool,
    ) -> Self {
        let mut state = Self {
            settings: options.0.clone(),
            queue: None,
            unconsumed: Vec::new(),
            times: Times::of(&options.0),
            marks: None,
            replacement: None,
            take_timer: None,
            counters: ConnectionMetrics::default(),
            flags: Flags::default(),
            phase: Phase::Open,
            writing: Writing::Open,
            graceful_close: Pending::No,
            interest: Interest::READABLE,
            pending_responses: 0,
            failure: None,
            failing: Pending::No,
            reason: None,
            accepted_by: None,
            permit: None,
        };
        state.set_phase(phase);
        state.set_writing(if writes {
            Writing::Open
        } else {
            Writing::Ended
        });
        // A direction that the stream does not have counts as ended from the start.
        state
            .flags
            .set(Flags::READ_ENDED.union(Flags::WRITE_ONLY), !reads);
        state.flags.set(Flags::READ_ONLY, !writes);
        state.flags.set(Flags::NEEDS_UPDATE, options.0.watch_time());
        state.set_interest(state.wanted_interest());
        state
    }

    pub(super) fn accepted(mut self, by: Option<Arc<Server>>, permit: Option<Permit>) -> Self {
        (self.accepted_by, self.permit) = (by, permit);
        self
    }

    /// Takes the permit of the connection, for a part of it that outlives it.
    pub(super) const fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// Returns the connection limit that the connection counts for.
    #[cfg(feature = "futures")]
    pub(super) fn limit(&self) -> Option<ConnectionLimit> {
        self.permit.as_ref().map(Permit::limit)
    }

    /// Returns the server that has accepted the connection.
    pub(super) fn accepted_by(&self) -> Option<Arc<Server>> {
        self.accepted_by.clone()
    }

    /// Returns the number of the server that has accepted the connection.
    pub(super) fn accepted_by_id(&self) -> Option<ServerId> {
        self.accepted_by.as_ref().map(|server| server.id())
    }

    /// Returns the number of a server that has accepted the connection and has stopped, and the way
    /// in which it closes the connection.
    pub(super) fn stop_of_server(&self, now: Instant) -> Option<(ServerId, GracefulClose)> {
        let server = self.accepted_by.as_ref()?;
        Some((server.id(), server.close_at(now)?))
    }

    /// Lets the stop of `server` set a deadline here too, unless another one has accepted this
    /// connection.
    pub(super) fn set_other_side_accepted_by(&mut self, server: Option<Arc<Server>>) {
        if self.accepted_by.is_none() && server.is_some() {
            self.accepted_by = server;
            self.flags.insert(Flags::OTHER_SIDE);
        }
    }

    #[inline]
    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.flags.set(Flags::NOT_OPEN, phase != Phase::Open);
    }

    pub(super) const fn writing(&self) -> Writing {
        self.writing
    }

    pub(super) fn set_writing(&mut self, writing: Writing) {
        self.writing = writing;
        self.flags.set(Flags::NOT_WRITING, writing != Writing::Open);
    }

    /// Returns `true` while bytes can be sent: those that are queued, and those that a layered
    /// stream holds.
    pub(super) const fn can_send(&self) -> bool {
        matches!(self.writing, Writing::Open | Writing::Ending)
    }

    pub(super) const fn graceful_close(&self) -> Pending {
        self.graceful_close
    }

    pub(super) fn set_graceful_close(&mut self, graceful_close: Pending) {
        self.graceful_close = graceful_close;
        self.flags
            .set(Flags::CLOSES_GRACEFULLY, graceful_close != Pending::No);
    }

    pub(super) const fn interest(&self) -> Interest {
        self.interest
    }

    pub(super) fn set_interest(&mut self, interest: Interest) {
        self.interest = interest;
        self.flags
            .set(Flags::OTHER_INTEREST, interest != Interest::READABLE);
    }

    /// Returns `true` if input is all that needs work. This holds between most calls of most
    /// connections.
    ///
    /// Called several times for each message, so all flags are tested at once.
    #[inline]
    pub(super) fn is_steady(&self) -> bool {
        debug_assert_eq!(self.flags, self.repeated_flags(), "a setter was bypassed");
        !self.flags.has(Flags::UNSTEADY)
    }

    /// Returns the flags as they must be. Each flag that repeats a field is taken from that field.
    fn repeated_flags(&self) -> Flags {
        let mut flags = self.flags;
        flags.set(Flags::NOT_OPEN, self.phase != Phase::Open);
        flags.set(Flags::NOT_WRITING, self.writing != Writing::Open);
        flags.set(Flags::CLOSES_GRACEFULLY, self.graceful_close != Pending::No);
        flags.set(Flags::QUEUED, self.queue.is_some());
        flags.set(Flags::OTHER_INTEREST, self.interest != Interest::READABLE);
        flags
    }

    /// Replaces the options of the connection.
    pub(super) fn set_options(&mut self, options: &ConnectionOptions) {
        let before = self.times.take().filter(|times| times.has_deadline());
        self.settings = options.0.clone();
        self.times = Times::of(&options.0);
        self.flags.insert(Flags::NEEDS_UPDATE);
        if let Some(before) = before {
            self.times
                .get_or_insert_with(Box::default)
                .take_over_deadlines(&before);
        }
    }

    #[inline]
    pub(super) fn count_read<S>(&mut self, bytes: usize, cx: &Context<'_, S>) {
        self.counters.read += bytes as u64;
        if let Some(times) = &mut self.times {
            times.count_read(bytes, cx.now(), cx.registry.turn_number());
        }
    }

    #[inline]
    pub(super) fn count_written(&mut self, bytes: usize) {
        self.counters.written += bytes as u64;
        if let Some(times) = &mut self.times {
            times.count_written(bytes);
        }
    }

    /// Makes this the state of a layered stream, whose handshake comes first.
    pub(super) fn handshaking(mut self) -> Self {
        self.flags.insert(Flags::LAYERED.union(Flags::HANDSHAKING));
        if let Some(timeout) = self.settings.handshake_timeout {
            self.times
                .get_or_insert_with(Box::default)
                .handshake_within(timeout);
        }
        self
    }

    /// Ends the handshake. Drops the times if only the handshake has needed them.
    pub(super) fn end_handshake(&mut self) {
        self.flags.remove(Flags::HANDSHAKING);
        self.flags.insert(Flags::NEEDS_UPDATE);
        if let Some(times) = &mut self.times {
            times.end_handshake();
        }
        self.times
            .take_if(|times| !self.settings.watch_time() && !times.has_deadline());
    }

    /// Records whether a layered stream holds output. The wait for the peer to take it starts with
    /// the first byte.
    pub(super) fn set_holds_output(&mut self, holds: bool) {
        let starts = holds && !self.flags.has(Flags::HOLDS_OUTPUT.union(Flags::QUEUED));
        self.flags.set(Flags::HOLDS_OUTPUT, holds);
        if let Some(times) = self.times.as_mut().filter(|_| starts) {
            times.begin_writing();
        }
    }

    /// Records that the peer has taken bytes that a layered stream held.
    pub(super) fn count_flushed(&mut self) {
        if let Some(times) = &mut self.times {
            times.count_flushed();
        }
    }

    /// Restarts the wait for bytes of the peer, and the delivery of unconsumed bytes.
    pub(super) fn begin_reading(&mut self) {
        self.flags.insert(Flags::REDELIVER);
        if let Some(times) = &mut self.times {
            times.begin_reading();
        }
    }

    /// Returns `true` if bytes are queued.
    #[inline]
    pub(super) const fn is_queued(&self) -> bool {
        self.queue.is_some()
    }

    /// Returns `true` if the kernel has taken everything that was written.
    pub(super) const fn is_flushed(&self) -> bool {
        !self.flags.has(Flags::QUEUED.union(Flags::HOLDS_OUTPUT))
    }

    /// Returns how many bytes are queued.
    pub(super) fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len())
    }

    /// Returns the queue. Creates it if there is none.
    pub(super) fn queue_or_new(&mut self) -> &mut WriteQueue {
        if self.queue.is_none()
            && let Some(times) = &mut self.times
        {
            times.begin_writing();
        }
        self.flags.insert(Flags::QUEUED);
        self.queue.get_or_insert_default()
    }

    /// Drops the queue and its content.
    pub(super) fn remove_queue(&mut self) {
        self.flags.remove(Flags::QUEUED);
        self.queue = None;
    }

    /// Records that the socket takes no more bytes. The queued bytes are lost. Bytes that have
    /// arrived are still read.
    #[cold]
    pub(super) fn fail_writing(&mut self, error: io::Error) {
        let was_full = self.flags.take(Flags::QUEUE_FULL);
        if was_full {
            self.flags.insert(Flags::REDELIVER);
        }
        self.set_writing(Writing::Failed);
        self.failure.get_or_insert(error);
        self.flags
            .remove(Flags::HOLDS_OUTPUT.union(Flags::AWAITS_SHUTDOWN));
        self.remove_queue();
    }

    /// Returns a copy of the error after which nothing can be sent.
    pub(super) fn copy_of_failure(&self) -> io::Error {
        let failure = self.failure.as_ref();
        failure.map_or_else(|| ErrorKind::BrokenPipe.into(), copy_error)
    }

    /// Returns `true` if the peer had closed its write side before it was gone, so that its data is
    /// complete. tcp(7): after a reset, a socket that has already received the end of the stream
    /// reports `EPIPE`. Other sockets report another error.
    pub(super) fn is_end_whole(&self) -> bool {
        self.failure
            .as_ref()
            .is_none_or(|failure| failure.kind() == ErrorKind::BrokenPipe)
    }

    /// Ends the connection with the error after which nothing can be sent.
    #[cold]
    pub(super) fn end_with_failure(&mut self) {
        let failure = self
            .failure
            .take()
            .unwrap_or_else(|| ErrorKind::BrokenPipe.into());
        self.end(CloseReason::Failed(failure));
    }

    /// Restarts the connection with another handler. The new handler is notified of the connection
    /// and of everything that it must handle.
    pub(super) fn reopen(&mut self) {
        self.set_phase(Phase::Opening);
        self.flags.insert(Flags::REDELIVER);
        self.flags.remove(Flags::FAILURE_NOTIFIED);
        self.remove_marks(); // their handler is gone
        let has_ended = self.flags.has(Flags::READ_ENDED) && !self.flags.has(Flags::WRITE_ONLY);
        self.flags.set(Flags::END_AGAIN, has_ended);
        if self.graceful_close != Pending::No {
            self.set_graceful_close(Pending::Asked);
        }
    }

    /// Records that the kernel was asked once more for input.
    pub(super) fn kernel_was_asked(&mut self) {
        let mut graceful_close = self.graceful_close;
        graceful_close.advance();
        self.set_graceful_close(graceful_close);
        self.failing.advance();
    }

    /// Returns `true` if an end now would leave out bytes that were to be sent. Then the connection
    /// is reset, so that the peer does not mistake the bytes that it has for the whole stream.
    ///
    /// A socket that has failed is not always dead: `ENOBUFS` and `ENOMEM` leave it open, and a
    /// plain close would send an end of stream.
    pub(super) const fn would_truncate(&self) -> bool {
        match self.writing {
            Writing::Open | Writing::Ending => {
                self.pending_responses > 0 || self.flags.has(Self::TRUNCATES)
            }
            Writing::Failed => true,
            Writing::Ended => false,
        }
    }

    const TRUNCATES: Flags = Flags::QUEUED
        .union(Flags::CUT)
        .union(Flags::IN_CALLBACK)
        .union(Flags::HOLDS_OUTPUT);

    /// Ends the connection. The first reason is kept.
    #[cold]
    pub(super) fn end(&mut self, reason: CloseReason) {
        self.set_phase(Phase::Over);
        self.reason.get_or_insert(reason);
    }

    /// Records an expired timeout as the reason for the end, if the handler has closed the
    /// connection in `on_timeout`.
    pub(super) fn end_timed_out(&mut self, timeout: Timeout) {
        if matches!(self.reason, Some(CloseReason::Closed)) {
            self.reason = Some(CloseReason::TimedOut(timeout));
        }
    }
}
