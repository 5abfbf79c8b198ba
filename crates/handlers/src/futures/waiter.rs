//! The receiver of a wake: mostly a task of the same loop, which is woken by its key.
//!
//! A clone of a waker counts its references, in memory of its own, and a wake looks for the loop of
//! the waker. A key needs neither.

use std::ptr;
use std::task::{RawWakerVTable, Waker};

use super::local::Local;
use super::tasks::TaskKey;
use super::waker;

/// The receiver of the wake that a poll waits for.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A task of the same loop.
    Task(TaskKey),
    /// Anything else: a task of another loop, or a part of a task that has its own waker.
    Other(Waker),
}

impl Waiter {
    /// Returns the receiver of the wakes of `waker`, in a poll on the thread of `local`. May call
    /// the user.
    #[inline]
    pub(super) fn of(waker: &Waker, local: &Local) -> Self {
        match local.polled_by(waker) {
            Some(key) => Self::Task(key),
            None => Self::Other(waker.clone()),
        }
    }

    /// May call the user.
    #[inline]
    pub(super) fn wake(self, local: &Local) {
        if let Some(waker) = self.wake_task(local) {
            waker.wake();
        }
    }

    /// Wakes all of `waiters`, also if one of them panics. Then its panic goes on.
    pub(super) fn wake_all(waiters: impl IntoIterator<Item = Self>, local: &Local) {
        waker::wake_all(
            waiters
                .into_iter()
                .filter_map(|waiter| waiter.wake_task(local)),
        );
    }

    /// Wakes a task of the loop. Returns the waker of anything else.
    #[inline]
    fn wake_task(self, local: &Local) -> Option<Waker> {
        match self {
            Self::Task(key) => {
                local.wake(key);
                None
            }
            Self::Other(waker) => Some(waker),
        }
    }
}

/// The identity of a waker. Two wakers with the same identity wake the same task.
#[derive(Clone, Copy, Debug)]
pub(super) struct WakerId {
    data: *const (),
    functions: *const RawWakerVTable,
}

impl WakerId {
    /// The identity of no waker.
    pub(super) const NONE: Self = Self {
        data: ptr::null(),
        functions: ptr::null(),
    };

    #[inline]
    pub(super) fn of(waker: &Waker) -> Self {
        Self {
            data: waker.data(),
            functions: waker.vtable(),
        }
    }
}

impl PartialEq for WakerId {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.data, other.data) && ptr::eq(self.functions, other.functions)
    }
}
