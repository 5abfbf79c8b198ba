//! Timer wheel: expiry order for many timers, O(1) to arm, to re-arm and to cancel.
//!
//! Eight levels of 64 slots. A slot of level `n` is 64^n ticks wide; a tick is a millisecond. A
//! timer sits on the level of the highest digit, to base 64, in which its tick differs from the
//! present one. So all timers of a level are due before all timers of the next level, and the next
//! slot to look at is the first occupied one of the lowest occupied level. Time is a count of
//! nanoseconds that callers pass in, less than 2^63. The wheel knows no clock and no fd.
//!
//! Ground rules:
//! - The tick of a timer decides in which slot the timer waits. Its nanosecond decides when it is
//!   due, once the slot has begun.
//! - Extending a timer only stores its new deadline and rank. The timer stays in its slot, and
//!   moves when that slot begins. So the idle timeout of a busy connection moves once per length of
//!   the timeout, however often it is extended.
//! - Cancelling a timer frees its place and updates counts. It does not search the timer's slot:
//!   see `levels.rs`.
//! - Slots are emptied in the order of their time, each in full. The timers of a slot of one tick
//!   are sorted by deadline, ties by arming. So timers come out in the order of a sorted list.
//!
//! Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1997), scheme 7. Unlike the
//! paper we do not tick: a bitmap for each level finds the next slot, and each slot knows a lower
//! bound of its deadlines. So the loop sleeps until a timer is due, and is not woken to move a slot
//! down. Slots are not linked lists: see `lists.rs`.

mod levels;
mod lists;
mod near;

use std::collections::VecDeque;
use std::iter;

use self::levels::{Filing, Levels, SlotId, TIMERS_MAX};
pub(crate) use self::near::Due;
use self::near::Near;
use crate::slots::{Blank, Key, Slots};

/// A tick is 2^20 ns. It is short, because timers due within the present tick are kept sorted. It
/// is long enough that a timer of up to 67 ms does not move before it is due, and a timer of up to
/// four seconds moves once.
const TICK_BITS: u32 = 20;

/// A deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// One timer. Its payload is kept elsewhere, so that extending many timers at random touches little
/// memory.
#[derive(Debug)]
struct TimerEntry {
    /// In nanoseconds.
    deadline: u64,
    /// The low half of the number of its arming. It shows whether a record is of this arming, and
    /// breaks ties of the deadline. After 2^32 other armings, tens of thousands a second for a day,
    /// a timer may come after one that it ties with.
    arming: u32,
    /// The slot in which it is filed, which may be earlier than the slot of its deadline.
    filing: Filing,
    /// A number of the caller that armed it.
    note: u16,
}

impl Blank for TimerEntry {
    fn blank() -> Self {
        Self {
            deadline: NEVER,
            arming: 0,
            filing: Filing::NONE,
            note: 0,
        }
    }
}

/// Timers with a payload each.
#[derive(Debug)]
pub(crate) struct Wheel<P> {
    entries: Slots<TimerEntry>,
    /// By the place of the entry.
    payloads: Vec<P>,
    /// How many entries there is room for in `levels`.
    room: usize,
    /// The places of the entries, by their slots.
    levels: Levels,
    /// The latest time passed in.
    now_ns: u64,
    /// `true` if [`next_deadline`](Self::next_deadline) may be earlier than it was, or could be
    /// later. The caller of `next_deadline` clears it. Extending a timer does not set it.
    pub(crate) changed: bool,
    /// Timers due by this time can be popped. It is the time of the last `expire`.
    limit_ns: u64,
    armings: u64,
    /// The timers of ticks that have begun.
    near: Near,
    /// Timers whose deadline had passed when they were armed, before the last `expire`: due now.
    passed: VecDeque<Due>,
    /// Timers whose deadline had passed when they were armed, since the last `expire`. They are due
    /// at the next `expire`, so that no timer runs twice for one `expire`.
    passing: VecDeque<Due>,
}

