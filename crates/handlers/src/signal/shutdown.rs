//! Graceful shutdown at a signal, and an immediate end if the signal is repeated.

use std::io;
use std::time::Duration;

use reactor::{Context, Key, Next, Registry};

use super::insistence::Insistence;
use super::{Arrival, Signal, Signals, register};

/// Options for [`shutdown_on`] and [`stop_on`]. They determine when a repeated signal ends the
/// process.
///
/// ```
/// use std::time::Duration;
/// use handlers::signal::{Signal, ShutdownOptions};
///
/// # fn main() -> std::io::Result<()> {
/// # let mut reactor = reactor::Reactor::<()>::new()?;
/// let options = ShutdownOptions::new().insist_after(Duration::from_secs(3));
/// options.stop_on(&mut reactor, [Signal::INT, Signal::TERM])?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ShutdownOptions {
    insist_after: Duration,
}

impl Default for ShutdownOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ShutdownOptions {
    /// Returns the default options: a repeated signal ends the process if it arrives at least 1 s
    /// after the first signal.
    pub const fn new() -> Self {
        Self {
            insist_after: Duration::from_secs(1),
        }
    }

    /// Sets the delay after which a repeated signal ends the process. The delay begins with the
    /// first signal. A further signal within the delay has no effect. A further signal after the
    /// delay ends the process at once.
    ///
    /// The delay is useful because one request to shut down often arrives as two signals. For
    /// example, the program `timeout` of coreutils signals its child and then the child's process
    /// group. At Ctrl-C the terminal signals the program, and a script that has started the program
    /// may send the same signal to it. The delay is measured by the monotonic clock. It also
    /// elapses while the loop is blocked.
    ///
    /// With [`Duration::ZERO`], the second signal ends the process, however soon it arrives. With
    /// [`Duration::MAX`], a repeated signal never ends the process, so only `SIGKILL` ends a
    /// program that hangs.
    ///
    /// Default: 1 s.
    #[must_use]
    pub const fn insist_after(mut self, delay: Duration) -> Self {
        self.insist_after = delay;
        self
    }

