//! The registry: what every callback has in its hands.
//!
//! What it can do with sources is in `sources.rs`, with hooks in `hooks.rs`, how it calls them in `dispatch.rs`.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use crate::asked::Asked;
use crate::clock::Clock;
use crate::context::Context;
use crate::error::Failure;
use crate::handler::{Closed, Task};
use crate::hooks::{Hooks, Place};
use crate::locals::Locals;
use crate::metrics::Metrics;
use crate::notify::calls::Calls;
use crate::notify::consumer::LoopHub;
use crate::notify::posts::{Captures, HandedOver, PostBox};
use crate::poller::{Events, Poller};
use crate::ready::ReadyQueue;
use crate::rest::Rest;
use crate::slots::{Key, Slots};
use crate::sources::Slot;
use crate::supervise::Supervision;
use crate::timer::Timers;

/// Something deferred, and where, if the user did it.
pub(crate) struct Deferred<S> {
    pub(crate) task: Box<dyn Task<S>>,
    pub(crate) origin: Option<&'static Location<'static>>,
    /// The registration whose end it tells of.
    pub(crate) key: Key,
}

/// Where registrations live: add, remove, change, defer, stop.
///
/// A callback reaches it as [`Context::registry`]; outside of callbacks a [`Reactor`](crate::Reactor) dereferences to it.
/// Not `Send`: it belongs to the loop's thread, as the handlers do.
pub struct Registry<S> {
    pub(crate) sources: Slots<Slot<S>>,
    pub(crate) ready: ReadyQueue,
    pub(crate) deferred: VecDeque<Deferred<S>>,
    pub(crate) hooks: Hooks<S>,
    pub(crate) timers: Timers<S>,
    /// Whether nothing but sources has been used so far: no timer, no other thread, and no policy of the wait. Said apart,
    /// since every turn asks.
    pub(crate) only_sources: bool,
    /// Where other threads meet this loop, once somebody may.
    pub(crate) hub: Option<Arc<LoopHub>>,
    /// The queues that have something, on their way from the hub to their handlers.
    pub(crate) announced: VecDeque<Key>,
    pub(crate) queue_limits: HashMap<Key, usize>,
    /// The queue of the remotes, and who waits for an answer to what is in it.
    pub(crate) posts: Option<(Key, PostBox<S>, Arc<Calls>)>,
    /// What the posted closures among the deferred callbacks have captured.
    pub(crate) captures: Captures,
    pub(crate) handed_over: HandedOver,
    pub(crate) max_pending_posts: usize,
    pub(crate) locals: Locals,
    pub(crate) poller: Poller,
    /// What the last wait has brought and is not delivered yet.
    pub(crate) events: Events,
    pub(crate) clock: Clock,
    /// What the timeouts of sources wait for.
    pub(crate) asked: Asked,
    pub(crate) supervision: Supervision,
    pub(crate) metrics: Metrics,
    pub(crate) stopping: bool,
    /// What `run` is to return.
    pub(crate) failure: Option<Box<Failure>>,
    /// Why the registration whose handler has just run ends, if it does.
    pub(crate) end_of_running: Option<Closed>,
    /// How many sources have another priority than normal.
    pub(crate) prioritised: usize,
    /// How many sources keep `run` alive.
    pub(crate) foreground: usize,
    pub(crate) names: HashMap<Key, Cow<'static, str>>,
    /// The sources whose handlers were called in vain.
    pub(crate) rests: HashMap<Key, Rest>,
    pub(crate) registrations_max: usize,
}

impl<S> Registry<S> {
    pub(crate) fn new(
        poller: Poller,
        events: Events,
        clock: Clock,
        supervision: Supervision,
        registrations_max: usize,
    ) -> Self {
        Self {
            timers: Timers::new(clock.started()),
            asked: Asked::new(clock.started()),
            sources: Slots::new(),
            ready: ReadyQueue::default(),
            deferred: VecDeque::new(),
            hooks: Hooks::new(),
            only_sources: true,
            hub: None,
            announced: VecDeque::new(),
            queue_limits: HashMap::new(),
            posts: None,
            captures: Captures::default(),
            handed_over: HandedOver::default(),
            max_pending_posts: usize::MAX,
            locals: Locals::default(),
            poller,
            events,
            clock,
            supervision,
            metrics: Metrics::default(),
            stopping: false,
            failure: None,
            end_of_running: None,
            prioritised: 0,
            foreground: 0,
            names: HashMap::new(),
            rests: HashMap::new(),
            registrations_max,
        }
    }

