//! W7, what the loop itself costs: callbacks that defer themselves again, and turns that find
//! nothing.

use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::{Result, at_least_one, report};

/// Of what, how many.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What is measured
    #[arg(long, value_enum, default_value_t = Op::Deferred)]
    pub op: Op,
    /// How many: if not given, 5 000 000 callbacks or 500 000 turns
    #[arg(long, value_parser = at_least_one::<u64>())]
    pub operations: Option<u64>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Op {
    /// A callback that defers itself again, 1000 a turn
    Deferred,
    /// The same by a callback that captures 16 bytes: what it adds, and up to where
    Captured,
    /// A turn that finds nothing and does not wait
    Empty,
}

/// So many callbacks run in one turn.
pub const CALLBACKS_A_TURN: u64 = 1000;

impl Options {
    /// How many, by what is given and what is measured.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations.unwrap_or(match self.op {
            Op::Deferred | Op::Captured => 5_000_000,
            Op::Empty => 500_000,
        })
    }
}

/// Measures `run`, which does them all and gives how many there were, and prints the figures.
///
/// # Errors
/// Those of `run`.
pub fn measure(run: impl FnOnce() -> Result<u64>) -> Result {
    let began = Instant::now();
    let operations = run()?;
    report(&[(
        "ns_per_op",
        began.elapsed().as_nanos() as f64 / operations as f64,
    )]);
    Ok(())
}
