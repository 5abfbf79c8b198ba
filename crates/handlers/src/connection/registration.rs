//! The registration: the object that the loop calls for a connection, from its first attempt to
//! connect to its end.

use std::any::{Any, TypeId};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use reactor::{Context, Error, Handler, Interest, Io, Key, Next, PanicPolicy};

use super::buffers::with_buffers;
use super::commands;
use super::connect::{Attempt, Outcome};
use super::connection::Connection;
use super::dispatch::Dispatch;
use super::handler::ConnectionHandler;
use super::handshakes::{self, ResumeHandshake};
use super::key::{ConnectionKey, Request};
use super::later::run_later;
use super::layer::end_layer;
use super::of_server::ServerRequest;
use super::options::ConnectionOptions;
use super::reason::CloseReason;
use super::state::{Carried, Flags, Phase, State};
use super::stream::Stream;
use super::take::{run_timer, take_into};
use super::write::buffer::WriteBuffer;
use crate::carried::in_own_context;
use crate::error::{discard, is_nothing_done, panic_message};
use crate::limit::Permit;
use crate::server::Server;
use crate::sockets::reset_on_close;

/// A connection and its handler.
pub(super) struct Registration<H> {
    pub(super) state: State,
    role: Role<H>,
}

enum Role<H> {
    Handler(H),
    /// One of the attempts to connect. The first that succeeds gets the handler.
    Attempt(Attempt<H>),
    /// An attempt that did not succeed, or not first. Or a connection that has no handler yet.
    Lost,
}

impl<H> Registration<H> {
    pub(super) fn connected<T: Stream>(
        options: &ConnectionOptions,
        handler: H,
        accepted_by: Option<Arc<Server>>,
        permit: Option<Permit>,
    ) -> Self {
        let Self { state, .. } = Self::vacant::<T>(options);
        Self {
            state: state.accepted(accepted_by, permit),
            role: Role::Handler(handler),
        }
    }

    /// Returns a connection whose handler follows by [`set_handler`](Self::set_handler).
    pub(super) fn vacant<T: Stream>(options: &ConnectionOptions) -> Self {
        let state = State::new(options, Phase::Opening, T::READS, T::WRITES);
        Self {
            state: if T::LAYERED {
                state.handshaking()
            } else {
                state
            },
            role: Role::Lost,
        }
    }

    pub(super) fn set_handler(&mut self, handler: H) {
        self.role = Role::Handler(handler);
    }

    /// Returns a connection that goes on with the stream of an earlier one.
    pub(super) fn resumed<T: Stream>(
        options: &ConnectionOptions,
        handler: H,
        carried: Carried,
    ) -> Self {
        let mut resumed = Self::connected::<T>(options, handler, None, None);
        resumed.state.resume(carried);
        resumed
    }

    pub(super) fn connecting(options: &ConnectionOptions, attempt: Attempt<H>) -> Self {
        Self {
            state: State::new(options, Phase::Connecting, true, true),
            role: Role::Attempt(attempt),
        }
    }

    pub(super) const fn interest(&self) -> Interest {
        self.state.interest()
    }

    /// Checks the outcome of an attempt to connect. A successful attempt becomes the connection.
    fn check_attempt<S>(
        &mut self,
        io: &Io<impl Stream>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next>
    where
        H: ConnectionHandler<S>,
    {
        let Role::Attempt(attempt) = &self.role else {
            return Ok(Next::Keep);
        };
        match attempt.outcome(io, cx) {
            Outcome::Pending if !cx.readiness().is_timeout() => {
                return Err(ErrorKind::WouldBlock.into());
            }
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
                self.state.set_phase(Phase::Opening);
                cx.registry.set_timeout(cx.key(), None)?; // the timeout of the attempt
                if let Some(error) = failed {
                    self.state.fail_writing(error);
                }
            }
        }
        Ok(Next::Keep)
    }

