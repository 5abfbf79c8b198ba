//! The queue of a pool, and the workers that take from it; it knows jobs, but neither their results nor a loop.
//!
//! Ground rule: a worker is woken only while there is one asleep that has not been woken yet. Each wake is noted under
//! the lock and removed by the worker that returns from the wait, so none is lost and none is made twice.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use super::error::Refusal;
use super::state::WorkerState;
use crate::error::{discard, panic_message};

/// A job, with all that belongs to it. It reports by [`JobQueue::count_end`] when it has ended.
type Work<W> = Box<dyn FnOnce(&JobQueue<W>, &mut WorkerState<W>) + Send>;

/// A place in the queue. Empty once the job has been taken, by a worker or by a cancellation.
pub(super) struct Slot<W> {
    work: Mutex<Option<Work<W>>>,
    shared: Weak<JobQueue<W>>,
}

/// What a [`Job`](super::Job) can do with its place, whatever the state of the workers.
pub(super) trait Queued: Send + Sync {
    /// Drops the job, unless a worker has begun it. Returns whether it was dropped.
    fn cancel(&self) -> bool;
    fn is_queued(&self) -> bool;
}

/// The queue, and what its workers wait at.
pub(super) struct JobQueue<W> {
    queue: Mutex<QueueState<W>>,
    wake: Condvar,
    max_queued_jobs: usize,
}

struct QueueState<W> {
    slots: VecDeque<Arc<Slot<W>>>,
    /// How many of these have not been cancelled.
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

/// Room in the queue for one job, for as long as the lock is held.
pub(super) struct Room<'a, W> {
    shared: &'a Arc<JobQueue<W>>,
    queue: MutexGuard<'a, QueueState<W>>,
    /// Workers that sleep and have not been woken yet.
    idle: usize,
}

impl<W> Room<'_, W> {
    /// Queues a job, and wakes a worker if one is asleep.
    pub(super) fn fill(
        self,
        work: impl FnOnce(&JobQueue<W>, &mut WorkerState<W>) + Send + 'static,
    ) -> Arc<Slot<W>> {
        let Self {
            shared,
            mut queue,
            idle,
        } = self;
        let slot = Arc::new(Slot {
            work: Mutex::new(Some(Box::new(work))),
            shared: Arc::downgrade(shared),
        });
        queue.slots.push_back(Arc::clone(&slot));
        queue.queued += 1;
        if idle > 0 {
            queue.woken += 1;
            drop(queue);
            shared.wake.notify_one();
        }
        slot
    }
}

impl<W> JobQueue<W> {
    pub(super) fn new(max_queued_jobs: usize) -> Self {
        let slots = VecDeque::new();
        let queue = QueueState {
            slots,
            queued: 0,
            running: 0,
            asleep: 0,
            woken: 0,
            closed: false,
        };
        Self {
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            max_queued_jobs,
        }
    }

    /// Returns room for one more job.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn room(self: &Arc<Self>) -> Result<Room<'_, W>, Refusal> {
        let queue = lock(&self.queue);
        let idle = queue.asleep - queue.woken; // they take one each, without a wait
        if queue.closed {
            return Err(Refusal::Closed);
        }
        if queue.queued >= self.max_queued_jobs.saturating_add(idle) {
            return Err(Refusal::Full);
        }
        Ok(Room {
            shared: self,
            queue,
            idle,
        })
    }

    /// Returns how many jobs wait for a worker.
    pub(super) fn queued(&self) -> usize {
        lock(&self.queue).queued
    }

    pub(super) fn running(&self) -> usize {
        lock(&self.queue).running
    }

    /// Counts a job that has ended: what follows it is not its worker's.
    pub(super) fn count_end(&self) {
        lock(&self.queue).running -= 1;
    }

    /// Drops a job that no worker has begun, and returns whether there was one.
    fn cancel(&self, slot: &Slot<W>) -> bool {
        let work = lock(&slot.work).take();
        if work.is_none() {
            return false;
        }
        let mut queue = lock(&self.queue);
        queue.queued -= 1;
        // Empty places go when they are the most, so that a storm of cancelled jobs leaves nothing behind.
        if queue.slots.len() > 2 * queue.queued + 64 {
            queue.slots.retain(|slot| lock(&slot.work).is_some());
        }
        drop(queue); // before the user's destructors run
        true
    }

    /// Runs jobs until the pool is closed and empty.
    pub(super) fn work(&self, mut state: WorkerState<W>) {
        while let Some(work) = self.next() {
            // The job's own panic is caught already; what is left are destructors of what it and `done` have captured.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self, &mut state))) {
                tracing::error!(
                    message = panic_message(&*panic),
                    "dropping what a job has captured panicked"
                );
                discard(panic);
            }
            state.drop_if_poisoned();
        }
    }

    /// Returns the next job, or `None` when the pool is closed and empty.
    fn next(&self) -> Option<Work<W>> {
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
            queue = self
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
            queue.asleep -= 1;
            queue.woken = queue.woken.saturating_sub(1);
        }
    }

    /// Accepts no more jobs; workers end when they find none.
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.wake.notify_all();
    }

    /// Accepts no more jobs, and drops those that are queued.
    pub(super) fn close_and_clear(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        let abandoned = std::mem::take(&mut queue.slots);
        let work: Vec<_> = abandoned
            .iter()
            .filter_map(|slot| lock(&slot.work).take())
            .collect();
        queue.queued -= work.len(); // a cancellation at this moment counts its own
        drop(queue);
        self.wake.notify_all();
        // The user's destructors run without the lock, each on its own: all go, however many panic.
        for job in work {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(job))) {
                tracing::error!(
                    message = panic_message(&*panic),
                    "dropping what a job has captured panicked"
                );
                discard(panic);
            }
        }
    }

    /// Writes its counts, in the form of a `PoolHandle`.
    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QueueState {
            queued,
            running,
            asleep,
            closed,
            ..
        } = &*lock(&self.queue);
        f.debug_struct("Pool")
            .field("queued", queued)
            .field("running", running)
            .field("asleep", asleep)
            .field("closed", closed)
            .finish_non_exhaustive()
    }
}

impl<W> Queued for Slot<W> {
    fn cancel(&self) -> bool {
        self.shared
            .upgrade()
            .is_some_and(|shared| shared.cancel(self))
    }

    fn is_queued(&self) -> bool {
        lock(&self.work).is_some()
    }
}
