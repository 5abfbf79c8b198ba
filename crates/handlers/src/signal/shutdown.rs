//! Graceful shutdown at a signal, and an immediate end if the signal is repeated.

use std::io;
use std::time::Duration;

use reactor::{Context, Key, Next, Registry};

use super::insistence::Insistence;
use super::{Arrival, Signal, Signals, register};

/// Options for [`shutdown_on`] and [`stop_on`]: when a repeated signal ends the process.
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
    /// Returns options with all defaults.
    pub const fn new() -> Self {
        Self {
            insist_after: Duration::from_secs(1),
        }
    }

    /// Sets the time after the first signal from which on a further signal ends the process at
    /// once. Default: 1 s.
    ///
    /// Earlier signals change nothing, because one request often arrives as two signals. `timeout`
    /// of coreutils signals its child and then the child's process group. A terminal and the script
    /// that has started the program both pass on Ctrl-C. The time is measured by the monotonic
    /// clock, also while the loop is blocked.
    ///
    /// With [`Duration::ZERO`], every second signal ends the process. With [`Duration::MAX`], none
    /// does; then only `SIGKILL` ends a program that hangs.
    #[must_use]
    pub const fn insist_after(mut self, delay: Duration) -> Self {
        self.insist_after = delay;
        self
    }

    /// Calls `callback` at the first arrival of any of `signals`, as [`shutdown_on`] does, with
    /// these options.
    ///
    /// # Errors
    /// Nothing is watched after an error.
    /// - `InvalidInput` if a signal cannot be caught. The error names the signal.
    /// - `EAGAIN` if no thread can be started.
    /// - The errors of `socketpair(2)`, such as `EMFILE`.
    /// - [`Error::Full`](reactor::Error::Full) or [`Error::Os`](reactor::Error::Os); see
    ///   [`Registry::add`].
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

    /// Stops the loop at the first arrival of any of `signals`, as [`stop_on`] does, with these
    /// options.
    ///
    /// # Errors
    /// Nothing is watched after an error.
    /// - `InvalidInput` if a signal cannot be caught. The error names the signal.
    /// - `EAGAIN` if no thread can be started.
    /// - The errors of `socketpair(2)`, such as `EMFILE`.
    /// - [`Error::Full`](reactor::Error::Full) or [`Error::Os`](reactor::Error::Os); see
    ///   [`Registry::add`].
    #[track_caller]
    pub fn stop_on<S>(
        &self,
        registry: &mut Registry<S>,
        signals: impl IntoIterator<Item = Signal>,
    ) -> io::Result<Key> {
        self.shutdown_on(registry, signals, |_arrival, cx| cx.registry.stop())
    }
}

/// Calls `callback` on the loop at the first arrival of any of `signals`, for a graceful shutdown.
/// If another of them arrives a second or more after the first, the process ends at once. A signal
/// that arrives sooner changes nothing. [`ShutdownOptions::insist_after`] sets the time.
///
/// The signal handler itself ends the process, so this works also while a callback blocks the loop
/// or the shutdown hangs. It calls `_exit(2)` with status 128 + number, as a shell would report it:
/// no destructor runs, no buffer is flushed. When the registration ends, by [`Registry::remove`] or
/// with the reactor, signals do again what they did before.
///
/// Like a [`watch`](super::watch), this does not keep [`Reactor::run`](reactor::Reactor::run)
/// alive. Each loop that calls this function is notified, and measures the time on its own.
///
/// # Cost
/// The costs of [`watch`](super::watch), one socket for each signal, and a sleeping thread, since
/// safe code cannot read a clock in a signal handler. With [`Duration::ZERO`] or [`Duration::MAX`]
/// no socket and no thread is needed. The thread ends with the registration.
///
/// # Errors
/// Nothing is watched after an error.
/// - `InvalidInput` if a signal cannot be caught. The error names the signal.
/// - `EAGAIN` if no thread can be started.
/// - The errors of `socketpair(2)`, such as `EMFILE`.
/// - [`Error::Full`](reactor::Error::Full) or [`Error::Os`](reactor::Error::Os); see
///   [`Registry::add`].
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

/// Stops the loop at the first arrival of any of `signals`. If another of them arrives a second or
/// more later, the process ends at once, as with [`shutdown_on`].
///
/// # Errors
/// Nothing is watched after an error.
/// - `InvalidInput` if a signal cannot be caught. The error names the signal.
/// - `EAGAIN` if no thread can be started.
/// - The errors of `socketpair(2)`, such as `EMFILE`.
/// - [`Error::Full`](reactor::Error::Full) or [`Error::Os`](reactor::Error::Os); see
///   [`Registry::add`].
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
