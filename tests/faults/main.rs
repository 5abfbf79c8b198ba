//! Faults by the kernel: errors of system calls, and what a process meets on a real machine.

mod disk;
mod injection;
mod memory;
mod program;

use std::process::{Command, Stdio};

use support::Result;

/// Returns whether a program can be started. Without it the test that calls is skipped, which is
/// an error if `NO_SKIPS` is in the environment, as in `.ci/run`.
fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    let version = command.arg("--version").stdout(Stdio::null());
    or_skipped(version.status().is_ok(), &format!("no {program}"))
}

/// Returns `is_possible`, and says that a test is skipped if it is not.
fn or_skipped(is_possible: bool, reason: &str) -> bool {
    if !is_possible {
        println!("skipped: {reason}");
        assert!(std::env::var_os("NO_SKIPS").is_none(), "skipped: {reason}");
    }
    is_possible
}