    /// Calls `callback` at the first arrival of any of `signals`. A repeated signal has the effect
    /// that these options determine. Otherwise this works like the function
    /// [`signal::shutdown_on`](super::shutdown_on).
    ///
    /// # Errors
    /// If an error is returned, nothing is watched.
    /// - `InvalidInput` if a signal cannot be caught; see [`watch`](super::watch). The error names
    ///   the signal.
    /// - `EAGAIN` if the thread that measures the delay of [`insist_after`](Self::insist_after)
    ///   cannot be started.
    /// - `EMFILE` and the other errors of `socketpair(2)`.
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop, or
    ///   [`Error::Os`](reactor::Error::Os) from `epoll_ctl(2)`; see [`Registry::add`].
    #[track_caller]
    pub fn shutdown_on<S, F>(
        &self,
        registry: &mut Registry<S>,
        signals: impl IntoIterator<Item = Signal>,
        callback: F,
    ) -> io::Result<Key>
    where
        F: FnOnce(&Arrival, &mut Context<'_, S>) + 'static,
    {
        let insistence = Insistence::after(self.insist_after)?;
        let source = Signals::catch(signals, |signal| insistence.hooks(signal))?;
        let mut callback = Some(callback);
        register(registry, source, move |arrival, cx| {
            match callback.take() {
                Some(callback) => {
                    tracing::info!(signal = %arrival.signal, sender = ?arrival.sender, "shutdown requested");
                    callback(arrival, cx);
                }
                None => {
                    tracing::info!(signal = %arrival.signal, sender = ?arrival.sender, "shutdown requested again, too soon");
                }
            }
            Ok(Next::Keep)
        })
    }

    /// Stops the loop at the first arrival of any of `signals`. A repeated signal has the effect
    /// that these options determine. Otherwise this works like the function
    /// [`signal::stop_on`](super::stop_on).
    ///
    /// # Errors
    /// If an error is returned, nothing is watched.
    /// - `InvalidInput` if a signal cannot be caught; see [`watch`](super::watch). The error names
    ///   the signal.
    /// - `EAGAIN` if the thread that measures the delay of [`insist_after`](Self::insist_after)
    ///   cannot be started.
    /// - `EMFILE` and the other errors of `socketpair(2)`.
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop, or
    ///   [`Error::Os`](reactor::Error::Os) from `epoll_ctl(2)`; see [`Registry::add`].
    #[track_caller]
    pub fn stop_on<S>(
        &self,
        registry: &mut Registry<S>,
        signals: impl IntoIterator<Item = Signal>,
    ) -> io::Result<Key> {
        self.shutdown_on(registry, signals, |_arrival, cx| cx.registry.stop())
    }
}

/// Calls `callback` on the loop at the first arrival of any of `signals`. Use it for a graceful
/// shutdown. If any of `signals` arrives a second or more after the first arrival, the process ends
/// at once. A signal that arrives sooner has no effect. To set another delay than a second, use
/// [`ShutdownOptions::insist_after`].
///
/// At the repeated signal, the signal handler itself ends the process. Therefore this also works
/// while a callback blocks the loop, or while the shutdown hangs. The signal handler calls
/// `_exit(2)` with the status 128 + signal number. Shells report the same status for a process that
/// a signal has killed. No destructor runs, and no buffer is flushed.
///
/// The registration ends when you pass the returned key to [`Registry::remove`], or when the
/// reactor is dropped. Then the signals have the same effect as before the registration: see
/// [`watch`](super::watch#the-previous-action).
///
/// The registration does not keep [`Reactor::run`](reactor::Reactor::run) alive. If you call this
/// function on several loops, each loop is notified, and each loop measures the delay on its own.
///
/// # Cost
/// The costs of [`watch`](super::watch). In addition one socket for each signal, and a sleeping
/// thread with a socket. The thread measures the delay, since safe code cannot read a clock in a
/// signal handler. The thread ends with the registration. With a delay of [`Duration::ZERO`] or
/// [`Duration::MAX`], neither the thread nor these sockets are needed.
///
/// # Errors
/// If an error is returned, nothing is watched.
/// - `InvalidInput` if a signal cannot be caught; see [`watch`](super::watch). The error names the
///   signal.
/// - `EAGAIN` if the thread that measures the delay cannot be started.
/// - `EMFILE` and the other errors of `socketpair(2)`.
/// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop, or
///   [`Error::Os`](reactor::Error::Os) from `epoll_ctl(2)`; see [`Registry::add`].
///
/// ```
/// use std::time::Duration;
/// use handlers::signal::{self, Signal};
/// use reactor::{Reactor, Then};
///
/// # fn main() -> std::io::Result<()> {
/// # let mut reactor = Reactor::<()>::new()?;
/// signal::shutdown_on(&mut reactor, [Signal::INT, Signal::TERM], |arrival, cx| {
///     eprintln!("{}: ending in 5 s, or at once if you insist", arrival.signal);
///     // stop accepting, let connections finish
///     cx.registry.after(Duration::from_secs(5), |cx| {
///         cx.registry.stop();
///         Ok(Then::Done)
///     });
/// })?;
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn shutdown_on<S, F>(
    registry: &mut Registry<S>,
    signals: impl IntoIterator<Item = Signal>,
    callback: F,
) -> io::Result<Key>
where
    F: FnOnce(&Arrival, &mut Context<'_, S>) + 'static,
{
    ShutdownOptions::new().shutdown_on(registry, signals, callback)
}

/// Stops the loop at the first arrival of any of `signals`. If any of `signals` arrives a second or
/// more after the first arrival, the process ends at once, as [`shutdown_on`] describes.
///
/// # Errors
/// If an error is returned, nothing is watched.
/// - `InvalidInput` if a signal cannot be caught; see [`watch`](super::watch). The error names the
///   signal.
/// - `EAGAIN` if the thread that measures the delay cannot be started.
/// - `EMFILE` and the other errors of `socketpair(2)`.
/// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop, or
///   [`Error::Os`](reactor::Error::Os) from `epoll_ctl(2)`; see [`Registry::add`].
///
/// ```
/// use handlers::signal::{self, Signal};
///
/// # fn main() -> std::io::Result<()> {
/// # let mut reactor = reactor::Reactor::<()>::new()?;
/// signal::stop_on(&mut reactor, [Signal::INT, Signal::TERM])?;
/// # reactor.run(&mut ())?;
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn stop_on<S>(
    registry: &mut Registry<S>,
    signals: impl IntoIterator<Item = Signal>,
) -> io::Result<Key> {
    ShutdownOptions::new().stop_on(registry, signals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_insists_by_default_from_one_second_on() {
        assert_eq!(
            ShutdownOptions::default().insist_after,
            Duration::from_secs(1)
        );
    }
}
