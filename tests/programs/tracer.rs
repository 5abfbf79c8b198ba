//! The system calls of another process, one by one, by `ptrace(2)`.
//!
//! Between two calls the process stands still: what a client does then reaches it as one batch, on any machine.

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Result;

/// A process that stops at each of its system calls. Only the thread that attached it may use it.
pub(crate) struct Tracee {
    pid: Pid,
}

/// The calls that wait for events.
pub(crate) const WAITS: [&str; 3] = ["epoll_wait", "epoll_pwait", "epoll_pwait2"];

impl Tracee {
    /// Stops the process, which must have one thread.
    pub(crate) fn attach(pid: rustix::process::Pid) -> Result<Self> {
        let pid = Pid::from_raw(pid.as_raw_nonzero().get());
        ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD)?;
        ptrace::interrupt(pid)?;
        match waitpid(pid, None)? {
            WaitStatus::PtraceEvent(..) => Ok(Self { pid }),
            status => Err(format!("an interrupted process says {status:?}").into()),
        }
    }

    /// Lets it run to the beginning of its next system call, and names that.
    pub(crate) fn next_call(&mut self) -> Result<&'static str> {
        loop {
            ptrace::syscall(self.pid, None)?;
            match waitpid(self.pid, None)? {
                WaitStatus::PtraceSyscall(_) => {
                    let registers = ptrace::getregs(self.pid)?;
                    // ptrace(2): on the way in, what will be the result says ENOSYS.
                    if registers.rax as i64 == -(Errno::ENOSYS as i64) {
                        return Ok(name(registers.orig_rax));
                    }
                }
                WaitStatus::Exited(_, code) => return Err(format!("it ended with {code}").into()),
                _ => {}
            }
        }
    }

    /// Lets it run until it is about to wait for events; gives the calls it has made up to there.
    pub(crate) fn run_to_wait(&mut self) -> Result<Vec<&'static str>> {
        let mut calls = Vec::new();
        loop {
            match self.next_call()? {
                wait if WAITS.contains(&wait) => return Ok(calls),
                call => calls.push(call),
            }
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        // Lets it run on; if it has ended meanwhile there is nothing to let go.
        let _ = ptrace::detach(self.pid, None);
    }
}

/// Those that a server of ours may make; x86-64.
fn name(number: u64) -> &'static str {
    match number {
        0 => "read",
        1 => "write",
        3 => "close",
        16 => "ioctl",
        20 => "writev",
        44 => "sendto",
        45 => "recvfrom",
        54 => "setsockopt",
        228 => "clock_gettime",
        232 => "epoll_wait",
        233 => "epoll_ctl",
        281 => "epoll_pwait",
        288 => "accept4",
        441 => "epoll_pwait2",
        _ => "another",
    }
}
