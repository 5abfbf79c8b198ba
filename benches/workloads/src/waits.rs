//! W6, waits: a wait for any of several events, the last of which is set.

use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::{Result, at_least_one, report};

/// For what, and how often.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What is waited for
    #[arg(long, value_enum, default_value_t = By::Event)]
    pub by: By,
    /// Events waited for
    #[arg(long, default_value_t = 8, value_parser = at_least_one::<usize>())]
    pub events: usize,
    /// Waits in all
    #[arg(long, default_value_t = 300_000, value_parser = at_least_one::<u32>())]
    pub waits: u32,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Events of this library, manually reset
    Event,
    /// poll(2) on eventfds, which are not read
    Poll,
}

/// Measures `wait`, which gives the place of the event that is set, and prints the figures.
///
/// # Errors
/// Those of `wait`, and that it gave another place.
pub fn measure(options: &Options, mut wait: impl FnMut() -> Result<Option<usize>>) -> Result {
    let began = Instant::now();
    for _ in 0..options.waits {
        if wait()? != Some(options.events - 1) {
            return Err("not the event that is set".into());
        }
    }
    report(&[(
        "ns_per_op",
        began.elapsed().as_nanos() as f64 / f64::from(options.waits),
    )]);
    Ok(())
}