impl<P: Blank> Wheel<P> {
    /// Makes an empty wheel at time 0.
    pub(crate) fn new() -> Self {
        Self {
            entries: Slots::new(),
            payloads: Vec::new(),
            room: 0,
            levels: Levels::new(),
            now_ns: 0,
            changed: true,
            limit_ns: 0,
            armings: 0,
            near: Near::default(),
            passed: VecDeque::new(),
            passing: VecDeque::new(),
        }
    }

    /// Arms a new timer at the time `now_ns`. Returns its key and the place of its payload, or
    /// `None` at 2^30 timers. A deadline that has passed is due at the next
    /// [`expire`](Self::expire); [`NEVER`] is never due. `note` is a number for the caller.
    #[inline]
    pub(crate) fn arm(&mut self, deadline: u64, now_ns: u64, note: u16) -> Option<(Key, &mut P)> {
        if self.entries.len() == self.room {
            self.make_room()?;
        }
        self.changed = true;
        self.armings += 1;
        let (key, entry) = self.entries.occupy()?;
        *entry = TimerEntry {
            deadline,
            arming: self.armings as u32,
            filing: Filing::NONE,
            note,
        };
        if deadline <= now_ns || self.levels.is_now(deadline) {
            self.place_near(key, deadline, now_ns);
        } else if deadline != NEVER {
            entry.filing = self.levels.file(key.index(), deadline).into();
        }
        if key.index() as usize >= self.payloads.len() {
            self.payloads.extend(iter::repeat_with(P::blank).take(1));
        }
        Some((key, self.payloads.get_mut(key.index() as usize)?))
    }

    /// Postpones a timer to `delay` after the time `now_ns`, if it is enough to store the deadline.
    /// This is so if the deadline is not earlier than before, the timer is filed in a slot, and the
    /// timer has none of the marks in `but`. Returns `true` if the deadline was stored.
    #[inline]
    pub(crate) fn postpone(&mut self, key: Key, now_ns: u64, delay: u64, but: u16) -> bool {
        // If the delay is a constant, this costs nothing.
        if !(1..=NEVER / 2).contains(&delay) {
            return false;
        }
        let deadline = now_ns + delay; // cannot overflow: both are in the lower half
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        let stored = deadline >= entry.deadline && entry.filing.is_plain(but);
        if stored {
            self.armings += 1;
            (entry.deadline, entry.arming) = (deadline, self.armings as u32);
        }
        stored
    }

    /// Gives a timer a new deadline at the time `now_ns`, even if it is due. Returns `true` if the
    /// timer exists.
    pub(crate) fn rearm(&mut self, key: Key, deadline: u64, now_ns: u64) -> bool {
        if self.postpone(key, now_ns, deadline.saturating_sub(now_ns), 0) {
            return true;
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        self.changed = true;
        self.armings += 1;
        (entry.deadline, entry.arming) = (deadline, self.armings as u32);
        // An earlier deadline needs an earlier slot: the old item becomes stale.
        let slot = entry.filing.clear_slot();
        self.unfile(slot);
        if deadline <= now_ns || self.levels.is_now(deadline) {
            self.place_near(key, deadline, now_ns);
        } else if let Some(entry) = self
            .entries
            .filled_mut(key.index())
            .filter(|_| deadline != NEVER)
        {
            entry
                .filing
                .set_slot(self.levels.file(key.index(), deadline));
        }
        true
    }

    /// Ends a timer. Returns its marks and its payload, or `None` if there was no timer. The
    /// payload stays until the place is used again. The caller drops it in place, because moving it
    /// out costs as much as the rest.
    #[inline]
    pub(crate) fn cancel(&mut self, key: Key) -> Option<(u16, &mut P)> {
        let entry = self.entries.free(key)?;
        let marks = entry.filing.marks();
        let slot = entry.filing.clear_slot();
        self.unfile(slot);
        self.changed = true;
        if self.entries.len() == 0 {
            self.forget_records();
        }
        Some((marks, self.payloads.get_mut(key.index() as usize)?))
    }

    /// Returns all payloads, at the end of a wheel that is not used any more.
    pub(crate) fn take_payloads(&mut self) -> Vec<P> {
        std::mem::take(&mut self.payloads)
    }

    #[inline]
    pub(crate) fn payload(&mut self, key: Key) -> Option<&mut P> {
        self.entries.get(key)?;
        self.payloads.get_mut(key.index() as usize)
    }

    /// Returns the marks that the caller has given a timer. Default: none.
    #[inline]
    pub(crate) fn marks(&self, key: Key) -> Option<u16> {
        self.entries.get(key).map(|entry| entry.filing.marks())
    }

    /// Sets the marks of a timer, of which there are six. Returns `true` if the timer exists.
    pub(crate) fn set_marks(&mut self, key: Key, marks: u16) -> bool {
        self.entries
            .get_mut(key)
            .map(|entry| entry.filing.set_marks(marks))
            .is_some()
    }

    /// Sets the note of a timer. Returns `true` if the timer exists.
    pub(crate) fn set_note(&mut self, key: Key, note: u16) -> bool {
        self.entries
            .get_mut(key)
            .map(|entry| entry.note = note)
            .is_some()
    }

    /// Returns the time when a timer will be due. Returns [`NEVER`] for a timer that rests: it
    /// exists but has no deadline.
    pub(crate) fn deadline(&self, key: Key) -> Option<u64> {
        self.entries.get(key).map(|entry| entry.deadline)
    }

    /// Returns every timer with its deadline, its marks and its note, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, u64, u16, u16)> {
        self.entries
            .iter()
            .map(|(key, entry)| (key, entry.deadline, entry.filing.marks(), entry.note))
    }

