//! A loop for a program that begins as a future.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;

use reactor::{Error, Exit, Reactor};

use super::join::JoinError;
use super::spawn::{spawn_from, spawn_joinable_from};

/// Why [`block_on`] has ended without the output of its future.
#[derive(Debug)]
#[non_exhaustive]
pub enum BlockOnError {
    /// The loop has failed.
    Loop(Error),
    /// A callback has stopped the loop before the future was done. The future was cancelled.
    #[non_exhaustive]
    Stopped {
        /// The line that stopped the loop, if it is known.
        origin: Option<&'static Location<'static>>,
    },
    /// The future was cancelled through its key, or has panicked under
    /// [`PanicPolicy::RemoveHandler`](reactor::PanicPolicy::RemoveHandler).
    Ended(JoinError),
}

impl fmt::Display for BlockOnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop(error) => error.fmt(f),
            Self::Stopped { origin } => {
                f.write_str("the loop was stopped before the future was done")?;
                origin.map_or(Ok(()), |origin| write!(f, ", at {origin}"))
            }
            Self::Ended(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BlockOnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Loop(error) => Some(error),
            Self::Stopped { .. } => None,
            Self::Ended(error) => Some(error),
        }
    }
}

impl From<Error> for BlockOnError {
    fn from(error: Error) -> Self {
        Self::Loop(error)
    }
}

/// Becomes the error of the loop, or an error of the kind [`io::ErrorKind::Other`].
impl From<BlockOnError> for io::Error {
    fn from(error: BlockOnError) -> Self {
        match error {
            BlockOnError::Loop(error) => error.into(),
            other => Self::other(other),
        }
    }
}

/// Runs the loop until `future` is done, and returns its output. Other tasks and registrations of
/// the loop stay, and go on when the loop runs again.
///
/// The future is a task, so it may use everything of this module, such as
/// [`spawn_local`](super::spawn_local) and [`with_context`](super::with_context).
///
/// # Errors
/// - [`BlockOnError::Loop`] if the task cannot be spawned, or if the loop fails.
/// - [`BlockOnError::Stopped`] if the loop is stopped before the future is done.
/// - [`BlockOnError::Ended`] if the task is cancelled or panics.
///
/// # Panics
/// If the future or a callback panics under
/// [`PanicPolicy::Propagate`](reactor::PanicPolicy::Propagate).
///
/// ```
/// use std::time::Duration;
/// use handlers::futures;
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), futures::BlockOnError> {
/// let mut reactor = Reactor::<()>::new()?;
/// let answer = futures::block_on(&mut reactor, &mut (), async {
///     futures::sleep(Duration::from_millis(1)).await;
///     42
/// })?;
/// assert_eq!(answer, 42);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn block_on<S, F>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    future: F,
) -> Result<F::Output, BlockOnError>
where
    S: 'static,
    F: Future + 'static,
    F::Output: 'static,
{
    let origin = Location::caller();
    let ended = Rc::new(RefCell::new(None));
    let task = spawn_joinable_from(origin, reactor, future)?;
    let (key, ending) = (task.key(), Rc::clone(&ended));
    // A second task, since only this one is polled after a panic of the first.
    let watcher = spawn_from(origin, reactor, task, move |result, cx| {
        ending.replace(Some(result));
        cx.registry.stop_from(origin);
    })?;
    let exit = catch_unwind(AssertUnwindSafe(|| reactor.run(state)));
    let result = ended.take();
    if result.is_none() {
        // Stale keys, if the loop has ended because a task was cancelled.
        let _ = (watcher.cancel(reactor), key.cancel(reactor));
    }
    match (result, exit.unwrap_or_else(|panic| resume_unwind(panic))?) {
        (Some(result), _) => result.map_err(BlockOnError::Ended),
        (None, Exit::Stopped { origin, .. }) => Err(BlockOnError::Stopped { origin }),
        (None, _) => Err(BlockOnError::Ended(JoinError::Cancelled)),
    }
}
