//! Which of the cases, and who takes part in them: what a user may choose, wherever cases are run.

use std::collections::BTreeSet;

use clap::builder::PossibleValuesParser;

use crate::catalogue::{Case, all};
use crate::contestant::Contestant;

#[derive(clap::Args)]
pub(crate) struct Choice {
    /// Which workloads; all of them if none is named
    #[arg(value_parser = PossibleValuesParser::new(workloads()))]
    pub(crate) workloads: Vec<String>,
    /// Only these contestants, in all their forms, beside the first of each table
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(contestants()))]
    only: Vec<String>,
}

impl Choice {
    /// The cases of the workloads that are named, of all if none is; with the first contestant and
    /// `only` these, if any is named.
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

/// The names of all workloads, in the order of their cases.
fn workloads() -> Vec<&'static str> {
    let mut names: Vec<_> = all().iter().map(|case| case.arguments[0]).collect();
    names.dedup();
    names
}

/// The names by which contestants are chosen, which stand for all of their forms.
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
            "it would be taken for two"
        );
    }
}
