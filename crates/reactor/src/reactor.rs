//! The reactor: a registry that runs.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::error::Error;
use crate::outcome::Exit;
use crate::registry::Registry;
use crate::slots::Key;
use crate::source::readiness::Readiness;
use crate::turn::dispatch::Running;
use crate::turn::hook_list::Place;

/// An event loop for one thread, whose callbacks share a state `S`.
///
/// It dereferences to its [`Registry`], so everything that can be registered from within a callback can be registered
/// before the loop runs, by the same name. `S` is lent to [`run`](Self::run) and may borrow; the handlers may not.
///
/// Dropping it closes every registered source and drops every handler. First it closes the ways in: senders are refused, and
/// calls of other threads are answered with [`CallError::Lost`](crate::CallError::Lost), so a destructor may join a thread that sends or
/// calls.
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
    /// A reactor before its first turn.
    pub(crate) const fn on(registry: Registry<S>) -> Self {
        Self {
            registry,
            running: None,
        }
    }

    /// Turns until a callback calls [`Registry::stop`] or nothing is left to wait for. Returns which of them it was.
    ///
    /// Left to wait for are registrations and timers that are not in the background, deferred callbacks, idle callbacks, what
    /// other threads have sent, and their [`KeepAlive`](crate::KeepAlive)s. It looks before each wait, after the hooks before it: if
    /// those have taken the last of these away, the loop does not sleep, and `run` returns after that turn.
    /// It can be run again. It cannot be run from within a callback, which has no `Reactor` in its hands.
    ///
    /// # Errors
    /// [`Error::Failed`] if what has failed is [essential](Registry::set_essential), or [`Registry::stop_with`] was called:
    /// everything else that goes wrong in a handler ends that handler, not the loop. [`Error::Loop`] if the wait itself fails,
    /// which it does not while the process is sane.
    ///
    /// # Panics
    /// As callbacks do, under [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate).
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
        self.registry.time.pauses.forget_open(); // what was done since the last run is no part of its last turn
        while !self.registry.turn.stopping && self.registry.has_work() {
            self.whole_turn(state, None, Registry::has_work)?;
        }
        self.exit()
    }

    /// Turns as [`run`](Self::run) does, but only until `deadline`: for a program that ends in phases, or has a loop of its own.
    ///
    /// The deadline is looked at before each turn: none begins after it, and one that has begun is finished. Where it has passed already,
    /// nothing runs. One clock reading a turn more than `run`. With a [`ManualClock`](crate::ManualClock) it is a time of that clock: one
    /// that stands is moved by callbacks alone, so the deadline ends no wait.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Panics
    /// As [`run`](Self::run).
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

    /// Says why `run` returns, and forgets it.
    fn exit(&mut self) -> Result<Exit, Error> {
        let origin = self.registry.turn.stopped_at.take();
        let exit = if std::mem::take(&mut self.registry.turn.stopping) {
            Exit::Stopped { origin }
        } else {
            Exit::NothingLeft
        };
        self.registry.take_failure().map_or(Ok(exit), Err)
    }

    /// Calls `callback` at once with a [`Context`], as the loop does with callbacks: to set up what needs one before the loop runs, and to
    /// look into it between two runs.
    ///
    /// No system call, no turn: what it defers or posts runs in the next turn. [`Context::key`] is [`Key::NULL`]. A panic is the
    /// caller's, whatever the policy.
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
        callback(&mut Context::new(
            state,
            &mut self.registry,
            Key::NULL,
            Readiness::EMPTY,
        ))
    }

    /// One pass of the loop: waits for at most `timeout` (`None`: until something happens), then calls what is ready.
    /// Returns the number of callbacks that ran.
    ///
    /// A callback is one call of a closure or a method of yours: of a source's handler, also for a timeout; of a queue's handler,
    /// for each value; of an event's handler; of a timer, a deferred or an idle callback, a posted closure, and
    /// [`Handler::closed`](crate::Handler::closed). One that panics or fails has run. Hooks before and after the wait do not count,
    /// nor do closures of `with_handler`. [`Metrics`](crate::Metrics) count the same: `calls`, `timers`, `deferred` and `idle` add up to all that was
    /// returned.
    ///
    /// It does not wait at all while something is ready, deferred or idle, after a [`wake`](crate::Waker::wake), or after a
    /// [`Registry::stop`]: a loop of your own asks [`Registry::is_stopping`]. Without a timeout it does not wait either where
    /// nothing can end the wait: no source (also in the background), no timer, and no [`Remote`](crate::Remote),
    /// [`Waker`](crate::Waker) or [`KeepAlive`](crate::KeepAlive) of another thread. It may run nothing before the timeout has
    /// passed: when a signal interrupts the wait, an event is not wanted, or the timeout of a source is due and the kernel is to be
    /// asked first. With a [`ManualClock`](crate::ManualClock), see there.
    ///
    /// `timeout` is rounded up to whole milliseconds, but for [`Builder::high_resolution`](crate::Builder::high_resolution); beyond 24.8 days it is 24.8 days.
    ///
    /// # Errors
    /// [`Error::Loop`], as [`run`](Self::run).
    ///
    /// # Panics
    /// As callbacks do, under [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate). Events that were not delivered by
    /// then are delivered by the next turn.
    #[doc(alias(
        "dispatch",
        "loopOnce",
        "poll",
        "EVLOOP_ONCE",
        "UV_RUN_ONCE",
        "UV_RUN_NOWAIT"
    ))]
    pub fn turn(&mut self, state: &mut S, timeout: Option<Duration>) -> Result<usize, Error> {
        self.registry.time.pauses.forget_open(); // what was done between the turns is no part of them
        let timeout = match timeout {
            None if self.registry.hooks.is_empty(Place::BeforeWait)
                && !self.registry.can_be_woken() =>
            {
                Some(Duration::ZERO)
            }
            timeout => timeout,
        };
        // A timeout is waited for also where nothing else can end the wait.
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

    /// Gets ready for a wait that somebody else makes, and gives how long that may last: `None` for as long as it likes.
    ///
    /// For a reactor within another loop: that of a toolkit, or another reactor. There, watch the reactor itself, which is [`AsFd`],
    /// for reading; wait no longer than this says; take a [`turn`](Self::turn) that does not wait; and ask again. A reactor that
    /// has been stopped, or has something at hand, says [`Duration::ZERO`].
    ///
    /// From this call to the next turn the loop counts as asleep: of the threads that send to it meanwhile, the first writes its
    /// eventfd. What its owner adds or arms meanwhile is not in the answer: ask anew. Reads the clock if a timer is armed; no
    /// other system call. The answer is not rounded; [`Builder::spin`](crate::Builder::spin) means nothing to it.
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
    ///     if cx.state.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(Next::Remove) }
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
        if is_busy || !self.registry.may_sleep() {
            return Some(Duration::ZERO);
        }
        self.registry.metrics.sleeps += 1;
        let due = self.registry.timers.next_deadline()?;
        Some(due.saturating_duration_since(self.registry.time.read()))
    }

    /// A turn, also where a panic cuts it short. It waits only if `is_left` says that there is something to wait for: the hooks before
    /// the wait may have taken that away.
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

    /// Lets `time` pass on the [`ManualClock`](crate::ManualClock) of this reactor, from deadline to deadline, and takes
    /// turns that do not wait: every timer that becomes due runs at its own time, in order, and sees that time. Gives the
    /// number of callbacks that ran, as [`turn`](Self::turn) counts them. A timer that runs again after no time never lets any pass. [`Registry::stop`] does not end it.
    ///
    /// # Errors
    /// [`Error::NoManualClock`] if the reactor was built without one; [`Error::Loop`], as [`run`](Self::run).
    ///
    /// # Panics
    /// As callbacks do, under [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate); as
    /// [`ManualClock::advance`](crate::ManualClock::advance), if the sum is too much.
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
            while self.registry.timers.has_due() {
                ran += self.turn(state, Some(Duration::ZERO))?;
            }
            let due = self
                .registry
                .timers
                .next_deadline()
                .filter(|due| *due <= end);
            clock.advance(due.unwrap_or(end).saturating_duration_since(clock.now()));
            ran += self.turn(state, Some(Duration::ZERO))?;
            if due.is_none() {
                return Ok(ran);
            }
        }
    }
}

/// To be watched for reading by another loop: [`Reactor::prepare_to_wait`].
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

/// Makes the reactor whole again when a panic unwinds through a turn; forgotten when none does.
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
