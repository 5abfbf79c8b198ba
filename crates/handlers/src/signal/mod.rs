//! Signals as sources: the handler of a signal leaves a note and wakes the loop, the callback runs there.
//!
//! Ground rule: first the socket that wakes the loop is emptied, then the notes are read. A signal that comes between
//! the two is told at once and wakes the loop for nothing; the other order would lose it.
//!
//! The signal mask is not touched, unlike with `signalfd(2)`, so children inherit nothing of this, and each loop of a
//! process can watch what it likes. Source: the self-pipe of D. J. Bernstein, as signal-hook has it.

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

/// So many arrivals are told in one call; the rest next turn. Enough for what is kept of a dozen signals.
const ARRIVALS_PER_CALL_MAX: usize = 64;

/// A signal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrival {
    /// Which one.
    pub signal: Signal,
    /// Who sent it; for [`Signal::CHLD`] the child it is about. `None` if the kernel sent it, Ctrl-C among that, or
    /// does not say who did.
    pub sender: Option<Process>,
}

/// Who has sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// Its number; 0 if it is outside of our PID namespace.
    pub pid: u32,
    /// The user it runs as.
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
/// Any number of loops and watchers may watch the same signal, and each is told. Arrivals are told in the order of
/// their numbers, of one signal in the order of their arrival. *They coalesce*: the kernel keeps a standard signal once
/// while it waits for a thread, and each watcher keeps 5 of a number until its loop comes to them, real-time signals
/// included; what comes on top is lost. So there is at least one call after the last arrival, and to count calls is a
/// mistake: look at what the signal is about, `waitpid` until it gives nothing, read the configuration as it is now.
///
/// A watcher does not keep [`Reactor::run`](reactor::Reactor::run) alive: use
/// [`set_foreground`](Registry::set_foreground) if waiting for a signal is all there is to do. An outcome of
/// [`Next::Remove`], an error or [`Registry::remove`] ends it; `WouldBlock` and `Interrupted` are [`Next::Keep`].
///
/// # The action before
/// While a signal is watched, its default action is not taken. When its last watcher is gone, the signal does again
/// what it did before the first: a handler installed by others, which is called all the time; nothing, where it was
/// ignored; its default action. Three things to know:
/// - The kernel goes on to see a handler of this process. A program that it executes gets the default action, and not
///   the ignoring that this process may have inherited, from `nohup` for one: do not watch what you want to pass on as
///   ignored.
/// - By default a real-time signal kills; here it ends the process with status 128 + number, as seen by shells.
/// - Those who install a handler by themselves do so before the first watcher, and do not take it back. Where it is
///   made later the watchers go deaf; where it is one of signal-hook's, which leaves no trace, it does not keep the
///   default action from being taken when the last watcher goes.
///
/// System calls of other threads are restarted (`SA_RESTART`). A socket pair, and some 700 bytes for each signal; not
/// for the hot path: each registration and its end wait for signal handlers that are running. Loop thread only.
///
/// # Errors
/// `InvalidInput` if a signal cannot be caught, by its nature or since the C library reserves it, which names it;
/// `EMFILE` and the like; what [`Registry::add`] gives. Nothing is watched then.
///
/// # Source
/// signal-hook, whose registry of hooks is shared by all its users in a process.
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
/// reactor.run(&mut 0)?; // ends at once: a watcher alone keeps nothing alive
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

/// Tells what has arrived, as long as the watcher lives.
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
        return Ok(Next::Keep); // still readable: there may be more
    }
    io.try_io(Interest::READABLE, |_| Err(ErrorKind::WouldBlock.into())) // `pending` has read until then
}

/// Some signals that are caught, and the socket that tells of them.
///
/// Fields drop in this order: the hooks go before the note that somebody watches.
#[derive(Debug)]
struct Signals {
    delivery: SignalDelivery<UnixStream, WithOrigin>,
    hooks: Vec<SignalHook>,
    watching: Vec<Watching>,
}

impl Signals {
    /// Catches `signals`, with `hooks` that come before the notice to the loop.
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
        }; // dropped, it undoes what was done
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
