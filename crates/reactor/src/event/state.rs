//! The events of this process: the state of each event, its waiters, and the consumption of a set
//! by a wait.

use std::collections::VecDeque;

use slab::Slab;

/// The place of an event in the table, valid while a clone of the event exists. A waiter ends
/// before the events that it waits for, so its index never names another event, and needs no
/// generation.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventIndex(usize);

impl EventIndex {
    /// The index of no event. Memory ends before so many events exist.
    pub(super) const NONE: Self = Self(usize::MAX);
}

/// The place of a waiter in the table, until its wait ends. The code that keeps the index ends the
/// wait once, so the index needs no generation either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaiterIndex(pub(super) usize);

#[derive(Debug)]
pub(super) struct State {
    /// 0 if the event is not set.
    pub(super) count: u64,
    /// The greatest count. `None` for a manual-reset event, which is never consumed.
    pub(super) max: Option<u64>,
    /// The waiters, in the order of arrival.
    pub(super) waiters: VecDeque<WaiterIndex>,
    /// The time of the last reset, by the sequence of the table. A set that was consumed before it
    /// is not restored.
    pub(super) reset_at: u64,
}

/// The condition of a waiter, and the events that it consumes then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Any of its events. Consumes that event.
    Any,
    /// All of its events at once. Consumes them all.
    All,
    /// All of its events at once. Consumes none, since the waiter has to look at fds first.
    AllSet,
}

impl State {
    pub(super) const fn new(count: u64, max: Option<u64>) -> Self {
        Self {
            count,
            max,
            waiters: VecDeque::new(),
            reset_at: 0,
        }
    }
}

/// The events.
pub(super) struct EventSlab(Slab<State>);

impl EventSlab {
    pub(super) const fn new() -> Self {
        Self(Slab::new())
    }

    pub(super) fn insert(&mut self, state: State) -> EventIndex {
        EventIndex(self.0.insert(state))
    }

    pub(super) fn remove(&mut self, event: EventIndex) -> Option<State> {
        self.0.try_remove(event.0)
    }

    #[inline]
    pub(super) fn get(&self, event: EventIndex) -> Option<&State> {
        self.0.get(event.0)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, event: EventIndex) -> Option<&mut State> {
        self.0.get_mut(event.0)
    }

    /// Consumes an event, if it is set. Returns `true` if it was set.
    fn consume(&mut self, event: EventIndex) -> bool {
        let Some(state) = self.0.get_mut(event.0).filter(|state| state.count > 0) else {
            return false;
        };
        if state.max.is_some() {
            state.count -= 1;
        }
        true
    }

    /// Undoes a [`consume`](Self::consume). An event that is full by now stays full.
    pub(super) fn restore(&mut self, event: EventIndex) {
        if let Some(state) = self.0.get_mut(event.0)
            && let Some(max) = state.max
        {
            state.count = (state.count + 1).min(max);
        }
    }

    /// Consumes the events of `condition`, if it holds. Returns the index of the event, 0 for all.
    ///
    /// Without inlining, a wait for an event that is set takes 16 instructions more.
    #[inline(always)]
    pub(super) fn try_complete(
        &mut self,
        events: &[EventIndex],
        condition: Condition,
    ) -> Option<usize> {
        match condition {
            Condition::Any => events.iter().position(|event| self.consume(*event)),
            Condition::All => self.consume_all(events).then_some(0),
            Condition::AllSet => self.are_all_set(events).then_some(0),
        }
    }

    /// Consumes all of `events` or none. Returns `true` if all were set.
    fn consume_all(&mut self, events: &[EventIndex]) -> bool {
        for (consumed, event) in events.iter().enumerate() {
            if !self.consume(*event) {
                events[..consumed]
                    .iter()
                    .for_each(|event| self.restore(*event));
                return false;
            }
        }
        true
    }

    /// Returns `true` if [`consume_all`](Self::consume_all) would consume `events`.
    #[cold]
    #[inline(never)]
    fn are_all_set(&mut self, events: &[EventIndex]) -> bool {
        let all = self.consume_all(events);
        if all {
            events.iter().for_each(|event| self.restore(*event));
        }
        all
    }

    /// Appends a waiter to the list of each of `events`.
    pub(super) fn list(&mut self, waiter: WaiterIndex, events: &[EventIndex]) {
        for event in events {
            if let Some(state) = self.0.get_mut(event.0)
                && state.waiters.back() != Some(&waiter)
            {
                state.waiters.push_back(waiter);
            }
        }
    }

    /// Removes a waiter from the list of each of `events`.
    pub(super) fn unlist(&mut self, waiter: WaiterIndex, events: &[EventIndex]) {
        for event in events {
            let Some(state) = self.0.get_mut(event.0) else {
                continue;
            };
            // Waits that began first are completed first, so the waiter is usually at the front.
            if state.waiters.front() == Some(&waiter) {
                state.waiters.pop_front();
            } else {
                state.waiters.retain(|listed| *listed != waiter);
            }
        }
    }
}

/// Returns the events among `events` that a wait with this outcome has consumed.
pub(super) fn consumed(
    events: &[EventIndex],
    condition: Condition,
    outcome: usize,
) -> &[EventIndex] {
    match condition {
        Condition::Any => &events[outcome..=outcome],
        Condition::All => events,
        Condition::AllSet => &[],
    }
}
