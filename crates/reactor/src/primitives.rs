//! The primitives by which threads meet: atomics, locks, threads.
//!
//! All that takes part in a protocol between threads has them from here. A model compiles the same
//! files with the primitives of loom in their place, which runs the threads in every order:
//! `tests/model.rs` the files of the protocol of wakeups, and the package `modelled` all files.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
pub(crate) use std::thread::{self, Thread, ThreadId};

/// Declares a value of the process, made before its first use.
macro_rules! process_wide {
    (static $name:ident: $type:ty = $value:expr) => {
        static $name: $type = $value;
    };
}
pub(crate) use process_wide;
