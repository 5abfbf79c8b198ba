//! What follows a job: its callback, and the token that keeps the loop alive until that has run.
//!
//! Two hold it: the job, which passes it on to the loop, and the user's [`Job`](super::Job), which may end either before.
//!
//! Ground rule: once the job is nowhere on its way any more, dropped as it was queued or with its loop, neither is left, whoever
//! still has the `Job`.

use std::sync::{Arc, Mutex, PoisonError};

use reactor::KeepAlive;

/// The job's own hold.
pub(super) struct Following<D>(Arc<Parts<D>>);

struct Parts<D> {
    alive: Mutex<Option<KeepAlive>>,
    done: Mutex<Option<D>>,
}

/// What a [`Job`](super::Job) can do about it, whatever follows.
pub(super) trait Followed: Send + Sync {
    /// Keeps the loop alive no more.
    fn let_go(&self);
    /// Drops the callback too: whether there was one.
    fn give_up(&self) -> bool;
    fn is_pending(&self) -> bool;
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    // Nothing panics while it is held; what is taken is dropped without it.
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl<D: Send + 'static> Following<D> {
    pub(super) fn new(alive: KeepAlive, done: D) -> Self {
        Self(Arc::new(Parts { alive: Mutex::new(Some(alive)), done: Mutex::new(Some(done)) }))
    }

    pub(super) fn handle(&self) -> Arc<dyn Followed> {
        Arc::clone(&self.0) as Arc<dyn Followed>
    }

    pub(super) fn is_given_up(&self) -> bool {
        !self.0.is_pending()
    }

    /// On the loop, whose own work it is from here: the callback, unless it was given up.
    pub(super) fn take(self) -> Option<D> {
        self.0.let_go();
        take(&self.0.done)
    }
}

impl<D> Drop for Following<D> {
    fn drop(&mut self) {
        drop(take(&self.0.alive));
        drop(take(&self.0.done));
    }
}

impl<D: Send> Followed for Parts<D> {
    fn let_go(&self) {
        drop(take(&self.alive));
    }

    fn give_up(&self) -> bool {
        self.let_go(); // before a destructor of the user's runs
        take(&self.done).is_some()
    }

    fn is_pending(&self) -> bool {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}
