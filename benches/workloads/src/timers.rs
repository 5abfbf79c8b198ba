//! W4, timers. They are armed, and then cancelled, armed again, run, or re-armed like the idle
//! timeouts of busy connections.

use std::iter;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::{Result, SEED, at_least_one, random, report, resident_bytes};

/// The operation and its numbers.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Operation to measure, after arming all timers
    #[arg(long, value_enum)]
    pub op: Op,
    /// Number of timers; if missing, 1 000 000, or 100 000 for put-off
    #[arg(long, value_parser = at_least_one::<usize>())]
    pub timers: Option<usize>,
    /// Number of timers that are cancelled, or of re-armings; if missing, all timers, or 10 000 000
    /// re-armings
    #[arg(long, value_parser = at_least_one::<usize>())]
    pub operations: Option<usize>,
}

/// The operation on timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Op {
    /// Timers within a minute are cancelled in the order in which they were armed
    Cancel,
    /// Timers within a minute are armed in used memory, after as many were cancelled
    Anew,
    /// Timers within 100 ms are run when all of them are due
    Fire,
    /// Timers of 30 s are re-armed in random order, 1000 in each turn
    PutOff,
}

/// The number of timers that are re-armed in one turn.
pub const PUT_OFF_A_TURN: usize = 1000;
/// The delay of a timer that is re-armed.
pub const PUT_OFF_BY: Duration = Duration::from_secs(30);
/// The time after which all timers of [`Op::Fire`] are due.
const UNTIL_DUE: Duration = Duration::from_millis(120);

/// A running measurement: first the arming, then the operation.
#[derive(Debug)]
pub struct Trial {
    /// The operation.
    pub op: Op,
    /// The number of timers.
    pub timers: usize,
    /// The number of operations.
    pub operations: usize,
    lead: Duration,
    seed: u64,
    resident: f64,
    began: Instant,
    figures: [(&'static str, f64); 2],
}

impl Trial {
    /// Begins the measurement. The arming begins when this returns.
    ///
    /// # Errors
    /// The error of [`resident_bytes`].
    pub fn begin(options: &Options) -> Result<Self> {
        let op = options.op;
        let timers = options
            .timers
            .unwrap_or(if op == Op::PutOff { 100_000 } else { 1_000_000 });
        let operations = match op {
            Op::Cancel => options
                .operations
                .map_or(timers, |operations| operations.min(timers)),
            Op::Fire | Op::Anew => timers,
            Op::PutOff => options
                .operations
                .unwrap_or(10_000_000)
                .next_multiple_of(PUT_OFF_A_TURN),
        };
        let resident = resident_bytes("self")?;
        Ok(Self {
            op,
            timers,
            operations,
            lead: Duration::ZERO,
            seed: SEED,
            resident,
            began: Instant::now(),
            figures: [("", 0.0); 2],
        })
    }

    /// Delays all timers of [`Op::Fire`] by `lead`, for loops that run timers while others are
    /// still being armed.
    pub const fn delay_all_by(&mut self, lead: Duration) {
        self.lead = lead;
    }

    /// Returns the delay of the next timer to arm.
    #[inline]
    pub fn delay(&mut self) -> Duration {
        let mut within = |ms| Duration::from_millis(1 + random(&mut self.seed) % ms);
        match self.op {
            Op::Cancel | Op::Anew => within(60_000),
            Op::Fire => self.lead + within(100),
            Op::PutOff => PUT_OFF_BY,
        }
    }

    /// Returns the timers to re-arm in one turn. Their seed is a local variable, as in C, so no
    /// store of the loop could change it.
    pub fn places(&mut self) -> impl Iterator<Item = usize> + use<> {
        // Multiplied by an odd number. Otherwise two turns would have all timers but one in common.
        let mut seed = random(&mut self.seed).wrapping_mul(SEED | 1);
        let timers = self.timers;
        iter::repeat_with(move || random(&mut seed) as usize % timers).take(PUT_OFF_A_TURN)
    }

    /// Ends the arming. The operation begins when this returns.
    ///
    /// # Errors
    /// The error of [`resident_bytes`].
    pub fn armed(&mut self) -> Result {
        let each = 1.0 / self.timers as f64;
        let took = self.began.elapsed();
        let bytes = resident_bytes("self")? - self.resident;
        self.figures = [
            ("ns_arm", took.as_nanos() as f64 * each),
            ("bytes", bytes * each),
        ];
        if self.op == Op::Fire {
            sleep(self.lead.saturating_sub(took) + UNTIL_DUE);
        }
        self.began = Instant::now();
        Ok(())
    }

    /// Ends the cancelling before [`Op::Anew`]. The operation begins when this returns.
    pub fn cancelled(&mut self) {
        self.began = Instant::now();
    }

    /// Ends the operation, and prints the figures.
    pub fn report(&self) {
        let ns_per_op = self.began.elapsed().as_nanos() as f64 / self.operations as f64;
        report(&[("ns_per_op", ns_per_op), self.figures[0], self.figures[1]]);
    }
}
