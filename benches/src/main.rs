//! Compares this library with its peers: runs the workloads of this folder's README in turn, on
//! this machine.

mod absence;
mod awake;
mod catalogue;
mod certificate;
mod choice;
mod cold_build;
mod contestant;
mod counts;
mod figures;
mod load;
mod machine;
mod measure;
mod ours;
mod pinning;
mod plot;
mod process;
mod progress;
mod report;
mod rounds;
mod server;
mod slices;
mod smoke;
mod spread;
mod table;
mod text;
mod web;
mod workshop;

use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use workloads::{Result, Workload};

use crate::certificate::Certificate;
use crate::choice::Choice;
use crate::machine::Machine;

/// Runs the workloads with this library and with every installed peer, in turn, and prints medians
/// and ratios.
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
    /// Runs of each program, after a warm-up; a server is loaded for several slices in each round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(flatten)]
    choice: Choice,
    /// Also write the tables as a page, which shows the plots of --plot
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also write every figure of every round
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw a plot for each workload
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// PEM file with the certificate and the key of all TLS servers; a new one of ECDSA with P-256
    /// if none is named
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Run one of our programs alone, as the comparison runs it
    Run {
        #[command(subcommand)]
        workload: Workload,
    },
    /// Count system calls, instructions and allocations of an operation: the same on every run
    Counts(counts::Options),
    /// Run every program once, with little work; fails if an installed program does not work
    Smoke(Choice),
    /// Compare servers of hyper on our loop and on tokio's, loaded by wrk and h2load
    Web(web::Options),
    /// Run one cold build of the workload `build`
    #[command(hide = true)]
    ColdBuild(cold_build::Options),
    /// Run the client of echo servers, as the comparison runs it
    #[command(hide = true)]
    Load(load::Options),
}

fn main() -> ExitCode {
    let Cli {
        comparison,
        command,
    } = Cli::parse();
    let result = match command {
        Some(Command::Run { workload }) => ours::run(&workload),
        Some(Command::Counts(options)) => counts::run(&options),
        Some(Command::Smoke(choice)) => smoke::run(&choice),
        Some(Command::Web(options)) => web::run(&options),
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
    let cases = options.choice.cases();
    prepare(options)?;
    let certificate = match &options.certificate {
        Some(file) => Certificate::of(file),
        None => Certificate::new()?,
    };
    let machine = Machine::look(&cases)?;
    print!("{machine}");
    let tables = rounds::run(&cases, options.rounds, certificate)?;
    for table in &tables {
        print!("{}", report::Text(table));
    }
    if let Some(file) = &options.json {
        write(file, &report::json(&machine, &tables)?)?;
    }
    if let Some(folder) = &options.plot {
        plot::draw(&machine, &tables, folder)?;
    }
    if let Some(file) = &options.markdown {
        let pictures = options
            .plot
            .as_deref()
            .map(|folder| way_from(file, folder))
            .transpose()?;
        write(
            file,
            &report::markdown(&machine, &tables, pictures.as_deref()),
        )?;
    }
    absence::nobody_failed(
        tables
            .iter()
            .map(|table| (table.case.title, &*table.missing)),
    )
}

/// Checks that all files can be written. A measurement may take an hour, so this error comes first.
fn prepare(options: &Comparison) -> Result {
    for file in [&options.json, &options.markdown].into_iter().flatten() {
        let opened = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(file);
        opened.map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if let Some(folder) = &options.plot {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    Ok(())
}

/// Returns the path from the folder of a page to another folder. Both must exist. The page names
/// the plots by this path.
fn way_from(page: &Path, folder: &Path) -> Result<PathBuf> {
    let from = page
        .canonicalize()?
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default();
    let to = folder.canonicalize()?;
    let shared = from
        .components()
        .zip(to.components())
        .take_while(|(from, to)| from == to)
        .count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    Ok(up.chain(to.components().skip(shared)).collect())
}

fn write(file: &Path, text: &str) -> Result {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(arguments: &[&str]) -> Result {
        prepare(&Cli::try_parse_from(arguments)?.comparison)
    }

    #[test]
    fn unwritable_files_are_reported_first_and_writable_ones_are_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let within = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(within("old.json"), "{}").unwrap();
        prepared(&[
            "peers",
            "--json",
            &within("old.json"),
            "--plot",
            &within("a/b"),
        ])
        .unwrap();
        assert_eq!(std::fs::read_to_string(within("old.json")).unwrap(), "{}");
        assert!(prepared(&["peers", "--markdown", &within("no/page.md")]).is_err());
        assert!(prepared(&["peers", "--plot", &within("old.json")]).is_err());
    }

    #[test]
    fn a_page_names_a_picture_by_its_way_from_there_wherever_both_are() {
        let folder = tempfile::tempdir().unwrap();
        let within = |name: &str| folder.path().join(name);
        for made in ["docs/plots", "plots"] {
            std::fs::create_dir_all(within(made)).unwrap();
        }
        std::fs::write(within("docs/page.md"), "").unwrap();
        std::fs::write(within("page.md"), "").unwrap();
        let way = |page, plots| way_from(&within(page), &within(plots)).unwrap();
        assert_eq!(way("docs/page.md", "docs/plots"), Path::new("plots"));
        assert_eq!(way("docs/page.md", "plots"), Path::new("../plots"));
        assert_eq!(way("page.md", "docs/plots"), Path::new("docs/plots"));
        assert_eq!(way("docs/page.md", "docs/plots/.."), Path::new(""));
        assert_eq!(way("docs/plots/../page.md", "plots"), Path::new("../plots"));
    }

    #[test]
    fn zero_rounds_and_unknown_names_are_refused() {
        for wrong in [["--rounds", "0"], ["chain", "chains"], ["--only", "nobody"]] {
            assert!(
                Cli::try_parse_from([&["peers"][..], &wrong].concat()).is_err(),
                "{wrong:?}"
            );
        }
    }
}
