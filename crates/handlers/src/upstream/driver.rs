//! The driver of an upstream: it connects, waits and connects again. It owns the handler of the
//! user, and passes itself from the attempt to the connection, and from there to the timer.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{Context, Registry, Then};

use super::attempts;
use super::session::Session;
use super::shared::{Shared, Stage, drop_each};
use crate::connection::{CloseReason, Connecting, ConnectionHandler};

/// Starts an attempt to connect to the next target.
pub(super) type Connect<S, H> = Rc<dyn Fn(&mut Registry<S>, Session<S, H>) -> Connecting<S>>;

pub(super) struct Driver<S: 'static, H> {
    pub(super) shared: Rc<Shared<S>>,
    pub(super) handler: H,
    pub(super) connect: Connect<S, H>,
}

impl<S, H: ConnectionHandler<S>> Driver<S, H> {
    /// Starts an attempt, in the context of the upstream. No callback runs before this returns.
    pub(super) fn attempt(self, registry: &mut Registry<S>) {
        let (shared, connect) = (Rc::clone(&self.shared), Rc::clone(&self.connect));
        shared.set_stage(Stage::Connecting);
        let connecting = connect(registry, Session::new(self));
        attempts::record(registry, shared.id(), connecting);
    }

    /// Handles the end of the connection, or of the attempt.
    pub(super) fn closed(mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        attempts::forget(cx.registry, self.shared.id());
        if matches!(reason, CloseReason::Taken) {
            self.shared.record_taken(); // the stream has the rest of the bytes
        }
        let (delay, dropped) = self.shared.closed(cx.now());
        self.shared.log_closed(&reason, delay);
        // The upstream goes on even if a destructor or the handler panics.
        let freed = catch_unwind(AssertUnwindSafe(|| drop_each(dropped)));
        let handler = &mut self.handler;
        let notified = catch_unwind(AssertUnwindSafe(|| handler.on_close(reason, cx)));
        self.shared.notify_room(cx.registry);
        self.wait(cx);
        if let Err(panic) = freed.and(notified) {
            resume_unwind(panic);
        }
    }

    /// Waits until the next attempt, or ends.
    fn wait(self, cx: &mut Context<'_, S>) {
        let until = match self.shared.stage() {
            Stage::Down { until } if !self.shared.must_end(cx.now()) => until,
            _ => return self.end(cx.registry),
        };
        let shared = Rc::clone(&self.shared);
        let delay = until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(cx.now())
        });
        let mut driver = Some(self);
        let go_on = move |cx: &mut Context<'_, S>| {
            if let Some(driver) = driver.take() {
                driver.go_on(cx);
            }
            Ok(Then::Done)
        };
        // The handler may have given its connection another context, which has ended with it.
        let timer = shared.context().scope(|| cx.registry.after(delay, go_on));
        let _ = cx.registry.set_timer_origin(timer, shared.line); // it was just armed
        shared.set_stage(Stage::Waiting { timer, until });
    }

    fn go_on(self, cx: &mut Context<'_, S>) {
        if self.shared.must_end(cx.now()) {
            self.end(cx.registry);
        } else {
            self.attempt(cx.registry);
        }
    }

    fn end(self, registry: &mut Registry<S>) {
        self.shared.end(registry);
    }
}

/// A driver is dropped when its upstream has ended. If it is dropped before, by the end of the loop
/// or by a panic that unwinds, the upstream ends too.
impl<S, H> Drop for Driver<S, H> {
    fn drop(&mut self) {
        if !self.shared.has_ended() {
            self.shared.abandon();
        }
    }
}
