//! The table of all events and waiters of this process, under one lock.
//!
//! The thread that sets an event completes waits within `set`: the first in the order of arrival whose condition holds.
//!
//! INVARIANT (complete): between two operations no waiter has a condition that holds. Kept by `wake_waiters` after each
//! set and by the look before each wait.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

use crate::notify::address::QueueAddress;
use crate::notify::sender::Sender;
use crate::slots::{Blank, Key, Slots};
use crate::sys::eventfd::EventFd;

#[derive(Debug)]
pub(super) struct State {
    /// 0 is not set.
    pub(super) count: u64,
    /// The greatest count; `None` for a manual-reset event, which is never consumed.
    pub(super) max: Option<u64>,
    /// In the order of arrival.
    pub(super) waiters: VecDeque<Key>,
    /// When it was reset, by the sequence of the table: what was consumed before is not restored.
    pub(super) reset_at: u64,
}

/// What a waiter waits for, and what it consumes then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Any of its events: consumes that one.
    Any,
    /// All of its events at once: consumes them all.
    All,
    /// All of its events at once, of which it consumes none: it has to look at fds before.
    AllSet,
}

#[derive(Debug)]
pub(super) struct Waiter {
    events: Vec<Key>,
    condition: Condition,
    /// The index of the event that was consumed; 0 for all.
    outcome: Option<usize>,
    /// When the condition held, by the sequence of the table.
    completed_at: u64,
    signal: WaiterSignal,
}

/// How a waiter is notified of its outcome.
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

/// A thread that waits. It looks here, and takes the lock again only when its time is over.
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

impl Blank for State {
    fn blank() -> Self {
        Self { count: 0, max: None, waiters: VecDeque::new(), reset_at: 0 }
    }
}

impl Blank for Option<Waiter> {
    fn blank() -> Self {
        None
    }
}

/// All events and waiters of this process.
pub(super) struct EventTable {
    pub(super) events: Slots<State>,
    waiters: Slots<Option<Waiter>>,
    /// What is sent once the lock is free.
    wakes: Vec<WaiterWake>,
    /// Counts completed waits and resets.
    sequence: u64,
}

static TABLE: Mutex<EventTable> =
    Mutex::new(EventTable { events: Slots::new(), waiters: Slots::new(), wakes: Vec::new(), sequence: 0 });

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
            // It cannot overflow: one to each.
            WaiterWake::EventFd(event) => drop(event.add(1)),
            WaiterWake::Queue(address) => address.notify(),
        }
    }
}

impl EventTable {
    /// Consumes an event, if it is set.
    fn consume(&mut self, event: Key) -> bool {
        let Some(state) = self.events.get_mut(event).filter(|state| state.count > 0) else { return false };
        if state.max.is_some() {
            state.count -= 1;
        }
        true
    }

    /// Takes back a [`consume`](Self::consume). An event that is full by now stays so.
    fn restore(&mut self, event: Key) {
        if let Some(state) = self.events.get_mut(event)
            && let Some(max) = state.max
        {
            state.count = (state.count + 1).min(max);
        }
    }

    /// Consumes what `condition` says, if it holds. Returns the index of the event, 0 for all.
    ///
    /// Not inlined it takes 16 instructions more a wait for an event that is set.
    #[inline(always)]
    pub(super) fn try_complete(&mut self, events: &[Key], condition: Condition) -> Option<usize> {
        match condition {
            Condition::Any => events.iter().position(|event| self.consume(*event)),
            Condition::All => self.consume_all(events).then_some(0),
            Condition::AllSet => self.are_all_set(events).then_some(0),
        }
    }

    /// Consumes all of `events` or none. Returns whether all were set.
    fn consume_all(&mut self, events: &[Key]) -> bool {
        for (consumed, event) in events.iter().enumerate() {
            if !self.consume(*event) {
                events[..consumed].iter().for_each(|event| self.restore(*event));
                return false;
            }
        }
        true
    }

