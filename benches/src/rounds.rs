//! Round after round, every contestant in turn, so that a noisy machine is noisy for all of them.

use std::collections::BTreeMap;
use std::process::Command;

use indicatif::{ProgressBar, ProgressStyle};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use workloads::Result;

use crate::catalogue::{Case, Cores, Load};
use crate::program::{Workshop, succeed_soon};
use crate::report::{Row, Table};
use crate::server::Server;

/// What one run of a program printed.
pub(crate) type Figures = BTreeMap<String, f64>;

/// Runs every case, `rounds` times after a warm-up that does not count.
pub(crate) fn run(cases: &[Case], rounds: u32) -> Result<Vec<Table>> {
    let mut workshop = Workshop::open()?;
    let runs = |case: &Case| case.contestants.len() as u64 * u64::from(case.rounds(rounds) + 1);
    let progress = progress(cases.iter().map(runs).sum())?;
    let tables = cases.iter().map(|case| run_case(case, rounds, &mut workshop, &progress)).collect();
    progress.finish_and_clear();
    tables
}

/// A line that shows how far it has come.
pub(crate) fn progress(steps: u64) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}, about {eta} left: {msg}")?;
    Ok(ProgressBar::new(steps).with_style(style))
}

fn run_case(case: &Case, rounds: u32, workshop: &mut Workshop, progress: &ProgressBar) -> Result<Table> {
    let rounds = case.rounds(rounds);
    let mut table = Table { case: case.clone(), rows: Vec::new(), missing: Vec::new() };
    let mut commands = Vec::new();
    for contestant in &case.contestants {
        progress.set_message(format!("{}, building {}", case.title, contestant.name));
        match workshop.command(contestant, case.arguments)? {
            Ok(command) => {
                commands.push(command);
                table.rows.push(Row { name: contestant.name, rounds: Vec::new() });
            }
            Err(missing) => {
                progress.inc(u64::from(rounds + 1));
                table.missing.push((contestant.name, missing));
            }
        }
    }
    for round in 0..=rounds {
        for (command, row) in commands.iter_mut().zip(&mut table.rows) {
            progress.set_message(format!("{}, {}", case.title, row.name));
            let figures = measure(command, case.cores)?;
            if round > 0 {
                row.rounds.push(figures);
            }
            progress.inc(1);
        }
    }
    Ok(table)
}

/// Runs a program once, a server with its client.
pub(crate) fn measure(command: &mut Command, cores: Cores) -> Result<Figures> {
    let output = match cores {
        Cores::All => succeed_soon(command),
        Cores::One => on_core(Core::Last, || succeed_soon(command)),
        Cores::Server(load) => return measure_server(command, load),
    }?;
    figures(&String::from_utf8(output.stdout)?).map_err(|error| format!("{command:?}: {error}").into())
}

fn measure_server(command: &mut Command, load: Load) -> Result<Figures> {
    let mut server = Server::start(command)?;
    let pid = server.id().to_string();
    let figures = server
        .load(load, &["--milliseconds", LOADED_MS, "--pid", &pid])
        .map_err(|error| format!("{command:?}: {error}"))?;
    server.stop().map_err(|error| format!("{command:?}: {error}"))?;
    Ok(figures)
}

/// How long a server is loaded in a round.
const LOADED_MS: &str = "1000";

/// The line of JSON that a program prints last.
///
/// # Errors
/// That there is none.
pub(crate) fn figures(text: &str) -> Result<Figures> {
    let line = text.lines().last().ok_or("it printed nothing")?;
    Ok(serde_json::from_str(line).map_err(|error| format!("{line:?}: {error}"))?)
}

/// Of those that this process may run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    First,
    /// The one with the fewest interrupts.
    Last,
}

/// Does something on one core, and so do the processes that it starts.
pub(crate) fn on_core<T>(core: Core, action: impl FnOnce() -> Result<T>) -> Result<T> {
    let all = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core));
    let chosen = match core {
        Core::First => cores.next(),
        Core::Last => cores.next_back(),
    };
    let mut one = CpuSet::new();
    one.set(chosen.ok_or("no core to run on")?);
    sched_setaffinity(None, &one)?;
    let result = action();
    sched_setaffinity(None, &all)?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_taken_at_the_last_line_that_it_prints() {
        let told = figures("hello\n{\"ns_per_op\": 12.5, \"bytes\": 64}\n").unwrap();
        assert_eq!(told, Figures::from([("bytes".to_owned(), 64.0), ("ns_per_op".to_owned(), 12.5)]));
        assert!(figures("").is_err());
        assert!(figures("hello").is_err());
    }

    #[test]
    fn what_ran_on_one_core_leaves_all_of_them_to_the_next() {
        let cores = || sched_getaffinity(None).map(|set| (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).count());
        let before = cores().unwrap();
        assert_eq!(on_core(Core::First, || Ok(cores()?)).unwrap(), 1);
        assert_eq!(cores().unwrap(), before);
        assert!(on_core(Core::Last, || -> Result { Err("it fails".into()) }).is_err());
        assert_eq!(cores().unwrap(), before);
    }
}
