//! Measures every contestant in turn, round after round. So a noisy machine is noisy for all of
//! them.
//!
//! Programs run one after the other, and are started again for each round. Servers run during the
//! whole case, and are loaded in turn, a slice each: see `slices`.

use std::process::Command;

use indicatif::ProgressBar;
use workloads::{Result, SEED, random};

use crate::absence::Absence;
use crate::awake::Awake;
use crate::catalogue::{Case, Cores, Load};
use crate::certificate::Certificate;
use crate::figures::Figures;
use crate::measure::measure;
use crate::progress::progress;
use crate::slices::Loaded;
use crate::table::{Row, Table};
use crate::workshop::Workshop;

/// Runs every case: a warm-up, which does not count, and then `rounds` rounds.
pub(crate) fn run(cases: &[Case], rounds: u32, certificate: Certificate) -> Result<Vec<Table>> {
    let mut workshop = Workshop::open(certificate)?;
    let runs = |case: &Case| case.contestants.len() as u64 * u64::from(case.rounds(rounds) + 1);
    let progress = progress(cases.iter().map(runs).sum())?;
    let tables = cases
        .iter()
        .map(|case| run_case(case, rounds, &mut workshop, &progress))
        .collect();
    progress.finish_and_clear();
    Ok(tables)
}

fn run_case(case: &Case, rounds: u32, workshop: &mut Workshop, progress: &ProgressBar) -> Table {
    let rounds = case.rounds(rounds);
    let (mut running, mut missing) = (Vec::new(), Vec::new());
    for contestant in &case.contestants {
        progress.set_message(format!(
            "{}, building and starting {}",
            case.title, contestant.name
        ));
        let command = workshop.command(contestant, case.arguments);
        match command
            .and_then(|command| Running::start(command, case.cores).map_err(|error| failed(&error)))
        {
            Ok(program) => running.push((contestant.name, program)),
            Err(why) => {
                progress.inc(u64::from(rounds + 1));
                missing.push((contestant.name, why));
            }
        }
    }
    let _awake = awake(case.cores);
    let measure = |name: &str, program: &mut Running| {
        progress.set_message(format!("{}, {name}", case.title));
        let figures = program.measure();
        progress.inc(1);
        figures
    };
    let (rows, failed) = in_turn(running, rounds, measure, Running::end);
    missing.extend(failed);
    Table {
        case: case.clone(),
        rows,
        missing,
    }
}

/// Keeps the cores awake, if the case requires that. If it fails, prints a warning.
fn awake(cores: Cores) -> Option<Awake> {
    let Cores::Server(Load { sleep: false, .. }) = cores else {
        return None;
    };
    let awake = Awake::keep();
    awake
        .map_err(|error| {
            eprintln!("the cores may sleep between messages, so the figures vary: {error}")
        })
        .ok()
}

/// A contestant that is measured in each round.
enum Running {
    /// A program that is started again for each round.
    Anew(Command, Cores),
    /// A server that runs during the whole case, and is loaded for a slice in each round.
    Server(Loaded),
}

impl Running {
    fn start(mut command: Command, cores: Cores) -> Result<Self> {
        match cores {
            Cores::Server(load) => Ok(Self::Server(Loaded::start(&mut command, load)?)),
            Cores::One | Cores::All => Ok(Self::Anew(command, cores)),
        }
    }

    fn measure(&mut self) -> Result<Figures> {
        match self {
            Self::Anew(command, cores) => measure(command, *cores),
            Self::Server(loaded) => loaded.slice(),
        }
    }

    fn end(self) -> Result {
        match self {
            Self::Anew(..) => Ok(()),
            Self::Server(loaded) => loaded.stop(),
        }
    }
}

