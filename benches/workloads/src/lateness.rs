//! W4, lateness: one timer of 100 us to 1 ms after the other, in high resolution.

use std::time::{Duration, Instant};

use clap::Args;

use crate::{SEED, at_least_one, random, report};

/// The number of timers.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Timers in all
    #[arg(long, default_value_t = 2000, value_parser = at_least_one::<usize>())]
    pub timers: usize,
}

/// The lateness of the timers so far.
#[derive(Debug)]
pub struct Lateness {
    late: Vec<u64>,
    due: Instant,
    goal: usize,
    seed: u64,
}

impl Lateness {
    /// Returns the state before the first timer.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let goal = options.timers;
        Self {
            late: Vec::with_capacity(goal),
            due: Instant::now(),
            goal,
            seed: SEED,
        }
    }

    /// Draws the deadline of the next timer, and returns it.
    pub fn arm(&mut self) -> Instant {
        self.due =
            Instant::now() + Duration::from_nanos(100_000 + random(&mut self.seed) % 900_000);
        self.due
    }

    /// Records that the timer has run. Returns the deadline of the next one, or `None` after the
    /// last.
    pub fn ran(&mut self) -> Option<Instant> {
        self.late.push(self.due.elapsed().as_nanos() as u64);
        (self.late.len() < self.goal).then(|| self.arm())
    }

    /// Prints the figures.
    pub fn report(mut self) {
        self.late.sort_unstable();
        let (median, rare) = (self.late[self.goal / 2], self.late[self.goal * 99 / 100]);
        report(&[("ns_per_op", rare as f64), ("ns_median", median as f64)]);
    }
}
