//! W7, the costs of the loop itself: callbacks that defer themselves again, and empty turns.

use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::{Result, at_least_one, report};

/// The operation and its number.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Operation to measure
    #[arg(long, value_enum, default_value_t = Op::Deferred)]
    pub op: Op,
    /// Number of operations; if missing, 5 000 000 callbacks or 500 000 turns
    #[arg(long, value_parser = at_least_one::<u64>())]
    pub operations: Option<u64>,
}

/// The operation that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Op {
    /// A callback that defers itself again, 1000 in each turn
    Deferred,
    /// The same with a callback that captures 16 bytes: the number that it adds, and the sum at
    /// which it ends
    Captured,
    /// An empty turn, which does not wait
    Empty,
}

/// The number of callbacks in one turn.
pub const CALLBACKS_A_TURN: u64 = 1000;

impl Options {
    /// Returns the number of operations: the given one, or the default of the operation.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations.unwrap_or(match self.op {
            Op::Deferred | Op::Captured => 5_000_000,
            Op::Empty => 500_000,
        })
    }
}

/// Measures `run`, which runs all operations and returns their number. Prints the figures.
///
/// # Errors
/// The errors of `run`.
pub fn measure(run: impl FnOnce() -> Result<u64>) -> Result {
    let began = Instant::now();
    let operations = run()?;
    report(&[(
        "ns_per_op",
        began.elapsed().as_nanos() as f64 / operations as f64,
    )]);
    Ok(())
}