    /// Returns whether [`consume_all`](Self::consume_all) would consume `events`.
    #[cold]
    #[inline(never)]
    fn are_all_set(&mut self, events: &[Key]) -> bool {
        let all = self.consume_all(events);
        if all {
            events.iter().for_each(|event| self.restore(*event));
        }
        all
    }

    pub(super) fn add_waiter(&mut self, events: &[Key], condition: Condition, signal: WaiterSignal) -> Key {
        let waiter = Waiter { events: events.to_vec(), condition, outcome: None, completed_at: 0, signal };
        // Memory ends long before 2^32 waiters; one more would never be notified.
        let key = self.waiters.insert(Some(waiter)).unwrap_or(Key::NULL);
        for event in events {
            if let Some(state) = self.events.get_mut(*event)
                && state.waiters.back() != Some(&key)
            {
                state.waiters.push_back(key);
            }
        }
        key
    }

    /// Ends a wait. Returns its outcome, if there is one, and when that was.
    pub(super) fn remove_waiter(&mut self, key: Key) -> Option<(usize, u64)> {
        let waiter = self.waiters.remove(key).flatten()?;
        if waiter.outcome.is_none() {
            self.unlist(key, &waiter.events);
        }
        waiter.outcome.map(|outcome| (outcome, waiter.completed_at))
    }

    fn unlist(&mut self, waiter: Key, events: &[Key]) {
        for event in events {
            let Some(state) = self.events.get_mut(*event) else { continue };
            // The waits that began first are completed first, so that is where it usually is.
            if state.waiters.front() == Some(&waiter) {
                state.waiters.pop_front();
            } else {
                state.waiters.retain(|listed| *listed != waiter);
            }
        }
    }

    /// Ends a wait whose outcome was not handled, and sets again what it consumed, unless that was reset since.
    pub(super) fn undo_wait(&mut self, waiter: Key, events: &[Key], condition: Condition) {
        let Some((outcome, completed_at)) = self.remove_waiter(waiter) else { return };
        for event in consumed(events, condition, outcome) {
            if self.events.get(*event).is_some_and(|state| state.reset_at < completed_at) {
                self.restore(*event);
                self.wake_waiters(*event);
            }
        }
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Completes the waits for an event that is set, in their order.
    pub(super) fn wake_waiters(&mut self, event: Key) {
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

    /// Completes a wait, if its condition holds: it is in no list then.
    pub(super) fn complete(&mut self, key: Key) -> bool {
        let Some(mut waiter) = self.waiters.get_mut(key).and_then(Option::take) else { return false };
        let Some(outcome) = self.try_complete(&waiter.events, waiter.condition) else {
            if let Some(slot) = self.waiters.get_mut(key) {
                *slot = Some(waiter);
            }
            return false;
        };
        self.unlist(key, &waiter.events);
        (waiter.outcome, waiter.completed_at) = (Some(outcome), self.next_sequence());
        match &waiter.signal {
            WaiterSignal::Thread(parked) => {
                parked.outcome.store(outcome, Ordering::Release);
                self.wakes.push(WaiterWake::Thread(Arc::clone(parked)));
                self.waiters.free(key);
                return true;
            }
            WaiterSignal::EventFd(event) => self.wakes.push(WaiterWake::EventFd(Arc::clone(event))),
            WaiterSignal::Queue(sender) => match sender.send_unnotified(outcome) {
                Ok(address) => self.wakes.extend(address.map(WaiterWake::Queue)),
                // Where the loop is gone nothing is consumed.
                Err(_) => {
                    consumed(&waiter.events, waiter.condition, outcome).iter().for_each(|event| self.restore(*event));
                    waiter.outcome = None;
                    waiter.events.clear();
                }
            },
        }
        if let Some(slot) = self.waiters.get_mut(key) {
            *slot = Some(waiter);
        }
        true
    }
}

/// Returns those of `events` that a wait with this outcome has consumed.
fn consumed(events: &[Key], condition: Condition, outcome: usize) -> &[Key] {
    match condition {
        Condition::Any => &events[outcome..=outcome],
        Condition::All => events,
        Condition::AllSet => &[],
    }
}
