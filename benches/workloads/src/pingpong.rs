//! W2, ping-pong: two threads, each with its loop and on a core of its own; what the near one
//! sends, the far one sends back.

use std::sync::OnceLock;
use std::time::Instant;

use clap::Args;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{Result, at_least_one, report};

/// How often, and how.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Times there and back
    #[arg(long, default_value_t = 20_000, value_parser = at_least_one::<usize>())]
    pub round_trips: usize,
    /// Look for work for up to so many microseconds before sleeping
    #[arg(long, default_value_t = 0)]
    pub spin: u64,
}

/// Which of the two threads.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// The one that begins, and measures
    Near,
    /// The one that answers
    Far,
}

impl Side {
    /// Keeps this thread on the core of this side, the first or the last of those that it may run
    /// on: what is measured is the way between two.
    ///
    /// # Errors
    /// Those of `sched_getaffinity(2)` and `sched_setaffinity(2)`.
    pub fn pin(self) -> Result {
        // The near side is pinned first, and the far side begins as one of its threads: then only
        // one core is left to be seen.
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
    /// Before the first; from here on, this thread is the near side.
    ///
    /// # Errors
    /// That of [`Side::pin`].
    pub fn new(options: &Options) -> Result<Self> {
        Side::Near.pin()?;
        let goal = options.round_trips;
        Ok(Self {
            sent: Instant::now(),
            took: Vec::with_capacity(goal),
            goal,
        })
    }

    /// To be called before each sending.
    #[inline]
    pub fn serve(&mut self) {
        self.sent = Instant::now();
    }

    /// To be called when the answer is there; gives whether there is another round.
    #[inline]
    pub fn returned(&mut self) -> bool {
        self.took.push(self.sent.elapsed().as_nanos() as u64);
        !self.is_done()
    }

    /// Whether that was the last.
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
