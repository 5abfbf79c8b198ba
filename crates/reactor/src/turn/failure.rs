//! How `run` is stopped, and how it ends with a failure.

use std::error;
use std::fmt;
use std::io;
use std::panic::Location;

use super::policies::{Label, PanicPolicy};
use super::supervised_call::log_panic;
use crate::error::{Error, Failure, errno};
use crate::outcome::CloseReason;
use crate::registry::Registry;
use crate::slots::Key;

impl<S> Registry<S> {
    /// Makes [`Reactor::run`](crate::Reactor::run) return at the end of this turn. If `run` is not
    /// running, the next `run` returns at once.
    ///
    /// The turn is finished first: every event of this [turn](crate::Reactor::turn) reaches its
    /// handler, and the deferred callbacks of the turn run. No event is lost, and the reactor can
    /// be run again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{Exit, Reactor, Then};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// reactor.after(Duration::from_millis(1), |cx| {
    ///     cx.registry.stop();
    ///     Ok(Then::Done)
    /// });
    /// let exit = reactor.run(&mut ())?;
    /// assert!(matches!(exit, Exit::Stopped { .. }));
    /// println!("{exit}"); // stopped at src/main.rs:6:17
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias(
        "event_base_loopbreak",
        "event_base_loopexit",
        "ev_break",
        "uv_stop",
        "terminateLoopSoon",
        "LoopSignal"
    ))]
    #[track_caller]
    pub fn stop(&mut self) {
        self.stop_from(Location::caller());
    }

    /// Stops the loop as [`stop`](Self::stop) does. Logs and
    /// [`Exit::Stopped`](crate::Exit::Stopped) show `origin` as the line that has requested the
    /// stop.
    ///
    /// Use it in a library that stops the loop on behalf of its user: the user has called the
    /// library earlier, and the stop follows from that call. Pass the location of the user's call.
    pub fn stop_from(&mut self, origin: &'static Location<'static>) {
        tracing::debug!(%origin, "the loop is asked to stop");
        self.turn.stopping = true;
        self.turn.stopped_at.get_or_insert(origin);
    }

    /// Returns `true` from a request to stop until [`Reactor::run`](crate::Reactor::run) or
    /// [`run_until`](crate::Reactor::run_until) returns. A request to stop is a call of
    /// [`stop`](Self::stop), [`stop_with`](Self::stop_with) or
    /// [`Remote::stop`](crate::Remote::stop), or the failure of an [essential](Self::set_essential)
    /// callback.
    ///
    /// If you call [`Reactor::turn`](crate::Reactor::turn) in a loop of your own, call this method
    /// after each turn, and end your loop when it returns `true`. While it returns `true`, `turn`
    /// does not wait.
    #[inline]
    pub const fn is_stopping(&self) -> bool {
        self.turn.stopping
    }

    /// Makes [`Reactor::run`](crate::Reactor::run) return `error` at the end of this turn. `run`
    /// returns it as [`Error::Failed`], with the line of this call. If `run` is not running, the
    /// next `run` returns the error at once. The turn is finished first, as with
    /// [`stop`](Self::stop).
    ///
    /// If this method is called several times, or an [essential](Self::set_essential) callback
    /// fails too, `run` returns the first of these errors. Each of them is logged.
    ///
    /// ```
    /// use std::io;
    /// use reactor::{Error, Reactor};
    ///
    /// # fn main() -> Result<(), Error> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// reactor.defer(|cx| cx.registry.stop_with(io::Error::other("no configuration")));
    /// let Err(Error::Failed(failure)) = reactor.run(&mut ()) else { unreachable!() };
    /// assert_eq!(failure.source.to_string(), "no configuration");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn stop_with(&mut self, error: io::Error) {
        self.fail(Failure {
            name: None,
            origin: Location::caller(),
            source: error,
        });
    }

    /// Takes the error that [`Reactor::run`](crate::Reactor::run) would return as
    /// [`Error::Failed`]: an [essential](Self::set_essential) callback has failed, or
    /// [`stop_with`](Self::stop_with) was called. Returns `None` if neither has happened.
    ///
    /// `run` calls this method itself. If you call [`Reactor::turn`](crate::Reactor::turn) in a
    /// loop of your own, call this method once the loop [is stopping](Self::is_stopping).
    pub fn take_failure(&mut self) -> Option<Error> {
        self.turn.failure.take().map(Error::Failed)
    }

    /// Ends [`Reactor::run`](crate::Reactor::run) with `error` if `key` is
    /// [essential](Self::set_essential). Call it in a library of handlers, before the library
    /// [removes](Self::remove) a registration because of a failure.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    pub fn report_failure(&mut self, key: Key, error: &io::Error) -> Result<(), Error> {
        let slot = self.sources.get(key).ok_or(Error::StaleKey(key))?;
        if slot.marks.is_essential() {
            let name = Some(self.name_of(key, slot.entry.as_deref()).to_owned());
            self.fail(Failure {
                name,
                origin: slot.origin,
                source: copy_of(error),
            });
        }
        Ok(())
    }

    /// Reports a panic of a registration, and returns its panic [policy](Self::set_panic_policy).
    /// Use it in a library of handlers that catches panics itself. This is needed because the loop
    /// does not apply the policy of the registration to a panic inside of the closure of
    /// [`with_handler`](crate::Context::with_handler) or in a deferred callback.
    ///
    /// - With [`PanicPolicy::RemoveHandler`] the panic is logged and counted, and it ends
    ///   [`Reactor::run`](crate::Reactor::run) if `key` is [essential](Self::set_essential). The
    ///   library then [removes](Self::remove) the registration.
    /// - With [`PanicPolicy::Propagate`] nothing is done. The library then resumes the panic.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    pub fn report_panic(&mut self, key: Key, message: &str) -> Result<PanicPolicy, Error> {
        let slot = self.sources.get(key).ok_or(Error::StaleKey(key))?;
        let policy = slot
            .marks
            .panic_policy()
            .unwrap_or(self.turn.supervision.policy());
        // Under `Propagate` the library resumes the panic, so it is not logged or counted here.
        if policy == PanicPolicy::RemoveHandler {
            let (name, origin) = (
                self.name_of(key, slot.entry.as_deref()).to_owned(),
                Some(slot.origin),
            );
            let (label, is_essential) = (
                Label {
                    name: &name,
                    origin,
                },
                slot.marks.is_essential(),
            );
            log_panic(label, message);
            self.metrics.panics += 1;
            if is_essential {
                self.stop_run_if_failed(&CloseReason::Panicked(message.to_owned()), label);
            }
        }
        Ok(policy)
    }

    /// Ends `run` if `reason` is a failure. The registration that has ended is essential.
    #[cold]
    #[inline(never)]
    pub(crate) fn stop_run_if_failed(&mut self, reason: &CloseReason, label: Label<'_>) {
        let source = match reason {
            CloseReason::Failed(error) => copy_of(error),
            CloseReason::Panicked(message) => io::Error::other(format!("panicked: {message}")),
            CloseReason::ByHandler | CloseReason::ByKey | CloseReason::Taken => return,
        };
        let origin = label.origin.unwrap_or(Location::caller());
        self.fail(Failure {
            name: Some(label.name.to_owned()),
            origin,
            source,
        });
    }

    fn fail(&mut self, failure: Failure) {
        tracing::error!(%failure, "the loop stops");
        self.turn.failure.get_or_insert_with(|| Box::new(failure));
        self.turn.stopping = true;
    }
}

/// Returns an error with the same text, kind and errno. The original is passed to the handler.
fn copy_of(error: &io::Error) -> io::Error {
    if let Some(errno) = error.raw_os_error() {
        return io::Error::from_raw_os_error(errno);
    }
    io::Error::new(
        error.kind(),
        Copied {
            text: error.to_string(),
            errno: errno(error).map(io::Error::from_raw_os_error),
        },
    )
}

#[derive(Debug)]
struct Copied {
    text: String,
    errno: Option<io::Error>,
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl error::Error for Copied {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.errno
            .as_ref()
            .map(|errno| errno as &(dyn error::Error + 'static))
    }
}