    /// Does the pending work of the connection, with the deferred callbacks.
    pub(super) fn run<S, T: Stream>(&mut self, io: &mut Io<T>, cx: &mut Context<'_, S>)
    where
        H: ConnectionHandler<S>,
    {
        in_own_context(cx, |cx| {
            self.guarded(io, cx, |registration, io, cx| {
                with_buffers(|input, output| {
                    registration
                        .dispatch(io, output, cx, false)
                        .on_deferred(input, cx)
                })
            });
        });
    }

    /// Calls `access` with the handler and the connection. Does nothing while an attempt to connect
    /// is pending.
    pub(super) fn access<S, T: Stream>(
        &mut self,
        io: &mut Io<T>,
        cx: &mut Context<'_, S>,
        access: impl FnOnce(&mut H, &mut Connection<'_, S>, &mut Context<'_, S>),
    ) where
        H: ConnectionHandler<S>,
    {
        self.guarded(io, cx, |registration, io, cx| {
            // Writes from outside are not buffered: the caller may be using the buffers of the
            // loop.
            registration
                .dispatch(io, &mut WriteBuffer::default(), cx, true)
                .on_access(access, cx)
        });
    }

    /// Lets the peer of a layered stream that has failed read the reason, if one was sent.
    fn after_layered_call<S, T: Stream>(
        &mut self,
        result: &io::Result<Next>,
        io: &Io<T>,
        cx: &mut Context<'_, S>,
    ) {
        let has_failed = matches!(result, Err(error) if !is_nothing_done(error));
        if has_failed && io.get_ref().has_sent_reason() {
            self.linger(io, cx);
        }
    }

    /// Makes a call that does not come from the loop, and handles its outcome.
    fn guarded<S, T: Stream>(
        &mut self,
        io: &mut Io<T>,
        cx: &mut Context<'_, S>,
        call: impl FnOnce(&mut Self, &mut Io<T>, &mut Context<'_, S>) -> io::Result<Next>,
    ) where
        H: ConnectionHandler<S>,
    {
        let key = cx.key();
        let result = catch_unwind(AssertUnwindSafe(|| call(self, io, cx)));
        let result = result.unwrap_or_else(|panic| {
            // The loop takes the panic for one of the caller. That is right, except if our handler
            // was running.
            if self.state.flags.has(Flags::IN_CALLBACK) {
                let message = panic_message(&*panic);
                let policy = cx.registry.report_panic(key, &message);
                self.state.end(CloseReason::Panicked(message));
                let _ = cx.registry.remove(key);
                if policy.is_ok_and(|policy| policy == PanicPolicy::RemoveHandler) {
                    discard(panic);
                    return Ok(Next::Keep); // the registration is removed already
                }
            } else {
                // Nothing else would send the bytes that `access` has queued.
                run_later::<S, T, H>(cx.registry, key);
            }
            resume_unwind(panic)
        });
        if T::LAYERED {
            self.after_layered_call(&result, io, cx);
        }
        if !matches!(result, Ok(Next::Keep)) {
            if let Err(error) = result {
                // The registration exists, because it is in use, so these two calls cannot fail.
                let _ = cx.registry.report_failure(key, &error);
                self.state.end(CloseReason::Failed(error));
            }
            let _ = cx.registry.remove(key);
        }
    }

    /// Returns a dispatch of this connection, with everything that it works on.
    #[inline]
    fn dispatch<'a, S, T: Stream>(
        &'a mut self,
        io: &'a mut Io<T>,
        buffer: &'a mut WriteBuffer,
        cx: &Context<'_, S>,
        from_outside: bool,
    ) -> Dispatch<'a, S, T, H>
    where
        H: ConnectionHandler<S>,
    {
        let Self { state, role } = self;
        let handler = if let Role::Handler(handler) = role {
            Some(handler)
        } else {
            None
        };
        Dispatch {
            io,
            state,
            buffer,
            handler,
            key: ConnectionKey::of::<T, H>(cx.key()),
            from_outside,
        }
    }
}

impl<S> ConnectionKey<S> {
    /// Returns the key of a connection of these types.
    pub(super) fn of<T: Stream, H: ConnectionHandler<S>>(key: Key) -> Self {
        Self::new(key, run_request::<S, T, H>)
    }
}

/// Passes a request to the connection `key`, which has these types.
fn run_request<S, T, H>(key: Key, request: Request<'_, '_, S>) -> Result<(), Error>
where
    T: Stream,
    H: ConnectionHandler<S>,
{
    match request {
        Request::Run(cx) => cx.with_handler(key, |io: &mut Io<T>, to: &mut Registration<H>, cx| {
            to.run(io, cx)
        }),
        Request::Access(cx, access) => {
            cx.with_handler(key, |io: &mut Io<T>, to: &mut Registration<H>, cx| {
                to.access(io, cx, |_, connection, cx| access(connection, cx));
            })
        }
        Request::AccessHandler(cx, wanted, access) => {
            cx.with_handler(key, |io: &mut Io<T>, to: &mut Registration<H>, cx| {
                to.access(io, cx, |handler, connection, cx| {
                    let is_wanted = wanted == TypeId::of::<H>();
                    access(
                        if is_wanted {
                            handler
                        } else {
                            handler.as_any_mut()
                        },
                        connection,
                        cx,
                    );
                });
            })
        }
        Request::Take(cx, place) => take_into::<S, T, H>(key, place, cx),
        Request::HandlerType(handler_type) => {
            *handler_type = Some(TypeId::of::<H>());
            Ok(())
        }
    }
}

impl<S, T: Stream, H: ConnectionHandler<S>> Handler<S, T> for Registration<H> {
    #[inline]
    fn ready(&mut self, io: &mut Io<T>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if self.state.phase() == Phase::Connecting && self.check_attempt(io, cx)? == Next::Remove {
            return Ok(Next::Remove);
        }
        let result =
            with_buffers(|input, output| self.dispatch(io, output, cx, false).on_event(input, cx));
        if T::LAYERED {
            self.after_layered_call(&result, io, cx);
        }
        result
    }

