//! Writing the messages that wait to the present connection.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{Context, Registry};

use super::attempts;
use super::shared::{Shared, Stage};
use crate::carried::for_no_request;
use crate::connection::{Connection, Flow};

/// The number of messages, and of their bytes, that one turn writes to a connection. More would
/// hold up the other callbacks of the loop.
const BATCH: (usize, usize) = (1024, 256 * 1024);

impl<S> Shared<S> {
    /// Advances the upstream with the deferred callbacks: writes messages to the connection, and
    /// takes the next step of a stop.
    pub(super) fn advance_later(self: &Rc<Self>, registry: &mut Registry<S>) {
        if !self.is_deferred.replace(true) {
            let shared = Rc::clone(self);
            let advance = move |cx: &mut Context<'_, S>| {
                shared.is_deferred.set(false);
                let advanced = catch_unwind(AssertUnwindSafe(|| shared.advance(cx)));
                if let Err(panic) = advanced {
                    // The destructor of a message has panicked. Nothing else would send the rest.
                    shared.advance_later(cx.registry);
                    resume_unwind(panic);
                }
            };
            // One callback sends the messages of all callers.
            for_no_request(|| registry.defer_from(self.line, advance));
        }
    }

    pub(super) fn advance(self: &Rc<Self>, cx: &mut Context<'_, S>) {
        match self.stage() {
            Stage::Up(key) => {
                // An error means that the connection has ended, so its handler will be notified.
                let _ = key.with(cx, |connection, cx| self.feed(connection, cx));
            }
            Stage::Connecting if self.must_end(cx.now()) => {
                attempts::cancel(cx.registry, self.id())
            }
            Stage::Waiting { timer, .. } if self.must_end(cx.now()) => {
                // The timer exists while this is the stage.
                let _ = cx.registry.reset(timer, Duration::ZERO);
            }
            _ => {}
        }
    }

    /// Writes the messages that wait to the connection, as many as it takes in a turn.
    pub(super) fn feed(
        self: &Rc<Self>,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) {
        if !self.waits_for_confirm || self.is_confirmed.get() {
            let has_more = self.write_batch(connection);
            let _ = connection.flush();
            if has_more {
                self.advance_later(cx.registry);
            }
        }
        let metrics = connection.metrics();
        self.record_metrics(metrics);
        self.with_queue(|queue| queue.record_sent(metrics.sent));
        if connection.write_position() > metrics.sent && !self.has_mark.replace(true) {
            connection.notify_sent();
        }
        self.notify_room(cx.registry);
        self.close_if_settled(connection, cx);
    }

    /// Returns `true` if more messages can be written next turn.
    fn write_batch(&self, connection: &mut Connection<'_, S>) -> bool {
        let (mut messages, mut bytes) = BATCH;
        loop {
            let Some(message) = self.with_queue(|queue| queue.front().cloned()) else {
                return false;
            };
            if messages == 0 || bytes == 0 {
                return true;
            }
            (messages, bytes) = (messages - 1, bytes.saturating_sub(message.len()));
            let start = connection.write_position();
            // The message keeps its place if the write side is closed.
            let Ok(flow) = connection.write_bytes(message) else {
                return false;
            };
            self.with_queue(|queue| queue.begin_front(start));
            if flow == Flow::Full {
                return false; // `on_drain` continues
            }
        }
    }
}
