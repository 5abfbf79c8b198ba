//! W3, registration: eventfds registered for reading, each with a handler that adds to a number.

use std::os::fd::OwnedFd;
use std::time::Instant;
use std::vec::Drain;

use clap::Args;
use rustix::event::{EventfdFlags, eventfd};

use crate::{Result, at_least_one, raise_open_files_limit, report, resident_bytes};

/// The number of sources.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Sources registered
    #[arg(long, default_value_t = 1000, value_parser = at_least_one::<usize>())]
    pub sources: usize,
}

/// Opens the sources, none of which is ever readable. Measures the time and the memory that `add`
/// takes for all of them, and prints the figures.
///
/// The result of `add` is dropped after the measurement, and so is the vector that the sources were
/// in. Neither end is a cost of a registration. The loop itself is made before, since it costs the
/// same for any number of sources.
///
/// # Errors
/// The errors of `eventfd(2)` and of `add`.
pub fn measure<K>(options: &Options, add: impl FnOnce(Drain<'_, OwnedFd>) -> Result<K>) -> Result {
    raise_open_files_limit()?;
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let mut sources = (0..options.sources)
        .map(|_| eventfd(0, flags))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let (resident, began) = (resident_bytes("self")?, Instant::now());
    let kept = add(sources.drain(..))?;
    let each = 1.0 / options.sources as f64;
    let ns_per_op = began.elapsed().as_nanos() as f64 * each;
    let bytes = (resident_bytes("self")? - resident) * each;
    drop(kept);
    report(&[("ns_per_op", ns_per_op), ("bytes", bytes)]);
    Ok(())
}
