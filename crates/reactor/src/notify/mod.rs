//! Notification: how other threads reach a loop.
//!
//! ```text
//!   senders                                        the loop
//!   Sender::try_send ──▶ Mailbox of the queue ──▶ taken whole, handled up to a limit a turn
//!        │ the first value since it was emptied
//!        ▼
//!   Hub: the queue's key on a list, the gate asked ──▶ keys collected once a turn
//!        │ only if the gate says that the loop sleeps
//!        ▼
//!   write to the eventfd ──▶ ends the wait
//!
//!   a sender that waits for room ◀── Mailbox: as many as there is room for, when values have been handled
//! ```
//!
//! A registered queue is a source like any other, only that the kernel knows nothing of it: it has a key, a priority, an
//! interest that pauses it, and it is called with what was left over and with what has come, up to its limit a turn.
//!
//! Source: folly's NotificationQueue writes its eventfd only when the consumer sleeps. Unlike it, all queues of a loop
//! share one eventfd, which is never read: edge-triggered, each write is an event of its own.

pub(crate) mod address;
pub(crate) mod calls;
pub(crate) mod captures;
pub(crate) mod consumer;
pub(crate) mod gate;
pub(crate) mod holders;
pub(crate) mod hub;
pub(crate) mod inbox;
pub(crate) mod mailbox;
pub(crate) mod post_error;
pub(crate) mod posts;
pub(crate) mod queue;
pub(crate) mod remote;
pub(crate) mod room;
pub(crate) mod send_error;
pub(crate) mod sender;
pub(crate) mod waker;

/// What the protocol is made of. `tests/model.rs` compiles the same files with loom's in their place.
mod primitives {
    pub(super) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(super) use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
}
