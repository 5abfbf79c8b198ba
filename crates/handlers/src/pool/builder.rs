//! The setup of a pool: its limits, its threads, and the state of each worker.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread;

use reactor::Registry;

use super::queue::JobQueue;
use super::state::{Make, WorkerState};
use super::{PoolHandle, WorkerPool};

/// A builder for a [`WorkerPool`]: it sets the limits, the threads, and the state of the workers.
/// Returned by [`WorkerPool::builder`].
///
/// ```
/// use handlers::WorkerPool;
/// use reactor::Reactor;
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::<()>::new()?;
/// let pool = WorkerPool::builder()
///     .workers(4)
///     .max_queued_jobs(100)
///     .name("hash-") // hash-0 to hash-3
///     .build(&mut reactor)?;
/// # pool.drain();
/// # Ok(())
/// # }
/// ```
pub struct PoolBuilder<S, W = ()> {
    workers: usize,
    max_queued_jobs: usize,
    name: String,
    make: Arc<Make<W>>,
    state: PhantomData<fn(S)>,
}

impl<S> PoolBuilder<S> {
    pub(super) fn new() -> Self {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        Self {
            workers,
            max_queued_jobs: 1024,
            name: "worker-".to_owned(),
            make: Arc::new(|| Ok(())),
            state: PhantomData,
        }
    }
}

impl<S, W: 'static> PoolBuilder<S, W> {
    /// Sets the number of threads. With 0, one thread is started. Default: the number of processors
    /// that this process may use.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Sets the maximum number of jobs that wait while all workers are busy. If this number is
    /// reached, a further job is refused with [`Refusal::Full`](super::Refusal::Full). Default:
    /// 1024.
    #[must_use]
    pub fn max_queued_jobs(mut self, jobs: usize) -> Self {
        self.max_queued_jobs = jobs;
        self
    }

    /// Sets the beginning of the threads' names. The number of each thread, counted from 0, is
    /// appended to it. Default: `worker-`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets a function that makes a state for each worker, for example a database connection or a
    /// large buffer. A job that was submitted by [`PoolHandle::submit_with`] borrows the state of
    /// the worker that runs it.
    ///
    /// The state is made on the worker's thread, for the first job that uses it. It is dropped on
    /// the same thread, so it need not be [`Send`]. In detail:
    /// - If `make` returns an error or panics, the job does not run, and its completion callback
    ///   gets [`JobError::NoState`]. The next job that needs a state on this worker calls `make`
    ///   again.
    /// - If a job panics, the state that it has borrowed is dropped, since the job may have changed
    ///   only a part of it. The next job gets a new state.
    /// - A job gets the state as a `&mut` reference. So it can replace the state, for example if
    ///   the database has closed the connection.
    /// - The state is dropped when the worker ends. After the pool was
    ///   [drained](super::WorkerPool::drain), [shut down](super::WorkerPool::shutdown_now) or
    ///   dropped, a worker ends as soon as its last job is done.
    ///
    /// - With the feature `request-context`, `make` runs without a context, since further jobs use
    ///   the state.
    ///
    /// Default: no state (`()`).
    ///
    /// [`JobError::NoState`]: super::JobError::NoState
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use handlers::WorkerPool;
    /// use reactor::Reactor;
    ///
    /// /// Stands for a connection to a database.
    /// struct Database {
    ///     users: HashMap<u32, &'static str>,
    /// }
    ///
    /// impl Database {
    ///     fn connect() -> std::io::Result<Self> {
    ///         Ok(Self { users: HashMap::from([(1000, "alice")]) })
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut reactor = Reactor::<Vec<String>>::new()?;
    /// let builder = WorkerPool::builder().workers(4).worker_state(Database::connect);
    /// let pool = builder.build(&mut reactor)?;
    /// pool.submit_with(
    ///     |database| database.users.get(&1000).copied(), // on a worker, with its connection
    ///     |found, cx| match found {
    ///         Ok(name) => cx.state.extend(name.map(str::to_owned)),
    ///         Err(error) => eprintln!("no answer: {error}"), // or the job has panicked
    ///     },
    /// )?;
    /// let mut names = Vec::new();
    /// reactor.run(&mut names)?;
    /// assert_eq!(names, ["alice"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn worker_state<V: 'static>(
        self,
        make: impl Fn() -> io::Result<V> + Send + Sync + 'static,
    ) -> PoolBuilder<S, V> {
        let Self {
            workers,
            max_queued_jobs,
            name,
            state,
            ..
        } = self;
        PoolBuilder {
            workers,
            max_queued_jobs,
            name,
            make: Arc::new(make),
            state,
        }
    }

    /// Starts the threads and returns the pool. The completion callbacks of its jobs run on the
    /// loop of `registry`.
    ///
    /// # Errors
    /// - `EAGAIN` if a thread cannot be started. The call then ends the threads that it has already
    ///   started.
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop.
    /// - [`Error::Loop`](reactor::Error::Loop) if no eventfd can be created, or
    ///   [`Error::Os`](reactor::Error::Os) if the eventfd cannot be watched; see
    ///   [`Registry::remote`].
    #[track_caller]
    pub fn build(self, registry: &mut Registry<S>) -> io::Result<WorkerPool<S, W>> {
        let pool = PoolHandle {
            shared: Arc::new(JobQueue::new(self.max_queued_jobs)),
            remote: registry.remote()?,
        };
        let mut started = WorkerPool {
            pool,
            threads: Vec::new(),
        }; // dropping it ends the started threads
        for number in 0..self.workers {
            let (shared, make) = (Arc::clone(&started.pool.shared), Arc::clone(&self.make));
            let work = move || shared.work(WorkerState::new(make));
            started
                .threads
                .push(registry.spawn_worker(format!("{}{number}", self.name), work)?);
        }
        Ok(started)
    }
}

impl<S, W> fmt::Debug for PoolBuilder<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("workers", &self.workers)
            .field("max_queued_jobs", &self.max_queued_jobs)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
