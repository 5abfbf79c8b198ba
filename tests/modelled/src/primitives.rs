//! The primitives of loom, under the names that the reactor has for those of the standard library.

use std::time::Duration;

pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use loom::sync::{Mutex, MutexGuard};
pub(crate) use loom::thread::{Thread, ThreadId};
// loom has an `Arc` of its own, which cannot hold a trait object.
pub(crate) use std::sync::{Arc, LockResult, PoisonError, TryLockError};

/// The condition variable of loom, with the method that it lacks.
#[derive(Debug, Default)]
pub(crate) struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut is_pending: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while is_pending(&mut guard) {
            guard = self.0.wait(guard)?;
        }
        Ok(guard)
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

pub(crate) mod thread {
    use super::Duration;

    pub(crate) use loom::thread::{Builder, JoinHandle, current, park, yield_now};
    pub(crate) use std::thread::Result;

    /// Returns at once, as a spurious wakeup: time does not pass while a thread of a model waits.
    pub(crate) fn park_timeout(_timeout: Duration) {
        yield_now();
    }
}

macro_rules! process_wide {
    (static $name:ident: $type:ty = $value:expr) => {
        loom::lazy_static! {
            static ref $name: $type = $value;
        }
    };
}
pub(crate) use process_wide;
