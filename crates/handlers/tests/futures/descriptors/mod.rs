//! Futures in a process that has no file descriptors left, and the descriptors that each life
//! leaves open. Each case runs in this program started once more, since a limit holds for all
//! threads.

mod constructors;
#[cfg(feature = "signal")]
mod ignored_signals;
mod lives;
mod servers;

use std::process::Command;

use support::{DescriptorLimit as Limit, PATIENCE, is_open};

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const CASE: &str = "HANDLERS_FUTURES_CASE";

/// Runs the case `name`, which must succeed.
#[track_caller]
fn run(name: &str) -> Result {
    let case = Command::new(std::env::current_exe()?);
    run_by(case, name)
}

/// Runs the case `name` by `command`, which gets the arguments of this program.
#[track_caller]
fn run_by(mut command: Command, name: &str) -> Result {
    command.args(["--exact", "descriptors::case", "--nocapture"]);
    let output = command.env(CASE, name).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {told}");
    Ok(())
}

#[test]
fn case() -> Result {
    match std::env::var(CASE).as_deref() {
        Ok("constructors") => constructors::case(),
        Ok("server") => servers::case(),
        Ok("lives") => lives::case(),
        #[cfg(feature = "signal")]
        Ok("ignored signal") => ignored_signals::case(),
        _ => Ok(()), // started among the other tests, it does nothing
    }
}

/// Returns the number of open descriptors. Opens none.
fn count_open() -> usize {
    (0..1000).filter(|number| is_open(*number)).count()
}

/// Waits until as many descriptors are open as before, since a child or a thread may be about to
/// close one.
#[track_caller]
fn expect_open(before: usize, what: &str) {
    let began = std::time::Instant::now();
    while count_open() != before && began.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    assert_eq!(count_open(), before, "{what}");
}
