//! The driver: what the loop calls for a connection, from its first attempt to connect to its last word.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use reactor::{Closed, Context, Handler, Interest, Io, Key, Next};

use super::call::Call;
use super::connect::{Attempt, Outcome};
use super::core::{Core, Phase};
use super::gathered::Gathered;
use super::key::{ConnectionKey, Visitor};
use super::lent::reset_on_close;
use super::options::ConnectionOptions;
use super::stream::Stream;
use super::{CloseReason, ConnectionHandler, run_later};
use crate::error::panic_message;
use crate::listener::Permit;

/// What is read by one call.
const READ_MAX: usize = 64 * 1024;

/// What a connection needs while it is called, and none while it is idle.
struct Buffers {
    scratch: Box<[u8]>,
    gathered: Gathered,
}

thread_local! {
    /// Those of a loop, which has its thread for itself. `Registry::local` would do, at forty instructions more for a look.
    /// Taken while a connection is called: the loop of another reactor that runs meanwhile has some of its own.
    static BUFFERS: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

/// Lends the buffers of this loop.
#[inline(always)]
fn with_buffers<R>(borrower: impl FnOnce(&mut [u8], &mut Gathered) -> R) -> R {
    let mut buffers = BUFFERS.take().unwrap_or_else(make_buffers);
    let result = borrower(&mut buffers.scratch, &mut buffers.gathered);
    buffers.gathered.clear();
    BUFFERS.with(|place| place.set(Some(buffers))); // unlike `LocalKey::set`, this is inlined
    result
}

#[cold]
fn make_buffers() -> Box<Buffers> {
    Box::new(Buffers { scratch: vec![0; READ_MAX].into(), gathered: Gathered::with_room() })
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

    /// Pauses it, if `listener` has accepted it.
    pub(super) fn read_no_more_for(&mut self, listener: Key) {
        self.core.paused |= self.core.accepted_by == listener;
    }

    /// Finds out what has become of an attempt to connect: whether it is this one that has made it.
    fn finish_connecting<S>(&mut self, io: &Io<impl Stream>, cx: &mut Context<'_, S>) -> io::Result<Next>
    where
        H: ConnectionHandler<S>,
    {
        let Role::Attempt(attempt) = &self.role else { return Ok(Next::Keep) };
        match attempt.outcome(io, cx) {
            Outcome::Pending if !cx.readiness().is_timeout() => return Err(ErrorKind::WouldBlock.into()),
            Outcome::Pending => {
                attempt.timed_out(cx);
                self.role = Role::Lost;
                return Ok(Next::Remove);
            }
            Outcome::Lost => {
                self.role = Role::Lost;
                return Ok(Next::Remove);
            }
            Outcome::Won(handler, failed) => {
                self.role = Role::Handler(handler);
                self.core.phase = Phase::Opening;
                cx.registry.set_timeout(cx.key(), None)?; // that of the attempt
                if let Some(error) = failed {
                    self.core.fail(error);
                }
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
        let result = catch_unwind(AssertUnwindSafe(|| match visitor {
            // Nothing is gathered in a visit, and the buffers may be in use by who visits.
            Some(visitor) => self.call(io, &mut Gathered::default(), cx, true).visit(visitor, cx),
            None => with_buffers(|scratch, gathered| self.call(io, gathered, cx, false).run_deferred(scratch, cx)),
        }));
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
                let _ = cx.registry.note_failure(key, &error); // it is there, as below
                self.core.end(CloseReason::Failed(error));
            }
            let _ = cx.registry.remove(key); // it is there: it is being visited
        }
    }

    /// One call, with all that it works on.
    #[inline]
    fn call<'a, S, T: Stream>(
        &'a mut self,
        io: &'a mut Io<T>,
        gathered: &'a mut Gathered,
        cx: &Context<'_, S>,
        is_visit: bool,
    ) -> Call<'a, S, T, H>
    where
        H: ConnectionHandler<S>,
    {
        let Self { core, role } = self;
        let handler = if let Role::Handler(handler) = role { Some(handler) } else { None };
        Call { io, core, gathered, handler, key: ConnectionKey::of::<T, H>(cx.key()), is_visit }
    }
}

impl<S, T: Stream, H: ConnectionHandler<S>> Handler<S, T> for Driver<H> {
    #[inline]
    fn ready(&mut self, io: &mut Io<T>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if self.core.phase == Phase::Connecting && self.finish_connecting(io, cx)? == Next::Remove {
            return Ok(Next::Remove);
        }
        with_buffers(|scratch, gathered| self.call(io, gathered, cx, false).ready(scratch, cx))
    }

    fn closing(&mut self, io: &mut Io<T>) {
        if self.core.owes() {
            reset_on_close(io.as_fd());
        }
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
