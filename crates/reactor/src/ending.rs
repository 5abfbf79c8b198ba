//! The end of a loop: in which order all that it holds goes; and the end of `run` with a failure.
//!
//! Ground rule: the ways in are closed before anything of the user's is dropped. A destructor may join a thread that calls
//! into this loop, or that sends to it until it is told that nobody is there.

use std::error;
use std::fmt;
use std::io;
use std::panic::Location;

use crate::error::{Error, Failure, errno};
use crate::handler::Closed;
use crate::registry::Registry;
use crate::slots::Key;
use crate::supervise::{Disposal, Label};

impl<S> Registry<S> {
    /// Ends the loop. Each value of the user's goes, however many of their destructors panic.
    ///
    /// # Panics
    /// As the first of them did, under [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate), unless the thread is panicking.
    pub(crate) fn end(&mut self) {
        let mut disposal = Disposal::default();
        self.close_ways_in();
        self.end_sources(&mut disposal);
        self.hooks.end_all(&mut disposal);
        self.timers.end_all(&mut disposal);
        disposal.drop_each(|| self.deferred.pop_front().is_some());
        disposal.drop_each(|| self.captures.drop_next());
        self.locals.end_all(&mut disposal);
        self.conclude(disposal, Label { name: "reactor", origin: None });
    }

    /// Makes [`Reactor::run`](crate::Reactor::run) return `error` at the end of this turn, as [`Error::Failed`] with the
    /// line of this call; if it is not running, as soon as it is called. Otherwise like [`stop`](Self::stop).
    ///
    /// The first failure counts: a later one is logged.
    #[track_caller]
    pub fn stop_with(&mut self, error: io::Error) {
        self.fail(Failure { name: None, origin: Location::caller(), source: error });
    }

    /// Takes the failure that is to end [`Reactor::run`](crate::Reactor::run), which does this itself: for programs that call
    /// [`Reactor::turn`](crate::Reactor::turn) and find that the loop [is stopping](Self::is_stopping).
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failure.take().map(Error::Failed)
    }

    /// Ends [`Reactor::run`](crate::Reactor::run) with `error` if `key` is [essential](Self::set_essential): for a library of handlers
    /// that is about to [`remove`](Self::remove) a registration because it has failed.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn note_failure(&mut self, key: Key, error: &io::Error) -> Result<(), Error> {
        let slot = self.sources.get(key).ok_or(Error::StaleKey(key))?;
        if slot.essential {
            let name = Some(self.name_of(key, slot.entry.as_deref()).to_owned());
            self.fail(Failure { name, origin: slot.origin, source: copy_of(error) });
        }
        Ok(())
    }

    /// Ends `run` if what has ended, and is essential, has failed.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_end_of_essential(&mut self, reason: &Closed, label: Label<'_>) {
        let source = match reason {
            Closed::Failed(error) => copy_of(error),
            Closed::Panicked(message) => io::Error::other(format!("panicked: {message}")),
            Closed::ByHandler | Closed::ByKey => return,
        };
        let origin = label.origin.unwrap_or(Location::caller());
        self.fail(Failure { name: Some(label.name.to_owned()), origin, source });
    }

    fn fail(&mut self, failure: Failure) {
        tracing::error!(%failure, "the loop stops");
        self.failure.get_or_insert_with(|| Box::new(failure));
        self.stopping = true;
    }
}

/// An error that says the same, with its kind and its errno: the handler is told of the first.
fn copy_of(error: &io::Error) -> io::Error {
    if let Some(errno) = error.raw_os_error() {
        return io::Error::from_raw_os_error(errno);
    }
    io::Error::new(
        error.kind(),
        Copied { text: error.to_string(), errno: errno(error).map(io::Error::from_raw_os_error) },
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
        self.errno.as_ref().map(|errno| errno as &(dyn error::Error + 'static))
    }
}
