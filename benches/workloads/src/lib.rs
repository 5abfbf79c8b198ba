//! What the workloads are, whoever runs them: their options, their seeds, and how their figures are
//! told.
//!
//! Each program runs one workload by one loop, in a process of its own, and prints one line of
//! JSON. Those in C take the same options.

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
pub mod timers;
pub mod waits;

/// What a program gives back.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A workload and its size.
#[derive(Clone, Debug, Subcommand)]
pub enum Workload {
    /// W3: readable pipes whose handlers write to each other
    Chain(chain::Options),
    /// W3: sources registered, in time and memory
    Registration(registration::Options),
    /// W1: what one thread sends, the loop of another runs
    Spike(spike::Options),
    /// W2: to and fro between the loops of two threads
    Pingpong(pingpong::Options),
    /// W4: timers armed, cancelled, run, put off
    Timers(timers::Options),
    /// W4: how late timers run in high resolution
    Lateness(lateness::Options),
    /// W5: a server that sends back what it receives, until it is killed
    Echo(echo::Options),
    /// W6: a wait for any of several events
    Waits(waits::Options),
    /// W7: deferred callbacks, and turns that find nothing
    Deferred(deferred::Options),
}

/// Prints the figures of a run.
pub fn report(figures: &[(&str, f64)]) {
    println!("{}", line(figures));
}

/// Every digit of a figure, for one that stands for a million operations may be a millionth.
fn line(figures: &[(&str, f64)]) -> String {
    // In one piece that has room: one that grew with the digits would have a program's counts
    // depend on what it measures.
    let mut line = String::with_capacity(64 * (figures.len() + 1));
    line.push('{');
    for (place, (name, figure)) in figures.iter().enumerate() {
        let separator = if place == 0 { "" } else { ", " };
        // To write to a string cannot fail.
        let _ = write!(line, "{separator}\"{name}\": {figure}");
    }
    line + "}"
}

/// Lets this process have as many files open as the system allows.
///
/// # Errors
/// That of `setrlimit(2)`.
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

/// What a process, `self` or a number, has in memory of its own: not what it has of files, of which
/// code comes in at its first use. Nor by `/proc/PID/statm`, whose numbers lag behind: proc(5).
///
/// # Errors
/// That of reading `/proc/PID/smaps_rollup`.
pub fn resident_bytes(process: &str) -> Result<f64> {
    let name = format!("/proc/{process}/smaps_rollup");
    let rollup = std::fs::read_to_string(&name).map_err(|error| format!("{name}: {error}"))?;
    let kilobytes = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:")?.split_whitespace().next());
    Ok(kilobytes
        .ok_or_else(|| format!("{name} does not say what is anonymous"))?
        .parse::<f64>()?
        * 1024.0)
}

/// Where every program's random numbers begin.
pub const SEED: u64 = 88_172_645_463_325_252;

/// xorshift64: every program draws the same numbers.
#[inline]
pub const fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// The parser of an option that counts what there has to be at least one of.
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
