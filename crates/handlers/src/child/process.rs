//! One child process, which is watched, signalled and reaped independently of all others.
//!
//! Ground rule: a process id is used only while it certainly identifies the child. A pidfd
//! identifies the child for ever. The pid identifies the child until it is reaped, which is checked
//! through the pidfd.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::sync::Arc;
use std::time::Instant;

use reactor::Error;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal,
    waitid,
};
use wait4::Wait4;

use super::group;
use super::orphans::{self, Orphan};
use super::{Exit, Usage};
use crate::error::{advised, named};
use crate::signal::Signal;

/// The target of a signal. The order of the variants is by size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SignalTarget {
    Process,
    Group,
}

/// A child that is not reaped yet. As a source it becomes readable when the child has ended.
pub(super) struct ChildProcess {
    pidfd: Arc<OwnedFd>,
    pid: Pid,
    label: Arc<str>,
    /// The target that got a `SIGTERM`. Each process gets only one.
    requested: Cell<Option<SignalTarget>>,
    /// The time at which the requested target is killed, if it has not ended by then.
    pub(super) kill_at: Cell<Option<Instant>>,
    group_killed: Cell<bool>,
    /// The child, until it is reaped. `None` before it is taken over.
    child: RefCell<Option<Child>>,
}

impl ChildProcess {
    /// Opens a child that the standard library has started. Until [`take_over`](Self::take_over) is
    /// called, the caller must reap the child.
    pub(super) fn open(child: &Child, program: Option<&str>) -> io::Result<Self> {
        let pid = Pid::from_child(child);
        let label: Arc<str> = match program {
            Some(program) => format!("child {} ({program})", pid.as_raw_pid()).into(),
            None => format!("child {}", pid.as_raw_pid()).into(),
        };
        let pidfd = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|errno| failed("pidfd_open", &label, errno, reaped_elsewhere(errno)))?;
        has_ended(&pidfd)
            .map_err(|errno| failed("waitid", &label, errno, reaped_elsewhere(errno)))?;
        Ok(Self::new(pid, label, Arc::new(pidfd), None))
    }

    /// Takes over a child whose loop has ended.
    pub(super) fn from_orphan(orphan: Orphan, pidfd: Arc<OwnedFd>) -> Self {
        Self::new(
            Pid::from_child(&orphan.child),
            orphan.label,
            pidfd,
            Some(orphan.child),
        )
    }

    fn new(pid: Pid, label: Arc<str>, pidfd: Arc<OwnedFd>, child: Option<Child>) -> Self {
        let (requested, kill_at, group_killed) =
            (Cell::new(None), Cell::new(None), Cell::new(false));
        Self {
            pidfd,
            pid,
            label,
            requested,
            kill_at,
            group_killed,
            child: RefCell::new(child),
        }
    }

    /// Takes the child over. From now on the child is reaped here.
    pub(super) fn take_over(&self, child: Child) {
        *self.child.borrow_mut() = Some(child);
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().cast_unsigned()
    }

    /// Returns the name of the child in logs and errors, such as `child 4711 (sh)`.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Returns `true` if the child was taken over and is not reaped yet.
    pub(super) fn must_be_reaped(&self) -> bool {
        self.child.borrow().is_some()
    }

    /// Reaps the child and returns its exit. Returns `WouldBlock` while the child runs. After any
    /// other error the child is no longer reaped here.
    pub(super) fn reap(&self) -> io::Result<Exit> {
        let mut child = self.child.borrow_mut();
        let reaped = match &mut *child {
            Some(child) => reap(&self.pidfd, child, &self.label),
            None => Err(failed("waitid", &self.label, Errno::CHILD, STOLEN)),
        };
        if !matches!(&reaped, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            *child = None;
        }
        reaped
    }

    /// Sends `signal` to the child, or to its group.
    pub(super) fn send(&self, target: SignalTarget, signal: Signal) -> Result<(), Error> {
        let call = match target {
            SignalTarget::Process => "pidfd_send_signal",
            SignalTarget::Group => "kill",
        };
        let known = self.sendable(call, signal)?;
        // A pidfd cannot identify a group. The id of the group is the child's pid only until the
        // child is reaped.
        if target == SignalTarget::Group && has_ended(&self.pidfd) == Err(Errno::CHILD) {
            return Err(Error::Call {
                call: "waitid",
                source: advised(&self.label, Errno::CHILD.into(), STOLEN),
            });
        }
        let sent = match target {
            SignalTarget::Process => pidfd_send_signal(&self.pidfd, known),
            SignalTarget::Group => kill_process_group(self.pid, known),
        };
        match sent {
            Ok(()) => Ok(()),
            // The child has ended, and other code has reaped it.
            Err(Errno::SRCH) if target == SignalTarget::Process => Ok(()),
            Err(errno) => {
                let advice = match errno {
                    Errno::SRCH => {
                        ": the child does not lead a process group, spawn it with CommandExt::process_group(0)"
                    }
                    Errno::PERM => ": the child now runs as another user",
                    _ => "",
                };
                let source = advised(
                    format_args!("{signal} to {}", self.label),
                    errno.into(),
                    advice,
                );
                Err(Error::Call { call, source })
            }
        }
    }

    fn sendable(
        &self,
        call: &'static str,
        signal: Signal,
    ) -> Result<rustix::process::Signal, Error> {
        rustix::process::Signal::from_named_raw(signal.as_raw()).ok_or_else(|| {
            let text = format!(
                "{signal} to {}: only signals with a name can be sent",
                self.label
            );
            Error::Call {
                call,
                source: io::Error::new(ErrorKind::InvalidInput, text),
            }
        })
    }

    /// Sends `SIGTERM` to the child or to its whole group. A process that has already got one gets
    /// no second one.
    pub(super) fn request_exit(&self, target: SignalTarget) -> Result<(), Error> {
        match (self.requested.get(), target) {
            (None, _) => self.send(target, Signal::TERM)?,
            (Some(SignalTarget::Process), SignalTarget::Group) => self.request_exit_of_others()?,
            (Some(_), _) => {}
        }
        self.requested.set(self.requested.get().max(Some(target)));
        // A stopped process reacts to no signal except SIGCONT and SIGKILL.
        if let Err(error) = self.send(target, Signal::CONT) {
            tracing::debug!(child = %self.label, %error, "SIGCONT failed");
        }
        Ok(())
    }

    /// Sends `SIGTERM` to all processes of the group except the child, which has already got one.
    fn request_exit_of_others(&self) -> Result<(), Error> {
        self.send(SignalTarget::Group, Signal::CONT)?; // checks the group, and returns the errors
        let term = self.sendable("pidfd_send_signal", Signal::TERM)?;
        let unread = |error| Error::Call {
            call: "readdir",
            source: named("/proc", error),
        };
        for other in group::others(self.pid).map_err(unread)? {
            let sent = other.and_then(|pidfd| Ok(pidfd_send_signal(pidfd, term)?));
            if let Err(error) = sent {
                tracing::debug!(child = %self.label, %error, "SIGTERM to a process of its group failed");
            }
        }
        Ok(())
    }

    /// Kills the requested target if it has not ended in time.
    pub(super) fn kill_if_overdue(&self) {
        if self.kill_at.take().is_none() {
            return;
        }
        tracing::info!(child = %self.label, "killing a child that has not ended in time");
        match self.requested.get() {
            Some(SignalTarget::Group) => self.kill_group(),
            _ => self.kill(SignalTarget::Process),
        }
    }

    /// Kills the rest of the group. The id of the group is the child's pid, so the child must not
    /// be reaped before this call.
    pub(super) fn kill_group(&self) {
        self.group_killed.set(true);
        self.kill(SignalTarget::Group);
    }

    fn kill(&self, target: SignalTarget) {
        if let Err(error) = self.send(target, Signal::KILL) {
            tracing::warn!(child = %self.label, %error, "SIGKILL failed");
        }
    }

    /// Returns `true` if the child has ended, its group was asked to exit too, and the rest of the
    /// group was not killed yet.
    pub(super) fn has_unfinished_group(&self) -> bool {
        let is_ending =
            self.requested.get() == Some(SignalTarget::Group) && !self.group_killed.get();
        is_ending && has_ended(&self.pidfd) == Ok(true)
    }

    /// Returns another process of the group, if one is left.
    pub(super) fn other_of_group(&self) -> io::Result<Option<OwnedFd>> {
        group::others(self.pid)?.next().transpose()
    }
}

