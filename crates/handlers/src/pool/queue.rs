//! The queue of a pool, and the workers that take jobs from it. This module knows neither the
//! results of jobs nor a loop.
//!
//! Ground rule: a worker is woken only if there is a sleeping worker that is not woken yet. Each
//! wakeup is counted under the lock, and the worker that returns from the wait removes it from the
//! count. Therefore no wakeup is lost, and no worker is woken twice.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use super::error::Refusal;
use super::state::WorkerState;
use crate::error::{discard, panic_message};

/// A job and its completion. The function calls [`JobQueue::count_end`] when the job has ended.
type Work<W> = Box<dyn FnOnce(&JobQueue<W>, &mut WorkerState<W>) + Send>;

/// An entry of the queue. It is empty once a worker or a cancellation has taken the job.
pub(super) struct Slot<W> {
    work: Mutex<Option<Work<W>>>,
    shared: Weak<JobQueue<W>>,
}

/// The operations of a [`Job`](super::Job) on its entry, independent of the type of the workers'
/// state.
pub(super) trait Queued: Send + Sync {
    /// Drops the job, unless a worker has started it. Returns `true` if it was dropped.
    fn cancel(&self) -> bool;
    fn is_queued(&self) -> bool;
}

/// The queue, and the condition that its workers wait for.
pub(super) struct JobQueue<W> {
    queue: Mutex<QueueState<W>>,
    wake: Condvar,
    max_queued_jobs: usize,
}

struct QueueState<W> {
    slots: VecDeque<Arc<Slot<W>>>,
    /// The number of entries that are not cancelled.
    queued: usize,
    running: usize,
    asleep: usize,
    /// The number of sleeping workers that were woken and have not returned from the wait yet.
    woken: usize,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Code that holds the lock does not panic, except for a failed allocation, which aborts.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Room in the queue for one job, while the lock is held.
pub(super) struct Room<'a, W> {
    shared: &'a Arc<JobQueue<W>>,
    queue: MutexGuard<'a, QueueState<W>>,
    /// Sleeping workers that are not woken yet.
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
    /// [`Refusal::Closed`] if the pool is closed; [`Refusal::Full`] at the limit.
    pub(super) fn room(self: &Arc<Self>) -> Result<Room<'_, W>, Refusal> {
        let queue = lock(&self.queue);
        // Each idle worker takes one job at once. Therefore one job for each of them does not count
        // as waiting.
        let idle = queue.asleep - queue.woken;
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

    /// Returns the number of jobs that wait for a worker.
    pub(super) fn queued(&self) -> usize {
        lock(&self.queue).queued
    }

    pub(super) fn running(&self) -> usize {
        lock(&self.queue).running
    }

    /// Counts the end of a job. Passing the result to the loop, which follows, is not counted as
    /// running.
    pub(super) fn count_end(&self) {
        lock(&self.queue).running -= 1;
    }

    /// Drops a job that no worker has started. Returns `true` if there was such a job.
    fn cancel(&self, slot: &Slot<W>) -> bool {
        let work = lock(&slot.work).take();
        if work.is_none() {
            return false;
        }
        let mut queue = lock(&self.queue);
        queue.queued -= 1;
        // Empty entries are removed once they are the majority, so that many cancelled jobs hold no
        // memory.
        if queue.slots.len() > 2 * queue.queued + 64 {
            queue.slots.retain(|slot| lock(&slot.work).is_some());
        }
        drop(queue); // before the user's destructors run
        true
    }

    /// Runs jobs until the pool is closed and empty.
    pub(super) fn work(&self, mut state: WorkerState<W>) {
        while let Some(work) = self.next() {
            #[cfg(feature = "simulation")]
            if let Some(system) = reactor::simulation::installed() {
                system.begin_job();
            }
            // The panic of the job itself is already caught. This catches panics in destructors of
            // values that the job and `done` have captured.
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

    /// Returns the next job. Returns `None` when the pool is closed and empty.
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
            queue = self.wait(queue);
            queue.asleep -= 1;
            queue.woken = queue.woken.saturating_sub(1);
        }
    }

    /// Releases the lock until a worker is woken.
    fn wait<'a>(&'a self, queue: MutexGuard<'a, QueueState<W>>) -> MutexGuard<'a, QueueState<W>> {
        #[cfg(feature = "simulation")]
        if reactor::simulation::installed().is_some() {
            drop(queue);
            let is_woken = || {
                let queue = lock(&self.queue);
                queue.woken > 0 || queue.closed
            };
            reactor::simulation::block_until(None, is_woken);
            return lock(&self.queue);
        }
        self.wake
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts no more jobs. Workers end when the queue is empty.
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.wake.notify_all();
    }

    /// Accepts no more jobs, and drops the queued ones.
    pub(super) fn close_and_clear(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        let abandoned = std::mem::take(&mut queue.slots);
        let work: Vec<_> = abandoned
            .iter()
            .filter_map(|slot| lock(&slot.work).take())
            .collect();
        queue.queued -= work.len(); // a cancellation at this moment counts its own job
        drop(queue);
        self.wake.notify_all();
        // The user's destructors run without the lock. The panic of each job is caught separately,
        // so all jobs are dropped even if several destructors panic.
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

    /// Formats the counters, for the `Debug` output of a `PoolHandle`.
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
