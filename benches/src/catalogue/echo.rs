//! W5, echo.

use super::case::{Case, Cores, Counted, Figure, Load, less, more};
use super::libraries::{LIBEV, LIBEVENT, LIBUV};
use crate::contestant::Contestant;

pub(super) const FIGURES: [Figure; 5] = [
    more("messages_per_s", "messages a second"),
    less("us_median", "us, median"),
    less("us_99th", "us, 99th percentile"),
    less("cpu_us", "us, server CPU").compared(),
    less("bytes", "bytes a connection"),
];
/// With few connections, their bytes are hidden by the size of a page.
pub(super) const WITHOUT_BYTES: &[Figure] = FIGURES.split_at(4).0;

pub(super) fn cases() -> Vec<Case> {
    let case = |title, connections, message, contestants| Case {
        title,
        arguments: &["echo"],
        small: &[], // the client sets the amount of work
        figures: if connections < 1000 {
            WITHOUT_BYTES
        } else {
            &FIGURES
        },
        cores: Cores::Server(load(connections, message)),
        counted: None,
        contestants,
    };
    let counted = Some(Counted {
        option: "--messages",
        short: 2000,
        long: 6000,
    });
    vec![
        Case {
            counted,
            ..case("echo of 64 bytes, 1 connection", 1, 64, all_and_timed())
        },
        Case {
            counted,
            ..case("echo of 64 bytes, 50 connections", 50, 64, all_and_timed())
        },
        case("echo of 64 bytes, 1000 connections", 1000, 64, all()),
        // The maximum for client and server on one machine, with 20 000 open files a process.
        case("echo of 64 bytes, 10 000 connections", 10_000, 64, all()),
        case("echo of 16 KiB, 50 connections", 50, 16 * 1024, all()),
        case(
            "echo of 64 bytes, 50 connections, a task each",
            50,
            64,
            tasks(),
        ),
        case(
            "echo of 64 bytes, 1000 connections, a task each",
            1000,
            64,
            tasks(),
        ),
        case(
            "echo of 64 bytes, 10 000 connections, a task each",
            10_000,
            64,
            tasks(),
        ),
        // Spinning pays because a sleeping core takes long to wake. So the cores may sleep here.
        Case {
            cores: Cores::Server(Load {
                sleep: true,
                ..load(1, 64)
            }),
            ..case(
                "echo of 64 bytes, 1 connection, spinning",
                1,
                64,
                spinning(),
            )
        },
    ]
}

/// Returns the load of a case. A slice is short, but long enough for a message over each
/// connection, so 10 000 connections have fewer slices.
pub(super) const fn load(connections: u32, message: u32) -> Load {
    let slices = if connections < 10_000 { 25 } else { 8 };
    Load {
        connections,
        message,
        slices,
        sleep: false,
        tls: None,
        bursts: false,
    }
}

fn all() -> Vec<Contestant> {
    vec![
        Contestant::c("epoll loop in C", "echo/raw.c", None),
        Contestant::ours(&["--form", "bare"]),
        Contestant::ours(&[]).form("handlers", &["--form", "buffered"]),
        Contestant::rust("mio"),
        Contestant::c("libev", "echo/libev.c", Some(LIBEV)),
        Contestant::c("libevent", "echo/libevent.c", Some(LIBEVENT)),
        Contestant::c(
            "libevent, bufferevent",
            "echo/bufferevent.c",
            Some(LIBEVENT),
        ),
        Contestant::c("libuv", "echo/libuv.c", Some(LIBUV)),
        Contestant::rust("calloop"),
        Contestant::rust("tokio").form("tokio, shared buffer", &["--form", "shared"]),
        Contestant::rust("tokio").form("tokio", &["--form", "usual"]),
    ]
}

/// Returns all contestants, and the connections with an idle timeout. Every message re-arms that
/// timeout, and its cost is counted.
fn all_and_timed() -> Vec<Contestant> {
    let mut all = all();
    all.insert(
        3,
        Contestant::ours(&[]).form("handlers, idle timeout", &["--form", "timed"]),
    );
    all
}

/// Returns the loops with executors. The callbacks of our own show the price of the comfort.
fn tasks() -> Vec<Contestant> {
    vec![
        Contestant::rust("tokio").form("tokio", &["--form", "task"]),
        Contestant::ours(&[]).form("handlers", &["--form", "task"]),
        Contestant::rust("tokio").form("tokio, LocalRuntime", &["--form", "task-lean"]),
        Contestant::rust("smol").form("smol", &["--form", "task"]),
        Contestant::rust("calloop").form("calloop", &["--form", "task"]),
        Contestant::ours(&[]).form("handlers, callbacks", &["--form", "buffered"]),
    ]
}

fn spinning() -> Vec<Contestant> {
    vec![
        Contestant::c("epoll loop in C", "echo/raw.c", None),
        Contestant::c("epoll loop in C", "echo/raw.c", None)
            .form("epoll loop in C, spinning", &["--spin", "300"]),
        Contestant::ours(&[]).form("reactor, spinning", &["--form", "bare", "--spin", "300"]),
        Contestant::ours(&[]).form(
            "handlers, spinning",
            &["--form", "buffered", "--spin", "300"],
        ),
    ]
}
