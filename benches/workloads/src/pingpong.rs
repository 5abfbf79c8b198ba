//! W2, ping-pong: two threads, each with its own loop and core. The far thread sends back the
//! messages of the near one.

use std::sync::OnceLock;
use std::time::Instant;

use clap::Args;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{Result, at_least_one, report};

/// The options of both sides.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Number of round trips
    #[arg(long, default_value_t = 20_000, value_parser = at_least_one::<usize>())]
    pub round_trips: usize,
    /// Poll for up to this many microseconds before sleeping
    #[arg(long, default_value_t = 0)]
    pub spin: u64,
}

/// One of the two threads.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// The side that begins, and measures
    Near,
    /// The side that answers
    Far,
}

impl Side {
    /// Pins this thread to the core of this side: the first or the last of the cores that it may
    /// run on. So the path between two cores is measured.
    ///
    /// # Errors
    /// The errors of `sched_getaffinity(2)` and `sched_setaffinity(2)`.
    pub fn pin(self) -> Result {
        // The near side is pinned first, and the far side begins as one of its threads. Without the
        // stored set, the far side would see only one core.
        static ALLOWED: OnceLock<CpuSet> = OnceLock::new();
        let now = sched_getaffinity(None)?;
        let allowed = ALLOWED.get_or_init(|| now);
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let chosen = match self {
            Self::Near => cores.next(),
            Self::Far => cores.next_back(),
        };
        let mut core = CpuSet::new();
        core.set(chosen.ok_or("no core to run on")?);
        Ok(sched_setaffinity(None, &core)?)
    }
}

/// The round trips so far: the state of the near side.
#[derive(Debug)]
pub struct Rally {
    sent: Instant,
    took: Vec<u64>,
    goal: usize,
}

impl Rally {
    /// Returns the state before the first round trip, and pins this thread as the near side.
    ///
    /// # Errors
    /// The error of [`Side::pin`].
    pub fn new(options: &Options) -> Result<Self> {
        Side::Near.pin()?;
        let goal = options.round_trips;
        Ok(Self {
            sent: Instant::now(),
            took: Vec::with_capacity(goal),
            goal,
        })
    }

    /// Records the time of a message. Call it before each send.
    #[inline]
    pub fn serve(&mut self) {
        self.sent = Instant::now();
    }

    /// Records the time of an answer. Returns `true` if another round trip follows.
    #[inline]
    pub fn returned(&mut self) -> bool {
        self.took.push(self.sent.elapsed().as_nanos() as u64);
        !self.is_done()
    }

    /// Returns `true` if that was the last round trip.
    #[inline]
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.took.len() >= self.goal
    }

    /// Prints the figures.
    pub fn report(mut self) {
        self.took.sort_unstable();
        let (median, rare) = (self.took[self.goal / 2], self.took[self.goal * 99 / 100]);
        report(&[("ns_per_op", median as f64), ("ns_99th", rare as f64)]);
    }
}
