//! The driver: what the loop calls for a connection, and the order in which it calls the connection's handler.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use reactor::{Closed, Context, Handler, Interest, Io, Key, Next};

use super::connect::{Attempt, Outcome};
use super::core::{Core, Finishing, Phase};
use super::key::{ConnectionKey, Visitor};
use super::lent::Connection;
use super::options::ConnectionOptions;
use super::stream::Stream;
use super::{CloseReason, ConnectionHandler, Timeout, finish_later, run_later};
use crate::answer::is_nothing_done;
use crate::listener::Permit;
use crate::pool::panic_message;

/// What is read by one call.
const READ_MAX: usize = 64 * 1024;

/// What a connection needs while it is called, and none while it is idle.
#[derive(Default)]
struct Buffers {
    scratch: Vec<u8>,
    gathered: Vec<u8>,
}

thread_local! {
    /// Those of a loop, which has its thread for itself. `Registry::local` would do, at forty instructions more for a look.
    /// Taken while a connection is called: the loop of another reactor that runs meanwhile has some of its own.
    static BUFFERS: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

/// A connection and its handler.
pub(super) struct Driver<H> {
    core: Core,
    role: Role<H>,
}

enum Role<H> {
    Handler(H),
    /// One of several attempts to connect, of which the first that succeeds gets the handler.
    Attempt(Attempt<H>),
    /// An attempt that did not.
    Lost,
}

impl<H> Driver<H> {
    pub(super) fn connected<T: Stream>(
        options: &ConnectionOptions,
        handler: H,
        accepted_by: Key,
        permit: Option<Permit>,
    ) -> Self {
        let core = Core::new(options, Phase::Opening, T::READS, T::WRITES).accepted(accepted_by, permit);
        Self { core, role: Role::Handler(handler) }
    }

    pub(super) fn connecting(options: &ConnectionOptions, attempt: Attempt<H>) -> Self {
        Self { core: Core::new(options, Phase::Connecting, true, true), role: Role::Attempt(attempt) }
    }

    pub(super) const fn interest(&self) -> Interest {
        self.core.interest
    }

    /// Finds out what has become of an attempt to connect: whether it is this one that has made it.
    fn finish_connecting<S>(&mut self, io: &Io<impl Stream>, cx: &mut Context<'_, S>) -> io::Result<Next>
    where
        H: ConnectionHandler<S>,
    {
        let Role::Attempt(attempt) = &self.role else { return Ok(Next::Keep) };
        match attempt.outcome(io, cx) {
            Outcome::Pending => return Err(ErrorKind::WouldBlock.into()),
            Outcome::Lost => {
                self.role = Role::Lost;
                return Ok(Next::Remove);
            }
            Outcome::Won(handler) => {
                self.role = Role::Handler(handler);
                self.core.phase = Phase::Opening;
            }
        }
        Ok(Next::Keep)
    }

    /// Lends the connection to somebody else; without a visitor, does what can be done now.
    pub(super) fn visited<S, T: Stream>(
        &mut self,
        io: &mut Io<T>,
        cx: &mut Context<'_, S>,
        visitor: Option<Visitor<'_, S>>,
    ) where
        H: ConnectionHandler<S>,
    {
        let key = cx.key();
        let result = catch_unwind(AssertUnwindSafe(|| self.call(io, cx, visitor)));
        let result = result.unwrap_or_else(|panic| {
            // The loop takes a panic for that of who visits, and it is, unless our handler was running.
            if self.core.calling {
                self.core.end(CloseReason::Panicked(panic_message(&*panic)));
                let _ = cx.registry.remove(key);
            } else {
                run_later::<S, T, H>(cx.registry, key); // nothing else sees to what the visitor has queued
            }
            resume_unwind(panic)
        });
        if !matches!(result, Ok(Next::Keep)) {
            if let Err(error) = result {
                self.core.end(CloseReason::Failed(error));
            }
            let _ = cx.registry.remove(key); // it is there: it is being visited
        }
    }

    fn call<S, T: Stream>(
        &mut self,
        io: &mut Io<T>,
        cx: &mut Context<'_, S>,
        visitor: Option<Visitor<'_, S>>,
    ) -> io::Result<Next>
    where
        H: ConnectionHandler<S>,
    {
        if let Some(visitor) = visitor {
            // Nothing is gathered in a visit, and the buffers may be in use by who visits.
            return Call::<S, T, H>::new(self, io, &mut Vec::new(), cx, true).visit(visitor, cx);
        }
        let mut buffers = BUFFERS.take().unwrap_or_default();
        let result = Call::<S, T, H>::new(self, io, &mut buffers.gathered, cx, false).ready(&mut buffers.scratch, cx);
        buffers.gathered.clear();
        BUFFERS.set(Some(buffers));
        result
    }
}

impl<S, T: Stream, H: ConnectionHandler<S>> Handler<S, T> for Driver<H> {
    fn ready(&mut self, io: &mut Io<T>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if self.core.phase == Phase::Connecting && self.finish_connecting(io, cx)? == Next::Remove {
            return Ok(Next::Remove);
        }
        self.call(io, cx, None)
    }

    fn closed(&mut self, reason: Closed, cx: &mut Context<'_, S>) {
        let reason = match (self.core.reason.take(), reason) {
            (Some(reason), _) => reason,
            (None, Closed::Failed(error)) => CloseReason::Failed(error),
            (None, Closed::Panicked(message)) => CloseReason::Panicked(message),
            (None, _) => CloseReason::Closed,
        };
        match &mut self.role {
            Role::Handler(handler) => handler.on_close(reason, cx),
            Role::Attempt(attempt) => attempt.removed(reason, cx),
            Role::Lost => {}
        }
    }
}

/// One call of the loop, or of a visitor.
struct Call<'a, S, T, H> {
    connection: Connection<'a, S>,
    /// `None` while nobody has answered.
    handler: Option<&'a mut H>,
    stream: PhantomData<fn(T)>,
}

impl<'a, S, T: Stream, H: ConnectionHandler<S>> Call<'a, S, T, H> {
    fn new(
        driver: &'a mut Driver<H>,
        io: &'a mut Io<T>,
        gathered: &'a mut Vec<u8>,
        cx: &Context<'_, S>,
        is_visit: bool,
    ) -> Self {
        let Driver { core, role } = driver;
        if let Some(times) = &mut core.times {
            times.begin(cx.now());
        }
        let key = ConnectionKey::of::<T, H>(cx.key());
        let handler = if let Role::Handler(handler) = role { Some(handler) } else { None };
        Self { connection: Connection { stream: io, core, gathered, key, is_visit }, handler, stream: PhantomData }
    }

    /// Does all that can be done now, and says what is waited for next.
    fn ready(mut self, scratch: &mut Vec<u8>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        self.open(cx)?;
        if self.connection.core.is_unread(cx.readiness()) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if cx.readiness().is_timeout() {
            self.time_out(cx)?;
        }
        if self.connection.core.wants_to_write() && self.connection.flush()? {
            self.call(cx, |handler, connection, cx| handler.on_drain(connection, cx))?;
        }
        if self.connection.core.owes_what_was_left() {
            self.deliver(&[], cx)?;
        }
        self.read(scratch, cx)?;
        self.settle(cx)
    }

    fn visit(mut self, visitor: Visitor<'_, S>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        self.open(cx)?;
        if self.connection.core.phase == Phase::Over {
            return self.settle(cx); // it has ended as it opened, and there is nothing to lend
        }
        visitor(&mut self.connection, cx);
        self.connection.end_callback()?;
        self.heed_removal(cx);
        self.settle(cx)
    }

    /// Calls the handler, sends what it has written, and gives what it has answered unless that says that nothing was done.
    fn call<R: Default>(
        &mut self,
        cx: &mut Context<'_, S>,
        callback: impl FnOnce(&mut H, &mut Connection<'_, S>, &mut Context<'_, S>) -> io::Result<R>,
    ) -> io::Result<R> {
        let Some(handler) = &mut self.handler else { return Ok(R::default()) };
        self.connection.core.calling = true;
        let answer = callback(handler, &mut self.connection, cx);
        self.connection.core.calling = false;
        let sent = self.connection.end_callback(); // also the last words of who gives up
        let answer = match answer {
            Err(error) if is_nothing_done(&error) => R::default(),
            answer => answer?,
        };
        sent?;
        self.heed_removal(cx);
        Ok(answer)
    }

    /// Who has removed the registration from within a callback is called no more.
    fn heed_removal(&mut self, cx: &Context<'_, S>) {
        if !cx.registry.contains(self.connection.key.key()) {
            self.connection.core.end(CloseReason::Closed);
        }
    }

    fn open(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        if self.connection.core.phase == Phase::Opening {
            self.connection.core.phase = Phase::Open;
            self.call(cx, |handler, connection, cx| handler.on_open(connection, cx))?;
        }
        Ok(())
    }

    fn time_out(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        let core = &mut *self.connection.core;
        let waits = core.waits();
        match core.times.as_mut().and_then(|times| times.take_passed(&core.settings, waits)) {
            Some(Timeout::Close) => core.end(CloseReason::TimedOut(Timeout::Close)),
            Some(timeout) => {
                self.call(cx, |handler, connection, cx| handler.on_timeout(timeout, connection, cx))?;
                self.connection.end_timed_out(timeout);
            }
            None => {} // a rate has bytes again, or it was put off
        }
        Ok(())
    }

    fn read(&mut self, scratch: &mut Vec<u8>, cx: &mut Context<'_, S>) -> io::Result<()> {
        let mut budget = self.connection.core.settings.bytes_per_turn;
        while budget > 0 && self.connection.core.wants_to_read() {
            let allowed = self.connection.core.times.as_mut().map_or(usize::MAX, |times| times.may_read());
            if allowed == 0 {
                break;
            }
            if scratch.is_empty() {
                scratch.resize(READ_MAX, 0);
            }
            let room = scratch.len().min(budget).min(allowed);
            match self.connection.stream.read(&mut scratch[..room]) {
                Ok(0) => {
                    self.connection.core.read_ended = true;
                    self.end(cx)?;
                }
                Ok(bytes) => {
                    budget -= bytes;
                    self.connection.core.note_read(bytes);
                    if self.connection.core.delivers() {
                        self.deliver(&scratch[..bytes], cx)?;
                    }
                    if !self.connection.stream.is_readable() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // All that was to be said has been said, and is on its way.
                Err(_) if self.connection.core.phase == Phase::Lingering => {
                    self.connection.core.end(CloseReason::Finished);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the handler what it has left and `data` behind it, and keeps what it leaves of that.
    fn deliver(&mut self, data: &[u8], cx: &mut Context<'_, S>) -> io::Result<()> {
        let mut kept = take(&mut self.connection.core.unconsumed);
        self.connection.core.redeliver = false; // all of it is given now
        if kept.is_empty() {
            let consumed = self.on_data(data, cx)?;
            kept.extend_from_slice(&data[consumed..]);
        } else {
            kept.extend_from_slice(data);
            let consumed = self.on_data(&kept, cx)?;
            kept.drain(..consumed);
        }
        if self.connection.core.phase != Phase::Open {
            return Ok(()); // it has been closed, with an answer perhaps that is on its way: the rest is for nobody
        }
        let max = self.connection.core.settings.unconsumed_max;
        if kept.len() > max {
            let text = format!("the handler has left {} bytes, more than unconsumed_max, {max}", kept.len());
            return Err(io::Error::new(ErrorKind::QuotaExceeded, text));
        }
        if !kept.is_empty() {
            self.connection.core.unconsumed = kept; // otherwise it goes: an idle connection holds no buffer
        }
        Ok(())
    }

    fn on_data(&mut self, data: &[u8], cx: &mut Context<'_, S>) -> io::Result<usize> {
        let consumed = self.call(cx, |handler, connection, cx| handler.on_data(data, connection, cx))?;
        debug_assert!(consumed <= data.len(), "a handler has consumed {consumed} of {} bytes", data.len());
        Ok(consumed.min(data.len()))
    }

    /// The peer has ended its direction.
    fn end(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        if self.connection.core.phase == Phase::Open {
            let rest = take(&mut self.connection.core.unconsumed);
            self.call(cx, |handler, connection, cx| handler.on_end(&rest, connection, cx))?;
        }
        Ok(())
    }

    /// Whether it is to be closed in order, and its handler has been given all that there is.
    fn has_finished(&self) -> bool {
        let Connection { core, stream, .. } = &self.connection;
        let may_come = stream.is_readable() && !core.read_ended || !core.unconsumed.is_empty() && core.redeliver;
        (core.finishing, core.phase) == (Finishing::Due, Phase::Open) && !core.full && (core.paused || !may_come)
    }

    /// Tells the loop what to call for next, or that it is over.
    fn settle(mut self, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if self.connection.core.is_steady() {
            return Ok(Next::Keep);
        }
        if self.has_finished() {
            self.connection.begin_closing();
        }
        self.connection.advance_end()?;
        let key = self.connection.key.key();
        let core = &mut *self.connection.core;
        if core.phase == Phase::Over {
            return match core.reason.take() {
                Some(CloseReason::Failed(error)) => Err(error),
                reason => {
                    core.reason = reason;
                    Ok(Next::Remove)
                }
            };
        }
        if core.finishing == Finishing::Asked {
            core.finishing = Finishing::Awaited;
            finish_later::<S, T, H>(cx.registry, key);
        }
        // What was left while the handler was paused or full is not waited for: the source may never be ready again.
        if core.owes_what_was_left() {
            run_later::<S, T, H>(cx.registry, key);
        }
        let wanted = core.wanted();
        if wanted != core.interest {
            cx.registry.set_interest(key, wanted)?;
            core.interest = wanted;
        }
        let waits = core.waits();
        if let Some(times) = &mut core.times {
            times.begin(cx.now());
            cx.registry.set_timeout(key, times.next(&core.settings, waits))?;
        }
        Ok(Next::Keep)
    }
}
