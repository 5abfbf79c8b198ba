//! W4, timers: armed, and cancelled, armed anew, run, or put off, as are the idle timeouts of
//! connections that keep talking.

use std::iter;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::{Result, SEED, at_least_one, random, report, resident_bytes};

/// What is done to how many.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What is measured beside the arming
    #[arg(long, value_enum)]
    pub op: Op,
    /// Timers armed: if not given, 1 000 000, and 100 000 that are put off
    #[arg(long, value_parser = at_least_one::<usize>())]
    pub timers: Option<usize>,
    /// How many are cancelled, or how often one is put off: if not given, all of them, and 10 000
    /// 000
    #[arg(long, value_parser = at_least_one::<usize>())]
    pub operations: Option<usize>,
}

/// What is done to timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Op {
    /// Timers within a minute are cancelled in the order of their arming
    Cancel,
    /// As many timers within a minute are armed when all have been cancelled, in memory that has
    /// been used before
    Anew,
    /// Timers within 100 ms are due at once
    Fire,
    /// Timers of 30 s are put off at random, 1000 a turn
    PutOff,
}

/// So many timers are put off in one turn.
pub const PUT_OFF_A_TURN: usize = 1000;
/// By so much.
pub const PUT_OFF_BY: Duration = Duration::from_secs(30);
/// How long to wait until the timers of [`Op::Fire`] are all due.
const UNTIL_DUE: Duration = Duration::from_millis(120);

/// A measurement under way: arming first, then the operation.
#[derive(Debug)]
pub struct Trial {
    /// What is done.
    pub op: Op,
    /// How many timers there are.
    pub timers: usize,
    /// How many operations there are.
    pub operations: usize,
    lead: Duration,
    seed: u64,
    resident: f64,
    began: Instant,
    figures: [(&'static str, f64); 2],
}

impl Trial {
    /// The arming begins now.
    ///
    /// # Errors
    /// That of [`resident_bytes`].
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

    /// Makes the timers of [`Op::Fire`] due so much later, for loops that run some while they arm
    /// others.
    pub const fn delay_all_by(&mut self, lead: Duration) {
        self.lead = lead;
    }

    /// That of the next timer that is armed.
    #[inline]
    pub fn delay(&mut self) -> Duration {
        let mut within = |ms| Duration::from_millis(1 + random(&mut self.seed) % ms);
        match self.op {
            Op::Cancel | Op::Anew => within(60_000),
            Op::Fire => self.lead + within(100),
            Op::PutOff => PUT_OFF_BY,
        }
    }

    /// Which timers are put off in a turn. Their seed is in no memory that a loop might write to,
    /// as it is not in C.
    pub fn places(&mut self) -> impl Iterator<Item = usize> + use<> {
        // By an odd number: two turns would have all places but one in common otherwise.
        let mut seed = random(&mut self.seed).wrapping_mul(SEED | 1);
        let timers = self.timers;
        iter::repeat_with(move || random(&mut seed) as usize % timers).take(PUT_OFF_A_TURN)
    }

    /// All are armed; the operation begins when this returns.
    ///
    /// # Errors
    /// That of [`resident_bytes`].
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

    /// All are cancelled that are to be armed anew; the operation begins when this returns.
    pub fn cancelled(&mut self) {
        self.began = Instant::now();
    }

    /// All is done: prints the figures.
    pub fn report(&self) {
        let ns_per_op = self.began.elapsed().as_nanos() as f64 / self.operations as f64;
        report(&[("ns_per_op", ns_per_op), self.figures[0], self.figures[1]]);
    }
}
