//! The table of all events and waiters of this process, under one lock.
//!
//! The thread that sets an event completes waits within `set`, in the order of arrival, while the
//! event is set and the condition of a wait holds.
//!
//! INVARIANT (complete): between two operations no waiter has a condition that holds. Kept by
//! `wake_waiters` after each set and by the look before each wait.

use slab::Slab;

use super::state::{Condition, EventIndex, EventSlab, WaiterIndex, consumed};
use crate::notify::address::QueueAddress;
use crate::notify::sender::Sender;
use crate::primitives::{
    Arc, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError, Thread, process_wide,
};
use crate::sys::eventfd::EventFd;

#[derive(Debug)]
struct Waiter {
    events: Vec<EventIndex>,
    condition: Condition,
    /// The index of the event that was consumed; 0 for all.
    outcome: Option<usize>,
    /// The time at which the condition held, by the sequence of the table.
    completed_at: u64,
    signal: WaiterSignal,
}

/// The way in which a waiter is notified of its outcome.
#[derive(Debug)]
pub(super) enum WaiterSignal {
    Thread(Arc<ParkedThread>),
    EventFd(Arc<EventFd>),
    Queue(Sender<usize>),
}

/// A notification that is sent once the lock is free.
pub(super) enum WaiterWake {
    Thread(Arc<ParkedThread>),
    EventFd(Arc<EventFd>),
    Queue(Arc<QueueAddress>),
}

/// A thread that waits. It reads its outcome here, and takes the lock again only after its timeout.
#[derive(Debug)]
pub(super) struct ParkedThread {
    pub(super) thread: Thread,
    /// [`PENDING`], or the outcome.
    pub(super) outcome: AtomicUsize,
}

pub(super) const PENDING: usize = usize::MAX;

impl ParkedThread {
    pub(super) fn outcome(&self) -> Option<usize> {
        Some(self.outcome.load(Ordering::Acquire)).filter(|outcome| *outcome != PENDING)
    }
}

/// All events and waiters of this process.
pub(super) struct EventTable {
    pub(super) events: EventSlab,
    waiters: Slab<Waiter>,
    /// Notifications that are sent once the lock is free.
    wakes: Vec<WaiterWake>,
    /// Counts completed waits and resets.
    sequence: u64,
}

process_wide!(static TABLE: Mutex<EventTable> = Mutex::new(EventTable::new()));

/// Locks the table of this process.
pub(super) fn lock_table() -> MutexGuard<'static, EventTable> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unlocks the table, and wakes the waiters whose waits were completed meanwhile.
pub(super) fn unlock_and_wake(mut table: MutexGuard<'_, EventTable>) {
    if table.wakes.is_empty() {
        return;
    }
    let wakes = std::mem::take(&mut table.wakes);
    drop(table);
    for wake in wakes {
        match wake {
            WaiterWake::Thread(parked) => parked.thread.unpark(),
            // The counter cannot overflow: one is added to each.
            WaiterWake::EventFd(event) => drop(event.add(1)),
            WaiterWake::Queue(address) => address.notify(),
        }
    }
}

impl EventTable {
    const fn new() -> Self {
        Self {
            events: EventSlab::new(),
            waiters: Slab::new(),
            wakes: Vec::new(),
            sequence: 0,
        }
    }

    pub(super) fn add_waiter(
        &mut self,
        events: &[EventIndex],
        condition: Condition,
        signal: WaiterSignal,
    ) -> WaiterIndex {
        let waiter = Waiter {
            events: events.to_vec(),
            condition,
            outcome: None,
            completed_at: 0,
            signal,
        };
        let index = WaiterIndex(self.waiters.insert(waiter));
        self.events.list(index, events);
        index
    }

    /// Ends a wait for good. Returns its outcome, if there is one, and the time of the outcome.
    pub(super) fn remove_waiter(&mut self, index: WaiterIndex) -> Option<(usize, u64)> {
        let waiter = self.waiters.try_remove(index.0)?;
        if waiter.outcome.is_none() {
            self.events.unlist(index, &waiter.events);
        }
        waiter.outcome.map(|outcome| (outcome, waiter.completed_at))
    }

