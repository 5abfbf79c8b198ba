//! The reactor: a registry that runs.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::clock::{Clock, ManualClock};
use crate::dispatch::Running;
use crate::error::Error;
use crate::hooks::Place;
use crate::poller::{Events, Poller};
use crate::ready::Shares;
use crate::registry::Registry;
use crate::spin::{Spin, SpinPolicy};
use crate::supervise::{PanicPolicy, Supervision};

/// An event loop for one thread, whose callbacks share a state `S`.
///
/// It dereferences to its [`Registry`], so everything that can be registered from within a callback can be registered
/// before the loop runs, by the same name. `S` is lent to [`run`](Self::run) and may borrow; the handlers may not.
///
/// Dropping it closes every registered source and drops every handler.
pub struct Reactor<S> {
    pub(crate) registry: Registry<S>,
    running: Running<S>,
    pub(crate) spin: Option<SpinPolicy>,
    calls_per_turn_max: usize,
}

impl<S> Reactor<S> {
    /// A reactor with the defaults of [`Builder`].
    ///
    /// # Errors
    /// [`Error::Loop`] if there is no epoll instance to be had: `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> Result<Self, Error> {
        Builder::new().build()
    }

    /// A reactor with limits and policies of your own.
    pub const fn builder() -> Builder<S> {
        Builder::new()
    }

    /// Turns until a callback calls [`Registry::stop`] or nothing is left to wait for.
    ///
    /// Left to wait for are registrations and timers that are not in the background, deferred callbacks, idle callbacks, what
    /// other threads have sent, and their [`KeepAlive`](crate::KeepAlive)s.
    /// It can be run again. It cannot be run from within a callback, which has no `Reactor` in its hands.
    ///
    /// # Errors
    /// [`Error::Loop`] if the wait itself fails, which it does not while the process is sane. What goes wrong in a
    /// handler ends that handler, not the loop.
    ///
    /// # Panics
    /// As callbacks do, under [`PanicPolicy::Propagate`].
    pub fn run(&mut self, state: &mut S) -> Result<(), Error> {
        while !self.registry.stopping && self.registry.has_work() {
            self.turn(state, None)?;
        }
        self.registry.stopping = false;
        Ok(())
    }

    /// One pass of the loop: waits for at most `timeout` (`None`: until something happens), then calls what is ready.
    /// Gives the number of callbacks that ran, hooks before and after the wait not counted.
    ///
    /// It does not wait at all while something is ready, deferred or idle, or after a [`Registry::stop`]: who calls this
    /// in a loop of their own asks [`Registry::is_stopping`]. It may run
    /// nothing before the timeout has passed: when a signal interrupts the wait, or an event is not wanted.
    /// `timeout` is rounded up to whole milliseconds, but for [`Builder::high_resolution`]; beyond 24.8 days it is 24.8 days.
    ///
    /// # Errors
    /// [`Error::Loop`], as [`run`](Self::run).
    ///
    /// # Panics
    /// As callbacks do, under [`PanicPolicy::Propagate`]. Events that were not delivered by then are delivered by the
    /// next turn.
    pub fn turn(&mut self, state: &mut S, timeout: Option<Duration>) -> Result<usize, Error> {
        let guard = Unwound { reactor: self };
        let ran = guard.reactor.take_turn(state, timeout);
        guard.reactor.registry.clock.end_turn();
        std::mem::forget(guard);
        ran
    }

    /// Lets `time` pass on the [`ManualClock`] of this reactor, from deadline to deadline, and takes turns that do not
    /// wait: every timer that becomes due runs at its own time, in order, and sees that time. Gives the number of
    /// callbacks that ran. A timer that runs again after no time never lets any pass. [`Registry::stop`] does not end it.
    ///
    /// # Errors
    /// [`Error::NoManualClock`] if the reactor was built without one; [`Error::Loop`], as [`run`](Self::run).
    ///
    /// # Panics
    /// As callbacks do, under [`PanicPolicy::Propagate`]; as [`ManualClock::advance`], if the sum is too much.
    pub fn advance(&mut self, state: &mut S, time: Duration) -> Result<usize, Error> {
        let clock = self.registry.clock.manual().cloned().ok_or(Error::NoManualClock)?;
        let end = clock.now() + time;
        let mut ran = 0;
        loop {
            self.registry.heed_manual_wall();
            while self.registry.timers.has_due() {
                ran += self.turn(state, Some(Duration::ZERO))?;
            }
            let due = self.registry.timers.next_deadline().filter(|due| *due <= end);
            clock.advance(due.unwrap_or(end).saturating_duration_since(clock.now()));
            ran += self.turn(state, Some(Duration::ZERO))?;
            if due.is_none() {
                return Ok(ran);
            }
        }
    }

    /// The phases of a turn. Each has a bound, so none keeps the next one waiting for ever.
    fn take_turn(&mut self, state: &mut S, timeout: Option<Duration>) -> Result<usize, Error> {
        self.registry.metrics.turns += 1;
        self.registry.clock.begin_turn();
        self.run_hooks(Place::BeforeWait, state);
        self.wait(timeout)?;
        self.run_hooks(Place::AfterWait, state);
        let began = self.registry.supervision.times_turns().then(|| self.registry.now());

        let mut ran = self.dispatch(state); // at most one call for each source, timeouts apart
        if !self.registry.only_sources {
            ran += self.run_timers(state); // those due now; what they arm runs next turn at the earliest
            ran += self.deliver_messages(state); // each queue up to its limit; the rest next turn
        }
        ran += self.run_deferred(state); // what is there by now; what it defers runs next turn
        if ran == 0 {
            ran = self.run_hooks(Place::Idle, state);
        }

        if let Some(began) = began {
            let took = self.registry.clock.read() - began;
            self.registry.supervision.note_turn(took);
        }
        Ok(ran)
    }

    /// Calls every source that is ready, as far as the budget goes; gives how many were called.
    fn dispatch(&mut self, state: &mut S) -> usize {
        let before = self.registry.metrics.calls;
        if self.registry.has_priorities() {
            self.registry.collect_all();
        }
        // Divided first: what a delivery leaves ready is next turn's.
        let shares = self.registry.ready.shares(self.calls_per_turn_max);
        self.registry.deliver_all(&mut self.running, state);
        if let Some(shares) = shares {
            self.registry.run_ready(shares, &mut self.running, state);
        }
        (self.registry.metrics.calls - before) as usize
    }

    fn run_timers(&mut self, state: &mut S) -> usize {
        let Registry { timers, clock, .. } = &self.registry;
        if timers.is_empty() || timers.are_quiet(clock) {
            0
        } else {
            self.registry.run_timers(&mut self.running, state)
        }
    }

    /// Hands over what other threads have sent; gives how many queues had something.
    fn deliver_messages(&mut self, state: &mut S) -> usize {
        if self.registry.hub.is_none() {
            return 0;
        }
        let before = self.registry.metrics.calls;
        self.registry.deliver_messages(&mut self.running, state);
        (self.registry.metrics.calls - before) as usize
    }

    fn run_deferred(&mut self, state: &mut S) -> usize {
        if self.registry.deferred.is_empty() { 0 } else { self.registry.run_deferred(state) }
    }

    fn run_hooks(&mut self, place: Place, state: &mut S) -> usize {
        if self.registry.hooks.is_empty(place) { 0 } else { self.registry.run_hooks(place, state) }
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
        f.debug_struct("Reactor").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// Makes the reactor whole again when a panic unwinds through a turn; forgotten when none does.
struct Unwound<'a, S> {
    reactor: &'a mut Reactor<S>,
}

