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

/// Threads for work that would block the loop: files, name resolution, hashing, databases. It
/// dereferences to its [`PoolHandle`], which submits jobs.
///
/// Jobs run on workers, started in the order of submission. The completion callback of a job runs
/// on the loop, with the result. While a job is queued or running it keeps the loop alive, unless
/// it was put into the [background](Job::set_background) or [abandoned](Job::abandon).
/// [`Registry::reasons_to_run`](reactor::Registry::reasons_to_run) shows the source location of its
/// submission.
///
/// Each worker may have a value of type `W` that its jobs share, such as a database connection: see
/// [`PoolBuilder::worker_state`].
///
/// Dropping the pool drops the queued jobs, and does not wait for the running ones. To wait for
/// them, use [`drain`](Self::drain) or [`shutdown_now`](Self::shutdown_now).
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
    /// Returns a builder, which sets limits and starts the threads.
    pub fn builder() -> PoolBuilder<S> {
        PoolBuilder::new()
    }
}

impl<S, W> WorkerPool<S, W> {
    /// Returns a cloneable, `Send` handle for submitting jobs.
    pub fn handle(&self) -> PoolHandle<S, W> {
        self.pool.clone()
    }

    /// Accepts no more jobs, and blocks until the queued and the running ones are done. Their
    /// completion callbacks run when the loop runs. The workers' states are dropped by then. Do not
    /// call this on the thread of a loop that should keep running.
    pub fn drain(mut self) {
        self.pool.shared.close();
        self.join();
    }

    /// Accepts no more jobs, drops the queued ones with their completion callbacks, and blocks
    /// until the running ones are done. The workers' states are dropped by then.
    pub fn shutdown_now(mut self) {
        self.pool.shared.close_and_clear();
        self.join();
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A panic never ends a worker, so the join returns no error. A thread cannot join
            // itself.
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