    /// Runs `callback` once, after the sources of this turn, in the order of deferral.
    ///
    /// What a deferred callback defers runs next turn, which does not wait then: deferring for ever starves nobody. The
    /// panic policy holds for it. O(1); one allocation if the closure captures anything, none if not.
    #[track_caller]
    pub fn defer(&mut self, callback: impl FnOnce(&mut Context<'_, S>) + 'static) {
        self.defer_from(Location::caller(), callback);
    }

    /// Defers `callback` as [`defer`](Self::defer) does, and shows `origin` as its place in the source, in logs and lists.
    ///
    /// It is for a library of handlers, which defers now a callback that a line of its user's has asked for earlier.
    #[inline]
    pub fn defer_from(
        &mut self,
        origin: &'static Location<'static>,
        callback: impl FnOnce(&mut Context<'_, S>) + 'static,
    ) {
        self.deferred.push_back(Deferred { task: Box::new(callback), origin: Some(origin), key: Key::NULL });
    }

    /// Makes [`Reactor::run`](crate::Reactor::run) return at the end of this turn; if it is not running, as soon as it
    /// is called.
    ///
    /// The turn is finished first: every event collected in it reaches its handler, and its deferred callbacks run. So
    /// no event is lost, and the reactor can be run again.
    #[track_caller]
    pub fn stop(&mut self) {
        tracing::debug!(origin = %Location::caller(), "the loop is asked to stop");
        self.stopping = true;
    }

    /// Whether [`stop`](Self::stop) has been called and [`Reactor::run`](crate::Reactor::run) has not returned since: for
    /// those who call [`Reactor::turn`](crate::Reactor::turn) themselves, which does not wait then.
    #[inline]
    pub const fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// The time of this turn, read from the monotonic clock when it is first asked for: all callbacks of a turn see the
    /// same, but for hooks before the wait, which see the time before it. Between turns, the time.
    #[inline]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Reads the clock again: for a callback that has taken long and goes on, whose timers are to count from now. The
    /// callbacks after it see the new time.
    pub fn refresh_now(&mut self) -> Instant {
        let before = self.clock.known();
        self.clock.forget();
        let now = self.clock.now();
        let armings = self.timers.armings();
        self.timers.pauses.split(before, now, armings);
        now
    }

    /// Returns the number of this turn; between turns that of the last one. The first is 1.
    #[inline]
    pub const fn turn_number(&self) -> u64 {
        self.metrics.turns
    }

    /// What the loop has done so far.
    pub fn metrics(&self) -> Metrics {
        let signals = self.hub.as_ref().map_or(0, |hub| hub.signals());
        Metrics { clock_reads: self.clock.reads(), signals, ..self.metrics }
    }

    /// Whether anything is left that `run` has to wait for.
    pub(crate) fn has_work(&self) -> bool {
        self.foreground > 0
            || self.timers.keep_alive()
            || !self.announced.is_empty()
            || self.hub.as_ref().is_some_and(|hub| hub.is_expected() || self.has_messages())
            || !self.deferred.is_empty()
            || !self.hooks.is_empty(Place::Idle)
    }

    /// Whether anything can end a wait without a timeout: a source, also one in the background, a timer, or another thread.
    pub(crate) fn can_be_woken(&self) -> bool {
        // The queue of the remotes stays when the last of them has gone.
        let remotes = usize::from(self.posts.as_ref().is_some_and(|posts| self.contains(posts.0)));
        let own = 1 + remotes + usize::from(self.handed_over.is_counted());
        self.sources.len() > remotes
            || !self.timers.is_empty()
            || self.hub.as_ref().is_some_and(|hub| Arc::strong_count(hub) > own || hub.is_posted())
    }

    /// Whether a queue, be it in the background, has something that was sent and not handled yet.
    fn has_messages(&self) -> bool {
        self.ready.iter().any(|key| self.is_ready_queue(key))
    }

    /// Whether anything is to be done that the kernel need not report first.
    #[inline]
    pub(crate) fn has_work_at_hand(&self) -> bool {
        !self.ready.is_empty() || !self.deferred.is_empty() || self.stopping || !self.hooks.is_empty(Place::Idle)
    }

    /// Whether the loop may sleep, as far as other threads are concerned, who from now on end its sleep.
    #[inline]
    pub(crate) fn may_sleep(&self) -> bool {
        self.announced.is_empty() && self.hub.as_ref().is_none_or(|hub| hub.fall_asleep())
    }

    /// The loop is awake: nobody needs to end its sleep.
    #[inline]
    pub(crate) fn wake_up(&self) {
        if let Some(hub) = &self.hub {
            hub.wake_up();
        }
    }

    /// Answers a wake by this turn, which does not sleep, unless hooks have run before its wait: they began before the wake,
    /// or have taken it.
    #[inline]
    pub(crate) fn answer_wake(&self) {
        if let Some(hub) = &self.hub
            && self.hooks.is_empty(Place::BeforeWait)
        {
            hub.take_wake();
        }
    }

    /// Takes a wake that has come before the hooks of this turn begin. Returns whether there was one.
    pub(crate) fn take_wake(&self) -> bool {
        self.hub.as_ref().is_some_and(|hub| hub.take_wake())
    }

    /// After a turn that was cut short: its hooks may not have seen what was changed before a wake.
    pub(crate) fn put_wake_back(&self) {
        if let Some(hub) = &self.hub
            && !(self.hooks.is_empty(Place::BeforeWait) && self.hooks.is_empty(Place::AfterWait))
        {
            hub.put_wake_back();
        }
    }
}

impl<S> fmt::Debug for Registry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.registrations()).finish()
    }
}
