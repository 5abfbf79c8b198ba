//! Commands that are run to their end: whether they ended well, what they said if not, and an end
//! to those that hang.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use workloads::Result;

/// Runs a command and gives what it said.
///
/// # Errors
/// That it does not start or fails, and what it said then.
pub(crate) fn succeed(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    judge(command, output)
}

/// The same for a program that says little and is done soon: one that hangs is killed, with all
/// that it has started.
pub(crate) fn succeed_soon(command: &mut Command) -> Result<Output> {
    let mut child =
        spawn_group(command).map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if !ends_within(&child, SOON)? {
        kill_group(&mut child)?;
        return Err(format!(
            "{command:?} has not ended after {} s, and was killed",
            SOON.tv_sec
        )
        .into());
    }
    judge(command, child.wait_with_output()?)
}

/// Starts a program as the first of a process group, to which belongs what it starts: the compilers
/// of a cargo, for one. An interrupt from the terminal is not for that group: it ends this program,
/// and who runs then ends by itself.
fn spawn_group(command: &mut Command) -> io::Result<Child> {
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn kill_group(first: &mut Child) -> Result {
    kill_process_group(Pid::from_child(first), Signal::KILL)?;
    first.wait()?;
    Ok(())
}

/// The longest run takes some seconds, and a cold build half a minute.
const SOON: Timespec = Timespec {
    tv_sec: 300,
    tv_nsec: 0,
};

/// Waits for the end of a child, but not longer than that: whether it has ended.
pub(crate) fn ends_within(child: &Child, limit: Timespec) -> Result<bool> {
    is_over_within(
        pidfd_open(Pid::from_child(child), PidfdFlags::empty())?,
        limit,
    )
}

fn is_over_within(pidfd: impl AsFd, limit: Timespec) -> Result<bool> {
    let mut end = [PollFd::new(&pidfd, PollFlags::IN)];
    Ok(retry_on_intr(|| poll(&mut end, Some(&limit)))? > 0)
}

fn judge(command: &Command, output: Output) -> Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}\n{said}", output.status).into())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn killing_a_process_also_kills_every_process_that_it_has_started() {
        let mut parent =
            spawn_group(Command::new("sh").args(["-c", "sleep 600 & echo $!; wait"])).unwrap();
        let mut told = String::new();
        BufReader::new(parent.stdout.take().unwrap())
            .read_line(&mut told)
            .unwrap();
        let started = Pid::from_raw(told.trim().parse().unwrap()).unwrap();
        let started = pidfd_open(started, PidfdFlags::empty()).unwrap();
        kill_group(&mut parent).unwrap();
        assert!(
            is_over_within(
                started,
                Timespec {
                    tv_sec: 10,
                    tv_nsec: 0
                }
            )
            .unwrap()
        );
    }
}
