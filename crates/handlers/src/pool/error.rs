//! Failures of a job: it panics, has no state to run with, or is not accepted.

use std::any::Any;
use std::fmt;
use std::io;

use super::state::JobFailure;
use crate::error::{discard, panic_message};

/// A panic of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobPanic {
    /// The message of the panic.
    pub message: String,
}

impl JobPanic {
    pub(super) fn of(payload: Box<dyn Any + Send>) -> Self {
        let message = panic_message(&*payload);
        discard(payload);
        Self { message }
    }
}

/// The error of a job that uses the [state of its worker](super::PoolBuilder::worker_state). The
/// completion callback gets it in place of the result.
#[derive(Debug)]
#[non_exhaustive]
pub enum JobError {
    /// The job panicked. The state that it has borrowed is dropped.
    Panicked(JobPanic),
    /// The state could not be made, so the job did not run. The next job on this worker that needs
    /// a state tries again to make one.
    NoState(io::Error),
}

impl From<JobFailure> for JobError {
    fn from(failure: JobFailure) -> Self {
        match failure {
            JobFailure::Panic(payload) => Self::Panicked(JobPanic::of(payload)),
            JobFailure::NoState(error) => Self::NoState(error),
        }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => panic.fmt(f),
            Self::NoState(error) => write!(f, "cannot make the state of a worker: {error}"),
        }
    }
}

impl std::error::Error for JobError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Panicked(_) => None,
            Self::NoState(error) => Some(error),
        }
    }
}

/// Lets `?` pass the error on from a handler. If the state could not be made, the converted error
/// keeps the kind of the original error, and [`errno`](crate::errno) finds its errno. A panic
/// becomes an error of kind [`Other`](io::ErrorKind::Other).
impl From<JobError> for io::Error {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Panicked(panic) => panic.into(),
            JobError::NoState(ref source) => Self::new(source.kind(), error),
        }
    }
}

/// The error of a job that the pool did not accept. It holds the reason, and returns the values
/// that were passed to the method.
///
/// ```
/// use handlers::{Refusal, WorkerPool};
/// use reactor::Reactor;
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::<()>::new()?;
/// let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
/// let submitter = pool.handle();
/// pool.drain();
/// let refused = submitter.submit(|| 6 * 7, |_product, _cx| ()).unwrap_err();
/// assert_eq!(refused.reason, Refusal::Closed);
/// assert_eq!((refused.job)(), 42); // the job is returned: run it here
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
pub struct Refused<J, D> {
    /// The job. If the error comes from a function of `files`, this is the path, together with the
    /// bytes if bytes were to be written.
    pub job: J,
    /// The completion callback.
    pub done: D,
    /// The reason.
    pub reason: Refusal,
}

/// The reason for which the pool did not accept a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The number of queued jobs has reached
    /// [`PoolBuilder::max_queued_jobs`](super::PoolBuilder::max_queued_jobs).
    Full,
    /// The pool was drained, shut down or dropped.
    Closed,
}

impl fmt::Display for JobPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the job panicked: {}", self.message)
    }
}

impl std::error::Error for JobPanic {}

/// Lets `?` pass the panic on from a handler.
impl From<JobPanic> for io::Error {
    fn from(panic: JobPanic) -> Self {
        Self::other(panic)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue of the pool is full: submit the job later",
            Self::Closed => "the pool is closed: it was drained, shut down or dropped",
        })
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Returns the kind of the [`io::Error`] into which `?` converts this refusal.
    pub const fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Full => io::ErrorKind::QuotaExceeded,
            Self::Closed => io::ErrorKind::BrokenPipe,
        }
    }
}

/// Lets `?` pass the refusal on from a handler, with the kind that [`Refusal::kind`] returns. The
/// error then ends the handler's registration.
impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.kind(), refusal)
    }
}

impl<J, D> Refused<J, D> {
    pub(crate) fn from_parts(((job, done), reason): ((J, D), Refusal)) -> Self {
        Self { job, done, reason }
    }
}

impl<J, D> fmt::Debug for Refused<J, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<J, D> fmt::Display for Refused<J, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<J, D> std::error::Error for Refused<J, D> {}

impl<J, D> From<Refused<J, D>> for Refusal {
    fn from(refused: Refused<J, D>) -> Self {
        refused.reason
    }
}

/// Lets `?` pass the reason on from a handler. The job is dropped.
impl<J, D> From<Refused<J, D>> for io::Error {
    fn from(refused: Refused<J, D>) -> Self {
        refused.reason.into()
    }
}
