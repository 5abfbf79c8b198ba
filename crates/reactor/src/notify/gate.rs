//! The gate: whether the loop is asleep, and which sender wakes it. Its owner,
//! [`Hub::fall_asleep`](super::hub::Hub::fall_asleep), decides whether the loop may sleep.
//!
//! ```text
//!             close, before the last look             claim_wake: this sender writes
//!   awake ──────────────────────────────▶ asleep ──────────────────────────────▶ signalled
//!     ▲                                      │                                        │
//!     └───────────── open, after the wait ───┴────────────────────────────────────────┘
//! ```
//!
//! Ground rule: a sender stores its message and then claims the wake. The loop closes the gate and
//! then looks for messages. A full fence lies between the two steps of each, so at least one of
//! them sees the other: either the loop finds the message and does not sleep, or the sender finds
//! the gate closed and writes. Only one of many senders writes, once a sleep.
//!
//! All changes are exchanges, not stores: loom models exchanges more closely. They cost a few
//! nanoseconds for each sleep.
//!
//! Source: Dekker's mutual exclusion; the eventcount of D. Vyukov.

use crate::primitives::{AtomicU8, Ordering, fence};

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

    /// Called by a sender that has stored its message. Returns `true` if the sender has to end the
    /// sleep.
    #[inline]
    pub(crate) fn claim_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.state.load(Ordering::Relaxed) == ASLEEP
            && self
                .state
                .compare_exchange(ASLEEP, SIGNALLED, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Closes the gate. Called by the loop before its last look for messages.
    #[inline]
    pub(crate) fn close(&self) {
        self.state.swap(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Opens the gate. Called by the loop after its sleep, or if its last look has found messages.
    #[inline]
    pub(crate) fn open(&self) {
        self.state.swap(AWAKE, Ordering::Relaxed);
    }
}
