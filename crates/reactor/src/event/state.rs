//! The events of this process: what is set of each, what a wait consumes of it, and who waits.

use std::collections::VecDeque;

use slab::Slab;

/// Where an event is in the table, for as long as there is a clone of it. A waiter ends before the events that it waits
/// for, so an index never comes to name another event, without a generation.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventIndex(usize);

impl EventIndex {
    /// Of no event: memory ends before.
    pub(super) const NONE: Self = Self(usize::MAX);
}

/// Where a waiter is in the table, until its wait ends: once, by the code that keeps the index. So it needs no
/// generation either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaiterIndex(pub(super) usize);

#[derive(Debug)]
pub(super) struct State {
    /// 0 is not set.
    pub(super) count: u64,
    /// The greatest count; `None` for a manual-reset event, which is never consumed.
    pub(super) max: Option<u64>,
    /// In the order of arrival.
    pub(super) waiters: VecDeque<WaiterIndex>,
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

    /// Consumes an event, if it is set.
    fn consume(&mut self, event: EventIndex) -> bool {
        let Some(state) = self.0.get_mut(event.0).filter(|state| state.count > 0) else {
            return false;
        };
        if state.max.is_some() {
            state.count -= 1;
        }
        true
    }

    /// Takes back a [`consume`](Self::consume). An event that is full by now stays so.
    pub(super) fn restore(&mut self, event: EventIndex) {
        if let Some(state) = self.0.get_mut(event.0)
            && let Some(max) = state.max
        {
            state.count = (state.count + 1).min(max);
        }
    }

    /// Consumes what `condition` says, if it holds. Returns the index of the event, 0 for all.
    ///
    /// Not inlined it takes 16 instructions more a wait for an event that is set.
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

    /// Consumes all of `events` or none. Returns whether all were set.
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

    /// Returns whether [`consume_all`](Self::consume_all) would consume `events`.
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

    /// Takes a waiter out of the list of each of `events`.
    pub(super) fn unlist(&mut self, waiter: WaiterIndex, events: &[EventIndex]) {
        for event in events {
            let Some(state) = self.0.get_mut(event.0) else {
                continue;
            };
            // The waits that began first are completed first, so that is where it usually is.
            if state.waiters.front() == Some(&waiter) {
                state.waiters.pop_front();
            } else {
                state.waiters.retain(|listed| *listed != waiter);
            }
        }
    }
}

/// Returns those of `events` that a wait with this outcome has consumed.
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