impl<S> Drop for Unwound<'_, S> {
    fn drop(&mut self) {
        self.reactor.registry.clock.end_turn();
        self.reactor.registry.remove_unwound(self.reactor.running.take());
    }
}

/// Limits and policies of a [`Reactor`].
///
/// ```
/// # use std::time::Duration;
/// use reactor::{PanicPolicy, Reactor};
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::builder()
///     .registrations_max(10_000)
///     .on_panic(PanicPolicy::RemoveHandler)
///     .slow_after(Duration::from_millis(50))
///     .build()?;
/// reactor.run(&mut "any state")?; // nothing is registered: it returns at once
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Builder<S> {
    registrations_max: usize,
    events_per_turn_max: usize,
    calls_per_turn_max: usize,
    on_panic: PanicPolicy,
    slow_after: Option<Duration>,
    clock: Option<ManualClock>,
    high_resolution: bool,
    spin: Spin,
    state: PhantomData<fn(S)>,
}

impl<S> Builder<S> {
    const fn new() -> Self {
        Self {
            registrations_max: usize::MAX,
            events_per_turn_max: 1024,
            calls_per_turn_max: 1024,
            on_panic: PanicPolicy::Propagate,
            slow_after: None,
            clock: None,
            high_resolution: false,
            spin: Spin::Off,
            state: PhantomData,
        }
    }

