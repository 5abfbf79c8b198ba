//! Child processes as sources. A callback gets the exit of a child once. The child's pipes are
//! streams. A supervisor can restart a child.
//!
//! Ground rule: no code here waits for *any* child. The exit of each child is detected by the
//! child's own pidfd, without a handler for `SIGCHLD`. Therefore any number of loops and libraries
//! can have children in one process, and no loop or library reaps a child that another has started.
//!
//! Second rule: a child that was passed to this module is always reaped. If the watch of a child is
//! removed, the child's loop still reaps it in the background. If the child's loop was dropped, the
//! next call of [`spawn`] or [`watch()`] passes the child to the loop of that call, which reaps it.
//! If the child exits before such a call, it stays a zombie (a process-table entry) until the call,
//! or until this process exits. Only a dedicated thread that outlives every loop could reap such a
//! child sooner.
//!
//! # Inherited by a child
//! `Command` decides what a child inherits. This module does not change that:
//! - *Descriptors*: a child inherits standard input, output and error. All descriptors that the
//!   loop or the standard library opens are close-on-exec, so no child inherits them. A child
//!   shares an inherited descriptor with this process, including its blocking mode. Do not register
//!   such a descriptor, since the registration would make it non-blocking for the children too. The
//!   pipes made by `Stdio::piped` are not affected, since each end has a mode of its own, and the
//!   child's end blocks.
//! - *Signal mask*: no signal is blocked in the child, even if the spawning thread blocks signals.
//! - *Dispositions*: signals that are watched by [`signal`](crate::signal), or caught by other
//!   code, are reset to their default by `exec`. *Ignored* signals stay ignored, except `SIGPIPE`,
//!   which Rust's runtime ignores and `Command` resets.
//!
//! # Cost
//! [`Command::spawn`](std::process::Command::spawn) itself runs on the loop's thread. It starts the
//! process, and waits until the program is executed. In the tests the call takes half a
//! millisecond. The call takes longer if the file system is slow to find the program. It also takes
//! longer if a large process has to fork, which `Command` does for `pre_exec` and `uid`. If the
//! loop must not be blocked for that time, spawn the child on a [`WorkerPool`] and pass it to
//! [`watch()`].
//!
//! The watch costs a file descriptor, an `epoll_ctl`, an `ioctl`, a `pidfd_open` and a `waitid`.
//! The exit costs a `waitid` and a `wait4`.
//!
//! Source: `pidfd_open(2)`, since Linux 5.3; `waitid(2)` with `P_PIDFD`, since Linux 5.4. For
//! comparison: in libuv and libev, one loop reaps all children of the process when it gets
//! `SIGCHLD`.
//!
#![cfg_attr(feature = "pool", doc = "[`WorkerPool`]: crate::WorkerPool")]
#![cfg_attr(not(feature = "pool"), doc = "[`WorkerPool`]: crate#features")]

mod group;
mod key;
mod orphans;
mod output;
mod process;
mod restart;
mod supervisor;
mod watch;

use std::fmt;
use std::io;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::time::Duration;

use reactor::{Context, Registry};

pub use self::key::ChildKey;
use self::orphans::Orphan;
pub use self::output::{Output, lines};
pub use self::restart::RestartPolicy;
pub use self::supervisor::{SupervisorEvent, SupervisorKey, supervise};
use self::watch::{ExitCallback, spawn_watched, watch_child};

/// The exit of a child: its status and its resource use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// The process id that the child had. Another process may have this id by now.
    pub pid: u32,
    /// The exit code of the child, or the signal that has ended it.
    /// [`ExitStatusExt::signal`](std::os::unix::process::ExitStatusExt::signal) returns the signal.
    pub status: ExitStatus,
    /// The resources that the child has used.
    pub usage: Usage,
}

/// The resources that a child has used. The resources of the child's own children are included if
/// the child has waited for them.
///
/// # Source
/// `getrusage(2)`, as returned by `wait4(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time in user mode, summed over the child and those of its own children that it has
    /// waited for.
    pub user: Duration,
    /// Processor time in the kernel, summed over the child and those of its own children that it
    /// has waited for.
    pub system: Duration,
    /// The maximum resident memory, in bytes, of a single process: the child or one of its own
    /// children. The process with the largest maximum counts, so the value is not a sum.
    ///
    /// The kernel measures from the start of the child. Until the child executes its program, it
    /// shares the memory of the spawning process, and the kernel counts this memory for the child
    /// too. Therefore the value is never less than the maximum that the spawning process had
    /// reached when it started the child. If `Command` has to fork, for example for `pre_exec`, the
    /// value has no such minimum: the child then starts with a copy of the memory.
    pub max_rss_bytes: u64,
}

/// A child that a loop watches, with the pipes that its `Command` requested.
///
/// Each pipe is a [`Stream`](crate::Stream). You can pass it to
/// [`Connection::open`](crate::Connection::open), [`lines`] or [`Registry::add`]. If you drop
/// `stdin`, the child reads the end of its input. If you drop `stdout` or `stderr`, the child gets
/// `SIGPIPE` or `EPIPE` when it writes its output.
#[derive(Debug)]
#[non_exhaustive]
pub struct Spawned {
    /// The key for signalling and ending the child.
    pub key: ChildKey,
    /// The process id.
    pub pid: u32,
    /// The pipe to the child's standard input, if the `Command` set it to `Stdio::piped`.
    pub stdin: Option<ChildStdin>,
    /// The pipe from the child's standard output, if the `Command` set it to `Stdio::piped`.
    pub stdout: Option<ChildStdout>,
    /// The pipe from the child's standard error, if the `Command` set it to `Stdio::piped`.
    pub stderr: Option<ChildStderr>,
}

