//! The workloads behind the figures of the docs, each with its peers: see README.md beside this file.

use std::io;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod chain;
mod compare;
mod instructions;
mod lateness;
mod ping_pong;
mod registration;
mod spike;
mod timers;
mod turn;
mod waits;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    workload: Option<Workload>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Workload {
    /// W3: readable pipes whose handlers write to each other
    Chain(chain::Options),
    /// W7: turns without events, deferred callbacks
    Turn(turn::Options),
    /// W4: timers armed, cancelled, run, put off
    Timers(timers::Options),
    /// W1: what one thread sends, the loop of another runs
    Spike(spike::Options),
    /// W2: to and fro between the loops of two threads
    PingPong(ping_pong::Options),
    /// W6: a wait for any of several events
    Waits(waits::Options),
    /// How late timers run in high resolution
    Lateness,
    /// Time and memory of registrations: few, many, and a churn of them
    Registration(registration::Options),
    /// All of them, ours and the peers in turn (the default)
    Compare(Rounds),
    /// User-space instructions of the chain, by valgrind; fails beyond the limits
    Instructions,
}

#[derive(Args)]
struct Rounds {
    /// How often each program runs
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

/// The loops that are built into this program.
#[derive(Clone, Copy, ValueEnum)]
enum Peer {
    Reactor,
    Mio,
    Tokio,
}

fn main() -> Result {
    raise_open_files_limit()?;
    match Cli::parse().workload.unwrap_or(Workload::Compare(Rounds { rounds: 7 })) {
        Workload::Chain(options) => chain::run(&options),
        Workload::Turn(options) => turn::run(&options),
        Workload::Timers(options) => timers::run(&options),
        Workload::Spike(options) => spike::run(&options),
        Workload::PingPong(options) => ping_pong::run(&options),
        Workload::Waits(options) => waits::run(&options),
        Workload::Lateness => lateness::run(),
        Workload::Registration(options) => registration::run(&options),
        Workload::Compare(Rounds { rounds }) => compare::run(rounds),
        Workload::Instructions => instructions::run(),
    }
}

fn raise_open_files_limit() -> Result {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// What this process has in memory.
fn resident_bytes() -> io::Result<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<i64>().ok());
    Ok(pages.unwrap_or(0) * rustix::param::page_size() as i64)
}

/// xorshift64: every peer draws the same numbers.
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}
