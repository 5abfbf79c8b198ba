//! A worker pool: jobs that block or take long run on threads, what follows them on the loop.

mod following;
mod queue;
mod refusal;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use reactor::{Context, Registry, Remote};

use self::following::{Followed, Following};
use self::queue::{Shared, Slot, discard};
pub use self::refusal::{JobPanic, Refusal, Refused};
use crate::answer::{named, panic_message};

/// Threads for work that would hold up the loop: files, name resolution, hashing. It dereferences to its [`Pool`], which
/// takes the jobs.
///
/// A job runs on a worker, in the order of submission; what is to follow runs on the loop, with the result. As long as a job
/// is queued or running it keeps the loop alive, unless it was put into the [background](Job::set_background) or
/// [given up](Job::abandon); [`Registry::reasons_to_run`] shows the line that has submitted it.
///
/// Dropping the pool abandons what is queued, and lets what is running finish by itself. To wait for it, see
/// [`drain`](Self::drain) and [`abandon`](Self::abandon).
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
pub struct WorkerPool<S: 'static> {
    pool: Pool<S>,
    threads: Vec<JoinHandle<()>>,
}

/// Submits jobs to a [`WorkerPool`], from any thread: clone it into handlers, or keep it in the state.
pub struct Pool<S: 'static> {
    shared: Arc<Shared>,
    remote: Remote<S>,
}

/// Limits of a [`WorkerPool`].
#[derive(Debug)]
pub struct PoolBuilder<S> {
    workers: usize,
    queued_max: usize,
    name: String,
    state: PhantomData<fn(S)>,
}

/// A job that has been submitted: to cancel it, to give it up, or to let the loop end before it. Dropping this changes nothing.
pub struct Job {
    slot: Arc<Slot>,
    shared: Arc<Shared>,
    following: Arc<dyn Followed>,
}

impl<S> PoolBuilder<S> {
    fn new() -> Self {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        Self { workers, queued_max: 1024, name: "worker-".to_owned(), state: PhantomData }
    }

    /// How many threads, 1 at least; by default as many as processors may be used.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// How many jobs may wait while all workers are busy; one more is refused. By default 1024.
    #[must_use]
    pub fn queued_max(mut self, jobs: usize) -> Self {
        self.queued_max = jobs;
        self
    }

    /// The name of the threads, which their number follows; by default `worker-`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Starts the threads. What follows their jobs runs on the loop of `registry`.
    ///
    /// # Errors
    /// `EAGAIN` if a thread cannot be started, and those that were are ended; what [`Registry::remote`] gives.
    #[track_caller]
    pub fn build(self, registry: &mut Registry<S>) -> io::Result<WorkerPool<S>> {
        let pool = Pool { shared: Arc::new(Shared::new(self.queued_max)), remote: registry.remote()? };
        let mut started = WorkerPool { pool, threads: Vec::new() }; // dropped, it ends the threads that have started
        for number in 0..self.workers {
            let shared = Arc::clone(&started.pool.shared);
            let thread = thread::Builder::new().name(format!("{}{number}", self.name)).spawn(move || shared.work());
            let thread = thread.map_err(|error| named("clone", error))?;
            started.threads.push(thread);
        }
        Ok(started)
    }
}

impl<S> WorkerPool<S> {
    /// A pool with limits of your own.
    pub fn builder() -> PoolBuilder<S> {
        PoolBuilder::new()
    }

    /// What submits jobs from elsewhere.
    pub fn handle(&self) -> Pool<S> {
        self.pool.clone()
    }

    /// Accepts no more jobs, and waits until those that are queued and running are done. What follows them runs when the
    /// loop runs. Not for the thread of a loop that is to go on meanwhile.
    pub fn drain(mut self) {
        self.pool.shared.close();
        self.join();
    }

    /// Accepts no more jobs, drops those that are queued, and waits for those that are running. What was to follow the
    /// dropped ones is dropped with them.
    pub fn abandon(mut self) {
        self.pool.shared.clear();
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
impl<S> Deref for WorkerPool<S> {
    type Target = Pool<S>;

    fn deref(&self) -> &Pool<S> {
        &self.pool
    }
}

impl<S> Drop for WorkerPool<S> {
    fn drop(&mut self) {
        self.pool.shared.clear();
    }
}

impl<S> fmt::Debug for WorkerPool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPool").field("workers", &self.threads.len()).field("pool", &self.pool).finish()
    }
}

