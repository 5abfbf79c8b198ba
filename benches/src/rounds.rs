//! Round after round, every contestant in turn, so that a noisy machine is noisy for all of them.

use std::collections::BTreeMap;
use std::process::Command;

use indicatif::{ProgressBar, ProgressStyle};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use workloads::Result;

use crate::catalogue::{Case, Cores, Load};
use crate::program::{Absence, Workshop, succeed_soon};
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
    Ok(tables)
}

/// A line that shows how far it has come.
pub(crate) fn progress(steps: u64) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}, about {eta} left: {msg}")?;
    Ok(ProgressBar::new(steps).with_style(style))
}

fn run_case(case: &Case, rounds: u32, workshop: &mut Workshop, progress: &ProgressBar) -> Table {
    let rounds = case.rounds(rounds);
    let (mut programs, mut missing) = (Vec::new(), Vec::new());
    for contestant in &case.contestants {
        progress.set_message(format!("{}, building {}", case.title, contestant.name));
        match workshop.command(contestant, case.arguments) {
            Ok(command) => programs.push((contestant.name, command)),
            Err(why) => {
                progress.inc(u64::from(rounds + 1));
                missing.push((contestant.name, why));
            }
        }
    }
    let (rows, failed) = in_turn(programs, rounds, |name, command| {
        progress.set_message(format!("{}, {name}", case.title));
        let figures = measure(command, case.cores);
        progress.inc(1);
        figures
    });
    missing.extend(failed);
    Table { case: case.clone(), rows, missing }
}

/// Who takes no part, and why.
type Missing = Vec<(&'static str, Absence)>;

/// Measures all of them in each round. Who fails once is left out as a whole, so that the rounds of the others stay together, and
/// they lose nothing by it.
fn in_turn<P>(
    programs: Vec<(&'static str, P)>,
    rounds: u32,
    mut measure: impl FnMut(&str, &mut P) -> Result<Figures>,
) -> (Vec<Row>, Missing) {
    let mut running: Vec<_> =
        programs.into_iter().map(|(name, program)| (program, Row { name, rounds: Vec::new() })).collect();
    let mut failed = Vec::new();
    for round in 0..=rounds {
        running.retain_mut(|(program, row)| match measure(row.name, program) {
            Ok(figures) => {
                // The first is to warm up.
                row.rounds.extend((round > 0).then_some(figures));
                true
            }
            Err(error) => {
                failed.push((row.name, Absence::failed("it failed", &error)));
                false
            }
        });
    }
    (running.into_iter().map(|(_, row)| row).collect(), failed)
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
    fn all_are_measured_in_each_round_and_the_first_round_does_not_count() {
        let mut order = String::new();
        let (rows, failed) = in_turn(vec![("a", ()), ("b", ())], 2, |name, ()| {
            order += name;
            Ok(Figures::from([("place".to_owned(), order.len() as f64)]))
        });
        assert_eq!(order, "ababab");
        let places = |row: &Row| row.rounds.iter().map(|round| round["place"]).collect::<Vec<_>>();
        assert_eq!(rows.iter().map(places).collect::<Vec<_>>(), [[3.0, 5.0], [4.0, 6.0]]);
        assert_eq!(failed, []);
    }

    #[test]
    fn who_fails_in_the_middle_of_a_run_is_left_out_and_the_others_run_on() {
        let mut runs = 0;
        let (rows, failed) = in_turn(vec![("a", ()), ("b", ()), ("c", ())], 2, |name, ()| {
            runs += 1;
            if (name, runs) == ("b", 5) { Err("exit status: 1\nno memory\n".into()) } else { Ok(Figures::new()) }
        });
        assert_eq!(runs, 3 + 3 + 2);
        assert_eq!(rows.iter().map(|row| (row.name, row.rounds.len())).collect::<Vec<_>>(), [("a", 2), ("c", 2)]);
        assert_eq!(failed, [("b", Absence::Failed("it failed: no memory".to_owned()))]);
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
