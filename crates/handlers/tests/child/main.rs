//! Real children: what they are told, what they get, and what is left of them.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod end;
mod group;
mod key;
mod orphans;
mod output;
mod start;
mod supervisor;

use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use handlers::child::{self, Exit, Output, Spawned};
use reactor::{Context, Reactor, Registry};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use support::{PATIENCE, turn_until};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the callbacks of a test note.
#[derive(Debug, Default)]
struct Seen {
    exits: Vec<Exit>,
    errors: Vec<io::Error>,
    lines: Vec<String>,
    outputs_ended: usize,
    news: Vec<String>,
    /// The children that a supervisor has started, with their pipes.
    children: Vec<Spawned>,
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null());
    command
}

/// A child that runs until its input ends, and says so when it does.
fn waiting(script: &str) -> Command {
    let mut command = sh(script);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn note(exit: io::Result<Exit>, cx: &mut Context<'_, Seen>) -> io::Result<()> {
    match exit {
        Ok(exit) => cx.state.exits.push(exit),
        Err(error) => cx.state.errors.push(error),
    }
    Ok(())
}

fn spawn(registry: &mut Registry<Seen>, command: &mut Command) -> io::Result<Spawned> {
    child::spawn(registry, command, note)
}

/// Notes what a child writes.
fn note_lines(registry: &mut Registry<Seen>, child: &mut Spawned) -> Result {
    let stdout = child.stdout.take().ok_or("its output is no pipe")?;
    child::lines(registry, stdout, 4096, |output, cx| {
        match output {
            Output::Line(line, _) => cx
                .state
                .lines
                .push(String::from_utf8_lossy(line).into_owned()),
            _ => cx.state.outputs_ended += 1,
        }
        Ok(())
    })?;
    Ok(())
}

fn raw_pid(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).expect("it is not 0")
}

/// Runs the loop to its end, which is not left to hang if it does not come.
fn run<S: 'static>(reactor: &mut Reactor<S>, state: &mut S) -> Result {
    let remote = reactor.remote()?;
    let (ended, end) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = end.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        late && remote.stop().is_ok()
    });
    reactor.run(state)?;
    drop(ended);
    if watchdog.join().expect("it does not panic") {
        return Err(format!("it runs for {PATIENCE:?}: {reactor:?}").into());
    }
    Ok(())
}

/// Waits until `fd` is readable or hung up.
fn wait_for(fd: impl AsFd) -> Result {
    let patience = Timespec::try_from(PATIENCE)?;
    // A child of another test ends meanwhile, and one test watches SIGCHLD: poll(2) is not restarted after a signal.
    match retry_on_intr(|| poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)))? {
        0 => Err(format!("not within {PATIENCE:?}").into()),
        _ => Ok(()),
    }
}

/// Waits until a child has ended, and leaves it to be reaped.
fn wait_for_end(pid: u32) -> Result {
    match pidfd_open(raw_pid(pid), PidfdFlags::empty()) {
        Ok(pidfd) => wait_for(pidfd),
        Err(rustix::io::Errno::SRCH) => Ok(()), // and it has been reaped
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a loop watches a child. (It may have taken in children that other tests have left.)
fn is_watched<S>(reactor: &Reactor<S>, pid: u32) -> bool {
    let label = format!("child {pid} ");
    reactor
        .registrations()
        .any(|registration| format!("{} ", registration.name).starts_with(&label))
}

/// Whether anything is left of a process, be it a zombie.
fn is_there(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}
