//! Signals as sources: the signal handler records the signal and wakes the loop, and the callback
//! runs on the loop.
//!
//! Ground rule: first the loop empties the socket that has woken it, and then it reads the records.
//! If a signal arrives between these two steps, it is reported at once, and causes one more wakeup.
//! If the loop read the records first, such a signal would stay unreported.
//!
//! `signalfd(2)` needs a changed signal mask. This module does not change the mask. Therefore child
//! processes inherit no changed mask, and each loop of a process can watch any signal. Source: the
//! self-pipe trick of D. J. Bernstein, as implemented by signal-hook.

mod action;
mod insistence;
mod number;
mod shutdown;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use reactor::{Context, Interest, Io, Key, Next, Registry};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::exfiltrator::origin::Origin;

use self::action::{SignalHook, Watching};
pub use self::number::Signal;
pub use self::shutdown::{ShutdownOptions, shutdown_on, stop_on};
use crate::error::{self, named};

/// The maximum number of arrivals reported in one call; the rest is reported next turn. The number
/// is enough for the kept arrivals of a dozen signals.
const ARRIVALS_PER_CALL_MAX: usize = 64;

/// A signal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrival {
    /// The signal.
    pub signal: Signal,
    /// The process that sent the signal. For [`Signal::CHLD`] this is the child that has ended,
    /// stopped or continued. `None` if the kernel itself sent the signal, for example at Ctrl-C, or
    /// if the kernel reports no sender.
    pub sender: Option<Process>,
}

/// The sender of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// The process id. It is 0 if the process is outside of the PID namespace of this process.
    pub pid: u32,
    /// The real user id of the process.
    pub uid: u32,
}

impl From<Origin> for Arrival {
    fn from(origin: Origin) -> Self {
        let sender = origin.process.map(|process| Process {
            pid: process.pid.cast_unsigned(),
            uid: process.uid,
        });
        Self {
            signal: Signal::from_raw(origin.signal),
            sender,
        }
    }
}

