//! The state that the handles of an upstream share with its driver.
//!
//! Ground rules:
//! - Nothing here is borrowed while a function of the user or a destructor of the user runs.
//! - Nothing here owns the handler: the handler may own a handle, and a cycle would never be freed.
//!   The one [`Driver`](super::driver::Driver) owns the handler and belongs to the loop, so it is
//!   dropped with the loop. The driver then [abandons](Shared::abandon) this state.

use std::cell::{Cell, RefCell};
use std::mem::take;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reactor::{Context, Registry, TimerKey};

use super::metrics::UpstreamMetrics;
use super::options::UpstreamOptions;
use super::queue::Queue;
use super::stopping::Stop;
use super::trust::Trust;
use crate::carried::CallerContext;
use crate::connection::{CloseReason, ConnectionKey, ConnectionMetrics};
use crate::error::discard;

pub(super) type Callback<S> = Box<dyn FnOnce(&mut Context<'_, S>)>;

pub(super) struct Shared<S: 'static> {
    pub(super) queue: RefCell<Queue>,
    trust: RefCell<Trust>,
    stage: Cell<Stage<S>>,
    /// The numbers of bytes of the present connection.
    metrics: Cell<ConnectionMetrics>,
    /// `true` while the present connection has a mark that the kernel has not reached.
    pub(super) has_mark: Cell<bool>,
    pub(super) is_confirmed: Cell<bool>,
    pub(super) waits_for_confirm: bool,
    pub(super) stop: Cell<Option<Stop>>,
    /// `true` while a deferred callback is to advance this upstream.
    pub(super) is_deferred: Cell<bool>,
    /// `true` if the log has a line about the present outage.
    is_down_reported: Cell<bool>,
    on_room: RefCell<Vec<(Callback<S>, CallerContext)>>,
    on_end: RefCell<Vec<(Callback<S>, CallerContext)>>,
    connections: Cell<u64>,
    failures: Cell<u64>,
    /// The line that started the upstream, for logs and lists.
    pub(super) line: &'static Location<'static>,
    /// The context of that call, for the attempts. None after the end.
    context: Cell<CallerContext>,
}

pub(super) enum Stage<S: 'static> {
    Connecting,
    Up(ConnectionKey<S>),
    /// The connection has ended. Its handler is being notified.
    Down {
        until: Option<Instant>,
    },
    Waiting {
        timer: TimerKey,
        until: Option<Instant>,
    },
    Ended,
}

impl<S> Clone for Stage<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Stage<S> {}

impl<S> Shared<S> {
    pub(super) fn new(options: &UpstreamOptions, line: &'static Location<'static>) -> Self {
        let queue = Queue::new(options.limits(), options.overflow, options.acknowledged);
        Self {
            queue: RefCell::new(queue),
            trust: RefCell::new(Trust::new(options.backoff.clone(), options.proof)),
            stage: Cell::new(Stage::Connecting),
            metrics: Cell::default(),
            has_mark: Cell::new(false),
            is_confirmed: Cell::new(false),
            waits_for_confirm: options.send_when_confirmed,
            stop: Cell::new(None),
            is_deferred: Cell::new(false),
            is_down_reported: Cell::new(false),
            on_room: RefCell::default(),
            on_end: RefCell::default(),
            connections: Cell::new(0),
            failures: Cell::new(0),
            line,
            context: Cell::new(CallerContext::current()),
        }
    }

    /// Returns the context in which the upstream was started.
    pub(super) fn context(&self) -> CallerContext {
        let context = self.context.take();
        self.context.set(context.clone());
        context
    }

    pub(super) fn stage(&self) -> Stage<S> {
        self.stage.get()
    }

