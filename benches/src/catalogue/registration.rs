//! W3, registration.

use super::case::{Case, Cores, Counted, Figure, less};
use super::libraries::{LIBEV, LIBEVENT, LIBUV};
use crate::contestant::Contestant;

const FIGURES: &[Figure] = &[
    less("ns_per_op", "ns a source"),
    less("bytes", "bytes a source"),
];

pub(super) fn cases() -> Vec<Case> {
    let case = |title, arguments| Case {
        title,
        arguments,
        small: &["--sources", "100"],
        figures: FIGURES.split_at(1).0,
        cores: Cores::One,
        counted: None,
        contestants: vec![
            Contestant::c("epoll loop in C", "registration/raw.c", None),
            Contestant::ours(&[]),
            Contestant::rust("mio"),
            Contestant::c("libev", "registration/libev.c", Some(LIBEV)),
            Contestant::c("libevent", "registration/libevent.c", Some(LIBEVENT)),
            Contestant::c("libuv", "registration/libuv.c", Some(LIBUV)),
            Contestant::rust("calloop"),
            Contestant::rust("event-manager"),
            Contestant::rust("tokio"),
        ],
    };
    let counted = Some(Counted {
        option: "--sources",
        short: 1000,
        long: 3000,
    });
    vec![
        case(
            "registration of 100 sources",
            &["registration", "--sources", "100"],
        ),
        // The counts are the same for any number of sources, except in loops that search.
        Case {
            counted,
            ..case("registration of 1000 sources", &["registration"])
        },
        // With fewer sources, their bytes are hidden by the size of a page.
        Case {
            figures: FIGURES,
            ..case(
                "registration of 10 000 sources",
                &["registration", "--sources", "10000"],
            )
        },
        Case {
            figures: FIGURES,
            ..case(
                "registration of 18 000 sources",
                &["registration", "--sources", "18000"],
            )
        },
    ]
}
