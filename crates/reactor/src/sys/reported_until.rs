//! ReportedUntil: the time up to which the kernel has reported all that it had to report.
//!
//! A timeout judges a source by its silence, and the clock alone does not show silence: while the
//! process was stopped, or a callback took long, bytes may have waited in the kernel. A source is
//! notified of its timeout only after the kernel has been asked at the deadline or later.
//!
//! Ground rule: a wait counts for the time read before it, not after it, since the process may be
//! stopped in between. Only a wait that has slept until its end counts for that end.
//!
//! A wait that returns as many events as there is room for may leave others in the kernel, and
//! counts for no time. But epoll reports in turn: after as many reports as there are fds, each fd
//! that was ready in the beginning has been reported.

use std::time::Instant;

#[derive(Debug)]
pub(crate) struct ReportedUntil {
    until: Instant,
    /// The number of events from waits that may have left others.
    reports: u64,
}

impl ReportedUntil {
    /// Starts with the time `started`: before it there was nothing to report.
    pub(crate) const fn new(started: Instant) -> Self {
        Self {
            until: started,
            reports: 0,
        }
    }

    /// Returns the time up to which the kernel has reported everything.
    pub(crate) const fn until(&self) -> Instant {
        self.until
    }

    /// Records a wait that has reported everything up to `time`.
    #[inline]
    pub(crate) const fn record_all(&mut self, time: Instant) {
        self.until = time;
    }

    /// Records a wait that may have left events in the kernel.
    pub(crate) const fn record_some(&mut self, reports: usize) {
        self.reports += reports as u64;
    }

    /// Begins a sweep of the watched descriptors, at most `fds`. Returns the sweep, for
    /// [`is_over`](Self::is_over).
    pub(crate) const fn begin_sweep(&self, fds: usize) -> Sweep {
        Sweep {
            ends: self.reports + fds as u64,
        }
    }

    /// Returns `true` if each fd that was ready when the sweep began has been reported, although no
    /// wait has reported everything.
    pub(crate) const fn is_over(&self, sweep: Sweep) -> bool {
        self.reports >= sweep.ends
    }
}

/// A sweep: each fd has been reported once, if it was ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    ends: u64,
}