    /// How many sources may be registered at once; one more is refused with [`Error::Full`]. By default as many as the
    /// process may open.
    #[must_use]
    pub const fn registrations_max(mut self, sources: usize) -> Self {
        self.registrations_max = sources;
        self
    }

    /// How many events one wait may bring, 1 at least. By default 1024, at 12 bytes each.
    ///
    /// What the kernel has beyond that it keeps for the next turn, in fair order.
    #[must_use]
    pub const fn events_per_turn_max(mut self, events: usize) -> Self {
        self.events_per_turn_max = if events == 0 { 1 } else { events };
        self
    }

    /// How many sources that were left ready may be called in one turn, 8 at least; by default 1024. The rest keep their
    /// places for the next turn.
    ///
    /// Where priorities are in use this bounds all calls of a turn, and so how many calls of lower priority can come
    /// between a high-priority event and its handler: see [`Priority`](crate::Priority).
    #[must_use]
    pub const fn calls_per_turn_max(mut self, calls: usize) -> Self {
        self.calls_per_turn_max = if calls < Shares::BUDGET_MIN { Shares::BUDGET_MIN } else { calls };
        self
    }

    /// What a panic in a callback does; by default it propagates.
    #[must_use]
    pub const fn on_panic(mut self, policy: PanicPolicy) -> Self {
        self.on_panic = policy;
        self
    }

    /// Logs, and counts in [`Metrics::slow_calls`](crate::Metrics::slow_calls), callbacks that take `threshold` or
    /// longer, by the name and line of their registration. Off by default.
    ///
    /// Costs one clock read at the end of each turn, beside the one at its beginning that all callbacks share. Only after a turn that took as long as the threshold, and for 128 turns, each
    /// callback is timed on its own, at two clock reads each: the first slow call makes the loop look closer, the next
    /// is reported.
    #[must_use]
    pub const fn slow_after(mut self, threshold: Duration) -> Self {
        self.slow_after = Some(threshold);
        self
    }

    /// Lets waits end to the nanosecond, where they are rounded up to whole milliseconds otherwise.
    ///
    /// Costs an fd, and a `timerfd_settime` beside the wait in each turn that sleeps until another deadline than the last
    /// one. Each deadline wakes the loop on its own; see [`Registry::set_timer_slack`].
    #[must_use]
    pub const fn high_resolution(mut self) -> Self {
        self.high_resolution = true;
        self
    }

    /// Lets the loop look for work before it sleeps, for a bounded time: by default it sleeps at once.
    ///
    /// To wake a thread on another core takes tens of microseconds. A loop that is still looking when the next message
    /// comes answers in less than one, and costs its sender no system call. What it takes is processor time: use it, with
    /// [`Spin::Adaptive`] and some 50 to 200 us, where answers are waited for, on cores that nobody else needs. Do not use it
    /// where cores are shared with other work or billed, on batteries, on a single core, where nobody can bring work
    /// meanwhile, or for a loop that is rarely idle, which gains nothing. Off with a [`ManualClock`].
    ///
    /// Looks at what other threads have sent, and now and then at the sources by a wait that does not block. A turn may
    /// make several system calls then, but no callback more. Counted in [`Metrics::spins`](crate::Metrics::spins).
    #[must_use]
    pub const fn spin(mut self, spin: Spin) -> Self {
        self.spin = spin;
        self
    }

    /// Lets somebody drive the time of this reactor; by default it is the system's monotonic clock.
    #[must_use]
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Builds the reactor.
    ///
    /// # Errors
    /// As [`Reactor::new`]; in high resolution also if there is no timerfd to be had, or it cannot be watched.
    pub fn build(self) -> Result<Reactor<S>, Error> {
        let mut poller = Poller::new()?;
        if self.high_resolution {
            poller.add_alarm()?;
        }
        let supervision = Supervision::new(self.on_panic, self.slow_after);
        let events = Events::with_capacity(self.events_per_turn_max);
        let mut registry = Registry::new(poller, events, Clock::new(self.clock), supervision, self.registrations_max);
        let spin = SpinPolicy::new(self.spin);
        registry.only_sources = spin.is_none() && !self.high_resolution;
        Ok(Reactor { registry, running: None, spin, calls_per_turn_max: self.calls_per_turn_max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_high_resolution_gets_it() {
        let asked = Reactor::<()>::builder().high_resolution().build().unwrap();
        assert!(asked.registry.poller.has_alarm() && !asked.registry.only_sources);
        let plain = Reactor::<()>::new().unwrap();
        assert!(!plain.registry.poller.has_alarm() && plain.registry.only_sources);
    }
}
