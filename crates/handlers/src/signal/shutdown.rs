//! The gentle end of a program at a signal, and the end at once where the signal comes again.

use std::io;
use std::time::Duration;

use reactor::{Context, Key, Next, Registry};

use super::insistence::Insistence;
use super::{Arrival, Signal, Signals, register};

/// How [`shutdown_on`] and [`stop_on`] take a signal that comes again.
///
/// ```
/// use std::time::Duration;
/// use handlers::signal::{Signal, ShutdownOptions};
///
/// # fn main() -> std::io::Result<()> {
/// # let mut reactor = reactor::Reactor::<()>::new()?;
/// ShutdownOptions::new().insist_after(Duration::from_secs(3)).stop_on(&mut reactor, [Signal::INT, Signal::TERM])?;
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
    /// Makes options with all defaults.
    pub const fn new() -> Self {
        Self {
            insist_after: Duration::from_secs(1),
        }
    }

    /// Sets how long after the first signal another one ends the process at once. Default: 1 s.
    ///
    /// Signals that come earlier change nothing: one intention often arrives as two signals. `timeout` of coreutils
    /// signals its child and then the group that this is in, and a terminal and a script that has started the program
    /// both pass on Ctrl-C. The time is that of the monotonic clock, and runs also while the loop is held up.
    ///
    /// [`Duration::ZERO`] takes every second signal for insistence. [`Duration::MAX`] takes none: then only `SIGKILL`
    /// ends a program that hangs.
    #[must_use]
    pub const fn insist_after(mut self, delay: Duration) -> Self {
        self.insist_after = delay;
        self
    }

    /// Does what [`shutdown_on`] does, with these options.
    ///
    /// # Errors
    /// As [`shutdown_on`].
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
                    tracing::info!(signal = %arrival.signal, sender = ?arrival.sender, "asked to end");
                    callback(arrival, cx);
                }
                None => {
                    tracing::info!(signal = %arrival.signal, sender = ?arrival.sender, "asked to end again, too soon to insist");
                }
            }
            Ok(Next::Keep)
        })
    }

    /// Does what [`stop_on`] does, with these options.
    ///
    /// # Errors
    /// As [`shutdown_on`].
    #[track_caller]
    pub fn stop_on<S>(
        &self,
        registry: &mut Registry<S>,
        signals: impl IntoIterator<Item = Signal>,
    ) -> io::Result<Key> {
        self.shutdown_on(registry, signals, |_arrival, cx| cx.registry.stop())
    }
}

/// Calls `callback` on the loop at the first arrival of any of `signals`, for a gentle end. Another one, of any of
/// them, that comes at least a second after the first ends the process at once.
///
/// A signal that comes sooner changes nothing: see [`ShutdownOptions::insist_after`], which sets the time.
///
/// The insistence is dealt with in the signal handler: it works also while the loop is held up by a callback, or hangs
/// in what was to be the gentle end. It ends the process by `_exit(2)` with status 128 + number, as a shell would
/// report it: no destructor runs, no buffer is flushed. When the registration ends, by [`Registry::remove`] or with the
/// reactor, that holds no more, and the signals do what they did before.
///
/// Everything else is as with [`watch`](super::watch): it does not keep [`Reactor::run`](reactor::Reactor::run) alive,
/// each loop that calls this is told, and each measures the time on its own. Beside the costs of `watch` it takes a
/// socket for each signal, and a thread that sleeps, since safe code cannot read a clock in a signal handler; neither
/// where the time is [`Duration::ZERO`] or [`Duration::MAX`]. The thread ends with the registration.
///
/// # Errors
/// As [`watch`](super::watch); `EAGAIN` where no thread can be started.
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

/// Stops the loop at the first arrival of any of `signals`. Another one that comes at least a second later ends the
/// process at once, as with [`shutdown_on`].
///
/// # Errors
/// As [`shutdown_on`].
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
