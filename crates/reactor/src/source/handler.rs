//! Handlers: the user's code for one registration, with and without its type.
//!
//! A registration is one allocation that holds the source and its handler, so both live and end
//! together. While the handler runs, the allocation is moved out of the registry (a pointer), so
//! the handler can do anything to the registry.

use std::any::Any;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use super::io::Io;
use super::kind::Kind;
use super::readiness::{Interest, Readiness};
use crate::callback::{Entry, Task};
use crate::context::Context;
use crate::outcome::{CloseReason, Next};
use crate::turn::disposal::Disposal;

/// A handler that is an object. It keeps state from call to call, and is notified when its
/// registration ends.
///
/// Register it by [`Registry::add_handler`](crate::Registry::add_handler), which has an example. If
/// a closure is enough, use [`Registry::add`](crate::Registry::add).
#[doc(alias("EventSource", "EventHandler", "event_callback_fn"))]
pub trait Handler<S, T> {
    /// Called on the thread of the loop while the source is ready for the interest of the
    /// registration, at most once a [turn](crate::Reactor::turn). If the
    /// [timeout](crate::Registry::set_timeout) of the source has passed, there may be a second call
    /// in the turn, for the timeout. If the source was ready when the timeout passed, the handler
    /// is first called for the readiness. The call for the timeout follows, unless the handler has
    /// restarted the timeout.
    ///
    /// # Errors
    /// The loop treats an error by its kind:
    ///
    /// - `WouldBlock`: the handler is called again when the source is ready again. Some sources,
    ///   for example a file at its end or a FIFO between two writers, stay ready although the
    ///   handler returns `WouldBlock`. After 8 such calls in consecutive turns, the loop pauses
    ///   before each further call. The pause doubles each time, from a millisecond up to a second.
    ///   The first pause is logged at WARN.
    /// - `Interrupted`: the handler is called again next turn.
    /// - Any other error: this registration ends. The error is logged with the name of the
    ///   registration, and passed to [`closed`](Self::closed). Other handlers are not affected.
    ///
    /// The log level is WARN, but DEBUG for the kinds of error that any peer can cause:
    /// `ConnectionReset`, `ConnectionAborted`, `BrokenPipe`, `NotConnected`, `TimedOut`,
    /// `HostUnreachable`, `NetworkUnreachable`, `ConnectionRefused`, `InvalidData`, `UnexpectedEof`
    /// and `QuotaExceeded`, and the errno `EHOSTDOWN`. An [`io::Error`] that was converted from an
    /// [`Error`](crate::Error) of this crate is logged at WARN, whatever its kind.
    fn ready(&mut self, io: &mut Io<T>, cx: &mut Context<'_, S>) -> io::Result<Next>;

    /// Called when another callback passes a request to this registration, by
    /// [`Context::request`](crate::Context::request). A handler that does not know the type of
    /// `request` must leave it unchanged. Does nothing by default.
    ///
    /// The [`Context`] has the key of this registration and an empty readiness.
    fn request(&mut self, io: &mut Io<T>, request: &mut dyn Any, cx: &mut Context<'_, S>) {
        let _ = (io, request, cx);
    }

    /// Called just before the source is closed, whatever ends the registration, even when the
    /// reactor is dropped. Use it for a last operation on the source, for example to set a socket
    /// option that controls how the socket closes. Does nothing by default.
    ///
    /// Not called by [`Registry::take`](crate::Registry::take) and
    /// [`Registry::take_source`](crate::Registry::take_source), which return the source open.
    ///
    /// This method has no access to the registry, as a destructor has none. It must not block.
    fn closing(&mut self, io: &mut Io<T>) {
        let _ = io;
    }

    /// Called once after the registration has ended, among the [deferred](crate::Registry::defer)
    /// callbacks. The source is closed by then, or was
    /// [taken](crate::Registry::take_source). [`Context::key`] returns the key that the
    /// registration had. Does nothing by default.
    ///
    /// Not called if the registration ends because the reactor is dropped. The handler is then only
    /// dropped. Not called by [`Registry::take`](crate::Registry::take) either, which returns the
    /// handler.
    fn closed(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        let _ = (reason, cx);
    }
}

/// The code that a [`Registered`] calls: a user's closure, or a user's object.
pub(crate) trait Respond<S, T>: 'static {
    /// Returns the type name of the user's code.
    const TYPE_NAME: fn() -> &'static str;