/// Handles a child that no loop watches any more. A child that was to be killed later is killed
/// now, since no loop could do it later. A child that still runs is kept for the next loop that
/// starts or watches a child.
impl Drop for ChildProcess {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        self.kill_if_overdue();
        match reap(&self.pidfd, &mut child, &self.label) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => return,
        }
        orphans::add(Orphan {
            pidfd: Some(Arc::clone(&self.pidfd)),
            child,
            label: Arc::clone(&self.label),
        });
    }
}

impl AsFd for ChildProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl fmt::Debug for ChildProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

const STOLEN: &str = ": other code has reaped the child: SIGCHLD is ignored, or a part of the program waits for any child";

/// Returns the advice for an errno that means that other code has reaped the child.
fn reaped_elsewhere(errno: Errno) -> &'static str {
    if matches!(errno, Errno::SRCH | Errno::CHILD) {
        STOLEN
    } else {
        ""
    }
}

/// Returns `true` if the child has ended and can be reaped. Does not reap the child.
fn has_ended(pidfd: &OwnedFd) -> Result<bool, Errno> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Err(Errno::AGAIN) => Ok(false), // the pidfd is non-blocking, like all sources
        ended => ended.map(|status| status.is_some()),
    }
}

/// Reaps this child and no other. Returns `WouldBlock` while the child runs.
///
/// The resource use comes from `wait4(2)`, which takes a pid and no pidfd. Therefore the pidfd is
/// asked first: if the child has ended and is not reaped, its pid is still its own, and `wait4`
/// does not block.
pub(super) fn reap(pidfd: &OwnedFd, child: &mut Child, label: &str) -> io::Result<Exit> {
    match has_ended(pidfd) {
        Ok(true) => {}
        Ok(false) => return Err(ErrorKind::WouldBlock.into()),
        Err(errno) => return Err(failed("waitid", label, errno, reaped_elsewhere(errno))),
    }
    let ended = child
        .wait4()
        .map_err(|error| advised(format_args!("wait4 of {label}"), error, STOLEN))?;
    let wait4::ResourceUsage {
        utime,
        stime,
        maxrss,
    } = ended.rusage;
    let usage = Usage {
        user: utime,
        system: stime,
        max_rss_bytes: maxrss,
    };
    Ok(Exit {
        pid: child.id(),
        status: ended.status,
        usage,
    })
}

fn failed(call: &str, label: &str, errno: Errno, advice: &'static str) -> io::Error {
    advised(format_args!("{call} of {label}"), errno.into(), advice)
}
