//! What is decided before a loop runs: limits and policies, each with its default.

use std::marker::PhantomData;
use std::time::Duration;

use crate::error::Error;
use crate::reactor::Reactor;
use crate::registry::Registry;
use crate::source::ready::Shares;
use crate::sys::Sys;
use crate::sys::clock::{Clock, ManualClock};
use crate::turn::Turn;
use crate::turn::policies::{PanicPolicy, Supervision};
use crate::turn::spin::{Spin, SpinPolicy};
use crate::turn::time::Time;

/// Limits and policies of a [`Reactor`].
///
/// ```
/// # use std::time::Duration;
/// use reactor::{PanicPolicy, Reactor};
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::builder()
///     .max_registrations(10_000)
///     .on_panic(PanicPolicy::RemoveHandler)
///     .slow_after(Duration::from_millis(50))
///     .build()?;
/// reactor.run(&mut "any state")?; // nothing is registered: it returns at once
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Builder<S> {
    max_registrations: usize,
    max_events_per_turn: usize,
    max_calls_per_turn: usize,
    on_panic: PanicPolicy,
    slow_after: Option<Duration>,
    clock: Option<ManualClock>,
    high_resolution: bool,
    spin: Spin,
    max_pending_posts: usize,
    state: PhantomData<fn(S)>,
}

/// The list of events is allocated when the loop is built. The kernel would take 178 956 970, which is 2 GiB.
const EVENTS_MAX: usize = 1 << 16;

impl<S> Builder<S> {
    pub(crate) const fn new() -> Self {
        Self {
            max_registrations: usize::MAX,
            max_events_per_turn: 1024,
            max_calls_per_turn: 1024,
            on_panic: PanicPolicy::Propagate,
            slow_after: None,
            clock: None,
            high_resolution: false,
            spin: Spin::Off,
            max_pending_posts: usize::MAX,
            state: PhantomData,
        }
    }

    /// How many sources may be registered at once; one more is refused with [`Error::Full`]. By default as many as the
    /// process may open.
    #[must_use]
    pub const fn max_registrations(mut self, sources: usize) -> Self {
        self.max_registrations = sources;
        self
    }

    /// Sets how many events one wait may bring: at least 1, at most 65 536. Takes 12 bytes each. Default: 1024.
    ///
    /// What the kernel has beyond that it keeps for the next turn, in fair order.
    #[must_use]
    pub const fn max_events_per_turn(mut self, events: usize) -> Self {
        self.max_events_per_turn = match events {
            0 => 1,
            EVENTS_MAX.. => EVENTS_MAX,
            events => events,
        };
        self
    }

    /// How many sources that were left ready may be called in one turn, 8 at least; by default 1024. The rest keep their
    /// places for the next turn.
    ///
    /// Where priorities are in use this bounds all calls of a turn, and so how many calls of lower priority can come
    /// between a high-priority event and its handler: see [`Priority`](crate::Priority).
    #[doc(alias("event_config_set_max_dispatch_interval"))]
    #[must_use]
    pub const fn max_calls_per_turn(mut self, calls: usize) -> Self {
        self.max_calls_per_turn = if calls < Shares::BUDGET_MIN {
            Shares::BUDGET_MIN
        } else {
            calls
        };
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
    #[doc(alias("slow_callback_duration", "setMaxLatency"))]
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
    /// meanwhile, or for a loop that is rarely idle, which gains nothing. Off with a [`ManualClock`]. The time of a spin is a part of
    /// the wait: a turn with a timeout is not longer for it.
    ///
    /// Looks at what other threads have sent, and now and then at the sources by a wait that does not block. A turn may
    /// make several system calls then, but no callback more. Counted in [`Metrics::spins`](crate::Metrics::spins).
    #[must_use]
    pub const fn spin(mut self, spin: Spin) -> Self {
        self.spin = spin;
        self
    }

    /// Sets how many posted closures may be [pending](crate::Remote::pending) at once: one more is refused by
    /// [`Remote::try_post`](crate::Remote::try_post), which returns it. With 0 all of them are refused there.
    /// [`Remote::post`](crate::Remote::post) is not limited. Default: no limit.
    #[must_use]
    pub const fn max_pending_posts(mut self, closures: usize) -> Self {
        self.max_pending_posts = closures;
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
        let time = Time::new(Clock::new(self.clock));
        let sys = Sys::new(
            time.started(),
            self.max_events_per_turn,
            self.high_resolution,
        )?;
        let spin = SpinPolicy::new(self.spin);
        let needs_full_turn =
            spin.is_some() || self.high_resolution || time.clock.standing().is_some();
        let supervision = Supervision::new(self.on_panic, self.slow_after);
        let turn = Turn::new(supervision, spin, self.max_calls_per_turn, needs_full_turn);
        let mut registry = Registry::new(sys, time, turn, self.max_registrations);
        registry.inbox.max_pending_posts = self.max_pending_posts;
        Ok(Reactor::on(registry))
    }
}

impl<S> Reactor<S> {
    /// A reactor with the defaults of [`Builder`].
    ///
    /// # Errors
    /// [`Error::Loop`] if there is no epoll instance to be had: `EMFILE`, `ENFILE`, `ENOMEM`.
    #[doc(alias("event_base_new", "ev_loop_new", "uv_loop_init"))]
    pub fn new() -> Result<Self, Error> {
        Builder::new().build()
    }

    /// A reactor with limits and policies of your own.
    pub const fn builder() -> Builder<S> {
        Builder::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_high_resolution_gets_it() {
        let asked = Reactor::<()>::builder().high_resolution().build().unwrap();
        assert!(asked.registry.sys.poller.has_alarm() && asked.registry.turn.needs_full_turn);
        let plain = Reactor::<()>::new().unwrap();
        assert!(!plain.registry.sys.poller.has_alarm() && !plain.registry.turn.needs_full_turn);
    }
}
