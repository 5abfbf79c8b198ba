//! The queue of a pool, and the workers that take from it; it knows jobs, but neither their results nor a loop.
//!
//! Ground rule: a worker is woken only while there is one asleep that nobody has woken yet. Each wake is noted under
//! the lock and forgotten by whoever returns from the wait, so none is lost and none is made twice.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::refusal::Refusal;
use crate::answer::panic_message;

/// A job, with all that belongs to it. It says by [`Shared::note_done`] when it is over.
type Work = Box<dyn FnOnce(&Shared) + Send>;

/// A place in the queue. Empty once the job has been taken, by a worker or by who cancels it.
pub(super) struct Slot {
    work: Mutex<Option<Work>>,
}

/// The queue, and what its workers wait at.
#[derive(Debug)]
pub(super) struct Shared {
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

/// Room in the queue for one job, for as long as the lock is held.
pub(super) struct Room<'a> {
    shared: &'a Shared,
    queue: MutexGuard<'a, Queue>,
    /// Workers that nobody has woken yet.
    idle: usize,
}

impl Room<'_> {
    /// Queues a job, and wakes a worker if one is asleep.
    pub(super) fn fill(self, work: impl FnOnce(&Shared) + Send + 'static) -> Arc<Slot> {
        let Self { shared, mut queue, idle } = self;
        let slot = Arc::new(Slot { work: Mutex::new(Some(Box::new(work))) });
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

impl Shared {
    pub(super) fn new(queued_max: usize) -> Self {
        Self { queue: Mutex::new(Queue::default()), wake: Condvar::new(), queued_max }
    }

    /// Room for one more job.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn room(&self) -> Result<Room<'_>, Refusal> {
        let queue = lock(&self.queue);
        let idle = queue.asleep - queue.woken; // they take one each, without a wait
        if queue.closed {
            return Err(Refusal::Closed);
        }
        if queue.queued >= self.queued_max.saturating_add(idle) {
            return Err(Refusal::Full);
        }
        Ok(Room { shared: self, queue, idle })
    }

    /// How many jobs wait for a worker.
    pub(super) fn queued(&self) -> usize {
        lock(&self.queue).queued
    }

    pub(super) fn running(&self) -> usize {
        lock(&self.queue).running
    }

    /// A job is over, and what follows it is no work of its worker's.
    pub(super) fn note_done(&self) {
        lock(&self.queue).running -= 1;
    }

    /// Takes back a job that no worker has begun, and drops it: whether it was so.
    pub(super) fn take_back(&self, slot: &Slot) -> bool {
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

    /// What a worker does all its life.
    pub(super) fn work(&self) {
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
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.wake.notify_all();
    }

    /// The same, and drops the jobs that are queued.
    pub(super) fn clear(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        let abandoned = std::mem::take(&mut queue.slots);
        let work: Vec<_> = abandoned.iter().filter_map(|slot| lock(&slot.work).take()).collect();
        queue.queued -= work.len(); // who cancels at this moment counts their own
        drop(queue);
        self.wake.notify_all();
        // The user's destructors run without the lock, each on its own: all go, however many panic.
        for job in work {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(job))) {
                tracing::error!(message = panic_message(&*panic), "dropping what a job has captured panicked");
                discard(panic);
            }
        }
    }

    /// Its counts, in the form of a `Pool`.
    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Queue { queued, running, asleep, closed, .. } = &*lock(&self.queue);
        f.debug_struct("Pool")
            .field("queued", queued)
            .field("running", running)
            .field("asleep", asleep)
            .field("closed", closed)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("queued", &lock(&self.work).is_some()).finish()
    }
}

/// Drops what a panic has left, which may panic in turn.
pub(super) fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}
