//! The atomics of the protocol between threads, in whose place a model has those of loom.

pub(super) use std::sync::atomic::{AtomicBool, Ordering};
