//! Places for wakers. A waker is cloned, woken and dropped while nothing is borrowed, because all
//! three may be the code of a user.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::task::Waker;

/// The waker of the last poll that has found nothing.
#[derive(Default)]
pub(super) struct WakerSlot(Cell<Option<Waker>>);

impl WakerSlot {
    /// Keeps a clone of `waker`.
    pub(super) fn register(&self, waker: &Waker) {
        let known = self.0.take();
        let waker = match known {
            Some(known) if known.will_wake(waker) => known,
            _ => waker.clone(),
        };
        self.0.set(Some(waker));
    }

    pub(super) fn take(&self) -> Option<Waker> {
        self.0.take()
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }
}

/// Any number of slots, each of which belongs to a future.
#[derive(Default)]
pub(super) struct WakerSlots(Cell<Vec<Weak<WakerSlot>>>);

impl WakerSlots {
    /// Adds a slot. Those of futures that were dropped are removed.
    pub(super) fn add(&self, slot: &Rc<WakerSlot>) {
        let mut slots = self.0.take();
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Rc::downgrade(slot));
        self.0.set(slots);
    }

    /// Wakes all of them, and removes them.
    pub(super) fn wake_all(&self) {
        for slot in self.0.take() {
            if let Some(slot) = slot.upgrade() {
                slot.wake();
            }
        }
    }
}
