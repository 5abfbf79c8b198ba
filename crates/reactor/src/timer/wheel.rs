//! Timer wheel: expiry order for many timers, O(1) to arm, to re-arm and to cancel.
//!
//! Eight levels of 64 slots; a slot of level `n` is 64^n ticks wide, a tick is a millisecond. A timer sits on the level of the
//! highest digit, to base 64, in which its tick differs from the present one: so everything on a level comes before
//! everything on the next, and the next slot to look at is the first occupied one of the lowest occupied level. Time is a
//! count of nanoseconds that callers tell, of the lower half of what 64 bits hold; the wheel knows no clock and no fd.
//!
//! Ground rules:
//! - Ticks say where a timer waits, not when it is due: that is decided by the nanosecond, once its slot has begun.
//! - Pushing a timer back stores its new deadline and rank, nothing else. It stays filed where it is, and moves when that
//!   slot comes up: the idle timeout of a busy connection moves once in its length, however often it is pushed back.
//! - Cancelling a timer frees its place and counts, and does not look for it in its slot: see `levels.rs`.
//! - Slots are emptied in the order of their time, each in full; what comes of a slot of one tick is sorted by deadline,
//!   ties by arming. The order is that of a sorted list.
//!
//! Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1997), scheme 7. Unlike the paper we do not tick:
//! a bitmap for each level finds the next slot, and each slot knows a lower bound of its deadlines, so the loop sleeps until
//! a timer is due and not until a slot has to be moved down. And slots are no linked lists: see `lists.rs`.

mod levels;
mod lists;
mod near;

use std::collections::VecDeque;
use std::iter;

use self::levels::{Filing, Levels, SlotId, TIMERS_MAX};
pub(crate) use self::near::Due;
use self::near::Near;
use crate::slots::{Blank, Key, Slots};

/// A tick is 2^20 ns. Short, since what is due within the present tick is kept sorted; long enough that a delay of up to 67 ms
/// does not move at all before it is due, and one of up to four seconds once.
const TICK_BITS: u32 = 20;

/// A deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// One timer. What it is for is kept elsewhere: to push many timers back at random touches little memory.
#[derive(Debug)]
struct TimerEntry {
    /// In nanoseconds.
    deadline: u64,
    /// The low half of the number of its arming. It tells whether a record is of this arming, and ties of the deadline go by
    /// it: after 2^32 other armings, tens of thousands a second for a day, a timer may come after one that it ties with.
    arming: u32,
    /// Where it is filed, which may be an earlier place than its deadline says.
    filing: Filing,
    /// For who armed it.
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
    /// The latest time told.
    now_ns: u64,
    /// Whether [`next_deadline`](Self::next_deadline) may be earlier than it was, or need not be so early any more. It stays until
    /// who has asked says that it is known. To put a timer off is no change.
    pub(crate) changed: bool,
    /// What is due by this time can be had: that of the last `expire`.
    limit_ns: u64,
    armings: u64,
    /// The timers of ticks that have begun.
    near: Near,
    /// What had passed when it was armed, before the last `expire`: due now.
    passed: VecDeque<Due>,
    /// What had passed when it was armed since: due at the next `expire`, so that no timer runs twice for one.
    passing: VecDeque<Due>,
}

impl<P: Blank> Wheel<P> {
    /// An empty wheel at time 0.
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

    /// Arms a new timer at the time `now_ns`, and gives the place of its payload. `None` at 2^30 timers. A deadline that
    /// has passed is due at the next [`expire`](Self::expire); [`NEVER`] is never due. `note` is for who armed it.
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

