//! The workloads for all programs that run them: their options, their seeds, and the output of
//! their figures.
//!
//! Each program runs one workload with one loop, in a separate process, and prints one line of
//! JSON. The programs in C take the same options.

use std::fmt::Write;

use clap::Subcommand;
use clap::builder::RangedU64ValueParser;

pub mod chain;
pub mod deferred;
pub mod echo;
pub mod lateness;
pub mod pingpong;
pub mod registration;
pub mod spike;
pub mod tasks;
pub mod timers;
pub mod tls;
pub mod waits;
pub mod web;

/// The result of a program.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A workload and its size.
#[derive(Clone, Debug, Subcommand)]
pub enum Workload {
    /// W3: readable pipes whose handlers write to each other
    Chain(chain::Options),
    /// W3: sources registered, in time and memory
    Registration(registration::Options),
    /// W1: tasks from one thread, run by the loop of another
    Spike(spike::Options),
    /// W2: messages to another thread's loop and back
    Pingpong(pingpong::Options),
    /// W4: timers armed, cancelled, run, re-armed
    Timers(timers::Options),
    /// W4: lateness of timers in high resolution
    Lateness(lateness::Options),
    /// W5: a server that sends back the bytes that it receives, until it is killed
    Echo(echo::Options),
    /// The same over TLS
    Tls(tls::Options),
    /// W6: a wait for any of several events
    Waits(waits::Options),
    /// W7: deferred callbacks, and empty turns
    Deferred(deferred::Options),
    /// W8: tasks spawned, woken, asleep, idle
    Tasks(tasks::Options),
    /// A server that says hello by HTTP, until it is killed
    Web(web::Options),
}

/// Prints the figures of a run.
pub fn report(figures: &[(&str, f64)]) {
    println!("{}", line(figures));
}

/// Formats every digit of the figures. A figure of a million operations may be a millionth.
fn line(figures: &[(&str, f64)]) -> String {
    // The string is allocated once with enough room. If it grew with the digits, the counts of a
    // program would depend on its own figures.
    let mut line = String::with_capacity(64 * (figures.len() + 1));
    line.push('{');
    for (place, (name, figure)) in figures.iter().enumerate() {
        let separator = if place == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(line, "{separator}\"{name}\": {figure}");
    }
    line + "}"
}

/// Raises the limit of open files of this process to its maximum.
///
/// # Errors
/// The error of `setrlimit(2)`.
pub fn raise_open_files_limit() -> Result {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?)
}

/// Returns the anonymous memory of a process, `self` or a process id, in bytes. File pages do not
/// count, since code is loaded at its first use. `/proc/PID/statm` is not used because its numbers
/// lag behind: see proc(5).
///
/// # Errors
/// The error of reading `/proc/PID/smaps_rollup`.
pub fn resident_bytes(process: &str) -> Result<f64> {
    let name = format!("/proc/{process}/smaps_rollup");
    let rollup = std::fs::read_to_string(&name).map_err(|error| format!("{name}: {error}"))?;
    let kilobytes = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:")?.split_whitespace().next());
    Ok(kilobytes
        .ok_or_else(|| format!("{name} has no field Anonymous"))?
        .parse::<f64>()?
        * 1024.0)
}

/// The seed of the random numbers in every program.
pub const SEED: u64 = 88_172_645_463_325_252;

/// xorshift64: every program draws the same numbers.
#[inline]
pub const fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Returns the parser of an option that must be at least 1.
fn at_least_one<T: TryFrom<u64> + Clone + Send + Sync>() -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(1..)
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_millionth_is_not_lost_in_the_line_of_figures() {
        assert_eq!(
            line(&[("ns", 17.0), ("writes", 0.000_002)]),
            r#"{"ns": 17, "writes": 0.000002}"#
        );
    }
}
