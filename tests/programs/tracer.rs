//! The system calls of another process, one by one, by `ptrace(2)`.
//!
//! Between two calls the process is stopped: everything that a client does then reaches it as one
//! batch, on any machine.

use nix::libc::{self, c_long};
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
    /// Attaches to the process, which must have one thread, and stops it.
    pub(crate) fn attach(pid: rustix::process::Pid) -> Result<Self> {
        let pid = Pid::from_raw(pid.as_raw_nonzero().get());
        ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD)?;
        ptrace::interrupt(pid)?;
        match waitpid(pid, None)? {
            WaitStatus::PtraceEvent(..) => Ok(Self { pid }),
            status => Err(format!("an interrupted process says {status:?}").into()),
        }
    }

    /// Lets it run to the beginning of its next system call. Returns the name of that call.
    pub(crate) fn next_call(&mut self) -> Result<&'static str> {
        loop {
            ptrace::syscall(self.pid, None)?;
            match waitpid(self.pid, None)? {
                WaitStatus::PtraceSyscall(_) if self.enters_call()? => {
                    return Ok(name(number(&ptrace::getregs(self.pid)?)));
                }
                WaitStatus::Exited(_, code) => return Err(format!("it ended with {code}").into()),
                _ => {}
            }
        }
    }

    /// Returns `true` if the process is stopped before a call. Otherwise it is stopped after one.
    fn enters_call(&self) -> Result<bool> {
        Ok(ptrace::syscall_info(self.pid)?.op == libc::PTRACE_SYSCALL_INFO_ENTRY)
    }

    /// Lets it run until it is about to wait for events. Returns the calls before that.
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
        // Lets it run on. If it has ended meanwhile, there is nothing to detach from.
        let _ = ptrace::detach(self.pid, None);
    }
}

/// Returns the number of the call that has just begun, from the register of syscall(2).
fn number(registers: &libc::user_regs_struct) -> c_long {
    #[cfg(target_arch = "x86_64")]
    let number = registers.orig_rax;
    #[cfg(target_arch = "aarch64")]
    let number = registers.regs[8];
    number.cast_signed()
}

/// Returns the name of a call that a server of ours may make.
fn name(number: c_long) -> &'static str {
    match number {
        libc::SYS_read => "read",
        libc::SYS_write => "write",
        libc::SYS_close => "close",
        libc::SYS_ioctl => "ioctl",
        libc::SYS_writev => "writev",
        libc::SYS_sendto => "sendto",
        libc::SYS_recvfrom => "recvfrom",
        libc::SYS_setsockopt => "setsockopt",
        libc::SYS_clock_gettime => "clock_gettime",
        #[cfg(target_arch = "x86_64")] // other processors have `epoll_pwait` alone
        libc::SYS_epoll_wait => "epoll_wait",
        libc::SYS_epoll_ctl => "epoll_ctl",
        libc::SYS_epoll_pwait => "epoll_pwait",
        libc::SYS_accept4 => "accept4",
        libc::SYS_epoll_pwait2 => "epoll_pwait2",
        _ => "another",
    }
}