    /// Lets a timer be due `delay` after the time `now_ns`, if that takes no more than to store it: it is later than it was
    /// and the timer is filed, and has none of the marks of `but`.
    #[inline]
    pub(crate) fn put_off(&mut self, key: Key, now_ns: u64, delay: u64, but: u16) -> bool {
        // Where the delay is a constant, this costs nothing.
        if !(1..=NEVER / 2).contains(&delay) {
            return false;
        }
        let deadline = now_ns + delay; // before the end, since the present time is
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

    /// Gives a timer a new deadline at the time `now_ns`, also one that is due: whether the key is one.
    pub(crate) fn rearm(&mut self, key: Key, deadline: u64, now_ns: u64) -> bool {
        if self.put_off(key, now_ns, deadline.saturating_sub(now_ns), 0) {
            return true;
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        self.changed = true;
        self.armings += 1;
        (entry.deadline, entry.arming) = (deadline, self.armings as u32);
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

    /// Ends a timer: whether there was one, and its marks. Its payload, which stays until the place is used again, is for
    /// the caller to drop: where it lies, since to move it out costs as much as the rest.
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

    /// Gives all payloads, at the end of a wheel that is not used any more.
    pub(crate) fn take_payloads(&mut self) -> Vec<P> {
        std::mem::take(&mut self.payloads)
    }

    #[inline]
    pub(crate) fn payload(&mut self, key: Key) -> Option<&mut P> {
        self.entries.get(key)?;
        self.payloads.get_mut(key.index() as usize)
    }

    /// The marks that whoever armed a timer has given it: none, in the beginning.
    #[inline]
    pub(crate) fn marks(&self, key: Key) -> Option<u16> {
        self.entries.get(key).map(|entry| entry.filing.marks())
    }

    /// Gives a timer other marks, of which there are six: whether the key is one.
    pub(crate) fn set_marks(&mut self, key: Key, marks: u16) -> bool {
        self.entries
            .get_mut(key)
            .map(|entry| entry.filing.set_marks(marks))
            .is_some()
    }

    /// Gives a timer another note: whether the key is one.
    pub(crate) fn set_note(&mut self, key: Key, note: u16) -> bool {
        self.entries
            .get_mut(key)
            .map(|entry| entry.note = note)
            .is_some()
    }

    /// When a timer will be due; [`NEVER`] for one that rests.
    pub(crate) fn deadline(&self, key: Key) -> Option<u64> {
        self.entries.get(key).map(|entry| entry.deadline)
    }

    /// Every timer with its deadline, its marks and its note, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, u64, u16, u16)> {
        self.entries
            .iter()
            .map(|(key, entry)| (key, entry.deadline, entry.filing.marks(), entry.note))
    }

    /// How many timers there are, resting ones included.
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// How often any of them has been armed: the number of the last arming.
    #[inline]
    pub(crate) const fn armings(&self) -> u64 {
        self.armings
    }

    /// Whether something is due, or was, that has not been asked for.
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

    /// When to call [`expire`](Self::expire) next, if [`has_due`](Self::has_due) says no: not after the first timer is due,
    /// and before it only if one has been pushed back or cancelled.
    #[inline]
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        self.near
            .first()
            .map(|due| due.deadline)
            .or_else(|| self.levels.earliest())
    }

    /// Tells the time: what is due by `now_ns` can be had from [`pop_due`](Self::pop_due).
    pub(crate) fn expire(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.limit_ns = self.now_ns;
        self.changed = true;
        self.passed.append(&mut self.passing);
    }

    /// The record of the next timer that is due, by deadline, ties in the order of arming, with its note. The timer stays, resting,
    /// until it is armed anew or cancelled.
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

    /// Whether the timer of a record is there, and has not been armed anew since.
    pub(crate) fn is_current(&self, due: Due) -> bool {
        self.entries
            .get(due.key)
            .is_some_and(|entry| entry.arming == due.arming as u32)
    }

    /// The next record of a timer that is due.
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
            // Slots one at a time: what one holds is still in the cache when it runs.
            let Some(slot) = self.slot_to_empty() else {
                self.levels.skip_to(self.limit_ns >> TICK_BITS);
                return None;
            };
            self.take_slot(slot);
        }
    }

    /// Whether what had passed when it was armed was due, at that time, before what is `near` or in a slot that has begun.
    #[inline(never)]
    fn is_passed_first(&self, near: Option<Due>) -> bool {
        self.passed.front().is_some_and(|passed| match near {
            Some(near) => *passed < near,
            None => self
                .slot_to_empty()
                .is_none_or(|slot| passed.deadline < self.levels.begin_of(slot) << TICK_BITS),
        })
    }

    /// The first slot, if it has begun by the time of the last `expire`.
    #[inline]
    fn slot_to_empty(&self) -> Option<SlotId> {
        self.levels.slot_begun_by(self.limit_ns >> TICK_BITS)
    }

    /// Empties a slot that has begun: what is of its first tick comes near, the rest goes to where it belongs.
    #[inline(never)]
    fn take_slot(&mut self, slot: SlotId) {
        let mut list = self.levels.take(slot);
        while let Some(place) = self.levels.pop(&mut list) {
            let Some((key, entry)) = self
                .entries
                .at_index_mut(place)
                .filter(|(_, entry)| entry.filing.slot() == slot)
            else {
                continue; // stale
            };
            if entry.deadline >> TICK_BITS <= self.levels.now_tick() {
                // Its number again, as one of the last 2^32.
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

    /// What is due soon is not filed: only a record of it, the latest to be armed, is kept.
    #[inline(never)]
    fn place_near(&mut self, key: Key, deadline: u64, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        let due = Due {
            deadline: deadline.max(self.now_ns),
            arming: self.armings,
            key,
        };
        // Records outlive their timers, but not in numbers: a wave of timers armed and cancelled leaves no residue.
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

    /// Where no timer is left, nobody asks for what is due any more.
    #[inline(never)]
    fn forget_records(&mut self) {
        self.near.clear();
        self.passed.clear();
        self.passing.clear();
    }

    /// Takes a timer that says so no more out of its slot.
    #[inline]
    fn unfile(&mut self, slot: SlotId) {
        if self.levels.unfile(slot) {
            self.sweep();
        }
    }

    /// Has the slots forget what is in their lists of timers that are not theirs.
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

    /// Has the arena of entries grow, and what has to grow with it, so that nothing but arming allocates.
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
