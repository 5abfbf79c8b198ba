//! W7, the costs of the loop itself.

use super::case::{Case, Cores, Counted, less};
use super::libraries::{LIBEV, LIBEVENT, LIBUV};
use crate::contestant::Contestant;

pub(super) fn cases() -> Vec<Case> {
    let case = |title, arguments, counted, only_empty: &[Contestant]| Case {
        title,
        arguments,
        small: &["--operations", "5000"],
        figures: &[const { less("ns_per_op", "ns") }],
        cores: Cores::One,
        counted: Some(counted),
        contestants: [
            &[
                Contestant::c("epoll loop in C", "deferred/raw.c", None),
                Contestant::ours(&[]),
            ],
            only_empty,
            &[
                Contestant::c("libev", "deferred/libev.c", Some(LIBEV)),
                Contestant::c("libevent", "deferred/libevent.c", Some(LIBEVENT)),
                Contestant::c("libuv", "deferred/libuv.c", Some(LIBUV)),
                Contestant::rust("calloop"),
                Contestant::rust("tokio"),
            ],
        ]
        .concat(),
    };
    let counted = |short, long| Counted {
        option: "--operations",
        short,
        long,
    };
    // These two defer nothing, so they take part only in empty turns.
    let only_empty = [Contestant::rust("mio"), Contestant::rust("polling")];
    vec![
        case(
            "a deferred callback, 1000 a turn",
            &["deferred", "--op", "deferred"],
            counted(20_000, 60_000),
            &[],
        ),
        case(
            "a deferred callback that captures 16 bytes, 1000 a turn",
            &["deferred", "--op", "captured"],
            counted(20_000, 60_000),
            &[],
        ),
        case(
            "an empty turn",
            &["deferred", "--op", "empty"],
            counted(2000, 6000),
            &only_empty,
        ),
    ]
}
