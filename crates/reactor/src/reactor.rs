//! The reactor: a registry that runs.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::error::Error;
use crate::outcome::Exit;
use crate::registry::Registry;
use crate::request_context::{Carried, SetAside};
use crate::slots::Key;
use crate::source::readiness::Readiness;
use crate::turn::dispatch::Running;
use crate::turn::hook_list::Place;

/// An event loop for one thread, whose callbacks share a state `S`.
///
/// A reactor dereferences to its [`Registry`]. Everything that can be registered from within a
/// callback can therefore be registered before the loop runs, with the same methods.
/// [`run`](Self::run) borrows the state `S`. The state may itself contain borrows, but the handlers
/// may not.
///
/// Dropping a reactor closes every registered source and drops every handler. Before the first of
/// them is dropped, other threads are cut off: sending to the loop returns an error, and a
/// [`Remote::call`](crate::Remote::call) returns [`CallError::Lost`](crate::CallError::Lost). The
/// destructor of a handler may therefore join a thread that sends to the loop or calls it.
///
/// ```
/// use std::time::Duration;
/// use reactor::{Reactor, Then};
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::<String>::new()?;
/// reactor.after(Duration::from_millis(1), |cx| {
///     cx.state.push_str("one millisecond later");
///     Ok(Then::Done)
/// });
/// let mut state = String::new();
/// reactor.run(&mut state)?; // returns when nothing is left to wait for
/// assert_eq!(state, "one millisecond later");
/// # Ok(())
/// # }
/// ```
#[doc(alias(
    "event_base",
    "ev_loop",
    "uv_loop_t",
    "EventBase",
    "EventLoop",
    "Runtime"
))]
pub struct Reactor<S> {
    pub(crate) registry: Registry<S>,
    running: Running<S>,
}

impl<S> Reactor<S> {
    /// Returns a reactor before its first turn.
    pub(crate) const fn on(registry: Registry<S>) -> Self {
        Self {
            registry,
            running: None,
        }
    }

