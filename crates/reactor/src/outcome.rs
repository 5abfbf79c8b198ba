//! Outcomes: whether a registration stays after a call, why it has ended, and why a loop has ended.

use std::fmt;
use std::io;
use std::panic::Location;

/// The decision of a handler or hook about its own registration.
///
/// ```
/// use reactor::{Next, Reactor};
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::<u32>::new()?;
/// reactor.idle(|cx| {
///     *cx.state += 1;
///     Ok(if *cx.state == 3 { Next::Remove } else { Next::Keep })
/// });
/// let mut calls = 0;
/// reactor.run(&mut calls)?;
/// assert_eq!(calls, 3);
/// # Ok(())
/// # }
/// ```
#[doc(alias("PostAction"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The registration stays. If its source is still ready for the interest, the handler is called
    /// again next [turn](crate::Reactor::turn).
    Keep,
    /// The registration ends: the source is closed, and the handler is dropped.
    Remove,
}

/// The reason why a registration has ended, passed to [`Handler::closed`](crate::Handler::closed).
/// Displays, for example, as “removed by its key”, or as “failed: ” and the error. Build one for
/// the unit test of a handler:
///
/// ```
/// use reactor::CloseReason;
///
/// let reason = CloseReason::Failed(std::io::Error::other("no route"));
/// assert_eq!(reason.to_string(), "failed: no route");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The handler returned [`Next::Remove`].
    ByHandler,
    /// [`Registry::remove`](crate::Registry::remove) was called with the key of the registration.
    ByKey,
    /// [`Registry::take_source`](crate::Registry::take_source) has returned the source.
    Taken,
    /// The handler returned this error.
    Failed(io::Error),
    /// The handler panicked with this message, and its panic policy is
    /// [`PanicPolicy::RemoveHandler`](crate::PanicPolicy::RemoveHandler).
    Panicked(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByHandler => f.write_str("removed by its handler"),
            Self::ByKey => f.write_str("removed by its key"),
            Self::Taken => f.write_str("taken"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

/// The reason why [`Reactor::run`](crate::Reactor::run) has returned. Displays as `stopped at
/// examples/echo.rs:31:18`, for example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// [`Registry::stop`](crate::Registry::stop) or [`Remote::stop`](crate::Remote::stop) was
    /// called.
    #[non_exhaustive]
    Stopped {
        /// The line of the first call. `None` if the call was made on a remote whose queue had been
        /// removed.
        origin: Option<&'static Location<'static>>,
    },
    /// Nothing was left to wait for: [`Reactor::run`](crate::Reactor::run) lists the things that it
    /// waits for.
    NothingLeft,
    /// The deadline of [`Reactor::run_until`](crate::Reactor::run_until) has passed.
    Deadline,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped {
                origin: Some(origin),
            } => write!(f, "stopped at {origin}"),
            Self::Stopped { origin: None } => f.write_str("stopped by another thread"),
            Self::NothingLeft => f.write_str("nothing was left to wait for"),
            Self::Deadline => f.write_str("the deadline has passed"),
        }
    }
}
