//! Runs commands to their end, reports their failures, and kills commands that hang.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use workloads::Result;

/// Runs a command and returns its output.
///
/// # Errors
/// The command does not start, or fails. The error contains what it wrote to standard error.
pub(crate) fn succeed(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    judge(command, output)
}

/// Runs a command that prints little and ends soon. A command that hangs is killed, with all
/// processes that it has started.
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

/// Starts a program as the leader of a process group. The processes that it starts are in that
/// group too, such as the compilers that cargo starts. An interrupt from the terminal does not
/// reach the group. It ends this program, and the processes of the group end by themselves.
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

/// The maximum time of a command. The longest run takes some seconds, and a cold build half a
/// minute.
const SOON: Timespec = Timespec {
    tv_sec: 300,
    tv_nsec: 0,
};

/// Waits for the end of a child for at most `limit`. Returns `true` if the child has ended.
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