    /// Runs the loop until a callback calls [`Registry::stop`] or nothing is left to wait for.
    /// Returns which of the two happened.
    ///
    /// The loop waits for:
    ///
    /// - registrations and timers that are not in the background,
    /// - deferred and idle callbacks,
    /// - closures and values that other threads have sent,
    /// - [`KeepAlive`](crate::KeepAlive) tokens.
    ///
    /// The loop checks for these before each wait, after the [`before_wait`](Registry::before_wait)
    /// hooks. If none of these is left, the loop does not sleep, and `run` returns after this turn.
    ///
    /// A reactor can be run again. It cannot be run from within a callback, because a callback has
    /// no `Reactor`.
    ///
    /// # Errors
    /// - [`Error::Failed`] if an [essential](Registry::set_essential) callback has failed, or
    ///   [`Registry::stop_with`] was called. Any other error of a handler ends that handler, not
    ///   the loop.
    /// - [`Error::Loop`] if the wait itself fails. This does not happen unless the program closes
    ///   an fd of the loop.
    ///
    /// # Panics
    /// If a callback panics under [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate).
    ///
    /// ```
    /// use reactor::{Exit, Reactor};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// assert_eq!(reactor.run(&mut ())?, Exit::NothingLeft);
    /// reactor.defer(|cx| cx.registry.stop());
    /// assert!(matches!(reactor.run(&mut ())?, Exit::Stopped { .. }));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias(
        "event_base_dispatch",
        "event_base_loop",
        "ev_run",
        "uv_run",
        "loopForever",
        "block_on"
    ))]
    pub fn run(&mut self, state: &mut S) -> Result<Exit, Error> {
        let _outer = SetAside::all();
        // The time since the last run is not part of its last turn.
        self.registry.time.pauses.forget_open();
        while !self.registry.turn.stopping && self.registry.has_work() {
            self.whole_turn(state, None, Registry::has_work)?;
        }
        self.exit()
    }

    /// Runs the loop as [`run`](Self::run) does, but only until `deadline`. Use it in a program
    /// that ends in phases or has a loop of its own.
    ///
    /// The deadline is checked before each [turn](Self::turn). No turn begins after the deadline,
    /// and a turn that has begun is finished. If the deadline has already passed, nothing runs.
    ///
    /// With a [`ManualClock`](crate::ManualClock) the deadline is a time of this clock. If the
    /// clock was made by [`ManualClock::new`](crate::ManualClock::new), it stands still while the
    /// loop waits. The deadline then ends no wait, and only an event does.
    ///
    /// # Cost
    /// One more clock read per turn than `run`.
    ///
    /// # Errors
    /// - [`Error::Failed`] if an [essential](Registry::set_essential) callback has failed, or
    ///   [`Registry::stop_with`] was called.
    /// - [`Error::Loop`] if the wait itself fails.
    ///
    /// # Panics
    /// If a callback panics under [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate).
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{Exit, ManualClock, Missed, Next, Reactor};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<u32>::builder().clock(ManualClock::jumping()).build()?;
    /// reactor.every(Duration::from_secs(1), Missed::Skip, |cx| {
    ///     *cx.state += 1;
    ///     Ok(Next::Keep)
    /// });
    /// let mut ticks = 0;
    /// let deadline = reactor.now() + Duration::from_millis(3500);
    /// assert_eq!(reactor.run_until(deadline, &mut ticks)?, Exit::Deadline);
    /// assert_eq!(ticks, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_until(&mut self, deadline: Instant, state: &mut S) -> Result<Exit, Error> {
        let _outer = SetAside::all();
        self.registry.time.pauses.forget_open(); // as in `run`
        while !self.registry.turn.stopping && self.registry.has_work() {
            let now = self.registry.time.read();
            self.registry.time.pauses.close(now);
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                return Ok(Exit::Deadline);
            }
            let ends_the_wait = !self.registry.time.clock.stands_while_waiting();
            self.whole_turn(state, ends_the_wait.then_some(left), Registry::has_work)?;
        }
        self.exit()
    }

    /// Returns why `run` ends, and clears the reason.
    fn exit(&mut self) -> Result<Exit, Error> {
        let origin = self.registry.turn.stopped_at.take();
        let exit = if std::mem::take(&mut self.registry.turn.stopping) {
            Exit::Stopped { origin }
        } else {
            Exit::NothingLeft
        };
        self.registry.take_failure().map_or(Ok(exit), Err)
    }

    /// Calls `callback` at once with a [`Context`], as the loop calls callbacks. Before the loop
    /// runs, use it for setup that needs a context. Between two runs, use it to inspect the state.
    ///
    /// This makes no system call and takes no turn: a closure that `callback` defers or posts runs
    /// in the next turn. [`Context::key`] is [`Key::NULL`]. A panic of `callback` unwinds into the
    /// caller, whatever the panic policy.
    ///
    /// ```
    /// use reactor::{Context, Reactor};
    ///
    /// fn start(cx: &mut Context<'_, Vec<&str>>) -> std::io::Result<()> {
    ///     cx.state.push("started");
    ///     cx.registry.defer(|cx| cx.state.push("deferred"));
    ///     Ok(())
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::new()?;
    /// let mut log = Vec::new();
    /// reactor.enter(&mut log, start)?; // an error of it ends `main`
    /// reactor.run(&mut log)?;
    /// assert_eq!(log, ["started", "deferred"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn enter<R>(
        &mut self,
        state: &mut S,
        callback: impl FnOnce(&mut Context<'_, S>) -> R,
    ) -> R {
        let Self { registry, .. } = self;
        // A context that the callback sets ends with it.
        Carried::current().scope(|| {
            let result = callback(&mut Context::new(
                state,
                registry,
                Key::NULL,
                Readiness::EMPTY,
            ));
            registry.leave_context();
            result
        })
    }

    /// Takes one turn of the loop: waits for at most `timeout`, then calls the handlers of
    /// everything that is ready. With `None` it waits until something happens. Returns the number
    /// of callbacks that ran.
    ///
    /// These count as callbacks:
    ///
    /// - a call of a source's handler, also for a timeout,
    /// - a call of a queue's handler, once for each value,
    /// - a call of an event's handler,
    /// - a timer, a deferred or an idle callback, and a posted closure,
    /// - a call of [`Handler::closed`](crate::Handler::closed).
    ///
    /// A callback that panics or fails counts too. Hooks [before](Registry::before_wait) and
    /// [after](Registry::after_wait) the wait do not count. Closures of
    /// [`with_handler`](Context::with_handler) do not count either. In [`Metrics`](crate::Metrics),
    /// the sum of `calls`, `timers`, `deferred` and `idle` is the sum of all returned numbers.
    ///
    /// The turn does not wait:
    ///
    /// - while a source is ready, or a deferred or idle callback is pending;
    /// - after a [`wake`](crate::Waker::wake);
    /// - after a [`Registry::stop`]. If you call `turn` in a loop of your own, check
    ///   [`Registry::is_stopping`] after each call;
    /// - if `timeout` is `None` and nothing could ever end the wait. This is so if no source is
    ///   registered, not even in the [background](Registry::set_background), no timer is armed, and
    ///   no [`Remote`](crate::Remote), [`Waker`](crate::Waker) or [`KeepAlive`](crate::KeepAlive)
    ///   exists.
    ///
    /// The turn may return before the timeout without running a callback. This happens when a
    /// signal interrupts the wait, or when an event comes that the interest of its handler does not
    /// include. It also happens when the [timeout of a source](Registry::set_timeout) is due and
    /// its handler cannot be called yet: the loop must first ask the kernel, in a later turn,
    /// whether the source has become ready in the meantime. For the wait with a manual clock see
    /// [`ManualClock`](crate::ManualClock).
    ///
    /// `timeout` is rounded up to whole milliseconds, and a timeout over 24.8 days counts as 24.8
    /// days. With [`Builder::high_resolution`](crate::Builder::high_resolution), `timeout` is
    /// neither rounded nor limited.
    ///
    /// # Errors
    /// [`Error::Loop`] if the wait itself fails. This does not happen unless the program closes an
    /// fd of the loop.
    ///
    /// # Panics
    /// If a callback panics under [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate). Events
    /// that were not delivered before the panic are delivered by the next turn.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::Reactor;
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<u32>::new()?;
    /// reactor.defer(|cx| *cx.state += 1);
    /// let mut state = 0;
    /// assert_eq!(reactor.turn(&mut state, Some(Duration::ZERO))?, 1); // one callback ran
    /// assert_eq!(reactor.turn(&mut state, Some(Duration::ZERO))?, 0);
    /// assert_eq!(state, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias(
        "dispatch",
        "loopOnce",
        "poll",
        "EVLOOP_ONCE",
        "UV_RUN_ONCE",
        "UV_RUN_NOWAIT"
    ))]
    pub fn turn(&mut self, state: &mut S, timeout: Option<Duration>) -> Result<usize, Error> {
        let _outer = SetAside::all();
        // The time between turns is not part of them.
        self.registry.time.pauses.forget_open();
        let timeout = match timeout {
            None if self.registry.hooks.is_empty(Place::BeforeWait)
                && !self.registry.can_be_woken() =>
            {
                Some(Duration::ZERO)
            }
            timeout => timeout,
        };
        // A turn with a timeout waits even if nothing else can end the wait.
        self.whole_turn(
            state,
            timeout,
            if timeout.is_none() {
                Registry::can_be_woken
            } else {
                |_| true
            },
        )
    }

    /// Prepares for a wait that another loop makes, and returns how long this wait may last. `None`
    /// means that there is no limit.
    ///
    /// Use it for a reactor inside another loop: the loop of a toolkit, or another reactor. In the
    /// outer loop:
    ///
    /// 1. Watch the reactor itself, which is [`AsFd`], for reading.
    /// 2. Wait no longer than the returned time.
    /// 3. Take a [`turn`](Self::turn) that does not wait.
    /// 4. Call this method again.
    ///
    /// Returns [`Duration::ZERO`] if the reactor has been stopped or has a callback to run.
    ///
    /// From this call to the next turn the reactor counts as asleep: the first thread that sends to
    /// it makes one `write`, which makes the reactor readable. If you add a source or arm a timer
    /// before the next turn, call this method again, because the returned time does not take the
    /// new source or timer into account. The returned time is not rounded, and
    /// [`Builder::spin`](crate::Builder::spin) does not apply.
    ///
    /// # Cost
    /// One clock read if a timer is armed. No other system call.
    ///
    /// ```
    /// # use std::{io, time::Duration};
    /// use reactor::{Interest, Next, Reactor, Then};
    ///
    /// # fn main() -> io::Result<()> {
    /// let mut inner = Reactor::<Vec<&str>>::new()?;
    /// inner.after(Duration::from_millis(1), |cx| {
    ///     cx.state.push("inside");
    ///     Ok(Then::Done)
    /// });
    /// let mut outer = Reactor::<Vec<&str>>::new()?;
    /// let wait = inner.prepare_to_wait();
    /// let key = outer.add(inner, Interest::READABLE, |inner, cx| {
    ///     inner.get_mut().turn(cx.state, Some(Duration::ZERO))?;
    ///     cx.registry.set_timeout(cx.key(), inner.get_mut().prepare_to_wait())?;
    ///     if cx.state.is_empty() {
    ///         return Err(io::ErrorKind::WouldBlock.into());
    ///     }
    ///     Ok(Next::Remove)
    /// })?;
    /// outer.set_timeout(key, wait)?;
    /// let mut log = Vec::new();
    /// outer.run(&mut log)?;
    /// assert_eq!(log, ["inside"]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("uv_backend_fd", "uv_backend_timeout", "ev_embed"))]
    pub fn prepare_to_wait(&mut self) -> Option<Duration> {
        self.registry.rearm_if_wall_was_set();
        let is_busy = !self.registry.sys.events.is_empty()
            || self.registry.has_work_at_hand()
            || self.registry.timers.has_due();
        // From `may_sleep` on, other threads write the eventfd.
        if is_busy || !self.registry.may_sleep() {
            return Some(Duration::ZERO);
        }
        self.registry.metrics.sleeps += 1;
        let due = self.registry.timers.next_deadline()?;
        Some(due.saturating_duration_since(self.registry.time.read()))
    }

    /// Takes a turn, and repairs the reactor if a panic cuts the turn short. The turn waits only if
    /// `is_left` returns `true`: the hooks before the wait may have removed everything that the
    /// wait is for.
    #[inline]
    fn whole_turn(
        &mut self,
        state: &mut S,
        timeout: Option<Duration>,
        is_left: fn(&Registry<S>) -> bool,
    ) -> Result<usize, Error> {
        let guard = Unwound { reactor: self };
        let ran =
            guard
                .reactor
                .registry
                .take_turn(&mut guard.reactor.running, state, timeout, is_left);
        guard.reactor.registry.time.end_turn();
        std::mem::forget(guard);
        ran
    }

    /// Moves the [`ManualClock`](crate::ManualClock) of this reactor forward by `time`, from
    /// deadline to deadline, and takes turns that do not wait. The timers that become due run in
    /// the order of their deadlines, and each of them sees its own deadline as the time. Returns
    /// the number of callbacks that ran, as [`turn`](Self::turn) counts them.
    ///
    /// If a timer keeps re-arming itself with a zero delay, `advance` never returns.
    /// [`Registry::stop`] does not interrupt it.
    ///
    /// # Errors
    /// - [`Error::NoManualClock`] if the reactor was built without a manual clock.
    /// - [`Error::Loop`] if a wait itself fails, as in [`run`](Self::run).
    ///
    /// # Panics
    /// If a callback panics under [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate), or if
    /// the time of the clock would overflow, as in
    /// [`ManualClock::advance`](crate::ManualClock::advance).
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{ManualClock, Reactor, Then};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<u32>::builder().clock(ManualClock::new()).build()?;
    /// reactor.after(Duration::from_secs(3600), |cx| {
    ///     *cx.state += 1;
    ///     Ok(Then::Done)
    /// });
    /// let mut expired = 0;
    /// assert_eq!(reactor.advance(&mut expired, Duration::from_secs(3599))?, 0);
    /// assert_eq!(reactor.advance(&mut expired, Duration::from_secs(1))?, 1);
    /// assert_eq!(expired, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn advance(&mut self, state: &mut S, time: Duration) -> Result<usize, Error> {
        let clock = self
            .registry
            .time
            .clock
            .driven()
            .cloned()
            .ok_or(Error::NoManualClock)?;
        let end = clock.now() + time;
        let mut ran = 0;
        loop {
            self.registry.rearm_if_wall_was_set();
            // Timers that are already due run before the time moves on.
            while self.registry.timers.has_due() {
                ran += self.turn(state, Some(Duration::ZERO))?;
            }
            let due = self
                .registry
                .timers
                .next_deadline()
                .filter(|due| *due <= end);
            // Only up to the next deadline, so that each timer sees its own time.
            clock.advance(due.unwrap_or(end).saturating_duration_since(clock.now()));
            ran += self.turn(state, Some(Duration::ZERO))?;
            if due.is_none() {
                return Ok(ran);
            }
        }
    }
}

/// The epoll fd, which another loop watches for reading: see [`Reactor::prepare_to_wait`].
impl<S> AsFd for Reactor<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registry.sys.poller.as_fd()
    }
}

impl<S> Deref for Reactor<S> {
    type Target = Registry<S>;

    fn deref(&self) -> &Registry<S> {
        &self.registry
    }
}

impl<S> DerefMut for Reactor<S> {
    fn deref_mut(&mut self) -> &mut Registry<S> {
        &mut self.registry
    }
}

impl<S> fmt::Debug for Reactor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl<S> Drop for Reactor<S> {
    fn drop(&mut self) {
        self.registry.end();
    }
}

/// Repairs the reactor when a panic unwinds through a turn. It is forgotten when the turn returns.
struct Unwound<'a, S> {
    reactor: &'a mut Reactor<S>,
}

impl<S> Drop for Unwound<'_, S> {
    fn drop(&mut self) {
        self.reactor.registry.time.end_turn();
        self.reactor.registry.put_wake_back();
        self.reactor
            .registry
            .remove_unwound(self.reactor.running.take());
    }
}
