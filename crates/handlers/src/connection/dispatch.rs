//! One call of a connection, by the loop or through its key: the steps of the call, and the order
//! in which the handler is called.
//!
//! Between most calls of most connections nothing is queued, reading is not paused and no rate
//! limit applies. Such connections are [steady](State::is_steady). The steps that a message costs
//! them are inlined into [`Dispatch::on_event`] as one straight line: a read, the handler's
//! callback, a write. Everything else is outlined and marked cold, even if it is not rare, as for a
//! connection with a timeout. The mark tells the compiler which branch is the straight line.
//! Without the mark the compiler stops inlining half way.

use std::io::{self, ErrorKind, IoSlice};

use reactor::{Context, Io, Next};

use super::commands::{self, Command};
use super::connection::Connection;
use super::handler::ConnectionHandler;
use super::handshakes;
use super::key::ConnectionKey;
use super::later::run_later;
use super::reason::CloseReason;
use super::state::{Flags, Phase, State, Writing};
use super::stream::Stream;
use super::times::Timeout;
use super::write::buffer::WriteBuffer;
use crate::carried::{ENABLED, in_own_context};
use crate::error::is_nothing_done;

pub(super) struct Dispatch<'a, S, T, H> {
    pub(super) io: &'a mut Io<T>,
    pub(super) state: &'a mut State,
    pub(super) buffer: &'a mut WriteBuffer,
    /// `None` while no peer has answered.
    pub(super) handler: Option<&'a mut H>,
    pub(super) key: ConnectionKey<S>,
    pub(super) from_outside: bool,
}

/// A callback of the handler, except `on_data`.
pub(super) enum Callback {
    Open,
    Drain,
    Sent(u64),
    Timeout(Timeout),
    End(Vec<u8>),
    GracefulClose,
    Failure(io::Error),
}

