//! A worker pool: jobs that block or take long run on threads, and their completion callbacks run
//! on the loop.

mod builder;
mod completion;
mod error;
mod handle;
mod job;
mod queue;
mod state;

use reactor::WorkerThread;
use std::fmt;
use std::ops::Deref;

pub use self::builder::PoolBuilder;
pub use self::error::{JobError, JobPanic, Refusal, Refused};
pub use self::handle::PoolHandle;
pub use self::job::{Cancellation, Job};

/// Threads for work that would block the loop: files, hashing, databases. The pool
/// dereferences to its [`PoolHandle`], which submits jobs. Names of hosts are looked up by a
/// `Resolver`, which has threads of its own.
///
/// Jobs run on the threads of the pool, which are called *workers*. The workers start the jobs in
/// the order of submission. When a job is done, its completion callback runs on the loop with the
/// result. Until the callback has run, the job keeps [`Reactor::run`](reactor::Reactor::run) alive,
/// unless you put the job into the [background](Job::set_background) or [abandon](Job::abandon) it.
/// [`Registry::reasons_to_run`](reactor::Registry::reasons_to_run) shows the source location at
/// which a pending job was submitted.
///
/// Each worker can have a state of type `W`, such as a database connection. The jobs that run on a
/// worker share its state: see [`PoolBuilder::worker_state`].
///
/// If you drop the pool, the queued jobs are dropped, and the running jobs continue. To wait for
/// the running jobs, use [`drain`](Self::drain) or [`shutdown_now`](Self::shutdown_now).
///
/// ```
/// use handlers::WorkerPool;
/// use reactor::Reactor;
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::<Vec<u64>>::new()?;
/// let pool = WorkerPool::builder().workers(2).build(&mut reactor)?;
/// let job = pool.submit(
///     || (1..=20).product::<u64>(), // on a worker
///     |product, cx| cx.state.push(product.unwrap_or(0)), // on the loop
/// );
/// assert!(job.is_ok(), "the queue has room");
/// let mut products = Vec::new();
/// reactor.run(&mut products)?; // returns after the callback of the last job
/// assert_eq!(products, [2_432_902_008_176_640_000]);
/// pool.drain();
/// # Ok(())
/// # }
/// ```
#[doc(alias("spawn_blocking", "uv_queue_work", "ThreadPoolExecutor"))]
pub struct WorkerPool<S: 'static, W: 'static = ()> {
    pool: PoolHandle<S, W>,
    threads: Vec<WorkerThread>,
}

impl<S> WorkerPool<S> {
    /// Returns a builder. Use it to set limits and to start the threads.
    pub fn builder() -> PoolBuilder<S> {
        PoolBuilder::new()
    }
}

impl<S, W> WorkerPool<S, W> {
    /// Returns a handle to submit jobs. The handle is `Send`, and you can clone it.
    pub fn handle(&self) -> PoolHandle<S, W> {
        self.pool.clone()
    }

    /// Blocks until the queued and the running jobs are done. The pool accepts no more jobs from
    /// now on. The states of the workers are dropped before this method returns. The completion
    /// callbacks run later, when the loop runs. Do not call this method on the thread of a loop
    /// that must not be blocked.
    pub fn drain(mut self) {
        self.pool.shared.close();
        self.join();
    }

    /// Drops the queued jobs with their completion callbacks, and blocks until the running jobs are
    /// done. The pool accepts no more jobs from now on. The states of the workers are dropped
    /// before this method returns. The completion callbacks of the running jobs run later, when the
    /// loop runs.
    pub fn shutdown_now(mut self) {
        self.pool.shared.close_and_clear();
        self.join();
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A panic never ends a worker, so the join returns no error. A thread cannot join
            // itself, so a worker that calls this is left out.
            if !thread.is_current() {
                let _ = thread.join();
            }
        }
    }
}

/// Dereferences to the handle, which submits jobs.
impl<S, W> Deref for WorkerPool<S, W> {
    type Target = PoolHandle<S, W>;

    fn deref(&self) -> &PoolHandle<S, W> {
        &self.pool
    }
}

impl<S, W> Drop for WorkerPool<S, W> {
    fn drop(&mut self) {
        self.pool.shared.close_and_clear();
    }
}

impl<S, W> fmt::Debug for WorkerPool<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPool")
            .field("workers", &self.threads.len())
            .field("pool", &self.pool)
            .finish()
    }
}
