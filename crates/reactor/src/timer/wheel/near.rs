//! Near: the timers of ticks that have begun, in the order in which they are due.

use std::cmp::Reverse;

use crate::slots::Key;

/// The record of a timer that is due soon, unless it has been armed anew or cancelled since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) deadline: u64,
    pub(super) arming: u32,
    pub(super) key: Key,
}

impl Due {
    /// What is due first has the least; `armings` is the number of the latest arming.
    const fn rank(&self, armings: u32) -> (u64, Reverse<u32>) {
        (self.deadline, Reverse(armings.wrapping_sub(self.arming)))
    }

    #[inline]
    pub(super) fn precedes(&self, other: &Self, armings: u32) -> bool {
        self.rank(armings) < other.rank(armings)
    }
}

/// Records in order, once somebody asks.
#[derive(Debug, Default)]
pub(super) struct Near {
    /// What is due first is last.
    records: Vec<Due>,
    unsorted: bool,
}

impl Near {
    pub(super) const fn len(&self) -> usize {
        self.records.len()
    }

    #[inline]
    pub(super) fn push(&mut self, due: Due, armings: u32) {
        self.unsorted |= self.records.last().is_some_and(|first| first.precedes(&due, armings));
        self.records.push(due);
    }

    /// What is due first.
    #[inline]
    pub(super) fn first(&mut self, armings: u32) -> Option<Due> {
        if std::mem::take(&mut self.unsorted) {
            self.records.sort_unstable_by_key(|due| Reverse(due.rank(armings)));
        }
        self.records.last().copied()
    }

    /// Takes what [`first`](Self::first) has given.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Due> {
        self.records.pop()
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Due) -> bool) {
        self.records.retain(keep);
    }
}