/// Calls `callback` on the loop for each arrival of one of `signals`.
///
/// Several watchers, on one loop or on several loops, may watch the same signal. Each watcher is
/// then notified. If several signals are pending, they are reported by ascending signal number.
/// Arrivals of one signal are reported in the order in which they came.
///
/// *Not every arrival leads to a call*, so do not count the calls. While a standard signal is
/// pending, the kernel drops further instances of the signal. Each watcher keeps at most 5 arrivals
/// of a signal, also of a real-time signal, until its loop handles them. Further arrivals are lost.
/// But at least one call follows the last arrival. In the callback, act on the current state: for
/// example, call `waitpid` until it returns no child, or read the configuration again.
///
/// A watcher does not keep [`Reactor::run`](reactor::Reactor::run) alive. If the program only waits
/// for signals, pass the returned key to [`set_foreground`](Registry::set_foreground).
///
/// The watcher ends when the callback returns [`Next::Remove`] or an error, or when you pass the
/// key to [`Registry::remove`]. Arrivals that are still unreported when the watcher ends are
/// dropped. The errors `WouldBlock` and `Interrupted` do not end the watcher: they have the same
/// effect as [`Next::Keep`].
///
/// The signal handler is installed with `SA_RESTART`. So if the signal interrupts a system call of
/// another thread, the kernel usually restarts the call. `signal(7)` lists the calls that are not
/// restarted. Call this function on the loop's thread.
///
/// # The previous action
/// While a signal is watched, its default action is not taken. When the last watcher of a signal
/// has ended, the signal has the same effect as before its first watcher:
/// - If other code had installed a handler before the first watcher started, this handler is
///   called. It is also called while the signal is watched.
/// - If the signal was ignored, it is ignored again.
/// - Otherwise the default action of the signal is taken.
///
/// These limits apply:
/// - After the last watcher has ended, the signal handler stays installed, and `execve(2)` resets a
///   signal with a handler to its default action. Therefore the signal has its default action in a
///   child program, even if this process had inherited the signal as ignored, for example from
///   `nohup`. Do not watch a signal that children should inherit as ignored.
/// - The default action of real-time signals, `SIGPWR` and `SIGSTKFLT` kills the process. After the
///   last watcher has ended, these signals instead end the process by `_exit(2)`, with the status
///   128 + signal number. Shells report the same status for a killed process.
/// - If other code installs a handler, it must do so before the first watcher starts, and must not
///   remove the handler. If it installs a handler later, the watchers are no longer notified. The
///   exception is a handler that is installed later through signal-hook: the watchers are still
///   notified. But this module cannot see such a handler, so the default action is still taken
///   after the last watcher has ended.
///
/// # Cost
/// A watcher has a socket pair, and about 700 bytes for each signal. Do not create watchers often:
/// each registration and each removal waits until the running signal handlers have returned.
///
/// # Errors
/// If an error is returned, nothing is watched.
/// - `InvalidInput` if a signal cannot be caught. The error names the signal. `SIGKILL` and
///   `SIGSTOP` cannot be caught because the kernel does not allow it. `SIGILL`, `SIGFPE` and
///   `SIGSEGV` cannot be watched because they report a fault of the running thread. The numbers
///   just below `SIGRTMIN` are reserved for the C library. Numbers outside of 1 to 64 are not
///   signals.
/// - `EMFILE` and the other errors of `socketpair(2)`, and of reading `/proc/self/status`, which
///   the first watcher of a signal does.
/// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop, or
///   [`Error::Os`](reactor::Error::Os) from `epoll_ctl(2)`; see [`Registry::add`].
///
/// # Source
/// signal-hook, whose registry of hooks is shared by all of its users in a process.
///
/// ```
/// use handlers::signal::{self, Signal};
/// use reactor::{Next, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::<u32>::new()?;
/// signal::watch(&mut reactor, [Signal::HUP, Signal::USR1], |arrival, cx| {
///     println!("{} from {:?}: reading the configuration again", arrival.signal, arrival.sender);
///     *cx.state += 1;
///     Ok(Next::Keep)
/// })?;
/// reactor.run(&mut 0)?; // returns at once: a watcher does not keep it alive
/// # Ok(())
/// # }
/// ```
#[doc(alias(
    "evsignal_new",
    "ev_signal",
    "uv_signal_start",
    "AsyncSignalHandler",
    "Signals"
))]
#[track_caller]
pub fn watch<S, F>(
    registry: &mut Registry<S>,
    signals: impl IntoIterator<Item = Signal>,
    callback: F,
) -> io::Result<Key>
where
    F: FnMut(&Arrival, &mut Context<'_, S>) -> io::Result<Next> + 'static,
{
    let source = Signals::catch(signals, |_| Ok([]))?;
    register(registry, source, callback)
}

#[track_caller]
fn register<S, F>(registry: &mut Registry<S>, source: Signals, mut callback: F) -> io::Result<Key>
where
    F: FnMut(&Arrival, &mut Context<'_, S>) -> io::Result<Next> + 'static,
{
    let key = registry.add(source, Interest::READABLE, move |io, cx| {
        deliver(io, &mut callback, cx)
    })?;
    registry.set_background(key)?;
    Ok(key)
}

/// Calls the callback for each pending arrival, until the watcher ends.
fn deliver<S>(
    io: &mut Io<Signals>,
    callback: &mut impl FnMut(&Arrival, &mut Context<'_, S>) -> io::Result<Next>,
    cx: &mut Context<'_, S>,
) -> io::Result<Next> {
    let mut delivered = 0;
    for origin in io.get_mut().delivery.pending().take(ARRIVALS_PER_CALL_MAX) {
        delivered += 1;
        match error::next(callback(&Arrival::from(origin), cx)) {
            Ok(Next::Keep) if cx.registry.contains(cx.key()) => {}
            end => return end,
        }
    }
    if delivered == ARRIVALS_PER_CALL_MAX {
        // The source stays readable, since more may be pending.
        return Ok(Next::Keep);
    }
    // `pending` has read the socket until it would block, so clear the readiness.
    io.try_io(Interest::READABLE, |_| Err(ErrorKind::WouldBlock.into()))
}

/// Signals that are caught, and the socket that reports them.
///
/// The fields are dropped in the order of declaration, since the hooks must be removed before the
/// `watching` marks.
#[derive(Debug)]
struct Signals {
    delivery: SignalDelivery<UnixStream, WithOrigin>,
    hooks: Vec<SignalHook>,
    watching: Vec<Watching>,
}

impl Signals {
    /// Catches `signals`. The hooks that `hooks` returns run before the hook that wakes the loop.
    fn catch<R: IntoIterator<Item = SignalHook>>(
        signals: impl IntoIterator<Item = Signal>,
        mut hooks: impl FnMut(Signal) -> io::Result<R>,
    ) -> io::Result<Self> {
        let mut signals: Vec<_> = signals.into_iter().collect();
        signals.sort_unstable();
        signals.dedup();
        let (read, write) = UnixStream::pair().map_err(|error| named("socketpair", error))?;
        let delivery = SignalDelivery::with_pipe(read, write, WithOrigin::default(), [0; 0])?;
        let mut source = Self {
            delivery,
            hooks: Vec::new(),
            watching: Vec::new(),
        }; // dropping it undoes a partial setup
        // Each signal gets three kinds of hooks, which run in this order: the hook that takes the
        // previous action, the hooks of the caller, the hook that wakes the loop.
        for &signal in &signals {
            signal.check()?;
            let refused = |error| named(format_args!("sigaction({signal})"), error);
            action::prepare(signal).map_err(refused)?;
            source.hooks.extend(hooks(signal).map_err(refused)?);
            source
                .delivery
                .handle()
                .add_signal(signal.as_raw())
                .map_err(refused)?;
        }
        // The previous actions may be disabled only now, when all hooks are registered.
        source
            .watching
            .extend(signals.into_iter().map(Watching::begin));
        Ok(source)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}
