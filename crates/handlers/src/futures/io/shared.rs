//! The source of an [`Async`](super::Async) as the loop holds it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// A source without its type, held by the table of sources and by the registry.
#[derive(Clone)]
pub(in crate::futures) struct SharedSource {
    // Let go first, and then the task that takes the source back is woken.
    source: Arc<dyn AsFd>,
    released: Released,
}

impl SharedSource {
    pub(in crate::futures) fn new(source: Arc<dyn AsFd>) -> Self {
        Self {
            source,
            released: Released::default(),
        }
    }

    /// Returns where a task waits for the loop to let go of the source.
    pub(super) fn released(&self) -> Arc<Mutex<Option<Waker>>> {
        Arc::clone(&self.released.0)
    }
}

impl AsFd for SharedSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl fmt::Debug for SharedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedSource").field(&self.as_fd()).finish()
    }
}

/// Wakes the task that takes a source back, each time that the loop has let go of one reference,
/// whatever the reason is.
#[derive(Clone, Default)]
struct Released(Arc<Mutex<Option<Waker>>>);

impl Drop for Released {
    fn drop(&mut self) {
        if let Some(waker) = replace_waker(&self.0, None) {
            waker.wake();
        }
    }
}

/// Replaces the waker of a task that waits. Returns the old one.
pub(super) fn replace_waker(place: &Mutex<Option<Waker>>, waker: Option<Waker>) -> Option<Waker> {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut *place, waker)
}
