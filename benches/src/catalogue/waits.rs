//! W6, waits.

use super::case::{Case, Cores, Counted, less};
use crate::contestant::Contestant;

pub(super) fn cases() -> Vec<Case> {
    let case = |title, arguments| Case {
        title,
        arguments,
        small: &["--waits", "100"],
        figures: &[const { less("ns_per_op", "ns a wait") }],
        cores: Cores::One,
        counted: Some(Counted {
            option: "--waits",
            short: 1000,
            long: 3000,
        }),
        contestants: vec![
            Contestant::ours(&[]).form("poll of eventfds", &["--by", "poll"]),
            Contestant::ours(&["--by", "event"]),
        ],
    };
    vec![
        case("a wait for 1 event", &["waits", "--events", "1"]),
        case("a wait for any of 2 events", &["waits", "--events", "2"]),
        case("a wait for any of 8 events", &["waits", "--events", "8"]),
        case("a wait for any of 64 events", &["waits", "--events", "64"]),
    ]
}
