//! The orderly stop of an upstream, in each of its stages.

use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{Context, Registry, Then, TimerKey};

use super::shared::{Shared, Stage};
use crate::carried::for_no_request;
use crate::connection::Connection;

/// A stop that was requested.
#[derive(Clone, Copy)]
pub(super) struct Stop {
    /// `None` without a deadline.
    pub(super) by: Option<Instant>,
    pub(super) timer: TimerKey,
    /// `true` once the present connection is closing.
    pub(super) is_closing: bool,
}

impl<S> Shared<S> {
    /// Returns `true` if the upstream must end instead of connecting again.
    pub(super) fn must_end(&self, now: Instant) -> bool {
        let Some(stop) = self.stop.get() else {
            return self.has_ended();
        };
        let queue = self.queue.borrow();
        stop.by.is_some_and(|by| by <= now)
            || queue.is_empty()
            || stop.is_closing && queue.is_settled()
    }

    /// Requests a stop. The earliest of several deadlines holds.
    pub(super) fn stop(self: &Rc<Self>, registry: &mut Registry<S>, grace: Duration) {
        if self.has_ended() {
            return;
        }
        let by = registry.now().checked_add(grace);
        let before = self.stop.get();
        let is_later = |earlier: Stop| match (earlier.by, by) {
            (Some(earlier), Some(by)) => earlier <= by,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        if before.is_some_and(is_later) {
            return;
        }
        if let Some(before) = before {
            let _ = registry.cancel(before.timer);
        }
        let shared = Rc::clone(self);
        let end_grace = move |cx: &mut Context<'_, S>| {
            shared.end_grace(cx);
            Ok(Then::Done)
        };
        let timer = for_no_request(|| registry.after(grace, end_grace));
        // The timer was just armed. The connection, the attempt or the delay keeps `run` alive.
        let _ = registry.set_timer_origin(timer, self.line);
        let _ = registry.set_timer_background(timer);
        self.stop.set(Some(Stop {
            by,
            timer,
            is_closing: before.is_some_and(|before| before.is_closing),
        }));
        self.release_producers(registry);
        self.advance_later(registry);
    }

    /// Ends the upstream although messages are left.
    fn end_grace(self: &Rc<Self>, cx: &mut Context<'_, S>) {
        if let Stage::Up(key) = self.stage() {
            // The connection has read everything that has arrived when its deadline is reported.
            let _ = key.with(cx, |connection, _cx| {
                connection.close_gracefully(Duration::ZERO)
            });
        } else {
            self.advance(cx);
        }
    }

    /// Closes the connection of an upstream that stops, once nothing is left to do.
    pub(super) fn close_if_settled(&self, connection: &mut Connection<'_, S>, cx: &Context<'_, S>) {
        let Some(stop) = self.stop.get().filter(|stop| !stop.is_closing) else {
            return;
        };
        if !self.queue.borrow().is_settled() {
            return;
        }
        let left = stop
            .by
            .map_or(Duration::MAX, |by| by.saturating_duration_since(cx.now()));
        connection.close_gracefully(left);
        self.stop.set(Some(Stop {
            is_closing: true,
            ..stop
        }));
    }
}
