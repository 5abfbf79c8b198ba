//! The options that choose cases and contestants, for all commands that run cases.

use std::collections::BTreeSet;

use clap::builder::PossibleValuesParser;

use crate::catalogue::{Case, all};
use crate::contestant::Contestant;

#[derive(clap::Args)]
pub(crate) struct Choice {
    /// Workloads to run; all if none is named
    #[arg(value_parser = PossibleValuesParser::new(workloads()))]
    pub(crate) workloads: Vec<String>,
    /// Run only these contestants, in all their forms, and the first one of each table
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(contestants()))]
    only: Vec<String>,
}

impl Choice {
    /// Returns the cases of the chosen workloads, or of all workloads if none is chosen. Each case
    /// keeps its first contestant and those of `only`, or all contestants if `only` is empty.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let mut cases = all();
        cases.retain(|case| {
            self.workloads.is_empty() || self.workloads.iter().any(|name| name == case.arguments[0])
        });
        for case in &mut cases {
            let mut place = 0;
            case.contestants.retain(|contestant| {
                place += 1;
                place == 1
                    || self.only.is_empty()
                    || self.only.iter().any(|name| name == contestant.program())
            });
        }
        cases
    }
}

/// Returns the names of all workloads, in the order of their cases.
fn workloads() -> Vec<&'static str> {
    let mut names: Vec<_> = all().iter().map(|case| case.arguments[0]).collect();
    names.dedup();
    names
}

/// Returns the names by which contestants are chosen. A name stands for all forms of a contestant.
fn contestants() -> BTreeSet<&'static str> {
    all()
        .iter()
        .flat_map(|case| &case.contestants)
        .map(Contestant::program)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_includes_all_forms_and_the_first_contestant_of_the_table() {
        let choice = Choice {
            workloads: vec!["echo".to_owned()],
            only: vec!["tokio".to_owned()],
        };
        let chosen = choice.cases();
        let names = |case: &Case| {
            case.contestants
                .iter()
                .map(|contestant| contestant.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(&chosen[0]),
            ["epoll loop in C", "tokio, shared buffer", "tokio"]
        );
        assert!(
            contestants().iter().all(|name| !name.contains(',')),
            "--only would split it"
        );
    }
}
