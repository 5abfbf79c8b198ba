//! The flag of a task whose key lies in the queue of its loop, since another thread has woken it.
//!
//! INVARIANT (sent): while the flag is set, the key of the task lies in the queue, or is about to.
//! The loop clears it when it has taken the key out, before the poll. So a wake after that sends
//! the key again. Both sides use a read-modify-write: the poll sees all that was written before
//! each wake that it answers, also if the wake found the flag set.
//!
//! A model compiles this file with the atomics of loom.

use super::primitives::{AtomicBool, Ordering};

#[derive(Debug)]
pub(super) struct Sent(AtomicBool);

impl Default for Sent {
    fn default() -> Self {
        Self(AtomicBool::new(false))
    }
}

impl Sent {
    /// Sets the flag, on any thread. Returns `true` if the caller is to send the key.
    pub(super) fn mark(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Clears the flag, on the thread of the loop.
    pub(super) fn clear(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }

    /// Clears the flag for another task, while nothing else refers to it.
    pub(super) fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
