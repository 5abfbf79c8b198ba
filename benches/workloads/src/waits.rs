//! W6, waits: a wait for any of several events, the last of which is set.

use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::{Result, at_least_one, report};

/// The source and the number of the waits.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Kind of the events
    #[arg(long, value_enum, default_value_t = By::Event)]
    pub by: By,
    /// Number of events
    #[arg(long, default_value_t = 8, value_parser = at_least_one::<usize>())]
    pub events: usize,
    /// Number of waits
    #[arg(long, default_value_t = 300_000, value_parser = at_least_one::<u32>())]
    pub waits: u32,
}

/// The kind of the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Manual-reset events of this library
    Event,
    /// eventfds that are not read, by poll(2)
    Poll,
}

/// Measures `wait`, which returns the place of the event that is set. Prints the figures.
///
/// # Errors
/// The errors of `wait`, and an error if it returned another place.
pub fn measure(options: &Options, mut wait: impl FnMut() -> Result<Option<usize>>) -> Result {
    let began = Instant::now();
    for _ in 0..options.waits {
        if wait()? != Some(options.events - 1) {
            return Err("the wait returned another event than the one that is set".into());
        }
    }
    report(&[(
        "ns_per_op",
        began.elapsed().as_nanos() as f64 / f64::from(options.waits),
    )]);
    Ok(())
}
