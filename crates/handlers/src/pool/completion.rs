//! The completion of a job: its callback, and the token that keeps the loop alive until the
//! callback has run.
//!
//! The completion is shared by two owners: the job, which passes it on to the loop, and the user's
//! [`Job`](super::Job), which may drop either part earlier.
//!
//! Ground rule: when the job is dropped, from the queue or with its loop, both parts are dropped,
//! even if a `Job` still exists.

use std::sync::{Arc, Mutex, PoisonError};

use reactor::KeepAlive;

/// The job's own reference.
pub(super) struct Completion<D>(Arc<Parts<D>>);

struct Parts<D> {
    alive: Mutex<Option<KeepAlive>>,
    done: Mutex<Option<D>>,
}

/// The operations of a [`Job`](super::Job) on its completion, independent of the callback's type.
pub(super) trait PendingCompletion: Send + Sync {
    /// Releases the token, so that the job no longer keeps the loop alive.
    fn release_loop(&self);
    /// Releases the token and drops the callback. Returns `true` if there was a callback.
    fn abandon(&self) -> bool;
    fn is_pending(&self) -> bool;
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    // Code that holds the lock does not panic. The value is dropped after the lock is released.
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl<D: Send + 'static> Completion<D> {
    pub(super) fn new(alive: KeepAlive, done: D) -> Self {
        Self(Arc::new(Parts {
            alive: Mutex::new(Some(alive)),
            done: Mutex::new(Some(done)),
        }))
    }

    pub(super) fn handle(&self) -> Arc<dyn PendingCompletion> {
        Arc::clone(&self.0) as Arc<dyn PendingCompletion>
    }

    pub(super) fn is_abandoned(&self) -> bool {
        !self.0.is_pending()
    }

    /// Returns the callback, or `None` if it was abandoned. Called on the loop. Releases the token,
    /// since the callback is the loop's own work from here on.
    pub(super) fn take(self) -> Option<D> {
        self.0.release_loop();
        take(&self.0.done)
    }
}

impl<D> Drop for Completion<D> {
    fn drop(&mut self) {
        drop(take(&self.0.alive));
        drop(take(&self.0.done));
    }
}

impl<D: Send> PendingCompletion for Parts<D> {
    fn release_loop(&self) {
        drop(take(&self.alive));
    }

    fn abandon(&self) -> bool {
        self.release_loop(); // before a destructor of the user runs
        take(&self.done).is_some()
    }

    fn is_pending(&self) -> bool {
        self.done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }
}
