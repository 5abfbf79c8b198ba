//! The world: all events and waiters of this process, under one lock.
//!
//! Who sets an event hands it over then and there: to the first waiter in the order of arrival that it satisfies.
//!
//! INVARIANT (settled): between two operations no waiter could be satisfied by what is set. Kept by `settle` after each set
//! and by the look before each wait.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

use super::Event;
use crate::notify::consumer::Address;
use crate::notify::queue::Sender;
use crate::slots::{Blank, Key, Slots};
use crate::sys::eventfd::EventFd;

#[derive(Debug)]
pub(super) struct State {
    /// 0 is not set.
    pub(super) count: u64,
    /// The greatest count; `None` for a manual-reset event, which nobody resets by passing through.
    pub(super) max: Option<u64>,
    /// In the order of arrival.
    pub(super) waiters: VecDeque<Key>,
    /// When it was reset, by the clock of the world: what was handed over before is not set again.
    pub(super) reset_at: u64,
}

#[derive(Debug)]
pub(super) struct Waiter {
    events: Vec<Key>,
    all: bool,
    /// Which of the events it was: 0 for all.
    outcome: Option<usize>,
    /// When that was, by the clock of the world.
    told_at: u64,
    notify: Notify,
}

/// How a waiter hears of its outcome.
#[derive(Debug)]
pub(super) enum Notify {
    Thread(Arc<Ticket>),
    Poll(Arc<EventFd>),
    Loop(Sender<usize>),
}

/// Who is to be woken.
pub(super) enum Wake {
    Thread(Arc<Ticket>),
    Poll(Arc<EventFd>),
    Loop(Arc<Address>),
}

/// A thread that waits. It looks here, and takes the lock again only when its time is over.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) thread: Thread,
    /// [`PENDING`], or the outcome.
    pub(super) outcome: AtomicUsize,
}

pub(super) const PENDING: usize = usize::MAX;

impl Ticket {
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
pub(super) struct World {
    pub(super) events: Slots<State>,
    waiters: Slots<Option<Waiter>>,
    /// Who is to be woken once the lock is free.
    wakes: Vec<Wake>,
    /// Counts hand-overs and resets.
    clock: u64,
}

static WORLD: Mutex<World> =
    Mutex::new(World { events: Slots::new(), waiters: Slots::new(), wakes: Vec::new(), clock: 0 });

pub(super) fn world() -> MutexGuard<'static, World> {
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the lock back, and wakes those who have been let through.
pub(super) fn wake(mut world: MutexGuard<'_, World>) {
    if world.wakes.is_empty() {
        return;
    }
    let wakes = std::mem::take(&mut world.wakes);
    drop(world);
    for wake in wakes {
        match wake {
            Wake::Thread(ticket) => ticket.thread.unpark(),
            // It cannot overflow: one to each.
            Wake::Poll(event) => drop(event.add(1)),
            Wake::Loop(address) => address.announce(),
        }
    }
}

impl World {
    /// Passes through an event, if it is set.
    fn pass(&mut self, event: Key) -> bool {
        let Some(state) = self.events.get_mut(event).filter(|state| state.count > 0) else { return false };
        if state.max.is_some() {
            state.count -= 1;
        }
        true
    }

    /// Takes back a [`pass`](Self::pass). An event that is full by now stays so.
    fn unpass(&mut self, event: Key) {
        if let Some(state) = self.events.get_mut(event)
            && let Some(max) = state.max
        {
            state.count = (state.count + 1).min(max);
        }
    }

    /// Passes through the first that is set, or through all of them or none: which, 0 for all.
    pub(super) fn pass_several(&mut self, events: &[Key], all: bool) -> Option<usize> {
        if !all {
            return events.iter().position(|event| self.pass(*event));
        }
        for (passed, event) in events.iter().enumerate() {
            if !self.pass(*event) {
                events[..passed].iter().for_each(|event| self.unpass(*event));
                return None;
            }
        }
        Some(0)
    }

    pub(super) fn add_waiter(&mut self, events: &[Key], all: bool, notify: Notify) -> Key {
        let waiter = Waiter { events: events.to_vec(), all, outcome: None, told_at: 0, notify };
        // Memory ends long before 2^32 waiters; one more would never be told.
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

    /// Ends a wait: its outcome, if there is one, and when that was.
    pub(super) fn remove_waiter(&mut self, key: Key) -> Option<(usize, u64)> {
        let waiter = self.waiters.remove(key).flatten()?;
        if waiter.outcome.is_none() {
            self.unlist(key, &waiter.events);
        }
        waiter.outcome.map(|outcome| (outcome, waiter.told_at))
    }

    fn unlist(&mut self, waiter: Key, events: &[Key]) {
        for event in events {
            let Some(state) = self.events.get_mut(*event) else { continue };
            // Who has waited longest is let through first, so that is where it usually is.
            if state.waiters.front() == Some(&waiter) {
                state.waiters.pop_front();
            } else {
                state.waiters.retain(|listed| *listed != waiter);
            }
        }
    }

    /// Sets again what a waiter had been let through and nobody has made use of, unless it was reset since.
    pub(super) fn give_back(&mut self, waiter: Key, events: &[Event], all: bool) {
        let Some((outcome, told_at)) = self.remove_waiter(waiter) else { return };
        for event in if all { events } else { &events[outcome..=outcome] } {
            if self.events.get(event.key()).is_some_and(|state| state.reset_at < told_at) {
                self.unpass(event.key());
                self.settle(event.key());
            }
        }
    }

    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Hands what is set of an event to those who wait for it, in their order.
    pub(super) fn settle(&mut self, event: Key) {
        let mut at = 0;
        while let Some(state) = self.events.get(event)
            && state.count > 0
            && let Some(waiter) = state.waiters.get(at).copied()
        {
            if !self.satisfy(waiter) {
                at += 1;
            }
        }
    }

    /// Whether a waiter needs to wait no longer; it is in no list then.
    pub(super) fn satisfy(&mut self, key: Key) -> bool {
        let Some(mut waiter) = self.waiters.get_mut(key).and_then(Option::take) else { return false };
        let Some(outcome) = self.pass_several(&waiter.events, waiter.all) else {
            if let Some(place) = self.waiters.get_mut(key) {
                *place = Some(waiter);
            }
            return false;
        };
        self.unlist(key, &waiter.events);
        (waiter.outcome, waiter.told_at) = (Some(outcome), self.tick());
        match &waiter.notify {
            Notify::Thread(ticket) => {
                ticket.outcome.store(outcome, Ordering::Release);
                self.wakes.push(Wake::Thread(Arc::clone(ticket)));
                self.waiters.free(key);
                return true;
            }
            Notify::Poll(event) => self.wakes.push(Wake::Poll(Arc::clone(event))),
            Notify::Loop(sender) => match sender.send_unannounced(outcome) {
                Ok(address) => self.wakes.extend(address.map(Wake::Loop)),
                // Where the loop is gone nobody has passed.
                Err(_) => {
                    let passed = if waiter.all { &waiter.events[..] } else { &waiter.events[outcome..=outcome] };
                    passed.iter().for_each(|event| self.unpass(*event));
                    waiter.outcome = None;
                    waiter.events.clear();
                }
            },
        }
        if let Some(place) = self.waiters.get_mut(key) {
            *place = Some(waiter);
        }
        true
    }
}
