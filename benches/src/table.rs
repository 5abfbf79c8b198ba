//! The figures of a case in every round, their spread, and their ratios to the first contestant.

use crate::absence::Absence;
use crate::catalogue::Case;
use crate::contestant::Origin;
use crate::figures::Figures;
use crate::spread::Spread;
use crate::text::digits;

/// A case, with the figures of each contestant.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) case: Case,
    pub(crate) rows: Vec<Row>,
    /// The contestants that did not take part, with the reasons.
    pub(crate) missing: Vec<(&'static str, Absence)>,
}

/// The figures of one contestant, round by round.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) rounds: Vec<Figures>,
}

impl Row {
    /// Returns `true` if the row is of this library. Its rows are named after its crates.
    pub(crate) fn is_ours(&self) -> bool {
        ["reactor", "handlers"]
            .iter()
            .any(|name| self.name.starts_with(name))
    }

    /// Returns the spread of a figure, or `None` if the contestant does not print it.
    pub(crate) fn spread(&self, figure: &str) -> Option<Spread> {
        Spread::of(
            self.rounds
                .iter()
                .filter_map(|round| round.get(figure).copied())
                .collect(),
        )
    }

    /// Returns the spread of the ratio to another row, which is computed round by round.
    pub(crate) fn ratio(&self, to: &Self, figure: &str) -> Option<Spread> {
        let rounds = self.rounds.iter().zip(&to.rounds);
        Spread::of(
            rounds
                .filter_map(|(own, other)| Some(own.get(figure)? / other.get(figure)?))
                .collect(),
        )
    }
}

impl Table {
    /// Returns the workload of this case.
    pub(crate) fn workload(&self) -> &'static str {
        self.case.arguments[0]
    }

    /// Returns the row of the first contestant, the base of the ratios. Returns `None` if that
    /// contestant did not take part.
    pub(crate) fn floor(&self) -> Option<&Row> {
        let first = self.case.contestants.first()?;
        self.rows.first().filter(|row| row.name == first.name)
    }

    /// Returns the origins of the contestants that took part.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &Origin> {
        let took_part = |name| self.rows.iter().any(|row| row.name == name);
        self.case
            .contestants
            .iter()
            .filter(move |contestant| took_part(contestant.name))
            .map(|one| &one.origin)
    }

    /// Returns the ratio to the first contestant, with its uncertainty. The ratio of the first
    /// contestant itself has none, since it is 1 by definition.
    pub(crate) fn ratio(&self, row: &Row, figure: &str) -> Option<String> {
        let floor = self.floor()?;
        let ratio = row.ratio(floor, figure)?;
        // Two digits are not enough where differences of a hundredth count.
        let digits = if (0.1..10.0).contains(&ratio.median) {
            3
        } else {
            digits(ratio.median)
        };
        let median = format!("{:.digits$}", ratio.median);
        Some(if row.name == floor.name {
            median
        } else {
            format!("{median} ±{:.digits$}", ratio.off_by())
        })
    }
}

/// A table for tests.
#[cfg(test)]
pub(crate) mod example {
    use super::*;
    use crate::catalogue::{Better, Cores, Figure};
    use crate::contestant::Contestant;

    const FIGURES: &[Figure] = &[
        Figure {
            name: "ns_per_op",
            title: "ns an event",
            better: Better::Less,
            compared: true,
        },
        Figure {
            name: "bytes",
            title: "resident bytes of a source",
            better: Better::Less,
            compared: false,
        },
    ];

    fn row(name: &'static str, rounds: &[&[(&str, f64)]]) -> Row {
        let figures = |round: &&[(&str, f64)]| {
            round
                .iter()
                .map(|&(name, figure)| (name.to_owned(), figure))
                .collect()
        };
        Row {
            name,
            rounds: rounds.iter().map(figures).collect(),
        }
    }

    pub(crate) fn table() -> Table {
        let contestants = vec![
            Contestant::c("epoll loop in C", "chain/raw.c", None),
            Contestant::ours(&[]),
            Contestant::rust("mio"),
            Contestant::c("libev", "chain/libev.c", None),
        ];
        let (title, arguments) = ("a chain", ["chain", "--active", "1"].as_slice());
        let case = Case {
            title,
            arguments,
            small: &[],
            figures: FIGURES,
            cores: Cores::One,
            counted: None,
            contestants,
        };
        let rows = vec![
            row(
                "epoll loop in C",
                &[
                    &[("ns_per_op", 100.0)],
                    &[("ns_per_op", 200.0)],
                    &[("ns_per_op", 120.0)],
                ],
            ),
            row(
                "reactor",
                &[
                    &[("ns_per_op", 150.0)],
                    &[("ns_per_op", 100.0)],
                    &[("ns_per_op", 120.0), ("bytes", 96.0)],
                ],
            ),
            row("mio", &[&[("bytes", 1.0)]]),
        ];
        Table {
            case,
            rows,
            missing: vec![("libev", Absence::Missing("not installed".to_owned()))],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::example::table;
    use super::*;

    #[test]
    fn a_ratio_is_that_of_the_same_round_and_not_of_the_medians() {
        let table = table();
        let ratio = table.rows[1].ratio(&table.rows[0], "ns_per_op").unwrap();
        assert_eq!((ratio.least, ratio.median, ratio.most), (0.5, 1.0, 1.5));
        assert_eq!(
            table.rows[2].ratio(&table.rows[0], "ns_per_op"),
            None,
            "it never told"
        );
    }

    #[test]
    fn a_ratio_is_shown_with_its_uncertainty_in_as_many_digits() {
        let told = |floor: f64, own: &[f64]| {
            let rounds = |rounds: &[f64]| {
                rounds
                    .iter()
                    .map(|&it| Figures::from([("ns_per_op".to_owned(), it)]))
                    .collect()
            };
            let mut table = table();
            table.rows[0].rounds = rounds(&[floor; 3]);
            table.rows[1].rounds = rounds(own);
            table.ratio(&table.rows[1], "ns_per_op").unwrap()
        };
        assert_eq!(told(100.0, &[94.6, 94.0, 95.01]), "0.946 ±0.006");
        assert_eq!(told(100.0, &[100.0, 100.0, 100.0]), "1.000 ±0.000");
        assert_eq!(told(1.0, &[140.3, 139.0, 142.5]), "140 ±2");
        assert_eq!(told(100.0, &[3.144, 3.1, 3.144]), "0.0314 ±0.0004");
        let table = table();
        assert_eq!(table.ratio(&table.rows[0], "ns_per_op").unwrap(), "1.000");
    }
}
