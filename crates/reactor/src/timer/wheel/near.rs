//! Near: records of the timers that are due soon, in the order in which they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::slots::Key;

/// The record of a timer that is due soon. It is stale if the timer has been re-armed or cancelled
/// since. Records are in the order of their rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub(crate) deadline: u64,
    /// The number of this arming among all so far.
    pub(crate) arming: u64,
    pub(crate) key: Key,
}

impl Due {
    /// Returns the rank as one number, which sorts without a branch: 17 ns if all deadlines differ,
    /// instead of 21.
    fn rank(&self) -> u128 {
        u128::from(self.deadline) << 64 | u128::from(self.arming)
    }
}

/// The timers of ticks that have begun. The timers of a slot are in a vector that is sorted once.
/// Timers that were armed since are in a heap.
#[derive(Debug, Default)]
pub(super) struct Near {
    /// In reverse order: the timer that is due first is the last item.
    of_slot: Vec<Due>,
    unsorted: bool,
    armed_since: BinaryHeap<Reverse<Due>>,
}

impl Near {
    pub(super) fn len(&self) -> usize {
        self.of_slot.len() + self.armed_since.len()
    }

    pub(super) fn clear(&mut self) {
        self.of_slot.clear();
        self.armed_since.clear();
    }

    /// Adds a timer of a slot that is being emptied.
    #[inline]
    pub(super) fn push_of_slot(&mut self, due: Due) {
        self.unsorted |= self
            .of_slot
            .last()
            .is_some_and(|first| first.rank() < due.rank());
        self.of_slot.push(due);
    }

    /// Adds a timer that was armed just now.
    pub(super) fn push_armed(&mut self, due: Due) {
        self.armed_since.push(Reverse(due));
    }

    /// Returns the timer that is due first.
    #[inline]
    pub(super) fn first(&mut self) -> Option<Due> {
        if std::mem::take(&mut self.unsorted) {
            self.sort();
        }
        match (self.of_slot.last(), self.armed_since.peek()) {
            (Some(of_slot), Some(Reverse(armed))) => Some(*of_slot.min(armed)),
            (of_slot, armed) => of_slot.or(armed.map(|Reverse(armed)| armed)).copied(),
        }
    }

    /// A function of its own, so that sorting is not compiled anew wherever [`first`](Self::first)
    /// is inlined.
    #[inline(never)]
    fn sort(&mut self) {
        self.of_slot.sort_unstable_by_key(|due| Reverse(due.rank()));
    }

    /// Removes the record that [`first`](Self::first) has returned.
    #[inline]
    pub(super) fn pop(&mut self, first: Due) {
        if self.of_slot.last() == Some(&first) {
            self.of_slot.pop();
        } else {
            self.armed_since.pop();
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Due) -> bool) {
        self.of_slot.retain(&keep);
        self.armed_since.retain(|Reverse(due)| keep(due));
    }
}

#[cfg(test)]
impl Near {
    /// Returns how many records there is memory for.
    pub(super) fn room(&self) -> usize {
        self.of_slot.capacity() + self.armed_since.capacity()
    }
}
