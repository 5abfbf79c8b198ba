//! The gate: whether the loop is asleep, and which sender wakes it. Whether it may sleep is decided by its owner,
//! [`Hub::fall_asleep`](super::hub::Hub::fall_asleep).
//!
//! ```text
//!             close, before the last look             claim_wake: this sender writes
//!   awake ──────────────────────────────▶ asleep ──────────────────────────────▶ signalled
//!     ▲                                      │                                        │
//!     └───────────── open, after the wait ───┴────────────────────────────────────────┘
//! ```
//!
//! Ground rule: a sender puts its message in its place and then claims the wake; the loop closes the gate and then looks for
//! messages. Between the two steps of each lies a full fence, so at least one of them sees the other: either the loop
//! finds the message and does not sleep, or the sender finds the gate closed and writes. Of many senders one writes: once a
//! sleep.
//!
//! The changes are exchanges throughout, which loom follows more closely than stores, at a few nanoseconds a sleep.
//!
//! Source: Dekker's mutual exclusion; the eventcount of D. Vyukov.

use super::primitives::{AtomicU8, Ordering, fence};

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const SIGNALLED: u8 = 2;

#[derive(Debug)]
pub(crate) struct Gate {
    state: AtomicU8,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU8::new(AWAKE),
        }
    }

    /// By a sender whose message is in its place: whether it has to end the sleep.
    #[inline]
    pub(crate) fn claim_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.state.load(Ordering::Relaxed) == ASLEEP
            && self
                .state
                .compare_exchange(ASLEEP, SIGNALLED, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// By the loop, before its last look for messages.
    #[inline]
    pub(crate) fn close(&self) {
        self.state.swap(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// By the loop, after its sleep, or when it has found messages at its last look.
    #[inline]
    pub(crate) fn open(&self) {
        self.state.swap(AWAKE, Ordering::Relaxed);
    }
}
