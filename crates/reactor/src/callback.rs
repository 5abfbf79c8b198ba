//! Callbacks without their types, as the registry stores them and the loop calls them.
//!
//! The three files `registry.rs`, `context.rs` and this one name each other: a callback takes a
//! context, which borrows the registry, which owns the callbacks.

use std::any::Any;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::Location;
use std::thread;

use crate::context::Context;
use crate::outcome::{CloseReason, Next};
use crate::request_context::Carried;
use crate::slots::Key;
use crate::source::kind::Kind;
use crate::source::readiness::{Interest, Readiness};
use crate::timer::Then;
use crate::turn::disposal::Disposal;

/// A registration without its types.
pub(crate) trait Entry<S> {
    /// Calls the handler for the facts of `cx`. The kernel reports the directions in `armed`.
    /// Returns the facts that are left, which fit into a register. If the registration
    /// [ends](Readiness::ENDED), which is rare, the reason is stored in the registry.
    fn call(&mut self, armed: Interest, cx: &mut Context<'_, S>) -> Readiness;

    /// Returns the type of the handler. For a closure it names the function that contains it.
    fn handler_type(&self) -> &'static str;

    /// Returns the fd of the source, or `None` for a queue.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Returns the kind of the source.
    fn kind(&self) -> Kind;

    /// Returns itself for a cast to its types.
    fn as_any(&mut self) -> &mut dyn Any;

    /// Returns itself for a move out of its types.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;

    /// Passes a request to the handler, outside of an event. The source has the facts of `ready`,
    /// and the kernel reports the directions in `armed`. Returns the facts that are left, and the
    /// panic of the handler, if it has panicked. A queue ignores requests.
    fn request(
        &mut self,
        ready: Readiness,
        _armed: Interest,
        _request: &mut dyn Any,
        _cx: &mut Context<'_, S>,
    ) -> (Readiness, thread::Result<()>) {
        (ready, Ok(()))
    }

    /// Returns `true` if `place` is an `Option` of the type of the source.
    fn has_source_for(&self, _place: &dyn Any) -> bool {
        false
    }

    /// Moves the source into `place`, an `Option` of its type. Returns the task that notifies the
    /// handler, if the handler is an object. Values of the user are dropped through `disposal`.
    fn release_source(
        self: Box<Self>,
        _place: &mut dyn Any,
        disposal: &mut Disposal,
    ) -> Option<Box<dyn Task<S>>> {
        self.close(CloseReason::Taken, disposal)
    }

    /// Refuses the values of other threads from now on, if this is a queue: a thread must not wait
    /// for a registration that is about to be dropped.
    fn shut(&self) {}

    /// Closes the source. Returns the task that notifies the handler, if the handler is an object.
    /// Values of the user are dropped through `disposal`.
    fn close(
        self: Box<Self>,
        reason: CloseReason,
        disposal: &mut Disposal,
    ) -> Option<Box<dyn Task<S>>>;
}

/// A task that runs once, later this turn.
pub(crate) trait Task<S> {
    fn run(self: Box<Self>, cx: &mut Context<'_, S>);

    /// Returns the type name of the user's code.
    fn type_name(&self) -> &'static str;
}

impl<S, F: FnOnce(&mut Context<'_, S>)> Task<S> for F {
    fn run(self: Box<Self>, cx: &mut Context<'_, S>) {
        self(cx);
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<F>()
    }
}

/// A timer's callback.
pub(crate) type TimerFn<S> = dyn FnMut(&mut Context<'_, S>) -> io::Result<Then>;

/// A hook, or an idle callback.
pub(crate) type HookFn<S> = dyn FnMut(&mut Context<'_, S>) -> io::Result<Next>;

/// A callback that runs once, with the deferred callbacks, and its line, if the user deferred it.
pub(crate) struct Deferred<S> {
    pub(crate) task: Box<dyn Task<S>>,
    pub(crate) origin: Option<&'static Location<'static>>,
    /// The registration whose end it reports.
    pub(crate) key: Key,
    pub(crate) context: Carried,
}
