//! Callbacks without their types: what the registry holds, and the loop calls.
//!
//! The three files `registry.rs`, `context.rs` and this one name each other: a callback takes a context, which borrows the registry,
//! which owns the callbacks.

use std::any::Any;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::Location;

use crate::context::Context;
use crate::outcome::{CloseReason, Next};
use crate::slots::Key;
use crate::source::kind::Kind;
use crate::source::readiness::{Interest, Readiness};
use crate::timer::Then;
use crate::turn::disposal::Disposal;

/// A registration without its types.
pub(crate) trait Entry<S> {
    /// Calls the handler, for the facts of `cx`, with the directions that the kernel reports. Gives what is left of the
    /// facts, in a register: why a registration [ends](Readiness::ENDED), which is rare, is left in the registry.
    fn call(&mut self, armed: Interest, cx: &mut Context<'_, S>) -> Readiness;

    /// The type of the handler, which for a closure names the function it is written in.
    fn handler_type(&self) -> &'static str;

    /// The source, unless it is a queue.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// What sort of thing the source is.
    fn kind(&self) -> Kind;

    /// Itself with its types, for an access by these types.
    fn as_any(&mut self) -> &mut dyn Any;

    /// Closes the way in, if other threads have one: nobody waits for what is about to be dropped.
    fn shut(&self) {}

    /// Closes the source, and gives what tells the handler so, if it is one to be told. What is the user's goes by `disposal`.
    fn close(
        self: Box<Self>,
        reason: CloseReason,
        disposal: &mut Disposal,
    ) -> Option<Box<dyn Task<S>>>;
}

/// Something to do once, later this turn.
pub(crate) trait Task<S> {
    fn run(self: Box<Self>, cx: &mut Context<'_, S>);

    /// Names the user's code.
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
    /// The registration whose end it tells of.
    pub(crate) key: Key,
}
