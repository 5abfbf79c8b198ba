//! Signals as sources: the signal handler records the signal and wakes the loop, and the callback
//! runs on the loop.
//!
//! Ground rule: first the socket that wakes the loop is emptied, then the records are read. A
//! signal that arrives between the two steps is reported at once and causes one spurious wakeup. In
//! the other order it would be lost.
//!
//! Unlike with `signalfd(2)`, the signal mask is not changed. Child processes inherit nothing, and
//! each loop of a process can watch any signal. Source: the self-pipe trick of D. J. Bernstein, as
//! implemented by signal-hook.

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

/// The maximum number of arrivals reported in one call; the rest is reported next turn. It is
/// enough for the kept arrivals of a dozen signals.
const ARRIVALS_PER_CALL_MAX: usize = 64;

/// A signal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrival {
    /// The signal.
    pub signal: Signal,
    /// The process that sent the signal. For [`Signal::CHLD`] it is the child that has changed
    /// state. `None` if the kernel sent the signal, as for Ctrl-C, or does not report a sender.
    pub sender: Option<Process>,
}

/// The sender of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// Its process id. 0 if it is outside of our PID namespace.
    pub pid: u32,
    /// The id of its user.
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
/// Several loops and watchers may watch the same signal, and each of them is notified. Arrivals are
/// reported by ascending signal number, and arrivals of one signal in their order.
///
/// *Arrivals are coalesced*, so do not count calls. The kernel keeps a standard signal only once
/// while it waits for a thread. Each watcher keeps at most 5 arrivals of a signal until its loop
/// handles them, also for real-time signals; further arrivals are lost. At least one call follows
/// the last arrival. Act on the current state: call `waitpid` until it returns nothing, or re-read
/// the configuration.
///
/// A watcher does not keep [`Reactor::run`](reactor::Reactor::run) alive. Use
/// [`set_foreground`](Registry::set_foreground) if the program only waits for signals. It ends if
/// the callback returns [`Next::Remove`] or an error, or by [`Registry::remove`]. `WouldBlock` and
/// `Interrupted` count as [`Next::Keep`].
///
/// System calls of other threads are restarted (`SA_RESTART`). Loop thread only.
///
/// # The previous action
/// While a signal is watched, its default action is not taken. When its last watcher is gone, the
/// signal does again what it did before the first watcher: it calls a handler that was installed by
/// other code (which is also called while the signal is watched), is ignored, or takes its default
/// action. Three things to know:
/// - The kernel continues to see a handler of this process. A program that it executes gets the
///   default action, even if this process has inherited an ignored signal, for example from
///   `nohup`. Do not watch a signal that children should inherit as ignored.
/// - By default a real-time signal kills the process. Here it ends the process with status 128 +
///   number, as shells report it.
/// - Other code that installs a handler must do so before the first watcher, and must not remove
///   it. If it installs one later, the watchers are no longer notified. If it later installs one
///   through signal-hook, which leaves no trace, the default action is still taken when the last
///   watcher goes.
///
/// # Cost
/// A socket pair, and about 700 bytes for each signal. Not for the hot path: each registration and
/// each removal waits for running signal handlers.
///
/// # Errors
/// Nothing is watched after an error.
/// - `InvalidInput` if a signal cannot be caught, by its nature or because the C library reserves
///   it. The error names the signal.
/// - The errors of `socketpair(2)`, such as `EMFILE`.
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
    let mut told = 0;
    for origin in io.get_mut().delivery.pending().take(ARRIVALS_PER_CALL_MAX) {
        told += 1;
        match error::next(callback(&Arrival::from(origin), cx)) {
            Ok(Next::Keep) if cx.registry.contains(cx.key()) => {}
            end => return end,
        }
    }
    if told == ARRIVALS_PER_CALL_MAX {
        // The source stays readable, since more may be pending.
        return Ok(Next::Keep);
    }
    // `pending` has read the socket until it would block, so clear the readiness.
    io.try_io(Interest::READABLE, |_| Err(ErrorKind::WouldBlock.into()))
}

/// Signals that are caught, and the socket that reports them.
///
/// Fields are dropped in this order: the hooks must go before the `watching` marks.
#[derive(Debug)]
struct Signals {
    delivery: SignalDelivery<UnixStream, WithOrigin>,
    hooks: Vec<SignalHook>,
    watching: Vec<Watching>,
}

impl Signals {
    /// Catches `signals`. The `hooks` run before the one that wakes the loop.
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
        // For each signal: first its previous action is saved, then the hooks, then the notice to
        // the loop. Hooks run in this order.
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
        // Only now, when all hooks are in place, may the previous actions be disabled.
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
