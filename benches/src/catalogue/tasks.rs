//! W8, tasks.

use super::case::{Case, Cores, Counted, Figure, less};
use crate::contestant::Contestant;

const SPAWN: &[Figure] = &[less("ns_per_op", "ns a task")];
const WAKE: &[Figure] = &[less("ns_per_op", "ns a wake")];
const SLEEP: &[Figure] = &[
    less("ns_per_op", "ns to arm and run"),
    less("ns_arm", "ns to arm"),
    less("bytes", "bytes a task"),
];
const IDLE: &[Figure] = &[
    less("bytes", "bytes a task"),
    less("ns_per_op", "ns to spawn").compared(),
];

pub(super) fn cases() -> Vec<Case> {
    let case = |title, arguments, figures, contestants| Case {
        title,
        arguments,
        small: &["--operations", "5000", "--tasks", "200"],
        figures,
        cores: Cores::One,
        counted: None,
        contestants,
    };
    let counted = Some(Counted {
        option: "--operations",
        short: 20_000,
        long: 60_000,
    });
    vec![
        Case {
            counted,
            ..case(
                "a task that ends at its first poll, 1000 at a time",
                &["tasks", "--op", "spawn"],
                SPAWN,
                with_callbacks(),
            )
        },
        Case {
            counted,
            ..case(
                "a task that wakes itself and ends, 1000 at a time",
                &["tasks", "--op", "twice"],
                SPAWN,
                with_callbacks(),
            )
        },
        Case {
            counted,
            ..case(
                "a task that wakes another one, in a ring of 1000, 100 active",
                &["tasks", "--op", "ring", "--active", "100"],
                WAKE,
                all(),
            )
        },
        Case {
            counted,
            ..case(
                "a task that wakes another one, in a ring of 1000, 1 active",
                &["tasks", "--op", "ring", "--active", "1"],
                WAKE,
                all(),
            )
        },
        Case {
            cores: Cores::All,
            ..case(
                "a task woken by another thread, 1000 in turn",
                &["tasks", "--op", "remote"],
                WAKE,
                all(),
            )
        },
        case(
            "a task that sleeps, of 100 000",
            &["tasks", "--op", "sleep"],
            SLEEP,
            sleeping(),
        ),
        case(
            "an idle task, of 100 000",
            &["tasks", "--op", "idle"],
            IDLE,
            all(),
        ),
    ]
}

fn all() -> Vec<Contestant> {
    vec![
        Contestant::rust("tokio"),
        Contestant::ours(&[]).form("handlers", &["--form", "usual"]),
        Contestant::rust("tokio").form("tokio, LocalRuntime", &["--form", "lean"]),
        Contestant::rust("smol"),
        Contestant::rust("calloop"),
    ]
}

fn with_callbacks() -> Vec<Contestant> {
    let mut all = all();
    all.insert(
        2,
        Contestant::ours(&[]).form("handlers, callbacks", &["--form", "callbacks"]),
    );
    all
}

/// Returns all contestants. calloop searches all its timers when one of them has run. With as many
/// timers as the others it would take minutes.
fn sleeping() -> Vec<Contestant> {
    let mut all = all();
    all.retain(|contestant| contestant.name != "calloop");
    all.push(Contestant::rust("calloop").form("calloop, fewer", &["--tasks", "10000"]));
    all
}
