//! The handle of a pool, which submits jobs from any thread.

use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

use reactor::{Context, Remote};

use super::completion::Completion;
use super::error::{JobError, JobPanic, Refusal, Refused};
use super::job::Job;
use super::queue::JobQueue;
use super::state::WorkerState;
use crate::carried::CallerContext;

/// A handle to submit jobs to a [`WorkerPool`](super::WorkerPool) from any thread. Clone it into
/// your handlers, or keep it in the state of the loop.
///
/// ```
/// use std::thread;
/// use handlers::WorkerPool;
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = Reactor::<u64>::new()?;
/// let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
/// let handle = pool.handle();
/// let submitter = thread::spawn(move || {
///     let submitted = handle.submit(|| 6 * 7, |product, cx| *cx.state = product.unwrap_or(0));
///     assert!(submitted.is_ok());
/// });
/// submitter.join().unwrap();
/// let mut product = 0;
/// reactor.run(&mut product)?; // returns after the callback of the job
/// assert_eq!(product, 42);
/// # Ok(())
/// # }
/// ```
pub struct PoolHandle<S: 'static, W: 'static = ()> {
    pub(super) shared: Arc<JobQueue<W>>,
    pub(super) remote: Remote<S>,
}

impl<S, W> PoolHandle<S, W> {
    /// Runs `job` on a worker, and then calls `done`, the completion callback, with the result.
    /// `done` runs on the loop, in the same way as a closure of [`Remote::post`]. This method never
    /// blocks.
    ///
    /// If the job panics, `done` gets a [`JobPanic`], and the worker continues with the next job.
    /// If the loop has ended before the job is done, `done` is dropped and not called.
    ///
    /// With the feature `request-context`, `job` and `done` run in the context of the caller.
    ///
    /// # Cost
    /// One lock, a few allocations, and a wakeup if a worker is asleep.
    ///
    /// # Errors
    /// [`Refused`] returns `job` and `done`. Its reason is [`Refusal::Full`] if the queue is full,
    /// or [`Refusal::Closed`] if the pool was drained, shut down or dropped.
    ///
    /// ```
    /// use handlers::WorkerPool;
    /// use reactor::Reactor;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut reactor = Reactor::<String>::new()?;
    /// let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    /// pool.submit(
    ///     || std::fs::read_to_string("Cargo.toml"), // on a worker
    ///     |text, cx| match text {
    ///         Ok(Ok(text)) => *cx.state = text, // on the loop
    ///         Ok(Err(error)) => eprintln!("not read: {error}"),
    ///         Err(panic) => eprintln!("{panic}"),
    ///     },
    /// )?;
    /// let mut text = String::new();
    /// reactor.run(&mut text)?;
    /// assert!(text.contains("[package]"));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("spawn_blocking", "uv_queue_work", "run_in_executor"))]
    #[track_caller]
    pub fn submit<J, R, D>(&self, job: J, done: D) -> Result<Job, Refused<J, D>>
    where
        J: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
        D: FnOnce(Result<R, JobPanic>, &mut Context<'_, S>) + Send + 'static,
    {
        self.submit_made((job, done), |job_and_done| job_and_done)
            .map_err(Refused::from_parts)
    }

    /// Runs `job` on a worker with the worker's [state](super::PoolBuilder::worker_state), and then
    /// calls `done` with the result on the loop. Otherwise this works like
    /// [`submit`](Self::submit).
    ///
    /// If the worker has no state yet, a state is made for this job. If that fails, the job does
    /// not run, and `done` gets [`JobError::NoState`]. If the job panics, `done` gets
    /// [`JobError::Panicked`], and the state is dropped.
    ///
    /// # Errors
    /// [`Refused`] returns `job` and `done`. Its reason is [`Refusal::Full`] if the queue is full,
    /// or [`Refusal::Closed`] if the pool was drained, shut down or dropped.
    ///
    /// For an example see [`PoolBuilder::worker_state`](super::PoolBuilder::worker_state).
    #[track_caller]
    pub fn submit_with<J, R, D>(&self, job: J, done: D) -> Result<Job, Refused<J, D>>
    where
        J: FnOnce(&mut W) -> R + Send + 'static,
        R: Send + 'static,
        D: FnOnce(Result<R, JobError>, &mut Context<'_, S>) + Send + 'static,
    {
        let work = |(job, done): (J, D)| {
            let work = move |shared: &JobQueue<W>, state: &mut WorkerState<W>| {
                let result = state.run(job);
                shared.count_end();
                result.map_err(JobError::from)
            };
            (work, done)
        };
        self.enqueue((job, done), work).map_err(Refused::from_parts)
    }

    /// Submits a job that `make` makes from `input`. Returns `input` if the queue has no room,
    /// before `make` is called.
    #[track_caller]
    pub(crate) fn submit_made<I, J, R, D>(
        &self,
        input: I,
        make: impl FnOnce(I) -> (J, D),
    ) -> Result<Job, (I, Refusal)>
    where
        J: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
        D: FnOnce(Result<R, JobPanic>, &mut Context<'_, S>) + Send + 'static,
    {
        self.enqueue(input, |input| {
            let (job, done) = make(input);
            let work = move |shared: &JobQueue<W>, _: &mut WorkerState<W>| {
                let result = catch_unwind(AssertUnwindSafe(job));
                shared.count_end();
                result.map_err(JobPanic::of)
            };
            (work, done)
        })
    }

    /// Queues the work of a job, and the completion that follows it on the loop.
    #[track_caller]
    fn enqueue<I, J, R, D>(
        &self,
        input: I,
        make: impl FnOnce(I) -> (J, D),
    ) -> Result<Job, (I, Refusal)>
    where
        J: FnOnce(&JobQueue<W>, &mut WorkerState<W>) -> R + Send + 'static,
        R: Send + 'static,
        D: FnOnce(R, &mut Context<'_, S>) + Send + 'static,
    {
        // Before the lock: a subscriber of `tracing` may be asked for its span.
        let context = CallerContext::current();
        let room = match self.shared.room() {
            Ok(room) => room,
            Err(reason) => return Err((input, reason)),
        };
        let (work, done) = make(input);
        let (remote, origin) = (self.remote.clone(), Location::caller());
        let completion = Completion::new(remote.keep_alive(), done);
        let pending = completion.handle();
        let slot = room.fill(move |shared, state| {
            let result = context.scope_if_any(|| work(shared, state));
            // The post takes the context on to the completion.
            context.scope_if_any(|| complete(&remote, origin, result, completion));
        });
        Ok(Job { slot, pending })
    }

    /// Returns the number of jobs that wait for a worker.
    pub fn queued(&self) -> usize {
        self.shared.queued()
    }

    /// Returns the number of running jobs. A job that has ended is not counted, even if its
    /// completion callback has not run yet.
    pub fn running(&self) -> usize {
        self.shared.running()
    }
}

/// Passes the result of a job to the loop, unless the job was abandoned.
fn complete<S, R, D>(
    remote: &Remote<S>,
    origin: &'static Location<'static>,
    result: R,
    completion: Completion<D>,
) where
    S: 'static,
    R: Send + 'static,
    D: FnOnce(R, &mut Context<'_, S>) + Send + 'static,
{
    if completion.is_abandoned() {
        return; // the result is dropped here, on the worker
    }
    let posted = remote.post_from(origin, move |cx| {
        if let Some(done) = completion.take() {
            done(result, cx);
        }
    });
    if posted.is_err() {
        tracing::debug!("a job has finished after its loop has ended");
    }
}

impl<S, W> Clone for PoolHandle<S, W> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            remote: self.remote.clone(),
        }
    }
}

impl<S, W> fmt::Debug for PoolHandle<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.describe(f)
    }
}