impl<S> Pool<S> {
    /// Runs `job` on a worker, and then `done` with what it gives on the loop, with the deferred callbacks.
    ///
    /// A job that panics gives [`JobPanic`]; its worker goes on. `done` is dropped if the loop is gone by then. A lock, a few
    /// allocations, and a wake if a worker is asleep. It never waits for room.
    ///
    /// # Errors
    /// [`Refused`] gives both back.
    #[track_caller]
    pub fn submit<J, R, D>(&self, job: J, done: D) -> Result<Job, Refused<J, D>>
    where
        J: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
        D: FnOnce(Result<R, JobPanic>, &mut Context<'_, S>) + Send + 'static,
    {
        self.submit_with((job, done), |job_and_done| job_and_done).map_err(|((job, done), reason)| Refused {
            job,
            done,
            reason,
        })
    }

    /// The same for a job that is made of `input` where there is room, and otherwise gives `input` back.
    #[track_caller]
    pub(crate) fn submit_with<I, J, R, D>(&self, input: I, make: impl FnOnce(I) -> (J, D)) -> Result<Job, (I, Refusal)>
    where
        J: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
        D: FnOnce(Result<R, JobPanic>, &mut Context<'_, S>) + Send + 'static,
    {
        let room = match self.shared.room() {
            Ok(room) => room,
            Err(reason) => return Err((input, reason)),
        };
        let (job, done) = make(input);
        let (remote, origin) = (self.remote.clone(), Location::caller());
        let following = Following::new(remote.keep_alive(), done);
        let handle = following.handle();
        let slot = room.fill(move |shared| {
            let result = catch_unwind(AssertUnwindSafe(job));
            shared.note_done();
            finish(&remote, origin, result, following);
        });
        Ok(Job { slot, shared: Arc::clone(&self.shared), following: handle })
    }

    /// How many jobs wait for a worker.
    pub fn queued(&self) -> usize {
        self.shared.queued()
    }

    /// How many jobs are running. A job whose `done` is still to run is over.
    pub fn running(&self) -> usize {
        self.shared.running()
    }
}

/// After a job: lets the loop know, unless it was given up.
fn finish<S, R, D>(
    remote: &Remote<S>,
    origin: &'static Location<'static>,
    result: thread::Result<R>,
    following: Following<D>,
) where
    S: 'static,
    R: Send + 'static,
    D: FnOnce(Result<R, JobPanic>, &mut Context<'_, S>) + Send + 'static,
{
    let result = result.map_err(|panic| {
        let message = panic_message(&*panic);
        discard(panic);
        JobPanic { message }
    });
    if following.is_given_up() {
        return; // which drops the result, here on the worker
    }
    let posted = remote.post_from(origin, move |cx| {
        if let Some(done) = following.take() {
            done(result, cx);
        }
    });
    if posted.is_err() {
        tracing::debug!("a job is done, and its loop is gone");
    }
}

impl<S> Clone for Pool<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), remote: self.remote.clone() }
    }
}

impl<S> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.describe(f)
    }
}

impl Job {
    /// Takes the job back, if no worker has begun it: whether it was so. It and what was to follow are dropped here and now.
    pub fn cancel(&self) -> bool {
        self.shared.take_back(&self.slot)
    }

    /// Lets [`Reactor::run`](reactor::Reactor::run) end although this job is queued or running.
    ///
    /// What is to follow it still runs if the loop runs when the job is done. For work that nobody has to wait for, such as
    /// filling a cache. Any thread.
    pub fn set_background(&self) {
        self.following.let_go();
    }

    /// Gives the job up, also while it runs: drops what is to follow it here and now, and lets
    /// [`Reactor::run`](reactor::Reactor::run) end. Returns `true` unless what follows has begun to run, or was dropped before.
    ///
    /// For a job that may hang, such as the lookup of a name: no thread can be ended from outside, so its worker is busy until the
    /// job returns, and its result is dropped there. To drop the pool does not wait for it; [`WorkerPool::drain`] and
    /// [`WorkerPool::abandon`] do. A job that has not begun is [cancelled](Self::cancel). To bound a job in time,
    /// call this from a timer. Any thread.
    ///
    /// ```
    /// use std::time::Duration;
    /// use handlers::WorkerPool;
    /// use reactor::{Reactor, Then};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    /// # let (end, ended) = std::sync::mpsc::channel::<()>();
    /// # let lookup = move || ended.recv();
    /// let job = pool.submit(lookup, |_found, _cx| ()).map_err(|refused| refused.reason).unwrap();
    /// reactor.after(Duration::from_millis(1), move |_cx| {
    ///     if job.abandon() {
    ///         eprintln!("no answer in time");
    ///     }
    ///     Ok(Then::Done)
    /// });
    /// reactor.run(&mut ())?; // ends although the lookup hangs
    /// # drop(end);
    /// # Ok(())
    /// # }
    /// ```
    pub fn abandon(&self) -> bool {
        let is_pending = self.following.give_up();
        self.cancel();
        is_pending
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("slot", &self.slot).field("is_pending", &self.following.is_pending()).finish()
    }
}
