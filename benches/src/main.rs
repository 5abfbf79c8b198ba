//! Ours and the peers side by side: the workloads of this folder's README, interleaved, on this machine.

mod catalogue;
mod cold_build;
mod counts;
mod load;
mod machine;
mod ours;
mod plot;
mod program;
mod report;
mod rounds;
mod server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use workloads::{Result, Workload};

use crate::machine::Machine;

/// Runs the workloads by this library and by every peer that is installed, in turn, and prints medians and ratios.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    comparison: Comparison,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Args)]
struct Comparison {
    /// Which workloads; all of them if none is named
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(catalogue::workloads()))]
    workloads: Vec<String>,
    /// How often each program runs, after a warm-up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only contestants with these names, beside the first of each table
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Also writes the tables as a page, which shows the pictures if there are some
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also writes every figure of every round
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draws a picture for each workload
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// One of our programs by itself, as the comparison runs it
    Run {
        #[command(subcommand)]
        workload: Workload,
    },
    /// System calls, instructions and allocations of an operation, which are the same on every run
    Counts(counts::Options),
    /// One cold build of the workload `build`
    #[command(hide = true)]
    ColdBuild(cold_build::Options),
    /// The client of echo servers, as the comparison runs it
    #[command(hide = true)]
    Load(load::Options),
}

fn main() -> ExitCode {
    let Cli { comparison, command } = Cli::parse();
    let result = match command {
        Some(Command::Run { workload }) => ours::run(&workload),
        Some(Command::Counts(options)) => counts::run(&options),
        Some(Command::Load(options)) => load::run(&options),
        Some(Command::ColdBuild(options)) => cold_build::run(&options),
        None => compare(&comparison),
    };
    result.map_or_else(
        |error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn compare(options: &Comparison) -> Result {
    let cases = catalogue::cases(&options.workloads, &options.only);
    let machine = Machine::look(&cases)?;
    print!("{machine}");
    let tables = rounds::run(&cases, options.rounds)?;
    for table in &tables {
        print!("{table}");
    }
    if let Some(file) = &options.json {
        write(file, &report::json(&machine, &tables)?)?;
    }
    if let Some(folder) = &options.plot {
        plot::draw(&machine, &tables, folder)?;
    }
    if let Some(file) = &options.markdown {
        // A page names its pictures by their way from its own folder.
        let pictures = options.plot.as_deref();
        let from_page = pictures
            .map(|pictures| file.parent().and_then(|page| pictures.strip_prefix(page).ok()).unwrap_or(pictures));
        write(file, &report::markdown(&machine, &tables, from_page))?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()).into())
}
