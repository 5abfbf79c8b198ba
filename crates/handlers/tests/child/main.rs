//! Real children: their end, the environment they get, and the processes they leave behind.

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
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use support::{PATIENCE, Result, turn_until, wait_until_readable};

/// The notes of the callbacks of a test.
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

/// A child that runs until its input ends.
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

/// Notes the output of a child.
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

/// Runs the loop to its end. Fails if that does not come in time.
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
    if wait_until_readable(fd, PATIENCE)? {
        Ok(())
    } else {
        Err(format!("not within {PATIENCE:?}").into())
    }
}

/// Waits until a child has ended. Does not reap it.
fn wait_for_end(pid: u32) -> Result {
    match pidfd_open(raw_pid(pid), PidfdFlags::empty()) {
        Ok(pidfd) => wait_for(pidfd),
        Err(rustix::io::Errno::SRCH) => Ok(()), // and it has been reaped
        Err(errno) => Err(errno.into()),
    }
}

/// Returns `true` if a loop watches a child. The loop may have taken over children that other tests
/// left behind.
fn is_watched<S>(reactor: &Reactor<S>, pid: u32) -> bool {
    let label = format!("child {pid} ");
    reactor
        .registrations()
        .any(|registration| format!("{} ", registration.name).starts_with(&label))
}

/// Returns `true` while a process exists, also as a zombie.
fn is_there(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}
