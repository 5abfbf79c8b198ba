//! A worker pool: jobs that block or take long run on threads, what follows them on the loop.

mod builder;
mod completion;
mod error;
mod handle;
mod job;
mod queue;
mod state;

use std::fmt;
use std::ops::Deref;
use std::thread::{self, JoinHandle};

pub use self::builder::PoolBuilder;
pub use self::error::{JobError, JobPanic, Refusal, Refused};
pub use self::handle::PoolHandle;
pub use self::job::{Cancellation, Job};

/// Threads for work that would block the loop: files, name resolution, hashing, databases. It dereferences to its
/// [`PoolHandle`], which takes the jobs.
///
/// A job runs on a worker, in the order of submission; its completion callback runs on the loop, with the result. While
/// a job is queued or running it keeps the loop alive, unless it was put into the [background](Job::set_background) or
/// [given up](Job::abandon); [`Registry::reasons_to_run`](reactor::Registry::reasons_to_run) shows the line that has
/// submitted it.
///
/// Each worker may have a value of type `W` that its jobs share, such as a connection to a database:
/// [`PoolBuilder::worker_state`].
///
/// Dropping the pool abandons the queued jobs, and lets the running ones finish by themselves. To wait for them, see
/// [`drain`](Self::drain) and [`shutdown_now`](Self::shutdown_now).
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
/// assert!(job.is_ok(), "there is room");
/// let mut products = Vec::new();
/// reactor.run(&mut products)?; // ends with its last job
/// assert_eq!(products, [2_432_902_008_176_640_000]);
/// pool.drain();
/// # Ok(())
/// # }
/// ```
#[doc(alias("spawn_blocking", "uv_queue_work", "ThreadPoolExecutor"))]
pub struct WorkerPool<S: 'static, W: 'static = ()> {
    pool: PoolHandle<S, W>,
    threads: Vec<JoinHandle<()>>,
}

impl<S> WorkerPool<S> {
    /// Returns a builder, to set limits and to start the threads.
    pub fn builder() -> PoolBuilder<S> {
        PoolBuilder::new()
    }
}

impl<S, W> WorkerPool<S, W> {
    /// Returns a handle for submitting jobs from elsewhere.
    pub fn handle(&self) -> PoolHandle<S, W> {
        self.pool.clone()
    }

    /// Accepts no more jobs, and blocks until the queued and the running ones are done. Their completion callbacks run
    /// when the loop runs. The states of the workers are dropped by then. Not for the thread of a loop that is to go on
    /// meanwhile.
    pub fn drain(mut self) {
        self.pool.shared.close();
        self.join();
    }

    /// Accepts no more jobs, drops the queued ones with their completion callbacks, and blocks until the running ones
    /// are done. The states of the workers are dropped by then.
    pub fn shutdown_now(mut self) {
        self.pool.shared.close_and_clear();
        self.join();
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // Nothing that panics ends a worker, and none can wait for itself.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// To submit jobs.
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