    fn ready(&mut self, io: &mut Io<T>, cx: &mut Context<'_, S>) -> io::Result<Next>;

    /// Calls [`Handler::request`] of an object.
    fn request(&mut self, io: &mut Io<T>, request: &mut dyn Any, cx: &mut Context<'_, S>) {
        let _ = (io, request, cx);
    }

    /// Calls [`Handler::closing`] of an object.
    fn closing(&mut self, io: &mut Io<T>) {
        let _ = io;
    }

    fn into_closed_notice(
        self,
        reason: CloseReason,
        disposal: &mut Disposal,
    ) -> Option<Box<dyn Task<S>>>;
}

/// A closure. It is not notified of the end of its registration. Its captures are dropped.
pub(crate) struct Closure<F>(pub(crate) F);

impl<S, T, F> Respond<S, T> for Closure<F>
where
    F: FnMut(&mut Io<T>, &mut Context<'_, S>) -> io::Result<Next> + 'static,
{
    const TYPE_NAME: fn() -> &'static str = std::any::type_name::<F>;

    #[inline]
    fn ready(&mut self, io: &mut Io<T>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        (self.0)(io, cx)
    }

    fn into_closed_notice(
        self,
        reason: CloseReason,
        disposal: &mut Disposal,
    ) -> Option<Box<dyn Task<S>>> {
        disposal.drop_one(self);
        disposal.drop_one(reason);
        None
    }
}

/// An object, with the type of the source it handles, since it may handle several.
pub(crate) struct Object<T, H> {
    handler: H,
    source: PhantomData<fn(T)>,
}

impl<T, H> Object<T, H> {
    pub(crate) const fn new(handler: H) -> Self {
        Self {
            handler,
            source: PhantomData,
        }
    }

    pub(crate) const fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    pub(crate) fn into_handler(self) -> H {
        self.handler
    }
}

impl<S, T: 'static, H: Handler<S, T> + 'static> Respond<S, T> for Object<T, H> {
    const TYPE_NAME: fn() -> &'static str = std::any::type_name::<H>;

    #[inline]
    fn ready(&mut self, io: &mut Io<T>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        self.handler.ready(io, cx)
    }

    fn request(&mut self, io: &mut Io<T>, request: &mut dyn Any, cx: &mut Context<'_, S>) {
        self.handler.request(io, request, cx);
    }

    fn closing(&mut self, io: &mut Io<T>) {
        self.handler.closing(io);
    }

    fn into_closed_notice(
        self,
        reason: CloseReason,
        _disposal: &mut Disposal,
    ) -> Option<Box<dyn Task<S>>> {
        Some(Box::new(ClosedNotice {
            object: self,
            reason,
        }))
    }
}

/// A handler object after the end of its registration, with the reason to pass to it.
struct ClosedNotice<T, H> {
    object: Object<T, H>,
    reason: CloseReason,
}

impl<S, T, H: Handler<S, T>> Task<S> for ClosedNotice<T, H> {
    fn run(mut self: Box<Self>, cx: &mut Context<'_, S>) {
        self.object.handler.closed(self.reason, cx);
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<H>()
    }
}

/// A source and its handler. The fields drop in this order: first the source is closed. They also
/// lie in memory in this order (`repr(C)`). So the address of the `Io` is that of the whole struct,
/// and a call has to keep one pointer less.
#[repr(C)]
pub(crate) struct Registered<T, R> {
    pub(crate) io: Io<T>,
    pub(crate) respond: R,
}

impl<T: AsFd, R> Registered<T, R> {
    /// Calls `access` outside of an event, with the facts of `ready`. Returns the facts that are
    /// left. A panic of `access` is returned, so that the caller can put the entry back first.
    pub(crate) fn access<A>(
        &mut self,
        ready: Readiness,
        armed: Interest,
        access: impl FnOnce(&mut Io<T>, &mut R) -> A,
    ) -> (Readiness, thread::Result<A>) {
        self.io.begin(ready, armed);
        self.io.apply_announcements();
        let Self { io, respond } = self;
        let result = catch_unwind(AssertUnwindSafe(|| access(io, respond)));
        (io.left(), result)
    }
}

impl<S, T: AsFd + 'static, R: Respond<S, T>> Entry<S> for Registered<T, R> {
    fn call(&mut self, armed: Interest, cx: &mut Context<'_, S>) -> Readiness {
        self.io.begin(cx.readiness(), armed);
        if cx.readiness().intersects(Readiness::CHECKED_BEFORE_CALL) {
            cx.set_readiness(self.io.check_before_call());
            if self.io.is_unconnected() {
                return self.io.left();
            }
        }
        match self.respond.ready(&mut self.io, cx) {
            Ok(Next::Keep) => self.io.left(),
            result => self.io.end(result, cx),
        }
    }

    fn handler_type(&self) -> &'static str {
        R::TYPE_NAME()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.io.as_fd())
    }

    fn kind(&self) -> Kind {
        self.io.kind()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn request(
        &mut self,
        ready: Readiness,
        armed: Interest,
        request: &mut dyn Any,
        cx: &mut Context<'_, S>,
    ) -> (Readiness, thread::Result<()>) {
        self.access(ready, armed, |io, respond| respond.request(io, request, cx))
    }

    fn has_source_for(&self, place: &dyn Any) -> bool {
        place.is::<Option<T>>()
    }

    fn release_source(
        self: Box<Self>,
        place: &mut dyn Any,
        disposal: &mut Disposal,
    ) -> Option<Box<dyn Task<S>>> {
        let Self { io, respond } = *self;
        if let Some(place) = place.downcast_mut() {
            *place = Some(io.into_source());
        }
        respond.into_closed_notice(CloseReason::Taken, disposal)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn close(
        self: Box<Self>,
        reason: CloseReason,
        disposal: &mut Disposal,
    ) -> Option<Box<dyn Task<S>>> {
        let Self {
            mut io,
            mut respond,
        } = *self;
        disposal.run(|| respond.closing(&mut io));
        disposal.drop_one(io);
        respond.into_closed_notice(reason, disposal)
    }
}
