//! The limits for the costs of our own programs: a file of counts, which the measured counts are
//! compared with.
//!
//! System calls and allocations must be exact. Instructions have a tolerance for the differences
//! between compilers. You must record an improvement too. Otherwise a later loss of the same size
//! would go unnoticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

use super::tool::{Counts, INSTRUCTIONS};

/// The counts of an operation by case and contestant.
pub(super) type Book = BTreeMap<String, BTreeMap<String, Counts>>;

/// The tolerance of instructions, as a fraction of the recorded count. In three runs all counts
/// repeat to a thousandth. The exception is a timer that runs, which touches memory for the first
/// time: its count repeats to a hundredth.
const ROOM: f64 = 0.02;

/// A figure that differs from the recorded one.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    case: String,
    contestant: String,
    figure: String,
    was: Option<f64>,
    is: Option<f64>,
}

impl Difference {
    /// Returns `true` if the figure is lower than the recorded one, so that it only has to be
    /// recorded.
    pub(super) fn is_improvement(&self) -> bool {
        self.was.zip(self.is).is_some_and(|(was, is)| is < was)
    }
}

impl Display for Difference {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let tell = |figure: Option<f64>| {
            figure.map_or_else(|| "none".to_owned(), |figure| figure.to_string())
        };
        let Self {
            case,
            contestant,
            figure,
            was,
            is,
        } = self;
        write!(
            out,
            "{case}, {contestant}: {figure} was {}, is {}",
            tell(*was),
            tell(*is)
        )?;
        match was {
            Some(was) if has_room(figure) => {
                write!(
                    out,
                    ", limits {:.1} and {:.1}",
                    was * (1.0 - ROOM),
                    was * (1.0 + ROOM)
                )
            }
            _ => write!(out, ", exact"),
        }
    }
}

fn has_room(figure: &str) -> bool {
    figure == INSTRUCTIONS
}

/// Returns `true` if a figure agrees with the recorded one.
fn agree(figure: &str, was: f64, is: f64) -> bool {
    // Figures are rounded when they are measured. So two values of the same figure differ by half
    // of the last digit at most.
    let room = if has_room(figure) { was * ROOM } else { 0.0005 };
    (was - is).abs() <= room
}

/// Returns every figure that differs, or that only one side has.
pub(super) fn differences(written: &Book, measured: &Book) -> Vec<Difference> {
    let (written, measured) = (figures(written), figures(measured));
    let names: BTreeSet<_> = written.keys().chain(measured.keys()).copied().collect();
    let mut differences = Vec::new();
    for name @ [case, contestant, figure] in names {
        let (was, is) = (written.get(&name).copied(), measured.get(&name).copied());
        if !was.zip(is).is_some_and(|(was, is)| agree(figure, was, is)) {
            let [case, contestant, figure] = [case, contestant, figure].map(str::to_owned);
            differences.push(Difference {
                case,
                contestant,
                figure,
                was,
                is,
            });
        }
    }
    differences
}

/// Returns each figure by its case, its contestant and its own name.
fn figures(book: &Book) -> BTreeMap<[&str; 3], f64> {
    let mut figures = BTreeMap::new();
    for (case, contestants) in book {
        for (contestant, counts) in contestants {
            figures.extend(
                counts
                    .iter()
                    .map(|(name, &count)| ([&**case, contestant, name], count)),
            );
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(figures: &[(&str, f64)]) -> Book {
        let counts = figures
            .iter()
            .map(|&(name, count)| (name.to_owned(), count))
            .collect();
        Book::from([(
            "chain".to_owned(),
            BTreeMap::from([("reactor".to_owned(), counts)]),
        )])
    }

    fn told(written: &[(&str, f64)], measured: &[(&str, f64)]) -> Vec<String> {
        differences(&book(written), &book(measured))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn the_same_counts_do_not_differ() {
        let counts = [
            ("instructions", 157.3),
            ("allocations", 0.0),
            ("read", 1.0),
            ("epoll_wait", 0.01),
        ];
        assert_eq!(told(&counts, &counts), [""; 0]);
    }

    #[test]
    fn instructions_may_differ_by_a_fiftieth() {
        assert_eq!(
            told(&[("instructions", 100.0)], &[("instructions", 102.0)]),
            [""; 0]
        );
        assert_eq!(
            told(&[("instructions", 100.0)], &[("instructions", 98.0)]),
            [""; 0]
        );
        let slower = told(&[("instructions", 100.0)], &[("instructions", 102.1)]);
        assert_eq!(
            slower,
            ["chain, reactor: instructions was 100, is 102.1, limits 98.0 and 102.0"]
        );
        let faster = differences(
            &book(&[("instructions", 100.0)]),
            &book(&[("instructions", 97.9)]),
        );
        assert!(faster.iter().all(Difference::is_improvement) && faster.len() == 1);
    }

    #[test]
    fn system_calls_and_allocations_may_not_differ() {
        assert_eq!(
            told(&[("read", 1.0)], &[("read", 1.001)]),
            ["chain, reactor: read was 1, is 1.001, exact"]
        );
        assert_eq!(
            told(&[("allocations", 0.0)], &[("allocations", 0.001)]),
            ["chain, reactor: allocations was 0, is 0.001, exact"]
        );
    }

    #[test]
    fn a_row_that_only_one_side_has_differs() {
        assert_eq!(
            told(&[("read", 1.0)], &[]),
            ["chain, reactor: read was 1, is none, exact"]
        );
        assert_eq!(
            told(&[], &[("epoll_ctl", 0.5)]),
            ["chain, reactor: epoll_ctl was none, is 0.5, exact"]
        );
    }
}
