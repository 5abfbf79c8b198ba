//! Smoke test: runs every program once, with little work. It shows that the programs work, and
//! nothing about their costs.

use std::process::Command;

use workloads::Result;

use crate::absence::{Absence, nobody_failed};
use crate::catalogue::{self, Case, Cores, Load};
use crate::certificate::Certificate;
use crate::choice::Choice;
use crate::contestant::Contestant;
use crate::figures::Figures;
use crate::measure::measure;
use crate::progress::progress;
use crate::slices::Loaded;
use crate::workshop::Workshop;

/// The maximum number of connections of a client.
const CONNECTIONS_MAX: u32 = 20;

pub(crate) fn run(choice: &Choice) -> Result {
    let cases = choice.cases();
    let progress = progress(cases.iter().map(|case| case.contestants.len() as u64).sum())?;
    let mut workshop = Workshop::open(Certificate::new()?)?;
    let mut tables = Vec::new();
    for case in &cases {
        let mut absent = Vec::new();
        for contestant in &case.contestants {
            progress.set_message(format!("{}, {}", case.title, contestant.name));
            if let Err(why) = works(&mut workshop, case, contestant) {
                absent.push((contestant.name, why));
            }
            progress.inc(1);
        }
        tables.push((case, absent));
    }
    progress.finish_and_clear();
    for (case, absent) in &tables {
        let all = case.contestants.len();
        println!("{}: {} of {all} work", case.title, all - absent.len());
        absent
            .iter()
            .for_each(|(name, why)| println!("  {name:28}  missing: {why}"));
    }
    nobody_failed(tables.iter().map(|(case, absent)| (case.title, &**absent)))
}

/// Runs a program with little work, and checks that it prints the figure by which contestants are
/// compared.
fn works(
    workshop: &mut Workshop,
    case: &Case,
    contestant: &Contestant,
) -> std::result::Result<(), Absence> {
    let arguments = arguments(case, contestant);
    let mut command = workshop.command(
        &Contestant {
            extra: &[],
            ..contestant.clone()
        },
        &arguments,
    )?;
    let figures = match case.cores {
        Cores::Server(load) => serve(&mut command, load),
        Cores::One | Cores::All => measure(&mut command, case.cores),
    };
    let figures = figures.map_err(|error| Absence::failed("failed", &error))?;
    let first = case.figures.first().map_or("", |figure| figure.name);
    if figures.contains_key(first) {
        Ok(())
    } else {
        Err(Absence::Failed(format!("does not print {first}")))
    }
}

fn serve(command: &mut Command, load: Load) -> Result<Figures> {
    let load = Load {
        connections: load.connections.min(CONNECTIONS_MAX),
        ..load
    };
    let mut loaded = Loaded::start(command, load)?;
    let figures = loaded.slice()?;
    loaded.stop()?;
    Ok(figures)
}

/// Returns all arguments of a program. Options that reduce the work replace those of the case and
/// of the contestant.
fn arguments(case: &Case, contestant: &Contestant) -> Vec<&'static str> {
    let mut arguments = [case.arguments, contestant.extra].concat();
    for option in case.small.chunks_exact(2) {
        arguments = catalogue::with_option(&arguments, option[0], option[1]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::all;

    #[test]
    fn every_program_gets_little_work_and_no_option_twice() {
        for case in all() {
            for contestant in &case.contestants {
                let arguments = arguments(&case, contestant);
                let told = |option| {
                    arguments
                        .iter()
                        .filter(|&argument| argument == option)
                        .count()
                };
                assert!(
                    case.small.iter().step_by(2).all(|option| told(option) == 1),
                    "{arguments:?}"
                );
                let small = || {
                    arguments
                        .windows(2)
                        .filter(|told| case.small.chunks_exact(2).any(|it| it == *told))
                };
                assert_eq!(small().count(), case.small.len() / 2, "{arguments:?}");
            }
        }
    }
}