/// The contestants that take no part, with the reasons.
type Missing = Vec<(&'static str, Absence)>;

fn failed(error: &impl ToString) -> Absence {
    Absence::failed("failed", error)
}

/// Measures all programs in each round, in an order that is drawn again for each round. A program
/// leaves traces in caches and in the kernel. By the changing order, each of the other programs
/// meets them equally often. A program that fails once is left out of the whole table, so the
/// others lose no round and stay comparable.
fn in_turn<P>(
    programs: Vec<(&'static str, P)>,
    rounds: u32,
    mut measure: impl FnMut(&str, &mut P) -> Result<Figures>,
    end: impl Fn(P) -> Result,
) -> (Vec<Row>, Missing) {
    let row = |(place, (name, program))| {
        (
            place,
            program,
            Row {
                name,
                rounds: Vec::new(),
            },
        )
    };
    let mut running: Vec<(usize, P, Row)> = programs.into_iter().enumerate().map(row).collect();
    let (mut missing, mut seed) = (Missing::new(), SEED);
    for round in 0..=rounds {
        shuffle(&mut running, &mut seed);
        running.retain_mut(|(_, program, row)| match measure(row.name, program) {
            Ok(figures) => {
                // The first round is the warm-up.
                row.rounds.extend((round > 0).then_some(figures));
                true
            }
            Err(error) => {
                missing.push((row.name, failed(&error)));
                false
            }
        });
    }
    running.sort_by_key(|&(place, ..)| place);
    let mut rows = Vec::new();
    for (_, program, row) in running {
        match end(program) {
            Ok(()) => rows.push(row),
            Err(error) => missing.push((row.name, failed(&error))),
        }
    }
    (rows, missing)
}

/// Shuffles the items. Every order is equally likely (Fisher and Yates, 1938), up to one part in
/// 2^60, an error of the remainder.
fn shuffle<T>(items: &mut [T], seed: &mut u64) {
    for last in (1..items.len()).rev() {
        items.swap(last, (random(seed) % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn all_are_measured_in_each_round_and_the_first_round_does_not_count() {
        let mut order = String::new();
        let measure = |name: &str, (): &mut ()| {
            order += name;
            Ok(Figures::from([("place".to_owned(), order.len() as f64)]))
        };
        let (rows, failed) = in_turn(vec![("a", ()), ("b", ()), ("c", ())], 40, measure, |()| {
            Ok(())
        });
        let rounds: Vec<_> = order
            .as_bytes()
            .chunks(3)
            .map(|round| String::from_utf8_lossy(round))
            .collect();
        assert_eq!(rounds.len(), 1 + 40);
        assert!(
            rounds
                .iter()
                .all(|round| ["a", "b", "c"].iter().all(|name| round.contains(name))),
            "{rounds:?}"
        );
        assert_eq!(
            rows.iter().map(|row| row.name).collect::<Vec<_>>(),
            ["a", "b", "c"],
            "for any order of the last round"
        );
        for row in &rows {
            assert_eq!(row.rounds.len(), 40);
            for (round, figures) in row.rounds.iter().enumerate() {
                let place = 3 * (round + 1) + rounds[round + 1].find(row.name).unwrap();
                assert_eq!(figures["place"], place as f64 + 1.0);
            }
        }
        assert_eq!(failed, []);
    }

    /// The failed contestant is ended at once, so that it does not disturb the others.
    #[test]
    fn a_contestant_that_fails_in_a_run_is_left_out_and_the_others_run_on() {
        let (mut runs, all) = (0, ["a", "b", "c"].map(|name| (name, Rc::new(()))));
        let held = all.clone().map(|(_, held)| Rc::downgrade(&held));
        let measure = |name: &str, _: &mut Rc<()>| {
            assert!(
                name == "b" || runs < 7 || held[1].upgrade().is_none(),
                "it disturbs the others"
            );
            runs += 1;
            if name == "b" && runs > 3 {
                Err("exit status: 1\nno memory\n".into())
            } else {
                Ok(Figures::new())
            }
        };
        let (rows, failed) = in_turn(all.into(), 3, measure, |_| Ok(()));
        assert_eq!(runs, 3 + 3 + 2 + 2);
        assert_eq!(
            rows.iter()
                .map(|row| (row.name, row.rounds.len()))
                .collect::<Vec<_>>(),
            [("a", 3), ("c", 3)]
        );
        assert_eq!(
            failed,
            [("b", Absence::Failed("failed: no memory".to_owned()))]
        );
    }

    #[test]
    fn a_contestant_that_does_not_end_well_is_left_out() {
        let end = |name| {
            if name == "b" {
                Err("the server has ended".into())
            } else {
                Ok(())
            }
        };
        let (rows, failed) = in_turn(
            vec![("a", "a"), ("b", "b")],
            1,
            |_, _| Ok(Figures::new()),
            end,
        );
        assert_eq!(rows.iter().map(|row| row.name).collect::<Vec<_>>(), ["a"]);
        assert_eq!(
            failed,
            [(
                "b",
                Absence::Failed("failed: the server has ended".to_owned())
            )]
        );
    }

    #[test]
    fn every_order_of_a_shuffle_comes_as_often_and_is_the_same_in_every_run() {
        let (mut seed, mut orders) = (SEED, BTreeMap::new());
        for _ in 0..2400 {
            let mut items = ['a', 'b', 'c', 'd'];
            shuffle(&mut items, &mut seed);
            *orders.entry(items).or_insert(0) += 1;
        }
        assert_eq!(orders.len(), 24);
        // Each order is expected 100 times, with a standard deviation of about ten.
        assert!(
            orders.values().all(|count| (60..140).contains(count)),
            "{orders:?}"
        );
        assert_eq!(
            seed,
            (0..2400 * 3).fold(SEED, |mut seed, _| {
                random(&mut seed);
                seed
            })
        );
        shuffle::<u8>(&mut [], &mut seed);
    }
}
