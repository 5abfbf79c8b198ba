//! Child processes as sources: their exit, reported once; their pipes, which are streams; their
//! restart.
//!
//! Ground rule: no code here waits for *any* child. The exit of each is detected by its own pidfd,
//! without a handler for `SIGCHLD`. Therefore any number of loops and libraries can have children
//! in one process, and none reaps another's.
//!
//! Second rule: a child that was passed to this module is always reaped. If its watch is removed,
//! its loop reaps it in the background. If its loop is gone, the next loop that starts a child
//! reaps it. If it exits before then, it stays a zombie (a process-table entry) until the next
//! `spawn`, or until this process exits. Reaping it sooner would need a dedicated thread that
//! outlives every loop.
//!
//! # Inherited by a child
//! `Command` decides this, and this module adds nothing:
//! - *Descriptors*: the standard ones. All descriptors of the loop, and of the sources that the
//!   standard library opens, are close-on-exec. A child shares an inherited standard input, output
//!   or error with this process, including its blocking mode. Do not register a descriptor that
//!   children inherit, since this makes it non-blocking for them too. Pipes made by `Stdio::piped`
//!   are not shared; the child's end blocks.
//! - *Signal mask*: no signal is blocked, whatever the spawning thread has blocked.
//! - *Dispositions*: signals that are watched by [`signal`](crate::signal), or caught by other
//!   code, are reset to their default by `exec`. *Ignored* signals stay ignored, except `SIGPIPE`,
//!   which Rust's runtime ignores and `Command` resets.
//!
//! # Cost
//! [`Command::spawn`](std::process::Command::spawn) itself runs on the loop's thread. It starts the
//! process, and waits until the program is executed. This takes half a millisecond in the tests,
//! more for a large process whose `Command` has to fork (`pre_exec`, `uid`), and however long the
//! file system takes to find the program. If the loop must not be blocked for that time, spawn on a
//! [`WorkerPool`] and pass the child to [`watch`]. The watch costs a file descriptor, an
//! `epoll_ctl`, an `ioctl`, a `pidfd_open` and a `waitid`. The exit costs a `waitid` and a `wait4`.
//!
//! Source: `pidfd_open(2)`, Linux 5.3; `waitid(2)` with `P_PIDFD`, 5.4. libuv and libev reap on
//! `SIGCHLD`, in one loop for the whole process.
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
    /// The process id that it had. Another process may have it by now.
    pub pid: u32,
    /// Its exit code, or the signal that ended it:
    /// [`ExitStatusExt::signal`](std::os::unix::process::ExitStatusExt::signal).
    pub status: ExitStatus,
    /// The resources that it used.
    pub usage: Usage,
}

/// The resources that a process used, together with those of its own children that it has waited
/// for.
///
/// # Source
/// `getrusage(2)`, as returned by `wait4(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time in user mode.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// The maximum resident memory, in bytes; of several processes the largest. It counts from the
    /// spawn, so it is never less than the maximum of the spawning process until then.
    pub max_rss_bytes: u64,
}

/// A child on its loop, with the pipes that its `Command` requested.
///
/// Each pipe is a [`Stream`](crate::Stream), for [`Connection::open`](crate::Connection::open),
/// [`lines`] or [`Registry::add`]. A pipe that is dropped is closed: the child reads the end of its
/// input, or can no longer write its output.
#[derive(Debug)]
#[non_exhaustive]
pub struct Spawned {
    /// The key for signalling and ending the child.
    pub key: ChildKey,
    /// The process id.
    pub pid: u32,
    /// The pipe to the child's standard input, if that was `Stdio::piped`.
    pub stdin: Option<ChildStdin>,
    /// The pipe from the child's standard output, if that was `Stdio::piped`.
    pub stdout: Option<ChildStdout>,
    /// The pipe from the child's standard error, if that was `Stdio::piped`.
    pub stderr: Option<ChildStderr>,
}

/// An error from [`watch()`] for a child that could not be watched. It returns the child, and the
/// caller is responsible for waiting for it.
#[non_exhaustive]
pub struct WatchError {
    /// The child that was passed in.
    pub child: Child,
    /// The reason.
    pub error: io::Error,
}

/// Starts `command`, and calls `on_exit` once when the child has ended.
///
/// `on_exit` gets the exit status and the resource use, also if the child ends before the loop
/// runs. It gets an error (`ECHILD`) if other code has reaped the child, so that these are lost:
/// the program ignores `SIGCHLD`, or a part of it waits for any child. The child has ended in this
/// case too. An error that `on_exit` returns is logged.
///
/// The child's output may still be in its pipes. The output ends with the pipe, which may be before
/// or after the exit.
///
/// The registration keeps [`Reactor::run`](reactor::Reactor::run) alive until the child has ended.
/// If it is removed, or the reactor dropped, the child goes on and `on_exit` is dropped: see
/// [`ChildKey::key`]. Standard input is inherited by default, as with [`Command::spawn`]. Loop
/// thread only. For the costs see the [module](self).
///
/// # Errors
/// - The errors of [`Command::spawn`], with the program: `NotFound` if the program or its working
///   directory does not exist; `PermissionDenied`; `EAGAIN` at a limit of processes; `EMFILE`.
/// - `EMFILE` or [`Error::Full`](reactor::Error::Full) if the child was started and cannot be
///   watched. It is then killed, and reaped with the next one.
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

/// Calls `on_exit` once when `child`, which the standard library has started, has ended. Apart from
/// the start this works like [`spawn`].
///
/// Use it for children that were spawned elsewhere: on another thread, or by another library. The
/// child must not have been waited for, for example by [`Child::try_wait`]. Its remaining pipes are
/// returned.
///
/// # Errors
/// [`WatchError`] returns the child. Its error is one of:
/// - `ESRCH` if the child has been reaped, or `ECHILD` if another process has got its number since.
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

/// Releases the child, which goes on. It is reaped like a child whose loop is gone.
impl From<WatchError> for io::Error {
    fn from(WatchError { mut child, error }: WatchError) -> Self {
        // If other code has reaped the child, its number may belong to another process by now.
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

    /// Returns the errno from the kernel, if a system call has failed.
    pub fn raw_os_error(&self) -> Option<i32> {
        reactor::errno(&self.error)
    }
}

impl std::error::Error for WatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
