//! The workloads with other loops in Rust, each in the form that its own documentation recommends.

mod calloop;
mod channels;
mod event_manager;
mod mio;
mod polling;
mod smol;
mod std_heap;
mod tokio;
mod tokio_rustls;

use clap::{Parser, ValueEnum};
use workloads::{Result, Workload};

#[derive(Parser)]
struct Cli {
    #[arg(long, value_enum)]
    peer: Peer,
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Peer {
    Calloop,
    Crossbeam,
    EventManager,
    Mio,
    Polling,
    Smol,
    StdHeap,
    StdMpsc,
    Tokio,
    TokioRustls,
}

fn main() -> Result {
    let Cli { peer, workload } = Cli::parse();
    match peer {
        Peer::Calloop => calloop::run(&workload),
        Peer::Crossbeam => channels::run::<channels::Crossbeam>(&workload),
        Peer::EventManager => event_manager::run(&workload),
        Peer::Mio => mio::run(&workload),
        Peer::Polling => polling::run(&workload),
        Peer::Smol => smol::run(&workload),
        Peer::StdHeap => std_heap::run(&workload),
        Peer::StdMpsc => channels::run::<channels::Std>(&workload),
        Peer::Tokio => tokio::run(&workload),
        Peer::TokioRustls => tokio_rustls::run(&workload),
    }
}

/// Returns the error of a peer that does not implement a workload.
fn absent() -> Result {
    Err("this peer does not implement this workload".into())
}