    /// Returns the number of timers, resting ones included.
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns how often any timer has been armed. It is the number of the last arming.
    #[inline]
    pub(crate) const fn armings(&self) -> u64 {
        self.armings
    }

    /// Returns `true` if a timer is due, or was due, that has not been popped.
    #[inline]
    pub(crate) fn has_due(&mut self) -> bool {
        let near = self
            .near
            .first()
            .is_some_and(|due| due.deadline <= self.limit_ns);
        near || !self.passed.is_empty()
            || !self.passing.is_empty()
            || self.slot_to_empty().is_some()
    }

    /// Returns the time for the next [`expire`](Self::expire), if [`has_due`](Self::has_due)
    /// returns `false`. This time is never later than the deadline of the first timer. It is
    /// earlier only if a timer has been extended or cancelled.
    #[inline]
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        self.near
            .first()
            .map(|due| due.deadline)
            .or_else(|| self.levels.earliest())
    }

    /// Sets the time: timers due by `now_ns` can be popped by [`pop_due`](Self::pop_due).
    pub(crate) fn expire(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.limit_ns = self.now_ns;
        self.changed = true;
        self.passed.append(&mut self.passing);
    }

    /// Returns the record of the next timer that is due, with its note. The order is by deadline,
    /// ties in the order of arming. The timer stays, resting, until it is armed anew or cancelled.
    #[inline]
    pub(crate) fn pop_due(&mut self) -> Option<(Due, u16, &mut P)> {
        loop {
            let due = self.next_due()?;
            if let Some(entry) = self.entries.get_mut(due.key)
                && entry.arming == due.arming as u32
            {
                entry.deadline = NEVER;
                return Some((
                    due,
                    entry.note,
                    self.payloads.get_mut(due.key.index() as usize)?,
                ));
            }
        }
    }

    /// Returns `true` if the timer of a record exists, and has not been armed anew since.
    pub(crate) fn is_current(&self, due: Due) -> bool {
        self.entries
            .get(due.key)
            .is_some_and(|entry| entry.arming == due.arming as u32)
    }

    /// Returns the next record of a timer that is due.
    #[inline]
    fn next_due(&mut self) -> Option<Due> {
        loop {
            let near = self
                .near
                .first()
                .filter(|due| due.deadline <= self.limit_ns);
            if !self.passed.is_empty() && self.is_passed_first(near) {
                return self.passed.pop_front();
            }
            if let Some(due) = near {
                self.near.pop(due);
                return Some(due);
            }
            // Slots one at a time: the timers of a slot are still in the cache when they run.
            let Some(slot) = self.slot_to_empty() else {
                self.levels.skip_to(self.limit_ns >> TICK_BITS);
                return None;
            };
            self.take_slot(slot);
        }
    }

    /// Returns `true` if the first timer of `passed` comes before `near` and before the slot that
    /// has begun, by the time at which it was armed.
    #[inline(never)]
    fn is_passed_first(&self, near: Option<Due>) -> bool {
        self.passed.front().is_some_and(|passed| match near {
            Some(near) => *passed < near,
            None => self
                .slot_to_empty()
                .is_none_or(|slot| passed.deadline < self.levels.begin_of(slot) << TICK_BITS),
        })
    }

    /// Returns the first slot, if it has begun by the time of the last `expire`.
    #[inline]
    fn slot_to_empty(&self) -> Option<SlotId> {
        self.levels.slot_begun_by(self.limit_ns >> TICK_BITS)
    }

    /// Empties a slot that has begun. The timers of its first tick go to `near`, the rest to their
    /// slots.
    #[inline(never)]
    fn take_slot(&mut self, slot: SlotId) {
        let mut list = self.levels.take(slot);
        while let Some(place) = self.levels.pop(&mut list) {
            let Some((key, entry)) = self
                .entries
                .at_index_mut(place)
                .filter(|(_, entry)| entry.filing.slot() == slot)
            else {
                continue; // a stale item
            };
            if entry.deadline >> TICK_BITS <= self.levels.now_tick() {
                // The whole number of the arming, which is one of the last 2^32.
                let armings_since = (self.armings as u32).wrapping_sub(entry.arming);
                let arming = self.armings - u64::from(armings_since);
                entry.filing.clear_slot();
                self.near.push_of_slot(Due {
                    deadline: entry.deadline,
                    arming,
                    key,
                });
            } else {
                entry
                    .filing
                    .set_slot(self.levels.file(place, entry.deadline));
            }
        }
    }

    /// Records a timer that is due soon. Such a timer is not filed, and only its latest record
    /// counts.
    #[inline(never)]
    fn place_near(&mut self, key: Key, deadline: u64, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        let due = Due {
            deadline: deadline.max(self.now_ns),
            arming: self.armings,
            key,
        };
        // Records outlive their timers. If there are many more records than timers, stale records
        // are removed.
        let crowd = 2 * self.entries.len() + 64;
        let Self {
            entries,
            near,
            passing,
            ..
        } = self;
        let is_valid = |due: &Due| {
            entries
                .get(due.key)
                .is_some_and(|entry| entry.arming == due.arming as u32)
        };
        if deadline > self.now_ns {
            if near.len() >= crowd {
                near.retain(is_valid);
            }
            near.push_armed(due);
        } else {
            if passing.len() >= crowd {
                passing.retain(is_valid);
            }
            passing.push_back(due);
        }
    }

    /// Drops all records. Called when no timer is left.
    #[inline(never)]
    fn forget_records(&mut self) {
        self.near.clear();
        self.passed.clear();
        self.passing.clear();
    }

    /// Takes a timer out of `slot`. The timer's filing has been cleared already.
    #[inline]
    fn unfile(&mut self, slot: SlotId) {
        if self.levels.unfile(slot) {
            self.sweep();
        }
    }

    /// Removes stale items from the lists of the slots.
    #[cold]
    #[inline(never)]
    fn sweep(&mut self) {
        let slots = self
            .entries
            .iter()
            .map(|(key, entry)| (key.index(), entry.filing.slot()));
        self.levels
            .sweep(slots.filter(|(_, slot)| *slot != SlotId::NOWHERE));
    }

    /// Grows the arena of entries, and everything that has to grow with it, so that only arming
    /// allocates.
    #[cold]
    fn make_room(&mut self) -> Option<()> {
        if self.room >= TIMERS_MAX {
            return None;
        }
        self.entries.reserve();
        self.room = self.entries.capacity();
        self.levels.reserve(self.room);
        Some(())
    }
}

#[cfg(test)]
mod tests;