impl<S, T: Stream, H: ConnectionHandler<S>> Dispatch<'_, S, T, H> {
    /// Does everything that can be done now, and updates the registration with the events to wait
    /// for.
    #[inline(always)]
    pub(super) fn on_event(
        mut self,
        input: &mut [u8],
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        if T::LAYERED {
            return self.on_event_layered(input, cx);
        }
        if !self.state.is_steady() || cx.readiness().is_timeout() {
            return self.on_event_slow(input, cx);
        }
        let most = input.len().min(self.state.settings.max_bytes_per_turn);
        let delivers = true; // a steady connection never discards input
        match self.read_once(&mut input[..most], delivers, cx)? {
            Some(read) => self.read_on(read, input, cx),
            None => self.update_registration(cx),
        }
    }

    /// Handles an event of a connection that is not steady. Pending work is done before anything is
    /// read.
    #[cold]
    #[inline(never)]
    pub(super) fn on_event_slow(
        mut self,
        input: &mut [u8],
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        self.before_reading(cx)?;
        self.read_on(0, input, cx)
    }

    /// Opens the connection or does its pending work, with the deferred callbacks. Input is left to
    /// the next event. A new connection is read at once, because no event may report its input.
    pub(super) fn on_deferred(
        mut self,
        input: &mut [u8],
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        let opens = self.state.phase() == Phase::Opening;
        self.before_reading(cx)?;
        if opens {
            self.read_on(0, input, cx)
        } else {
            self.update_registration(cx)
        }
    }

    /// Calls `access` with the handler and the connection. The writes of `access` are queued or
    /// sent, never buffered.
    pub(super) fn on_access(
        mut self,
        access: impl FnOnce(&mut H, &mut Connection<'_, S>, &mut Context<'_, S>),
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        self.open_for_access(cx)?;
        if self.state.phase() == Phase::Over {
            // The connection has ended in `on_open`, so `access` is not called.
            return self.update_registration(cx);
        }
        let was_deferred = self.state.flags.has(Flags::FLUSH_DEFERRED);
        let Self {
            io,
            state,
            buffer,
            handler: Some(handler),
            key,
            from_outside,
        } = &mut self
        else {
            return Ok(Next::Keep); // no peer has answered
        };
        let mut connection = Connection {
            stream: *io,
            state,
            buffer,
            key: *key,
            from_outside: *from_outside,
        };
        access(handler, &mut connection, cx);
        if commands::are_waiting() {
            self.apply_commands(cx);
        }
        if self.state.flags.has(Flags::REPLACED) {
            self.replace_handler();
        }
        self.check_removed(cx);
        if self.state.flags.has(Flags::FLUSH_DEFERRED) && !was_deferred {
            run_later::<S, T, H>(cx.registry, self.key.key());
        }
        self.update_registration(cx)
    }

    /// Returns a dispatch of the same connection that can be given away.
    pub(super) fn reborrow(&mut self) -> Dispatch<'_, S, T, H> {
        Dispatch {
            io: self.io,
            state: self.state,
            buffer: self.buffer,
            handler: self.handler.as_deref_mut(),
            key: self.key,
            from_outside: self.from_outside,
        }
    }

    #[inline]
    pub(super) fn connection(&mut self) -> Connection<'_, S> {
        let Self {
            io,
            state,
            buffer,
            key,
            from_outside,
            ..
        } = self;
        Connection {
            stream: *io,
            state,
            buffer,
            key: *key,
            from_outside: *from_outside,
        }
    }

    /// Does the pending work that comes before reading.
    pub(super) fn before_reading(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        self.open_if_new(cx)?;
        if self.state.is_unread(cx.readiness()) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if cx.readiness().is_timeout() {
            self.check_timeouts(cx)?;
        }
        self.state.flags.remove(Flags::FLUSH_DEFERRED);
        if self.is_handshaking() {
            return Ok(());
        }
        if self.state.wants_to_write() && self.connection().flush_queue() {
            self.notify(&Callback::Drain, cx)?;
        }
        if self.state.must_redeliver() {
            self.redeliver(cx)?;
        }
        Ok(())
    }

    /// Sets the time of a connection that needs it, and calls the handler of a new connection.
    pub(super) fn open_if_new(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        if let Some(times) = &mut self.state.times {
            times.set_now(cx.now(), cx.registry.turn_number());
        }
        if self.is_handshaking() {
            self.advance_handshake(cx)?;
        }
        if self.state.phase() == Phase::Opening && !self.is_handshaking() {
            self.state.set_phase(Phase::Open);
            self.notify(&Callback::Open, cx)?;
        }
        if commands::are_waiting() {
            // These commands are left over from a call that a panic has ended.
            self.apply_commands(cx);
            self.flush_after_callback();
        }
        Ok(())
    }

    /// Does what [`open_if_new`](Self::open_if_new) does, in the context of the connection. The
    /// access itself runs in the context of its caller.
    fn open_for_access(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        if ENABLED && (self.state.phase() == Phase::Opening || self.is_handshaking()) {
            return in_own_context(cx, |cx| self.open_if_new(cx));
        }
        self.open_if_new(cx)
    }

    fn check_timeouts(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        self.state.flags.insert(Flags::NEEDS_UPDATE);
        let mut waits = self.state.waits();
        // A handler that has replaced another one is called with `on_open` first, and with its
        // timeout in the next turn.
        waits.closing |= self.state.phase() == Phase::Opening;
        let State {
            times, settings, ..
        } = &mut *self.state;
        let end_of_turn = |turn| cx.registry.end_of_turn(turn);
        match times
            .as_mut()
            .and_then(|times| times.take_expired(settings, waits, end_of_turn))
        {
            Some(Timeout::Close) => {
                // With a short deadline the handler was not notified of the graceful close yet.
                self.start_graceful_close(cx)?;
                self.state.end(CloseReason::TimedOut(Timeout::Close));
            }
            Some(Timeout::Handshake) if handshakes::hold_timeout(cx.registry, self.state) => {}
            Some(Timeout::Handshake) => {
                self.state.end(CloseReason::TimedOut(Timeout::Handshake));
            }
            Some(timeout) => {
                self.notify(&Callback::Timeout(timeout), cx)?;
                self.state.end_timed_out(timeout);
            }
            None => {} // a rate limit allows bytes again, or the timeout was extended
        }
        Ok(())
    }

    /// Calls a callback of the handler other than `on_data`. Does nothing if the handler was not
    /// notified of its connection yet.
    #[cold]
    #[inline(never)]
    pub(super) fn notify(
        &mut self,
        callback: &Callback,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        if self.state.phase() == Phase::Opening {
            return Ok(());
        }
        self.call(cx, |handler, connection, cx| match callback {
            Callback::Open => handler.on_open(connection, cx),
            Callback::Drain => handler.on_drain(connection, cx),
            Callback::Sent(position) => handler.on_sent(*position, connection, cx),
            Callback::Timeout(timeout) => handler.on_timeout(*timeout, connection, cx),
            Callback::End(rest) => handler.on_end(rest, connection, cx),
            Callback::GracefulClose => handler.on_graceful_close(connection, cx),
            Callback::Failure(error) => handler.on_failure(error, connection, cx),
        })
    }

    /// Calls the handler, sends its writes, and returns its result. If the result is `WouldBlock`
    /// or `Interrupted`, nothing was done, and this returns the default.
    #[inline(always)]
    pub(super) fn call<R: Default>(
        &mut self,
        cx: &mut Context<'_, S>,
        callback: impl FnOnce(&mut H, &mut Connection<'_, S>, &mut Context<'_, S>) -> io::Result<R>,
    ) -> io::Result<R> {
        let Self {
            io,
            state,
            buffer,
            handler: Some(handler),
            key,
            from_outside,
        } = self
        else {
            return Ok(R::default());
        };
        state.flags.insert(Flags::IN_CALLBACK);
        let mut connection = Connection {
            stream: *io,
            state,
            buffer,
            key: *key,
            from_outside: *from_outside,
        };
        let answer = callback(handler, &mut connection, cx);
        self.state.flags.remove(Flags::IN_CALLBACK);
        if commands::are_waiting() {
            self.apply_commands(cx);
        }
        self.flush_after_callback(); // even if the handler has failed
        if self.state.flags.has(Flags::REPLACED) {
            self.replace_handler();
        }
        let answer = match answer {
            Err(error) if is_nothing_done(&error) => R::default(),
            answer => answer?,
        };
        self.check_removed(cx);
        Ok(answer)
    }

    /// Sends or queues the writes of the callback.
    #[inline(always)]
    fn flush_after_callback(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        if self
            .state
            .flags
            .has(Flags::QUEUED.union(Flags::NEEDS_UPDATE))
        {
            return self.send_buffer();
        }
        let (stream, io) = self.io.parts_mut();
        match stream.try_write(io, &[IoSlice::new(self.buffer.bytes())]) {
            Ok(sent) if sent == self.buffer.bytes().len() => {
                self.buffer.clear();
                self.state.count_written(sent);
            }
            tried => self.after_write(tried),
        }
    }

    #[cold]
    #[inline(never)]
    fn send_buffer(&mut self) {
        self.connection().send_buffer();
    }

    #[cold]
    #[inline(never)]
    fn after_write(&mut self, tried: io::Result<usize>) {
        self.connection().after_write(tried);
    }

    /// Applies the commands that came through the key while the connection was in use.
    #[cold]
    #[inline(never)]
    fn apply_commands(&mut self, cx: &mut Context<'_, S>) {
        let commands = commands::take(cx.registry, self.key.key());
        // The callback may have closed the write side by its connection, after it was notified that
        // these writes are queued. No end has been sent yet, so they come before it.
        let is_ending = self.state.writing() == Writing::Ending;
        if is_ending {
            self.state.set_writing(Writing::Open);
        }
        let is_closed = matches!(self.state.reason, Some(CloseReason::Closed));
        for command in commands {
            match command {
                Command::Write(bytes) if is_closed => self.connection().write_closed(bytes),
                command => self.connection().apply(command),
            }
        }
        if is_ending {
            self.connection().shutdown();
        }
    }

    /// Ends a connection whose registration was removed by the callback. Its handler is not called
    /// any more, except by `on_close`.
    #[inline]
    fn check_removed(&mut self, cx: &Context<'_, S>) {
        if !cx.registry.contains(self.key.key()) {
            self.state.end(CloseReason::Closed);
        }
    }
}
