//! Counters of the loop.

/// Counters since the reactor was built. Each wraps around, after centuries.
#[doc(alias("RuntimeMetrics", "uv_metrics_t"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Turns begun. Each turn waits once, by one system call. Only spins make more.
    pub turns: u64,
    /// Turns that were allowed to sleep.
    pub sleeps: u64,
    /// Events that the kernel has reported.
    pub events: u64,
    /// Events among [`events`](Self::events) whose registration had ended meanwhile.
    pub stale_events: u64,
    /// Events among [`events`](Self::events) that were outside of the handler's interest at that
    /// time.
    pub unwanted_events: u64,
    /// Calls of handlers of sources, queues and events. A call for a timeout counts. A queue counts
    /// one call for each value.
    pub calls: u64,
    /// Callbacks of timers that have run. The timeouts of sources are not counted here, but in
    /// [`calls`](Self::calls).
    pub timers: u64,
    /// Deferred callbacks that have run: those of [`Registry::defer`](crate::Registry::defer),
    /// posted closures, and calls of [`Handler::closed`](crate::Handler::closed).
    pub deferred: u64,
    /// Idle callbacks that have run. The sum of calls, timers, deferred and idle callbacks is the
    /// sum of all numbers that [`Reactor::turn`](crate::Reactor::turn) has returned.
    pub idle: u64,
    /// `epoll_ctl` calls: for each registration and its end, for a direction that is wanted for the
    /// first time, to stop reports that caused spurious wakeups, and to ask the kernel again which
    /// directions are ready.
    pub kernel_updates: u64,
    /// The number of times that another thread has ended a sleep of the loop, by a write to its
    /// eventfd.
    pub wakeups: u64,
    /// The number of times that the loop has spun before a sleep: see
    /// [`Builder::spin`](crate::Builder::spin).
    pub spins: u64,
    /// The number of these [`spins`](Self::spins) that found no work.
    pub idle_spins: u64,
    /// Readings of the clock.
    pub clock_reads: u64,
    /// Handlers, hooks and timers that were removed because they returned an error.
    pub failures: u64,
    /// Panics of callbacks and destructors that the loop caught.
    pub panics: u64,
    /// Callbacks that were found to take the threshold of
    /// [`Builder::slow_after`](crate::Builder::slow_after) or longer.
    pub slow_calls: u64,
}
