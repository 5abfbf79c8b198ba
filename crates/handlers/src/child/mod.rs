//! Child processes as sources: their end, told once; their pipes, which are streams; their restart.
//!
//! Ground rule: nobody waits for *any* child. The end of each is noticed by a pidfd of its own, without a handler of
//! `SIGCHLD`, so any number of loops and libraries can have children in one process and none reaps another's.
//!
//! Second rule: a child that was handed over here is reaped, whatever becomes of its watch. One whose watch is removed is
//! reaped in the background of its loop; one whose loop is gone, by the next loop that starts a child. If it ends before there
//! is one, it is a zombie until then: an entry in the table of processes and nothing else, which goes with this process at the
//! latest. Nobody but a loop could wait for it, and a thread for that alone would outlive every loop.
//!
//! # What a child gets
//! `Command` decides, and this module adds nothing to it:
//! - *Descriptors*: its standard ones. All of the loop's, and of the sources that the standard library opens, are
//!   close-on-exec. What it inherits as standard input, output or error it shares with us, with its mode: do not register
//!   a descriptor that you let children inherit, since that makes it non-blocking for them too. Pipes made by
//!   `Stdio::piped` are not shared: the child's end blocks.
//! - *Signal mask*: none is blocked, whatever the thread that spawns has blocked.
//! - *Dispositions*: signals that are watched by [`signal`](crate::signal), or caught by others, are at their default again
//!   after `exec`. Signals that are *ignored* stay ignored, but for `SIGPIPE`, which Rust's runtime ignores and `Command` resets.
//!
//! # What it costs
//! [`Command::spawn`](std::process::Command::spawn) itself runs on the loop's thread: it starts the process, and waits until the
//! program is executed: half a millisecond in the tests, more for a large process whose `Command` has to fork
//! (`pre_exec`, `uid`), and as long as the file system takes to find the program. Who cannot afford that on the loop
//! spawns on a [`WorkerPool`], and hands the child to [`watch`]. The watch costs a file descriptor, and
//! an `epoll_ctl`, an `ioctl`, a `pidfd_open` and a `waitid`; the end a `waitid` and a `wait4`.
//!
//! Source: `pidfd_open(2)`, Linux 5.3; `waitid(2)` with `P_PIDFD`, 5.4. libuv and libev reap on `SIGCHLD`, one loop
//! for the whole process.
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

/// How a child has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// The process id it had. It may be another's by now.
    pub pid: u32,
    /// Its exit code, or the signal that ended it:
    /// [`ExitStatusExt::signal`](std::os::unix::process::ExitStatusExt::signal).
    pub status: ExitStatus,
    /// What it took.
    pub usage: Usage,
}

/// The resources that a process took, together with those of its own children that it has waited for.
///
/// # Source
/// `getrusage(2)`, as `wait4(2)` gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time in user mode.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// The most memory that was resident at a time, in bytes; of several processes the largest. It counts from the spawn:
    /// never less than what the process that spawned it had resident until then.
    pub max_rss_bytes: u64,
}

/// A child on its loop, with the pipes that its `Command` asked for.
///
/// Each pipe is a [`Stream`](crate::Stream), for [`Connection::open`](crate::Connection::open), [`lines`] or [`Registry::add`]. One that is dropped is
/// closed: a child reads the end of its input, or cannot write its output any more.
#[derive(Debug)]
#[non_exhaustive]
pub struct Spawned {
    /// To signal and to end it.
    pub key: ChildKey,
    /// Its process id.
    pub pid: u32,
    /// What it reads, if that was `Stdio::piped`.
    pub stdin: Option<ChildStdin>,
    /// What it writes, if that was `Stdio::piped`.
    pub stdout: Option<ChildStdout>,
    /// What it says of errors, if that was `Stdio::piped`.
    pub stderr: Option<ChildStderr>,
}

/// A child that could not be watched, with the reason: it runs, and is the caller's again.
#[non_exhaustive]
pub struct WatchError {
    /// The child, as it was given.
    pub child: Child,
    /// Why.
    pub error: io::Error,
}

/// Starts `command`, and calls `on_exit` once when the child has ended.
///
/// `on_exit` gets the status and the resource use, also if the child ends before the loop runs. It gets an error if
/// those cannot be known since somebody else has reaped the child, `ECHILD`: the program ignores `SIGCHLD`, or a part of it waits for
/// any child. The child has ended then too. What it has written may still be in its pipes: output ends when the pipe does, and
/// that may be before the exit or after. An error that `on_exit` returns is logged.
///
/// The registration keeps [`Reactor::run`](reactor::Reactor::run) alive until the child has ended. If it is removed, or the
/// reactor dropped, the child goes on, and `on_exit` is dropped: see [`ChildKey::key`]. The standard input of a command is
/// inherited by default, as with [`Command::spawn`]. For the costs see the [module](self). Loop thread only.
///
/// # Errors
/// What [`Command::spawn`] gives, with the program: `NotFound` if there is no such program, or no such folder to run it in;
/// `PermissionDenied`; `EAGAIN` at a limit of processes; `EMFILE`. Where the child was started and cannot be watched
/// (`EMFILE`, [`Error::Full`](reactor::Error::Full)), it is killed, and reaped with the next one.
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
/// reactor.run(&mut said)?; // until the child has ended, and its output too
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

/// Calls `on_exit` once when `child`, which the standard library has started, has ended; otherwise like [`spawn`].
///
/// For children that were spawned elsewhere: on another thread, by another library. The child must not have been
/// waited for, by [`Child::try_wait`] for one. The pipes that it still has are handed back.
///
/// # Errors
/// [`WatchError`] gives the child back: `ESRCH` if it has been reaped, or `ECHILD` if another process has got its number since;
/// `EMFILE` and the like; what [`Registry::add`] gives.
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

/// The child is let go with that: it goes on, and is reaped as one whose loop is gone.
impl From<WatchError> for io::Error {
    fn from(WatchError { mut child, error }: WatchError) -> Self {
        // What others have reaped has a number that may be another's by now.
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

    /// Returns the errno of the kernel, if a system call has failed.
    pub fn raw_os_error(&self) -> Option<i32> {
        reactor::errno(&self.error)
    }
}

impl std::error::Error for WatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
