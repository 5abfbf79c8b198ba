//! W4, timers.

use super::case::{Case, Cores, Counted, Figure, less};
use super::libraries::{LIBEV, LIBEVENT, LIBUV};
use crate::contestant::Contestant;

const FIGURES: &[Figure] = &[
    less("ns_per_op", "ns"),
    less("ns_arm", "ns to arm"),
    less("bytes", "bytes a timer"),
];

pub(super) fn cases() -> Vec<Case> {
    let case = |title, arguments, counted, calloop| Case {
        title,
        arguments,
        small: &["--timers", "1000", "--operations", "1000"],
        figures: FIGURES,
        cores: Cores::One,
        counted: Some(counted),
        contestants: vec![
            Contestant::c("wheel in C", "timers/wheel.c", None),
            Contestant::ours(&[]),
            Contestant::rust("std-heap").form("std BinaryHeap", &[]),
            Contestant::rust("tokio"),
            Contestant::c("libev", "timers/libev.c", Some(LIBEV)),
            Contestant::c("libevent", "timers/libevent.c", Some(LIBEVENT)),
            Contestant::c("libevent", "timers/libevent.c", Some(LIBEVENT))
                .form("libevent, common", &["--common", "1"]),
            Contestant::c("libuv", "timers/libuv.c", Some(LIBUV)),
            // calloop searches its timers at each operation. With as many timers as the others it
            // would take minutes.
            Contestant::rust("calloop").form("calloop, fewer", calloop),
        ],
    };
    // The counts include the arming of a timer. With `--op anew` they include its cancellation too.
    let timers = Counted {
        option: "--timers",
        short: 10_000,
        long: 30_000,
    };
    let put_offs = Counted {
        option: "--operations",
        short: 100_000,
        long: 300_000,
    };
    vec![
        case(
            "a timer cancelled, of 1 000 000",
            &["timers", "--op", "cancel"],
            timers,
            &["--timers", "100000", "--operations", "200"],
        ),
        case(
            "a timer armed in used memory, after 1 000 000 were cancelled",
            &["timers", "--op", "anew"],
            timers,
            &["--timers", "20000"],
        ),
        case(
            "a timer run, of 1 000 000",
            &["timers", "--op", "fire"],
            timers,
            &["--timers", "50000"],
        ),
        case(
            "a timer re-armed, of 100 000",
            &["timers", "--op", "put-off"],
            put_offs,
            &["--operations", "2000"],
        ),
    ]
}
