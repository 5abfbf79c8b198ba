//! Faults by the kernel: errors of system calls, and what a process meets on a real machine.

mod disk;
mod injection;
mod memory;
mod program;

use std::process::{Command, Stdio};

use support::{Result, or_skipped};

/// Returns whether a program can be started. Without it the test that calls is skipped, which is
/// an error if `NO_SKIPS` is in the environment, as in `.ci/run`.
fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    let version = command.arg("--version").stdout(Stdio::null());
    or_skipped(version.status().is_ok(), &format!("no {program}"))
}
