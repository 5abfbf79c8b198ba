//! ReportedUntil: the time up to which the kernel has reported all that it had to report.
//!
//! A timeout judges a source by its silence, and the clock alone knows no silence: while the process was stopped, or a
//! callback took long, the bytes lay in the kernel. A source is told of its timeout only when the kernel has been asked at
//! the deadline or later.
//!
//! Ground rule: a wait counts for the time read before it, not after it, since the process may be stopped in between. Only
//! a wait that has slept until its end counts for that end.
//!
//! A wait that brings as many events as there is room for may leave others in the kernel, and counts for no time. But
//! epoll reports in turn: after as many reports as there are fds, each fd that was ready in the beginning has been
//! reported.

use std::time::Instant;

#[derive(Debug)]
pub(crate) struct ReportedUntil {
    until: Instant,
    /// How many events came by waits that may have left others.
    reports: u64,
}

impl ReportedUntil {
    /// Nothing was there to report before the clock `started`.
    pub(crate) const fn new(started: Instant) -> Self {
        Self {
            until: started,
            reports: 0,
        }
    }

    /// The time up to which the kernel has reported everything.
    pub(crate) const fn until(&self) -> Instant {
        self.until
    }

    /// Records a wait that has brought all that there was at `time`.
    #[inline]
    pub(crate) const fn record_all(&mut self, time: Instant) {
        self.until = time;
    }

    /// Records a wait that may have left something.
    pub(crate) const fn record_some(&mut self, reports: usize) {
        self.reports += reports as u64;
    }

    /// Begins a sweep of what the kernel watches, `fds` at most. Returns what tells [`is_over`](Self::is_over) of it.
    pub(crate) const fn begin_sweep(&self, fds: usize) -> Sweep {
        Sweep {
            ends: self.reports + fds as u64,
        }
    }

    /// Returns whether each fd that was ready when the sweep began has been reported, though no wait has brought all.
    pub(crate) const fn is_over(&self, sweep: Sweep) -> bool {
        self.reports >= sweep.ends
    }
}

/// One turn of each fd at being reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    ends: u64,
}
