//! One child process: how it is watched, signalled and reaped, without a look at any other.
//!
//! Ground rule: a number is used only while it is certain to be the child's. A pidfd names the child for ever; its pid does
//! as long as nobody has reaped it, which is asked through the pidfd.

use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal, waitid,
};

use super::orphans::{self, Orphan};
use super::{Exit, Usage};
use crate::signal::Signal;

/// Whom a signal is for, those who reach more last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    Process,
    Group,
}

/// An escalation under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kill {
    pub(super) at: Instant,
    pub(super) reach: Reach,
}

/// A child that nobody has reaped yet: a source that is readable when it has ended.
pub(super) struct Process {
    pidfd: Arc<OwnedFd>,
    pid: Pid,
    label: Arc<str>,
    /// When it is killed unless it has ended by then.
    pub(super) kill: Cell<Option<Kill>>,
    /// Whether it is no longer ours to reap.
    settled: Cell<bool>,
}

impl Process {
    /// A child that was started by the standard library.
    pub(super) fn open(child: &Child, program: Option<&str>) -> io::Result<Self> {
        let pid = Pid::from_child(child);
        let label: Arc<str> = match program {
            Some(program) => format!("child {} ({program})", pid.as_raw_pid()).into(),
            None => format!("child {}", pid.as_raw_pid()).into(),
        };
        let pidfd =
            pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| failed("pidfd_open", &label, errno, STOLEN))?;
        let process = Self { pidfd: Arc::new(pidfd), pid, label, kill: Cell::new(None), settled: Cell::new(true) };
        match has_ended(&process.pidfd) {
            Err(Errno::CHILD) => return Err(failed("waitid", &process.label, Errno::CHILD, STOLEN)),
            Err(errno) => return Err(failed("waitid", &process.label, errno, "")),
            Ok(_) => process.settled.set(false),
        }
        Ok(process)
    }

    /// One that was left behind, by whom nobody is waited for any more.
    pub(super) fn adopted(orphan: &Orphan, pidfd: Arc<OwnedFd>) -> Self {
        Self {
            pidfd,
            pid: orphan.pid,
            label: Arc::clone(&orphan.label),
            kill: Cell::new(None),
            settled: Cell::new(false),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().cast_unsigned()
    }

    /// How it appears in logs and errors: `child 4711 (sh)`.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Gives the child up to somebody else, who reaps it.
    pub(super) fn release(&self) {
        self.settled.set(true);
    }

    /// Whether it has been reaped, or is somebody else's to reap.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.get()
    }

    /// Reaps the child and says how it has ended; `WouldBlock` while it runs. Any other error is the last word, too.
    pub(super) fn reap(&self) -> io::Result<Exit> {
        let reaped = reap(&self.pidfd, self.pid, &self.label);
        if !matches!(&reaped, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            self.settled.set(true);
        }
        reaped
    }

    pub(super) fn send(&self, reach: Reach, signal: Signal) -> io::Result<()> {
        let known = rustix::process::Signal::from_named_raw(signal.as_raw()).ok_or_else(|| {
            let text = format!("{signal} cannot be sent to {}: only signals that have a name can", self.label);
            io::Error::new(ErrorKind::InvalidInput, text)
        })?;
        // A pidfd cannot name a group, and its number is the child's only until somebody has reaped it.
        if reach == Reach::Group && has_ended(&self.pidfd) == Err(Errno::CHILD) {
            return Err(failed("waitid", &self.label, Errno::CHILD, STOLEN));
        }
        let (call, sent) = match reach {
            Reach::Process => ("pidfd_send_signal", pidfd_send_signal(&self.pidfd, known)),
            Reach::Group => ("kill", kill_process_group(self.pid, known)),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) if reach == Reach::Process => Ok(()), // it has ended, and others have reaped it
            Err(errno) => {
                let advice = match errno {
                    Errno::SRCH => ": it leads no process group, spawn it with CommandExt::process_group(0)",
                    Errno::PERM => ": it runs as another user by now",
                    _ => "",
                };
                Err(failed(&format!("{call}({signal})"), &self.label, errno, advice))
            }
        }
    }

    /// The time that was given to it has passed.
    pub(super) fn carry_out_kill(&self) {
        let Some(kill) = self.kill.take() else { return };
        tracing::info!(child = %self.label, "it has not ended in time and is killed");
        if let Err(error) = self.send(kill.reach, Signal::KILL) {
            tracing::warn!(child = %self.label, %error, "it cannot be killed");
        }
    }
}

/// No loop watches it any more. What was to end it does so now, as nobody will later; the rest is for the next loop that
/// starts a child.
impl Drop for Process {
    fn drop(&mut self) {
        if self.settled.get() {
            return;
        }
        self.carry_out_kill();
        orphans::leave(Orphan { pidfd: Some(Arc::clone(&self.pidfd)), pid: self.pid, label: Arc::clone(&self.label) });
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

const STOLEN: &str =
    ": its status went to somebody else: SIGCHLD is ignored, or a part of the program waits for any child";

/// Whether the child has ended and can be reaped. It is not reaped by that.
fn has_ended(pidfd: &OwnedFd) -> Result<bool, Errno> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Err(Errno::AGAIN) => Ok(false), // the pidfd is in non-blocking mode, as all sources are
        ended => ended.map(|status| status.is_some()),
    }
}

/// Reaps a child, and no other; `WouldBlock` while it runs.
///
/// The pidfd says that it has ended and has not been reaped, so its pid is still its own; the call that tells the resource
/// use, `wait4(2)`, knows no pidfd.
pub(super) fn reap(pidfd: &OwnedFd, pid: Pid, label: &str) -> io::Result<Exit> {
    match has_ended(pidfd) {
        Ok(true) => {}
        Ok(false) => return Err(ErrorKind::WouldBlock.into()),
        Err(Errno::CHILD) => return Err(failed("waitid", label, Errno::CHILD, STOLEN)),
        Err(errno) => return Err(failed("waitid", label, errno, "")),
    }
    let pid = pid.as_raw_pid().cast_unsigned();
    match wait4::try_wait4_pid(pid) {
        Ok(Some(ended)) => {
            let wait4::ResourceUsage { utime, stime, maxrss } = ended.rusage;
            let usage = Usage { user: utime, system: stime, rss_max_bytes: maxrss };
            Ok(Exit { pid, status: ended.status, usage })
        }
        Ok(None) => Err(ErrorKind::WouldBlock.into()),
        Err(error) => Err(io::Error::new(error.kind(), format!("wait4 of {label}: {error}{STOLEN}"))),
    }
}

fn failed(call: &str, label: &str, errno: Errno, advice: &str) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), format!("{call} of {label}: {error}{advice}"))
}
