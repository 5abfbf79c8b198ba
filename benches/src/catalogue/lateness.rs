//! W4, lateness.

use super::case::{Case, Cores, less};
use crate::contestant::Contestant;

pub(super) fn cases() -> Vec<Case> {
    vec![Case {
        title: "lateness of a timer in high resolution",
        arguments: &["lateness"],
        small: &["--timers", "20"],
        figures: &[
            const { less("ns_per_op", "ns, 99th percentile") },
            const { less("ns_median", "median") },
        ],
        cores: Cores::One,
        counted: None,
        contestants: vec![
            Contestant::c("timerfd in C", "lateness/raw.c", None),
            Contestant::ours(&[]),
        ],
    }]
}
