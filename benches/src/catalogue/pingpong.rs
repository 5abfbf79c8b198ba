//! W2, ping-pong.

use super::case::{Case, Cores, less};
use super::libraries::{LIBEV, LIBEVENT, LIBUV};
use crate::contestant::Contestant;

pub(super) fn cases() -> Vec<Case> {
    vec![Case {
        title: "round trip between the loops of two threads",
        arguments: &["pingpong"],
        small: &["--round-trips", "200"],
        figures: &[
            const { less("ns_per_op", "ns, median") },
            const { less("ns_99th", "99th percentile") },
        ],
        cores: Cores::All,
        counted: None,
        contestants: vec![
            Contestant::c("epoll loop in C", "pingpong/raw.c", None),
            Contestant::c("epoll loop in C", "pingpong/raw.c", None)
                .form("epoll loop in C, spinning", SPIN),
            Contestant::ours(&[]),
            Contestant::ours(&[]).form("reactor, spinning", SPIN),
            Contestant::rust("mio"),
            Contestant::c("libev", "pingpong/libev.c", Some(LIBEV)),
            Contestant::c("libevent", "pingpong/libevent.c", Some(LIBEVENT)),
            Contestant::c("libuv", "pingpong/libuv.c", Some(LIBUV)),
            Contestant::rust("calloop"),
            Contestant::rust("tokio"),
            Contestant::rust("crossbeam").form("crossbeam, no loop", &[]),
            Contestant::rust("std-mpsc").form("std mpsc, no loop", &[]),
        ],
    }]
}

const SPIN: &[&str] = &["--spin", "100"];