/// The error of [`watch()`] for a child that could not be watched. It returns the child. You must
/// then wait for the child yourself, since it would otherwise stay a zombie. Alternatively, convert
/// the error into an [`io::Error`]: the next loop that starts or watches a child then reaps this
/// child too.
#[non_exhaustive]
pub struct WatchError {
    /// The child that was passed to [`watch()`].
    pub child: Child,
    /// The reason.
    pub error: io::Error,
}

/// Starts `command`, and calls `on_exit` once when the child has ended.
///
/// `on_exit` gets the exit status and the resource use, even if the child ends before the loop
/// runs. An error that `on_exit` returns is logged.
///
/// `on_exit` gets the error `ECHILD` if other code has reaped the child. This happens if the
/// program ignores `SIGCHLD`, or if a part of the program waits for any child. In both cases the
/// child has ended, but its exit status and its resource use are lost.
///
/// When `on_exit` is called, the child's output may still be in its pipes. The exit is not the end
/// of the output: a pipe may end before or after the exit.
///
/// The registration keeps [`Reactor::run`](reactor::Reactor::run) alive until the child has ended.
/// If the registration is removed, or the reactor is dropped, the child continues to run, and
/// `on_exit` is dropped without a call; see [`ChildKey::key`]. Standard input is inherited by
/// default, as with [`Command::spawn`]. Call this function on the loop's thread.
///
/// # Cost
/// See the [module](self#cost).
///
/// # Errors
/// - `NotFound` if the program, its interpreter or its working directory does not exist.
/// - `PermissionDenied` if the file is not a program, or if this user may not execute it.
/// - `EMFILE`, `EAGAIN` if a limit of processes is reached, and the other errors of
///   [`Command::spawn`]. These errors name the program.
/// - The errors of [`watch()`], if the child was started but cannot be watched. The child is then
///   killed. It stays a zombie until [`spawn`] or [`watch()`] is next called, on any loop of the
///   process. This loop then reaps it.
///
/// ```
/// use std::process::{Command, Stdio};
/// use handlers::child::{self, Output};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = reactor::Reactor::<Vec<String>>::new()?;
/// let mut command = Command::new("echo");
/// command.arg("hello").stdin(Stdio::null()).stdout(Stdio::piped());
/// let echo = child::spawn(&mut reactor, &mut command, |exit, _cx| {
///     assert!(exit?.status.success());
///     Ok(())
/// })?;
/// if let Some(stdout) = echo.stdout {
///     child::lines(&mut reactor, stdout, 1024, |output, cx| {
///         if let Output::Line(line, _connection) = output {
///             cx.state.push(String::from_utf8_lossy(line).into_owned());
///         }
///         Ok(())
///     })?;
/// }
/// let mut said = Vec::new();
/// reactor.run(&mut said)?; // until the child and its output have ended
/// assert_eq!(said, ["hello"]);
/// # Ok(())
/// # }
/// ```
#[doc(alias("uv_spawn", "Subprocess"))]
#[track_caller]
pub fn spawn<S, F>(
    registry: &mut Registry<S>,
    command: &mut Command,
    on_exit: F,
) -> io::Result<Spawned>
where
    F: FnOnce(io::Result<Exit>, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    spawn_watched(registry, command, Some(ExitCallback(on_exit)))
}

/// Calls `on_exit` once when `child` has ended. Works like [`spawn`], but does not start the
/// process: `child` was already started through the standard library.
///
/// Use this for a child that was spawned elsewhere: on another thread, or by another library. Do
/// not wait for the child before this call, for example by [`Child::try_wait`]. The returned
/// [`Spawned`] has the pipes that are still in `child`.
///
/// # Errors
/// [`WatchError`] returns the child. Its error is one of:
/// - `ESRCH` if the child was already reaped.
/// - `ECHILD` if the child was already reaped, and another process has got its process id since
///   then.
/// - `EMFILE` and the other errors of `pidfd_open(2)`.
/// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop, or
///   [`Error::Os`](reactor::Error::Os) from `epoll_ctl(2)`; see [`Registry::add`].
///
/// ```
/// use std::process::Command;
/// use handlers::child;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = reactor::Reactor::<()>::new()?;
/// let spawned_elsewhere = Command::new("true").spawn()?;
/// child::watch(&mut reactor, spawned_elsewhere, |exit, _cx| {
///     assert!(exit?.status.success());
///     Ok(())
/// })?;
/// reactor.run(&mut ())?;
/// # Ok(())
/// # }
/// ```
#[doc(alias("ev_child", "add_child_handler"))]
#[track_caller]
pub fn watch<S, F>(
    registry: &mut Registry<S>,
    child: Child,
    on_exit: F,
) -> Result<Spawned, WatchError>
where
    F: FnOnce(io::Result<Exit>, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    watch_child(registry, child, None, Some(ExitCallback(on_exit)))
}

/// Releases the child, which continues to run. It is reaped like a child whose loop was dropped: by
/// the next loop that starts or watches a child.
impl From<WatchError> for io::Error {
    fn from(WatchError { mut child, error }: WatchError) -> Self {
        // If other code has reaped the child, its process id may belong to another process by now.
        if matches!(child.try_wait(), Ok(None)) {
            let label = format!("child {}", child.id());
            orphans::add(Orphan::of(child, &label));
        }
        error
    }
}

impl fmt::Debug for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl WatchError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }

    /// Returns the errno from the kernel. Returns `None` if no system call has failed.
    pub fn raw_os_error(&self) -> Option<i32> {
        reactor::errno(&self.error)
    }
}

impl std::error::Error for WatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
