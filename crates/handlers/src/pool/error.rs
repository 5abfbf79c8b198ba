//! What can become of a job instead of its result: it panics, has no state to run with, or is not accepted.

use std::any::Any;
use std::fmt;
use std::io;

use super::state::JobFailure;
use crate::error::{discard, panic_message};

/// What a job panicked with.
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

/// Why a job that takes the [state of its worker](super::PoolBuilder::worker_state) has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum JobError {
    /// The job panicked. The state that it had is dropped.
    Panicked(JobPanic),
    /// The state could not be made, so the job has not run. The next job tries again.
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
            Self::NoState(error) => write!(f, "the state of a worker cannot be made: {error}"),
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

/// So that `?` passes it on from a handler. An error of the state keeps its kind, and [`errno`](crate::errno) finds its
/// errno.
impl From<JobError> for io::Error {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Panicked(panic) => panic.into(),
            JobError::NoState(ref source) => Self::new(source.kind(), error),
        }
    }
}

/// A job that was not accepted, with the reason and all that was passed in.
#[non_exhaustive]
pub struct Refused<J, D> {
    /// The job; for a function of `files` the path, and the bytes if there are any.
    pub job: J,
    /// What was to follow it.
    pub done: D,
    /// Why.
    pub reason: Refusal,
}

/// Why a job was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// As many jobs are queued as [`PoolBuilder::max_queued_jobs`](super::PoolBuilder::max_queued_jobs) allows.
    Full,
    /// The pool has been drained, abandoned or dropped.
    Closed,
}

impl fmt::Display for JobPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the job panicked: {}", self.message)
    }
}

impl std::error::Error for JobPanic {}

/// So that `?` passes it on from a handler.
impl From<JobPanic> for io::Error {
    fn from(panic: JobPanic) -> Self {
        Self::other(panic)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "as many jobs are queued as the pool allows: submit it later",
            Self::Closed => {
                "the pool takes no more jobs: it has been drained, abandoned or dropped"
            }
        })
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Returns the kind of the [`io::Error`] that this becomes by `?`.
    pub const fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Full => io::ErrorKind::QuotaExceeded,
            Self::Closed => io::ErrorKind::BrokenPipe,
        }
    }
}

/// So that `?` passes it on from a handler, and ends its registration.
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

/// So that `?` passes the reason on from a handler; the job is dropped.
impl<J, D> From<Refused<J, D>> for io::Error {
    fn from(refused: Refused<J, D>) -> Self {
        refused.reason.into()
    }
}
