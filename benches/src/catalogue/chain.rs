//! W3, the chain.

use super::case::{Case, Cores, Counted, less};
use super::libraries::{LIBEV, LIBEVENT, LIBUV};
use crate::contestant::Contestant;

pub(super) fn cases() -> Vec<Case> {
    let case = |title, arguments| Case {
        title,
        arguments,
        small: &["--events", "1000"],
        figures: &[const { less("ns_per_op", "ns an event") }],
        cores: Cores::One,
        counted: Some(Counted {
            option: "--events",
            short: 10_000,
            long: 30_000,
        }),
        contestants: vec![
            Contestant::c("epoll loop in C", "chain/raw.c", None),
            Contestant::ours(&[]),
            Contestant::rust("mio"),
            Contestant::c("libev", "chain/libev.c", Some(LIBEV)),
            Contestant::c("libevent", "chain/libevent.c", Some(LIBEVENT)),
            Contestant::c("libuv", "chain/libuv.c", Some(LIBUV)),
            Contestant::rust("calloop"),
            Contestant::rust("event-manager"),
            Contestant::rust("tokio"),
        ],
    };
    vec![
        case(
            "chain of 1000 pipes, 100 active",
            &["chain", "--sources", "1000", "--active", "100"],
        ),
        case(
            "chain of 1000 pipes, 1 active",
            &["chain", "--sources", "1000", "--active", "1"],
        ),
    ]
}
