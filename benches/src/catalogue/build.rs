//! Cold builds.

use super::case::{Case, Cores, less};
use crate::contestant::Contestant;

pub(super) fn cases() -> Vec<Case> {
    vec![Case {
        title: "cold release build of an echo server",
        arguments: &["build"],
        small: &[],
        figures: &[
            const { less("seconds", "seconds") },
            const { less("crates", "crates") },
        ],
        cores: Cores::All,
        counted: None,
        contestants: ["tokio", "reactor", "calloop", "mio"]
            .map(Contestant::cold_build)
            .to_vec(),
    }]
}
