//! Counters of the loop.

/// Counters since the reactor was built, returned by
/// [`Registry::metrics`](crate::Registry::metrics). A *turn* is one iteration of the loop: see
/// [`Reactor::turn`](crate::Reactor::turn). A counter wraps around after centuries.
#[doc(alias("RuntimeMetrics", "uv_metrics_t"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// The number of turns that have begun. A turn makes one system call to wait, and more only if
    /// it [spins](Self::spins).
    pub turns: u64,
    /// The number of turns in which the loop was allowed to sleep.
    pub sleeps: u64,
    /// The number of events that the kernel has reported.
    pub events: u64,
    /// The number of [`events`](Self::events) whose registration had ended before the event was
    /// handled.
    pub stale_events: u64,
    /// The number of [`events`](Self::events) that the interest of the handler did not include when
    /// the event was handled.
    pub unwanted_events: u64,
    /// The number of calls of the handlers of sources, queues and [`Event`](crate::Event)s. Calls
    /// because of a [timeout](crate::Registry::set_timeout) are counted too. For a queue, each
    /// value is one call.
    pub calls: u64,
    /// The number of timer callbacks that have run. The timeouts of sources are not counted here,
    /// but in [`calls`](Self::calls).
    pub timers: u64,
    /// The number of deferred callbacks that have run. These are the callbacks of
    /// [`Registry::defer`](crate::Registry::defer), posted closures, and calls of
    /// [`Handler::closed`](crate::Handler::closed).
    pub deferred: u64,
    /// The number of [idle callbacks](crate::Registry::idle) that have run. The sum of `calls`,
    /// `timers`, `deferred` and `idle` is the sum of all numbers that
    /// [`Reactor::turn`](crate::Reactor::turn) has returned.
    pub idle: u64,
    /// The number of `epoll_ctl` calls for sources. The loop makes one each time that it:
    ///
    /// - registers a source with an fd;
    /// - ends such a registration, unless the source is [always ready](crate::Io::is_always_ready);
    /// - starts to watch a further direction of a source;
    /// - stops watching a direction whose reports caused spurious wakeups;
    /// - asks the kernel again which directions of a source are ready.
    pub kernel_updates: u64,
    /// The number of times that another thread has ended a sleep of the loop. Each time costs that
    /// thread one `write` to an eventfd.
    pub wakeups: u64,
    /// The number of times that the loop has spun before a sleep: see
    /// [`Builder::spin`](crate::Builder::spin).
    pub spins: u64,
    /// The number of [`spins`](Self::spins) that ended without work for the loop.
    pub idle_spins: u64,
    /// The number of times that the loop has read the clock.
    pub clock_reads: u64,
    /// The number of handlers, hooks and timers that were removed because they returned an error.
    pub failures: u64,
    /// The number of panics of callbacks and destructors that the loop has caught.
    pub panics: u64,
    /// The number of callbacks that took the threshold of
    /// [`Builder::slow_after`](crate::Builder::slow_after) or longer while the loop timed
    /// callbacks.
    pub slow_calls: u64,
}
