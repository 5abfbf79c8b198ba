//! A worker pool: jobs that block or take long run on threads, what follows them on the loop.
//!
//! Ground rule: a worker is woken only while there is one asleep that nobody has woken yet. Each wake is noted under
//! the lock and forgotten by whoever returns from the wait, so none is lost and none is made twice.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use reactor::{Context, KeepAlive, Registry, Remote};

use crate::answer::panic_message;

/// Threads for work that would hold up the loop: files, name resolution, hashing. It dereferences to its [`Pool`], which
/// takes the jobs.
///
/// A job runs on a worker, in the order of submission; what is to follow runs on the loop, with the result. As long as a job
/// is queued or running it keeps the loop alive.
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

/// A job that has been submitted: to cancel it. Dropping this changes nothing.
#[derive(Debug)]
pub struct Job {
    slot: Arc<Slot>,
    shared: Arc<Shared>,
}

/// What a job panicked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPanic {
    /// Its message.
    pub message: String,
}

/// A job that was not accepted, with the reason.
pub struct Refused<J, D> {
    /// The job.
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
    /// As many jobs are queued as [`PoolBuilder::queued_max`] allows.
    Full,
    /// The pool has been drained, abandoned or dropped.
    Closed,
}

type Work = Box<dyn FnOnce(&Shared) + Send>;

/// A place in the queue. Empty once the job has been taken, by a worker or by who cancels it.
struct Slot {
    work: Mutex<Option<Work>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    queued_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    slots: VecDeque<Arc<Slot>>,
    /// Of these, how many have not been cancelled.
    queued: usize,
    running: usize,
    asleep: usize,
    /// How many of those asleep have been woken and have not got up yet.
    woken: usize,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held but an allocation that fails, which aborts.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub fn build(self, registry: &mut Registry<S>) -> io::Result<WorkerPool<S>> {
        let shared =
            Arc::new(Shared { queue: Mutex::new(Queue::default()), wake: Condvar::new(), queued_max: self.queued_max });
        let pool = Pool { shared, remote: registry.remote()? };
        let mut started = WorkerPool { pool, threads: Vec::new() }; // dropped, it ends the threads that have started
        for number in 0..self.workers {
            let shared = Arc::clone(&started.pool.shared);
            let thread = thread::Builder::new().name(format!("{}{number}", self.name)).spawn(move || shared.work())?;
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
        let mut queue = lock(&self.shared.queue);
        let idle = queue.asleep - queue.woken; // they take one each, without a wait
        if queue.closed {
            return Err(Refused { job, done, reason: Refusal::Closed });
        }
        if queue.queued >= self.shared.queued_max.saturating_add(idle) {
            return Err(Refused { job, done, reason: Refusal::Full });
        }
        let (remote, alive) = (self.remote.clone(), self.remote.keep_alive());
        let work = move |shared: &Shared| {
            let result = catch_unwind(AssertUnwindSafe(job));
            lock(&shared.queue).running -= 1;
            finish(&remote, alive, result, done);
        };
        let slot = Arc::new(Slot { work: Mutex::new(Some(Box::new(work))) });
        queue.slots.push_back(Arc::clone(&slot));
        queue.queued += 1;
        if idle > 0 {
            queue.woken += 1;
            drop(queue);
            self.shared.wake.notify_one();
        }
        Ok(Job { slot, shared: Arc::clone(&self.shared) })
    }

    /// How many jobs wait for a worker.
    pub fn queued(&self) -> usize {
        lock(&self.shared.queue).queued
    }

    /// How many jobs are running. A job whose `done` is still to run is over.
    pub fn running(&self) -> usize {
        lock(&self.shared.queue).running
    }
}

/// After a job: lets the loop know.
fn finish<S, R, D>(remote: &Remote<S>, alive: KeepAlive, result: thread::Result<R>, done: D)
where
    S: 'static,
    R: Send + 'static,
    D: FnOnce(Result<R, JobPanic>, &mut Context<'_, S>) + Send + 'static,
{
    let result = result.map_err(|panic| {
        let message = panic_message(&*panic);
        discard(panic);
        JobPanic { message }
    });
    let posted = remote.post(move |cx| {
        drop(alive); // it is the loop's own work from here
        done(result, cx);
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
        let Queue { queued, running, asleep, closed, .. } = &*lock(&self.shared.queue);
        f.debug_struct("Pool")
            .field("queued", queued)
            .field("running", running)
            .field("asleep", asleep)
            .field("closed", closed)
            .finish_non_exhaustive()
    }
}

impl Job {
    /// Takes the job back, if no worker has begun it: whether it was so. It and what was to follow are dropped here and now.
    pub fn cancel(&self) -> bool {
        let work = lock(&self.slot.work).take();
        if work.is_none() {
            return false;
        }
        let mut queue = lock(&self.shared.queue);
        queue.queued -= 1;
        // Empty places go when they are the most, so that a storm of cancelled jobs leaves nothing behind.
        if queue.slots.len() > 2 * queue.queued + 64 {
            queue.slots.retain(|slot| lock(&slot.work).is_some());
        }
        drop(queue); // before the user's destructors run
        true
    }
}

impl Shared {
    /// What a worker does all its life.
    fn work(&self) {
        while let Some(work) = self.next() {
            // The job's own panic is caught already; what is left are destructors of what it and `done` have captured.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
                tracing::error!(message = panic_message(&*panic), "dropping what a job has captured panicked");
                discard(panic);
            }
        }
    }

    /// The next job; `None` when the pool is closed and empty.
    fn next(&self) -> Option<Work> {
        let mut queue = lock(&self.queue);
        loop {
            while let Some(slot) = queue.slots.pop_front() {
                if let Some(work) = lock(&slot.work).take() {
                    queue.queued -= 1;
                    queue.running += 1;
                    return Some(work);
                }
            }
            if queue.closed {
                return None;
            }
            queue.asleep += 1;
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.asleep -= 1;
            queue.woken = queue.woken.saturating_sub(1);
        }
    }

    /// Accepts no more jobs; workers end when they find none.
    fn close(&self) {
        lock(&self.queue).closed = true;
        self.wake.notify_all();
    }

    /// The same, and drops the jobs that are queued.
    fn clear(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        let abandoned = std::mem::take(&mut queue.slots);
        let work: Vec<_> = abandoned.iter().filter_map(|slot| lock(&slot.work).take()).collect();
        queue.queued -= work.len(); // who cancels at this moment counts their own
        drop(queue);
        self.wake.notify_all();
        drop(work); // the user's destructors run without the lock
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("queued", &lock(&self.work).is_some()).finish()
    }
}

impl fmt::Display for JobPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the job panicked: {}", self.message)
    }
}

impl std::error::Error for JobPanic {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "as many jobs are queued as the pool allows: submit it later",
            Self::Closed => "the pool takes no more jobs: it has been drained, abandoned or dropped",
        })
    }
}

impl std::error::Error for Refusal {}

impl<J, D> fmt::Debug for Refused<J, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<J, D> fmt::Display for Refused<J, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<J, D> std::error::Error for Refused<J, D> {}

/// Drops what a panic has left, which may panic in turn.
fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}
