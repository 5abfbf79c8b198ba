//! Soak: a daemon of every kind of handler, under load and faults, for as many minutes as asked.
//!
//! One process is the daemon. It has listeners, connections, relays, datagrams, a pool, timers,
//! signals, child processes, watched files, queues, events and a console. This process loads the
//! daemon, disturbs it, and compares its books every second. It ends with 0 and a summary, or with
//! 1 and the first deviation.
//!
//! Run: cargo run --release -p soak -- --minutes 2
//!
//! The seed decides what each client and each fault draws. The order in which the threads run is
//! the machine's, so a seed does not repeat a run exactly.

mod check;
mod daemon;
mod draw;
mod load;
mod process;

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Loads a daemon of every kind of handler, and checks it.
#[derive(Parser)]
struct Options {
    /// Duration of the load
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    minutes: f64,
    /// Seed of the clients and faults; without it one is drawn, and printed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Is the daemon under load, for use by the soak itself
    #[command(hide = true)]
    Daemon {
        /// Where it keeps its files
        folder: PathBuf,
        /// Seed of the daemon
        seed: u64,
    },
}

fn main() -> ExitCode {
    let options = Options::parse(); // exits with 2 on bad arguments, and names them
    let (name, outcome) = match options.role {
        Some(Role::Daemon { folder, seed }) => ("daemon", daemon::run(&folder, seed)),
        None => match Duration::try_from_secs_f64(options.minutes * 60.0) {
            Ok(duration) => {
                let seed = options
                    .seed
                    .unwrap_or_else(|| RandomState::new().hash_one(0));
                println!("soak: seed {seed}, {duration:?}");
                let summary = check::run(seed, duration);
                ("soak", summary.map(|summary| println!("soak: {summary}")))
            }
            Err(error) => ("soak", Err(format!("--minutes: {error}"))),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(deviation) => {
            eprintln!("{name}: {deviation}");
            ExitCode::FAILURE
        }
    }
}
