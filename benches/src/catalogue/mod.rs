//! The catalogue: each case of each workload, with its figures and its contestants.

mod build;
mod case;
mod chain;
mod deferred;
mod echo;
mod lateness;
mod libraries;
mod pingpong;
mod registration;
mod spike;
mod tasks;
mod timers;
mod tls;
mod waits;

#[cfg(test)]
pub(crate) use self::case::Better;
pub(crate) use self::case::{Case, Cores, Counted, Figure, Load, with_option};

/// Returns every case of every workload.
pub(crate) fn all() -> Vec<Case> {
    [
        chain::cases(),
        registration::cases(),
        spike::cases(),
        pingpong::cases(),
        timers::cases(),
        lateness::cases(),
        echo::cases(),
        tls::cases(),
        waits::cases(),
        deferred::cases(),
        tasks::cases(),
        build::cases(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_within_a_table_are_unique_and_so_are_the_titles_of_tables() {
        let titles: BTreeSet<_> = all().iter().map(|case| case.title).collect();
        assert_eq!(titles.len(), all().len());
        for case in all() {
            let names: BTreeSet<_> = case
                .contestants
                .iter()
                .map(|contestant| contestant.name)
                .collect();
            assert_eq!(names.len(), case.contestants.len(), "{}", case.title);
        }
    }
}
