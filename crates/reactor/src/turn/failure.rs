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
    /// Makes [`Reactor::run`](crate::Reactor::run) return at the end of this turn; if it is not running, as soon as it
    /// is called.
    ///
    /// The turn is finished first: every event collected in it reaches its handler, and its deferred callbacks run. So
    /// no event is lost, and the reactor can be run again.
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

    /// Stops the loop as [`stop`](Self::stop) does, and shows `origin` as the line that has asked for it, in logs and in
    /// [`Exit::Stopped`](crate::Exit::Stopped).
    ///
    /// It is for a library of handlers, which stops the loop now since a line of its user's has asked for that earlier.
    pub fn stop_from(&mut self, origin: &'static Location<'static>) {
        tracing::debug!(%origin, "the loop is asked to stop");
        self.turn.stopping = true;
        self.turn.stopped_at.get_or_insert(origin);
    }

    /// Whether [`stop`](Self::stop) has been called and [`Reactor::run`](crate::Reactor::run) has not returned since: for
    /// those who call [`Reactor::turn`](crate::Reactor::turn) themselves, which does not wait then.
    #[inline]
    pub const fn is_stopping(&self) -> bool {
        self.turn.stopping
    }

    /// Makes [`Reactor::run`](crate::Reactor::run) return `error` at the end of this turn, as [`Error::Failed`] with the
    /// line of this call; if it is not running, as soon as it is called. Otherwise like [`stop`](Self::stop).
    ///
    /// The first failure counts: a later one is logged.
    #[track_caller]
    pub fn stop_with(&mut self, error: io::Error) {
        self.fail(Failure {
            name: None,
            origin: Location::caller(),
            source: error,
        });
    }

    /// Takes the failure that is to end [`Reactor::run`](crate::Reactor::run), which does this itself: for programs that call
    /// [`Reactor::turn`](crate::Reactor::turn) and find that the loop [is stopping](Self::is_stopping).
    pub fn take_failure(&mut self) -> Option<Error> {
        self.turn.failure.take().map(Error::Failed)
    }

    /// Ends [`Reactor::run`](crate::Reactor::run) with `error` if `key` is [essential](Self::set_essential): for a library of handlers
    /// that is about to [`remove`](Self::remove) a registration because it has failed.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn report_failure(&mut self, key: Key, error: &io::Error) -> Result<(), Error> {
        let slot = self.sources.get(key).ok_or(Error::StaleKey(key))?;
        if slot.on_failure.is_essential() {
            let name = Some(self.name_of(key, slot.entry.as_deref()).to_owned());
            self.fail(Failure {
                name,
                origin: slot.origin,
                source: copy_of(error),
            });
        }
        Ok(())
    }

    /// Reports a panic of a registration, and returns what its [policy](Self::set_panic_policy) makes of it: for a library of handlers
    /// that has caught it in a call that is not the loop's, a visit or a deferred callback.
    ///
    /// By [`PanicPolicy::RemoveHandler`] it is logged, counted, and ends [`Reactor::run`](crate::Reactor::run) if `key` is
    /// [essential](Self::set_essential): the library [removes](Self::remove) the registration. By [`PanicPolicy::Propagate`] nothing
    /// is done: the library lets the panic go on.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn report_panic(&mut self, key: Key, message: &str) -> Result<PanicPolicy, Error> {
        let slot = self.sources.get(key).ok_or(Error::StaleKey(key))?;
        let policy = slot
            .on_failure
            .panic_policy()
            .unwrap_or(self.turn.supervision.policy());
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
                slot.on_failure.is_essential(),
            );
            log_panic(label, message);
            self.metrics.panics += 1;
            if is_essential {
                self.stop_run_if_failed(&CloseReason::Panicked(message.to_owned()), label);
            }
        }
        Ok(policy)
    }

    /// Ends `run` if what has ended, and is essential, has failed.
    #[cold]
    #[inline(never)]
    pub(crate) fn stop_run_if_failed(&mut self, reason: &CloseReason, label: Label<'_>) {
        let source = match reason {
            CloseReason::Failed(error) => copy_of(error),
            CloseReason::Panicked(message) => io::Error::other(format!("panicked: {message}")),
            CloseReason::ByHandler | CloseReason::ByKey => return,
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

/// An error that says the same, with its kind and its errno: the handler is told of the first.
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