    pub(super) fn set_stage(&self, stage: Stage<S>) {
        self.stage.set(stage);
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.stage(), Stage::Ended)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.get().is_some() || self.has_ended()
    }

    /// Returns the number that names this upstream on its loop.
    pub(super) fn id(self: &Rc<Self>) -> usize {
        Rc::as_ptr(self).addr()
    }

    /// Calls `access` with the queue. Then drops the messages that have left the queue.
    pub(super) fn with_queue<R>(&self, access: impl FnOnce(&mut Queue) -> R) -> R {
        let (result, dropped) = {
            let queue = &mut *self.queue.borrow_mut();
            (access(queue), queue.take_dropped())
        };
        drop_each(dropped); // may run code of the user, which may use this upstream
        result
    }

    pub(super) fn metrics(&self) -> UpstreamMetrics {
        let counts = self.queue.borrow().counts();
        UpstreamMetrics {
            connections: self.connections.get(),
            failures: self.failures.get(),
            sent: counts.sent,
            acknowledged: counts.acknowledged,
            displaced: counts.displaced,
            lost: counts.lost,
        }
    }

    /// Records what the kernel has taken of the present connection.
    pub(super) fn record_metrics(&self, metrics: ConnectionMetrics) {
        self.metrics.set(metrics);
    }

    /// Records that the stream of the present connection was taken, with all bytes.
    pub(super) fn record_taken(&self) {
        let mut metrics = self.metrics.get();
        (metrics.sent, metrics.written) = (u64::MAX, u64::MAX);
        self.metrics.set(metrics);
    }

    /// Records that the present connection has opened.
    pub(super) fn opened(&self, key: ConnectionKey<S>, now: Instant) {
        self.connections.set(self.connections.get() + 1);
        self.trust.borrow_mut().opened(now);
        self.is_confirmed.set(false);
        self.metrics.take();
        self.has_mark.set(false);
        self.is_down_reported.set(false);
        if let Some(stop) = self.stop.get() {
            let is_closing = false;
            self.stop.set(Some(Stop { is_closing, ..stop }));
        }
        self.set_stage(Stage::Up(key));
    }

    pub(super) fn received(&self) {
        self.trust.borrow_mut().received();
    }

    pub(super) fn confirm(&self) {
        self.trust.borrow_mut().confirm();
        self.is_confirmed.set(true);
    }

    /// Records that the connection, or the attempt, has ended. Returns the delay before the next
    /// attempt, and the messages that were dropped.
    pub(super) fn closed(&self, now: Instant) -> (Duration, Vec<Bytes>) {
        let ConnectionMetrics { sent, written, .. } = self.metrics.take();
        if !matches!(self.stage(), Stage::Up(_)) {
            self.failures.set(self.failures.get() + 1);
        }
        let delay = self.trust.borrow_mut().closed(now);
        let until = now.checked_add(delay);
        self.set_stage(Stage::Down { until });
        let queue = &mut *self.queue.borrow_mut();
        queue.cut(sent, written);
        (delay, queue.take_dropped())
    }

    /// Logs the end of a connection or of an attempt. Only the first of an outage is a warning.
    pub(super) fn log_closed(&self, reason: &CloseReason, delay: Duration) {
        if self.is_stopping() || self.is_down_reported.replace(true) {
            tracing::debug!(%reason, ?delay, "no upstream");
        } else {
            tracing::warn!(%reason, ?delay, "no upstream");
        }
    }

    /// Ends the upstream. Its callbacks run with the deferred callbacks.
    pub(super) fn end(self: &Rc<Self>, registry: &mut Registry<S>) {
        self.set_stage(Stage::Ended);
        if let Some(stop) = self.stop.take() {
            // An error means that the deadline is over.
            let _ = registry.cancel(stop.timer);
        }
        self.release_producers(registry);
        let ends = take(&mut *self.on_end.borrow_mut());
        self.defer_each(registry, ends);
        self.context.set(CallerContext::default());
    }

    /// Records that the driver was dropped, with its loop or by a panic that unwinds. All messages
    /// that were written count as taken, since the kernel may have taken them.
    pub(super) fn abandon(&self) {
        self.set_stage(Stage::Ended);
        self.queue.borrow_mut().cut(u64::MAX, u64::MAX); // they are dropped later, not while it unwinds
        let rooms = take(&mut *self.on_room.borrow_mut());
        let ends = take(&mut *self.on_end.borrow_mut());
        drop((rooms, ends));
        self.context.set(CallerContext::default());
    }

    /// Calls `callback` when the queue has room, or when the upstream has ended.
    pub(super) fn on_room(self: &Rc<Self>, registry: &mut Registry<S>, callback: Callback<S>) {
        if self.is_stopping() {
            registry.defer_from(self.line, callback);
            return;
        }
        let context = CallerContext::current();
        self.on_room.borrow_mut().push((callback, context));
        self.notify_room(registry);
    }

    /// Calls `callback` when the upstream has ended.
    pub(super) fn on_end(&self, registry: &mut Registry<S>, callback: Callback<S>) {
        if self.has_ended() {
            registry.defer_from(self.line, callback);
        } else {
            let context = CallerContext::current();
            self.on_end.borrow_mut().push((callback, context));
        }
    }

    /// Lets the producers that wait for room continue, if there is room.
    pub(super) fn notify_room(&self, registry: &mut Registry<S>) {
        if !self.on_room.borrow().is_empty() && self.queue.borrow().has_room() {
            self.release_producers(registry);
        }
    }

    /// Lets all producers that wait for room continue.
    pub(super) fn release_producers(&self, registry: &mut Registry<S>) {
        let rooms = take(&mut *self.on_room.borrow_mut());
        self.defer_each(registry, rooms);
    }

    /// Defers callbacks, each in the context of its own caller.
    fn defer_each(&self, registry: &mut Registry<S>, callbacks: Vec<(Callback<S>, CallerContext)>) {
        for (callback, context) in callbacks {
            context.scope(|| registry.defer_from(self.line, callback));
        }
    }

    /// Drops messages that the peer has acknowledged. Returns how many.
    pub(super) fn acknowledge(&self, count: usize) -> usize {
        let sent = self.metrics.get().sent;
        self.with_queue(|queue| {
            queue.record_sent(sent);
            queue.acknowledge(count)
        })
    }

    /// Continues after messages have left the queue or wait again.
    pub(super) fn after_removal(self: &Rc<Self>, registry: &mut Registry<S>) {
        self.notify_room(registry);
        self.advance_later(registry);
    }
}

/// Drops messages, each by itself: the destructors of several may panic. Resumes the first panic.
pub(super) fn drop_each(messages: Vec<Bytes>) {
    let mut first = None;
    for message in messages {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(message))) {
            match first {
                None => first = Some(panic),
                Some(_) => discard(panic),
            }
        }
    }
    if let Some(panic) = first {
        resume_unwind(panic);
    }
}
