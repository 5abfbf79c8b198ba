//! Settings made before a loop runs: limits and policies, each with its default.

use std::fmt;
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

/// Limits and policies of a [`Reactor`]. A *turn* is one iteration of its loop: see
/// [`Reactor::turn`].
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

impl<S> fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("max_registrations", &self.max_registrations)
            .field("max_events_per_turn", &self.max_events_per_turn)
            .field("max_calls_per_turn", &self.max_calls_per_turn)
            .field("on_panic", &self.on_panic)
            .field("slow_after", &self.slow_after)
            .field("clock", &self.clock)
            .field("high_resolution", &self.high_resolution)
            .field("spin", &self.spin)
            .field("max_pending_posts", &self.max_pending_posts)
            .finish_non_exhaustive()
    }
}

/// The list of events is allocated when the loop is built. The kernel would accept 178 956 970
/// events, which is 2 GiB.
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

    /// Sets the maximum number of sources registered at once. At the limit, registering another
    /// source fails with [`Error::Full`]. Default: no limit.
    #[must_use]
    pub const fn max_registrations(mut self, sources: usize) -> Self {
        self.max_registrations = sources;
        self
    }

    /// Sets the maximum number of events that one `epoll_wait` returns: at least 1, at most 65 536.
    ///
    /// The kernel keeps further events for the next turn. It reports all ready sources in rotation,
    /// so no source is passed over forever. Default: 1024.
    ///
    /// # Cost
    /// 12 bytes for each event.
    #[must_use]
    pub const fn max_events_per_turn(mut self, events: usize) -> Self {
        self.max_events_per_turn = match events {
            0 => 1,
            EVENTS_MAX.. => EVENTS_MAX,
            events => events,
        };
        self
    }

    /// Sets the maximum number of handlers that a turn calls although the kernel has reported no
    /// new event for them. Such a handler is called again because it has, for example, not read
    /// everything yet. Sources beyond the limit keep their places in the queue, and are called in
    /// the next turn. Values below 8 are raised to 8.
    ///
    /// If priorities are in use, the limit also covers handlers with new events. It then bounds how
    /// many handlers of lower priority can be called before the handler of a high-priority event:
    /// see [`Priority`](crate::Priority). Default: 1024.
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

    /// Sets how the loop treats a panic in a callback. Default: [`PanicPolicy::Propagate`].
    ///
    /// ```
    /// use reactor::{PanicPolicy, Reactor};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<()>::builder().on_panic(PanicPolicy::RemoveHandler).build()?;
    /// reactor.defer(|_cx| panic!("a bug"));
    /// reactor.run(&mut ())?; // the panic is logged and counted, and the loop goes on
    /// assert_eq!(reactor.metrics().panics, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn on_panic(mut self, policy: PanicPolicy) -> Self {
        self.on_panic = policy;
        self
    }

    /// Logs callbacks that take `threshold` or longer, with the name and line of their
    /// registration, and counts them in [`Metrics::slow_calls`](crate::Metrics::slow_calls).
    /// Default: off.
    ///
    /// The loop does not always time callbacks. After a turn that took `threshold` or longer, it
    /// times each callback for 128 turns, and reports slow callbacks in these turns. The first slow
    /// callback is therefore not reported: it only starts the measurement.
    ///
    /// # Cost
    /// One clock read at the end of each turn. A second clock read at the start of each turn. It
    /// costs nothing extra if a callback of the turn asks for the [time](Registry::now), because
    /// the callback gets the time that was read. While callbacks are timed, two clock reads for
    /// each callback.
    #[doc(alias("slow_callback_duration", "setMaxLatency"))]
    #[must_use]
    pub const fn slow_after(mut self, threshold: Duration) -> Self {
        self.slow_after = Some(threshold);
        self
    }

    /// Sets the resolution of waits to nanoseconds. Without this setting, waits are rounded up to
    /// whole milliseconds.
    ///
    /// With a resolution of nanoseconds, the loop wakes once for each deadline, even if several
    /// deadlines are close together. To let timers share a wakeup, see
    /// [`Registry::set_timer_slack`]. Default: off.
    ///
    /// # Cost
    /// One fd. One `timerfd_settime` before each sleep that has a deadline, unless the last such
    /// sleep had the same deadline.
    #[must_use]
    pub const fn high_resolution(mut self) -> Self {
        self.high_resolution = true;
        self
    }

    /// Sets how long the loop spins before it sleeps. To *spin* is to look for work without
    /// sleeping.
    ///
    /// Waking a thread on another core takes tens of microseconds. A loop that is still spinning
    /// when the next message arrives answers in less than one microsecond, and the sender of the
    /// message makes no system call. The price is processor time. Use [`Spin::Adaptive`] with some
    /// 50 to 200 us where latency matters, on cores that no other work needs.
    ///
    /// Do not enable spinning:
    ///
    /// - on cores that are shared with other work, or billed by use;
    /// - on battery power;
    /// - on a single core, where no other thread can produce work while the loop spins;
    /// - for a loop that is rarely idle, which gains nothing.
    ///
    /// While the loop spins, it checks for messages of other threads. Now and then it also checks
    /// for ready sources, by an `epoll_wait` that does not block. A turn that spins may therefore
    /// make several system calls. Spinning runs no additional callbacks. The timeout of a turn
    /// limits the sum of spin and sleep. Spins are counted in
    /// [`Metrics::spins`](crate::Metrics::spins). With a [`ManualClock`] the loop never spins.
    /// Default: [`Spin::Off`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{Reactor, Spin};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<()>::builder()
    ///     .spin(Spin::Adaptive(Duration::from_micros(100)))
    ///     .build()?;
    /// reactor.run(&mut ())?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn spin(mut self, spin: Spin) -> Self {
        self.spin = spin;
        self
    }

    /// Sets how many posted closures may be [pending](crate::Remote::pending) at once. At the
    /// limit, [`Remote::try_post`](crate::Remote::try_post) refuses a closure and returns it. With
    /// a limit of 0 it refuses every closure. [`Remote::post`](crate::Remote::post) is not limited.
    /// Default: no limit.
    #[must_use]
    pub const fn max_pending_posts(mut self, closures: usize) -> Self {
        self.max_pending_posts = closures;
        self
    }

    /// Uses `clock` instead of the monotonic clock and the wall clock of the system. Use this
    /// setting in tests. [`ManualClock`] has an example. Default: the clocks of the system.
    #[must_use]
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Builds the reactor.
    ///
    /// # Errors
    /// - [`Error::Loop`] if no epoll instance can be created, or no timerfd for
    ///   [`high_resolution`](Self::high_resolution): `EMFILE`, `ENFILE`, `ENOMEM`.
    /// - [`Error::Os`] if epoll refuses the timerfd.
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
    /// Builds a reactor with the defaults of [`Builder`].
    ///
    /// # Errors
    /// [`Error::Loop`] if no epoll instance can be created: `EMFILE`, `ENFILE`, `ENOMEM`.
    #[doc(alias("event_base_new", "ev_loop_new", "uv_loop_init"))]
    pub fn new() -> Result<Self, Error> {
        Builder::new().build()
    }

    /// Returns a [`Builder`] that sets limits and policies.
    pub const fn builder() -> Builder<S> {
        Builder::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_calls_below_the_minimum_is_raised_to_it() {
        const MIN: usize = Shares::BUDGET_MIN;
        for (set, limit) in [(0, MIN), (MIN - 1, MIN), (MIN, MIN), (MIN + 1, MIN + 1)] {
            let builder = Builder::<()>::new().max_calls_per_turn(set);
            assert_eq!(builder.max_calls_per_turn, limit);
        }
    }

    #[test]
    fn high_resolution_is_off_unless_it_is_requested() {
        let asked = Reactor::<()>::builder().high_resolution().build().unwrap();
        assert!(asked.registry.sys.poller.has_alarm() && asked.registry.turn.needs_full_turn);
        let plain = Reactor::<()>::new().unwrap();
        assert!(!plain.registry.sys.poller.has_alarm() && !plain.registry.turn.needs_full_turn);
    }
}