    /// Ends the wait of a thread that has timed out. Returns the outcome if it has come at the last
    /// moment. The waiter was removed then, and another may be at its index.
    pub(super) fn remove_parked(
        &mut self,
        index: WaiterIndex,
        parked: &ParkedThread,
    ) -> Option<usize> {
        let outcome = parked.outcome();
        if outcome.is_none() {
            self.remove_waiter(index);
        }
        outcome
    }

    /// Ends a wait whose outcome was not handled. Sets the consumed events again, except events
    /// that were reset since.
    pub(super) fn undo_wait(
        &mut self,
        waiter: WaiterIndex,
        events: &[EventIndex],
        condition: Condition,
    ) {
        let Some((outcome, completed_at)) = self.remove_waiter(waiter) else {
            return;
        };
        for event in consumed(events, condition, outcome) {
            if self
                .events
                .get(*event)
                .is_some_and(|state| state.reset_at < completed_at)
            {
                self.events.restore(*event);
                self.wake_waiters(*event);
            }
        }
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Completes the waits for an event that is set, in their order.
    pub(super) fn wake_waiters(&mut self, event: EventIndex) {
        let mut at = 0;
        while let Some(state) = self.events.get(event)
            && state.count > 0
            && let Some(waiter) = state.waiters.get(at).copied()
        {
            if !self.complete(waiter) {
                at += 1;
            }
        }
    }

    /// Completes a wait, if its condition holds. Removes the waiter from the lists of its events.
    /// Returns `true` if the wait was completed.
    pub(super) fn complete(&mut self, index: WaiterIndex) -> bool {
        let Some(waiter) = self.waiters.get_mut(index.0) else {
            return false;
        };
        let Some(outcome) = self.events.try_complete(&waiter.events, waiter.condition) else {
            return false;
        };
        self.events.unlist(index, &waiter.events);
        self.sequence += 1;
        (waiter.outcome, waiter.completed_at) = (Some(outcome), self.sequence);
        match &waiter.signal {
            WaiterSignal::Thread(parked) => {
                parked.outcome.store(outcome, Ordering::Release);
                self.wakes.push(WaiterWake::Thread(Arc::clone(parked)));
                // The thread returns without a look at the table.
                self.waiters.remove(index.0);
            }
            WaiterSignal::EventFd(event) => self.wakes.push(WaiterWake::EventFd(Arc::clone(event))),
            WaiterSignal::Queue(sender) => match sender.send_unnotified(outcome) {
                Ok(address) => self.wakes.extend(address.map(WaiterWake::Queue)),
                // If the loop is gone, nothing is consumed.
                Err(_) => {
                    let consumed = consumed(&waiter.events, waiter.condition, outcome);
                    consumed
                        .iter()
                        .for_each(|event| self.events.restore(*event));
                    waiter.outcome = None;
                    waiter.events.clear();
                }
            },
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::state::State;

    impl EventTable {
        fn wait(&mut self, event: EventIndex) -> (WaiterIndex, Arc<ParkedThread>) {
            let parked = ParkedThread {
                thread: crate::primitives::thread::current(),
                outcome: AtomicUsize::new(PENDING),
            };
            let parked = Arc::new(parked);
            let signal = WaiterSignal::Thread(Arc::clone(&parked));
            (self.add_waiter(&[event], Condition::Any, signal), parked)
        }

        fn set(&mut self, event: EventIndex) {
            self.events.get_mut(event).unwrap().count = 1;
            self.wake_waiters(event);
        }
    }

    #[test]
    fn a_wait_that_is_set_at_its_timeout_ends_no_other_wait() {
        let mut table = EventTable::new();
        let event = table.events.insert(State::new(0, Some(1)));
        let (index, late) = table.wait(event);
        table.set(event);
        let (other_index, other) = table.wait(event);
        assert_eq!(index, other_index, "the other wait is where the one was");
        assert_eq!(table.remove_parked(index, &late), Some(0));
        table.set(event);
        assert_eq!(other.outcome(), Some(0));
        assert!(table.waiters.is_empty() && table.events.get(event).unwrap().waiters.is_empty());
    }
}
