//! Jobs of the worker pool within a future.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::pool::{Job, JobPanic, PoolHandle, Refusal};

/// Why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEnd {
    /// The pool did not accept the job.
    Refused(Refusal),
    /// The job panicked.
    Panicked(JobPanic),
    /// The job was dropped: the pool was [shut down](crate::WorkerPool::shutdown_now), or the loop
    /// has ended.
    Dropped,
}

impl fmt::Display for JobEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Panicked(panic) => panic.fmt(f),
            Self::Dropped => f.write_str("the job was dropped with its pool"),
        }
    }
}

impl Error for JobEnd {}

/// Becomes an error of the kind of the [`Refusal`], or of the kind [`io::ErrorKind::Other`].
impl From<JobEnd> for io::Error {
    fn from(end: JobEnd) -> Self {
        match end {
            JobEnd::Refused(refusal) => refusal.into(),
            other => Self::other(other),
        }
    }
}

/// Runs `job` on a worker, at once, and returns a future of its result. The future may be awaited
/// in any task of the loop of the pool.
///
/// If the future is dropped, the job is [abandoned](Job::abandon): it does not run if it has not
/// begun, and otherwise its result is dropped.
///
/// # Cost
/// The cost of [`PoolHandle::submit`], and one allocation.
///
/// # Errors
/// The future returns:
/// - [`JobEnd::Refused`] if the queue of the pool is full, or the pool is closed.
/// - [`JobEnd::Panicked`] if the job panics.
/// - [`JobEnd::Dropped`] if the pool is shut down before the job has begun.
///
/// ```
/// use handlers::{WorkerPool, futures};
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = Reactor::<()>::new()?;
/// let pool = WorkerPool::builder().build(&mut reactor)?;
/// let answer = futures::submit(&pool, || 6 * 7);
/// assert_eq!(futures::block_on(&mut reactor, &mut (), answer)??, 42);
/// # Ok(())
/// # }
/// ```
#[doc(alias("spawn_blocking", "unblock"))]
#[track_caller]
pub fn submit<S, W, R>(
    pool: &PoolHandle<S, W>,
    job: impl FnOnce() -> R + Send + 'static,
) -> PendingJob<R>
where
    S: 'static,
    W: 'static,
    R: Send + 'static,
{
    let shared = Arc::new(Shared::new());
    let done = Completion(Arc::clone(&shared));
    let submitted = pool.submit(job, |result, _cx| {
        done.0.set(result.map_err(JobEnd::Panicked));
        drop(done);
    });
    let job = match submitted {
        Ok(job) => Some(job),
        Err(refused) => {
            shared.set(Err(JobEnd::Refused(refused.reason)));
            None
        }
    };
    PendingJob { shared, job }
}

/// The result of a job on its way to the future.
struct Shared<R>(Mutex<State<R>>);

struct State<R> {
    result: Option<Result<R, JobEnd>>,
    waker: Option<Waker>,
}

impl<R> Shared<R> {
    const fn new() -> Self {
        Self(Mutex::new(State {
            result: None,
            waker: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the result, if there is none, and wakes the task.
    fn set(&self, result: Result<R, JobEnd>) {
        let mut state = self.lock();
        if state.result.is_none() {
            state.result = Some(result);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The callback of a job. If it is dropped without a call, so was the job.
struct Completion<R>(Arc<Shared<R>>);

impl<R> Drop for Completion<R> {
    fn drop(&mut self) {
        self.0.set(Err(JobEnd::Dropped));
    }
}

/// The future of [`submit`].
#[must_use = "dropping it abandons the job"]
pub struct PendingJob<R> {
    shared: Arc<Shared<R>>,
    job: Option<Job>,
}

impl<R> Unpin for PendingJob<R> {}

impl<R> Future for PendingJob<R> {
    type Output = Result<R, JobEnd>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker().clone(); // outside of the lock, as its drop
        let mut state = self.shared.lock();
        let (result, unused) = match state.result.take() {
            Some(result) => (Poll::Ready(result), Some(waker)),
            None => (Poll::Pending, state.waker.replace(waker)),
        };
        drop(state);
        drop(unused);
        result
    }
}

impl<R> Drop for PendingJob<R> {
    fn drop(&mut self) {
        // First, since the completion that is dropped with the job would wake the task.
        let unused = self.shared.lock().waker.take();
        drop(unused);
        if let Some(job) = &self.job {
            let _ = job.abandon(); // too late if it is done
        }
    }
}

impl<R> fmt::Debug for PendingJob<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingJob")
            .field("is_done", &self.shared.lock().result.is_some())
            .finish_non_exhaustive()
    }
}