    fn request(&mut self, io: &mut Io<T>, request: &mut dyn Any, cx: &mut Context<'_, S>) {
        if let Some(request) = request.downcast_ref::<ServerRequest>() {
            self.serve_request(request, io, cx);
        } else if let Some(request) = request.downcast_mut::<ResumeHandshake>() {
            self.resume_handshake(request, io, cx);
        }
    }

    fn closing(&mut self, io: &mut Io<T>) {
        if T::LAYERED {
            end_layer(io, &mut self.state);
        }
        if self.state.would_truncate() {
            reset_on_close(io.as_fd());
        }
    }

    fn closed(&mut self, reason: reactor::CloseReason, cx: &mut Context<'_, S>) {
        if commands::are_waiting() {
            drop(commands::take(cx.registry, cx.key()));
        }
        run_timer(cx.registry, self.state.take_timer.take());
        handshakes::end(cx.registry, cx.key(), &mut self.state);
        let reason = match (self.state.reason.take(), reason) {
            (Some(reason), _) => reason,
            (None, reactor::CloseReason::Failed(error)) => CloseReason::Failed(error),
            (None, reactor::CloseReason::Panicked(message)) => CloseReason::Panicked(message),
            (None, _) => CloseReason::Closed,
        };
        match &mut self.role {
            Role::Handler(handler) => {
                let metrics = self.state.metrics();
                let measured =
                    catch_unwind(AssertUnwindSafe(|| handler.on_final_metrics(metrics, cx)));
                handler.on_close(reason, cx);
                if let Err(panic) = measured {
                    resume_unwind(panic);
                }
            }
            Role::Attempt(attempt) => attempt.removed(reason, cx),
            Role::Lost => {}
        }
    }
}
