//! Echo over TLS, and handshakes. Each handshake is one of a new connection, which then exchanges a
//! message. At last, the messages of one connection while many handshakes arrive at once.

use workloads::tls::Exchange;

use super::case::{Case, Cores, Counted, Figure, Load, less, more};
use super::echo::{FIGURES, WITHOUT_BYTES, load};
use super::libraries::LIBEVENT_OPENSSL;
use crate::contestant::Contestant;

const HANDSHAKES: &[Figure] = &[
    more("messages_per_s", "handshakes a second"),
    less("us_median", "us, median"),
    less("us_99th", "us, 99th percentile"),
    less("cpu_us", "us, server CPU").compared(),
];
const AMONG_HANDSHAKES: &[Figure] = &[
    less("us_99th", "us, 99th percentile"),
    less("us_median", "us, median"),
    less("us_longest", "us, longest"),
    more("handshakes_per_s", "handshakes a second"),
];
/// The handshakes that are in flight. A client keeps eight tickets of a server.
const AT_ONCE: u32 = 4;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case {
            counted: Some(Counted {
                option: "--messages",
                short: 2000,
                long: 6000,
            }),
            ..messages("echo over TLS of 64 bytes, 50 connections", 50, 64)
        },
        messages("echo over TLS of 64 bytes, 1000 connections", 1000, 64),
        messages("echo over TLS of 16 KiB, 50 connections", 50, 16 << 10),
        messages("echo over TLS of 16 KiB, 1000 connections", 1000, 16 << 10),
        handshakes("full TLS handshakes", Exchange::Full),
        handshakes("resumed TLS handshakes", Exchange::Resumed),
        among_handshakes(),
    ]
}

/// Returns the messages of one connection while 500 handshakes arrive at once, with our limit of
/// the handshakes in a turn and without. A slice takes about a second.
fn among_handshakes() -> Case {
    let mut case = case(
        "a message while 500 full TLS handshakes arrive at once",
        AMONG_HANDSHAKES,
        500,
        64,
        Exchange::Full,
    );
    if let Cores::Server(load) = &mut case.cores {
        (load.slices, load.bursts) = (2, true);
    }
    let unlimited = Contestant::ours(&[]).form("handlers, no limit", &["--unlimited"]);
    case.contestants.insert(0, unlimited);
    case
}

fn messages(title: &'static str, connections: u32, message: u32) -> Case {
    let figures = if connections < 1000 {
        WITHOUT_BYTES
    } else {
        &FIGURES
    };
    case(title, figures, connections, message, Exchange::Messages)
}

fn handshakes(title: &'static str, exchange: Exchange) -> Case {
    case(title, HANDSHAKES, AT_ONCE, 64, exchange)
}

fn case(
    title: &'static str,
    figures: &'static [Figure],
    connections: u32,
    message: u32,
    exchange: Exchange,
) -> Case {
    Case {
        title,
        arguments: &["tls"],
        small: &[], // the client sets the amount of work
        figures,
        cores: Cores::Server(Load {
            tls: Some(exchange),
            ..load(connections, message)
        }),
        counted: None,
        contestants: vec![
            Contestant::rust("tokio-rustls"),
            Contestant::rust("tokio-rustls").form("tokio-rustls, shared", &["--form", "shared"]),
            Contestant::ours(&[]).form("handlers", &[]),
            Contestant::c(
                "libevent, OpenSSL",
                "tls/bufferevent.c",
                Some(LIBEVENT_OPENSSL),
            ),
        ],
    }
}
