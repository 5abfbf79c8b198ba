//! W1, the spike.

use super::case::{Case, Cores, less};
use super::libraries::{LIBEV, LIBEVENT, LIBUV};
use crate::contestant::Contestant;

pub(super) fn cases() -> Vec<Case> {
    let case = |title, arguments| Case {
        title,
        arguments,
        small: &["--tasks", "10000"],
        figures: &[
            const { less("ns_per_op", "ns a task") },
            const { less("writes_per_op", "eventfd writes a task") },
        ],
        cores: Cores::All,
        counted: None,
        contestants: vec![
            Contestant::c("vector in C", "spike/raw.c", None),
            Contestant::ours(&[]),
            Contestant::rust("crossbeam").form("crossbeam, no loop", &[]),
            Contestant::rust("std-mpsc").form("std mpsc, no loop", &[]),
            Contestant::rust("tokio"),
            Contestant::c("libuv", "spike/libuv.c", Some(LIBUV)),
            Contestant::c("libevent", "spike/libevent.c", Some(LIBEVENT)),
            Contestant::c("libev", "spike/libev.c", Some(LIBEV)),
            Contestant::rust("calloop"),
        ],
    };
    let mut numbers = case(
        "1 000 000 numbers to the loop of another thread",
        &["spike", "--form", "value"],
    );
    let each = Contestant::c("eventfd per task in C", "spike/eventfd_each.c", None);
    numbers.contestants.push(Contestant {
        extra: FEWER,
        ..each
    });
    vec![
        numbers,
        case(
            "1 000 000 closures to the loop of another thread",
            &["spike", "--form", "closure"],
        ),
    ]
}

/// Each task holds a file descriptor until it has run. It also takes a hundred times as long as a
/// task of the other contestants.
const FEWER: &[&str] = &["--tasks", "100000"];
