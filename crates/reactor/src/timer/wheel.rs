//! Timer wheel: expiry order for many timers, O(1) to arm, to re-arm and to cancel.
//!
//! Eight levels of 64 slots; a slot of level `n` is 64^n ticks wide, a tick is a millisecond. A timer sits on the level of the
//! highest digit, to base 64, in which its tick differs from the present one: so everything on a level comes before
//! everything on the next, and the next slot to look at is the first occupied one of the lowest occupied level. Time is a
//! count of nanoseconds that enters only through [`Wheel::expire`] and [`Wheel::tell`]; the wheel knows no clock and no fd.
//!
//! Ground rules:
//! - Ticks say where a timer waits, not when it is due: that is decided by the nanosecond, once its slot has begun.
//! - Pushing a timer back stores its new deadline and rank, nothing else. It stays filed where it is, and moves when that
//!   slot comes up: the idle timeout of a busy connection moves once in its length, however often it is pushed back.
//! - Slots are emptied in the order of their time, each in full; what comes of a slot of one tick is sorted by deadline,
//!   ties by arming. The order is that of a sorted list.
//!
//! Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1997), scheme 7. Unlike the paper we do not tick:
//! a bitmap for each level finds the next slot, and each slot knows a lower bound of its deadlines, so the loop sleeps until
//! a timer is due and not until a slot has to be moved down. And slots are no linked lists: see `lists.rs`.

mod lists;
mod near;

use std::collections::VecDeque;

use self::lists::{Lists, Position};
use self::near::{Due, Near};
use crate::slots::{Blank, Key, Slots};

/// A tick is 2^20 ns. Short, since what is due within the present tick is kept sorted; long enough that a delay of up to 67 ms
/// does not move at all before it is due, and one of up to four seconds once.
const TICK_BITS: u32 = 20;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// All that 64 bits of nanoseconds need.
const LEVELS: usize = 8;
const _: () = assert!(TICK_BITS + SLOT_BITS * LEVELS as u32 >= u64::BITS);

/// A deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// One timer. What it is for is kept elsewhere: to push many timers back at random touches little memory.
#[derive(Debug)]
struct Entry {
    /// In nanoseconds.
    deadline: u64,
    /// The low half of the number of its arming: ties of the deadline go by it.
    arming: u32,
    /// Where it is filed, which may be an earlier place than its deadline says.
    position: Position,
}

impl Blank for Entry {
    fn blank() -> Self {
        Self { deadline: NEVER, arming: 0, position: Position::NOWHERE }
    }
}

#[derive(Debug)]
struct Level {
    /// INVARIANT (occupancy): bit `s` is set exactly when the list of slot `s` is not empty. Kept by `file`, `unfile` and
    /// `take_slot`, checked by `verify`. A bit too many wakes the loop for nothing, a bit too few loses a timer.
    occupied: u64,
    /// INVARIANT (bound): while a slot is occupied, none of its timers has an earlier deadline. Pushing back and
    /// cancelling leave it too low, which wakes the loop early and does no harm.
    earliest: [u64; SLOTS],
}

/// Timers with a payload each.
#[derive(Debug)]
pub(crate) struct Wheel<P> {
    entries: Slots<Entry>,
    /// By the place of the entry.
    payloads: Vec<P>,
    levels: Box<[Level; LEVELS]>,
    /// Of each level and slot, the places of the entries filed there.
    lists: Box<Lists<{ LEVELS * SLOTS }>>,
    /// INVARIANT: bit `n` is set exactly when level `n` has an occupied slot.
    occupied_levels: u8,
    /// The latest time told.
    now_ns: u64,
    /// What is due by this time can be had: that of the last `expire`.
    limit_ns: u64,
    /// Every slot that begins by this tick has been emptied.
    now_tick: u64,
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
        let level = || Level { occupied: 0, earliest: [NEVER; SLOTS] };
        Self {
            entries: Slots::new(),
            payloads: Vec::new(),
            levels: Box::new(std::array::from_fn(|_| level())),
            lists: Box::new(Lists::new()),
            occupied_levels: 0,
            now_ns: 0,
            limit_ns: 0,
            now_tick: 0,
            armings: 0,
            near: Near::default(),
            passed: VecDeque::new(),
            passing: VecDeque::new(),
        }
    }

    /// Tells the time, without asking what is due: so that the wheel knows of a deadline that it has passed.
    #[inline]
    pub(crate) fn tell(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    /// Arms a new timer at the time `now_ns`. `None` at 2^32 - 1 timers. A deadline that has passed is due at the next
    /// [`expire`](Self::expire); [`NEVER`] is never due.
    #[inline]
    pub(crate) fn arm(&mut self, deadline: u64, now_ns: u64, payload: P) -> Option<Key> {
        self.tell(now_ns);
        let key = self.entries.next_key()?;
        self.armings += 1;
        self.lists.reserve(self.entries.len() + 1);
        let position = self.place(key, deadline);
        self.entries.fill(key, Entry { deadline, arming: self.armings as u32, position });
        match self.payloads.get_mut(key.index() as usize) {
            Some(place) => *place = payload,
            None => self.payloads.push(payload),
        }
        Some(key)
    }

    /// Gives a timer a new deadline at the time `now_ns`, also one that is due: whether the key is one.
    #[inline]
    pub(crate) fn rearm(&mut self, key: Key, deadline: u64, now_ns: u64) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        self.armings += 1;
        entry.arming = self.armings as u32;
        let later = deadline >= entry.deadline && deadline > now_ns && deadline != NEVER;
        if later && entry.position != Position::NOWHERE {
            entry.deadline = deadline; // it moves when its slot comes up
        } else {
            self.move_to(key, deadline, now_ns);
        }
        true
    }

    /// Ends a timer: whether there was one. Its payload, which stays until the place is used again, is for the caller to
    /// drop: where it lies, since to move it out costs as much as the rest.
    #[inline]
    pub(crate) fn cancel(&mut self, key: Key) -> Option<&mut P> {
        let position = self.entries.get(key)?.position;
        self.unfile(position);
        self.entries.free(key);
        if self.entries.len() == 0 {
            self.forget_records();
        }
        self.payloads.get_mut(key.index() as usize)
    }

    #[inline]
    pub(crate) fn payload(&mut self, key: Key) -> Option<&mut P> {
        self.entries.get(key)?;
        self.payloads.get_mut(key.index() as usize)
    }

    /// When a timer will be due; [`NEVER`] for one that rests.
    pub(crate) fn deadline(&self, key: Key) -> Option<u64> {
        self.entries.get(key).map(|entry| entry.deadline)
    }

    /// Every timer with its deadline, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, u64, &P)> {
        self.entries
            .iter()
            .filter_map(|(key, entry)| Some((key, entry.deadline, self.payloads.get(key.index() as usize)?)))
    }

    /// How many timers there are, resting ones included.
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether something is due, or was, that has not been asked for.
    #[inline]
    pub(crate) fn has_due(&mut self) -> bool {
        let near = self.near.first().is_some_and(|due| due.deadline <= self.limit_ns);
        near || !self.passed.is_empty() || !self.passing.is_empty() || self.slot_to_empty().is_some()
    }

    /// When to call [`expire`](Self::expire) next, if [`has_due`](Self::has_due) says no: not after the first timer is due,
    /// and before it only if one has been pushed back or cancelled.
    #[inline]
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        if let Some(due) = self.near.first() {
            return Some(due.deadline);
        }
        let (level, slot) = self.first_slot()?;
        Some(self.levels[level].earliest[slot])
    }

    /// Tells the time: what is due by `now_ns` can be had from [`pop_due`](Self::pop_due).
    pub(crate) fn expire(&mut self, now_ns: u64) {
        self.tell(now_ns);
        self.limit_ns = self.now_ns;
        self.passed.append(&mut self.passing);
    }

    /// The next timer that is due, by deadline, ties in the order of arming. It stays, resting, until it is armed anew or
    /// cancelled.
    #[inline]
    pub(crate) fn pop_due(&mut self) -> Option<(Key, &mut P)> {
        loop {
            let due = self.next_due()?;
            if let Some(entry) = self.entries.get_mut(due.key)
                && entry.arming == due.arming as u32
            {
                entry.deadline = NEVER;
                let payload = self.payloads.get_mut(due.key.index() as usize)?;
                return Some((due.key, payload));
            }
        }
    }

    /// The next record of a timer that is due.
    fn next_due(&mut self) -> Option<Due> {
        loop {
            let near = self.near.first().filter(|due| due.deadline <= self.limit_ns);
            let begun = self.slot_to_empty();
            // What had passed when it was armed was due at that time.
            let passed_first = self.passed.front().is_some_and(|passed| match near {
                Some(near) => *passed < near,
                None => begun.is_none_or(|(level, slot)| passed.deadline < self.begin_of(level, slot) << TICK_BITS),
            });
            if passed_first {
                return self.passed.pop_front();
            }
            // Slots one at a time: what one holds is still in the cache when it runs.
            match (near, begun) {
                (Some(due), _) => {
                    self.near.pop(due);
                    return Some(due);
                }
                (None, Some((level, slot))) => self.take_slot(level, slot),
                (None, None) => {
                    self.now_tick = self.limit_ns >> TICK_BITS;
                    return None;
                }
            }
        }
    }

    /// Empties a slot that has begun: what is of its first tick comes near, the rest goes to where it belongs.
    fn take_slot(&mut self, level: usize, slot: usize) {
        self.now_tick = self.begin_of(level, slot);
        self.vacate(level, slot);
        while let Some(place) = self.lists.pop(Self::list_of(level, slot)) {
            let Some((key, entry)) = self.entries.at_index_mut(place) else { continue };
            // Its number again: it is one of the last 2^32.
            let armings_since = (self.armings as u32).wrapping_sub(entry.arming);
            let arming = self.armings - u64::from(armings_since);
            let due = Due { deadline: entry.deadline, arming, key };
            entry.position = Position::NOWHERE;
            if due.deadline >> TICK_BITS <= self.now_tick {
                self.near.push_of_slot(due);
            } else {
                let position = self.file(key, due.deadline);
                if let Some(entry) = self.entries.filled_mut(place) {
                    entry.position = position;
                }
            }
        }
    }

    #[inline(never)]
    fn move_to(&mut self, key: Key, deadline: u64, now_ns: u64) {
        self.tell(now_ns);
        if let Some(position) = self.entries.get(key).map(|entry| entry.position) {
            self.unfile(position);
        }
        let position = self.place(key, deadline);
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.deadline, entry.position) = (deadline, position);
        }
    }

    /// Puts a timer, the latest to be armed, where its deadline belongs at the present time.
    #[inline]
    fn place(&mut self, key: Key, deadline: u64) -> Position {
        if deadline > self.now_ns && deadline >> TICK_BITS != self.now_tick {
            return if deadline == NEVER { Position::NOWHERE } else { self.file(key, deadline) };
        }
        self.place_near(key, deadline)
    }

    /// What is due within this tick, or has been, is not filed: only a record of it is kept.
    #[inline(never)]
    fn place_near(&mut self, key: Key, deadline: u64) -> Position {
        let due = Due { deadline: deadline.max(self.now_ns), arming: self.armings, key };
        // Records outlive their timers, but not in numbers: a wave of timers armed and cancelled leaves no residue.
        let crowd = 2 * self.entries.len() + 64;
        let Self { entries, near, passing, .. } = self;
        let is_valid = |due: &Due| entries.get(due.key).is_some_and(|entry| entry.arming == due.arming as u32);
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
        Position::NOWHERE
    }

    /// Where no timer is left, nobody asks for what is due any more.
    fn forget_records(&mut self) {
        self.near.clear();
        self.passed.clear();
        self.passing.clear();
    }

    /// Files a timer under the slot of its deadline, which is of a later tick than the present one.
    #[inline]
    fn file(&mut self, key: Key, deadline: u64) -> Position {
        let tick = deadline >> TICK_BITS;
        let digit = (tick ^ self.now_tick).checked_ilog2().unwrap_or(0) / SLOT_BITS;
        let (number, slot) = (digit as usize, (tick >> (digit * SLOT_BITS)) as usize % SLOTS);
        let level = &mut self.levels[number];
        let was_occupied = level.occupied >> slot & 1 == 1;
        level.earliest[slot] = if was_occupied { level.earliest[slot].min(deadline) } else { deadline };
        level.occupied |= 1 << slot;
        self.occupied_levels |= 1 << number;
        self.lists.push(Self::list_of(number, slot), key.index())
    }

    /// Takes what is filed at `position` out of its slot.
    #[inline]
    fn unfile(&mut self, position: Position) {
        if position == Position::NOWHERE {
            return;
        }
        let list = self.lists.list_at(position);
        if let Some(moved) = self.lists.remove(position) {
            if let Some(moved) = self.entries.filled_mut(moved) {
                moved.position = position;
            }
        } else if self.lists.is_empty(list) {
            self.vacate(list / SLOTS, list % SLOTS);
        }
    }

    /// Notes that a slot is empty.
    fn vacate(&mut self, level: usize, slot: usize) {
        self.levels[level].occupied &= !(1 << slot);
        if self.levels[level].occupied == 0 {
            self.occupied_levels &= !(1 << level);
        }
    }

    /// The occupied slot that begins first.
    #[inline]
    fn first_slot(&self) -> Option<(usize, usize)> {
        let level = self.occupied_levels.trailing_zeros() as usize;
        let slot = self.levels.get(level)?.occupied.trailing_zeros() as usize;
        Some((level, slot % SLOTS))
    }

    /// The first slot, if it has begun by the time of the last `expire`.
    #[inline]
    fn slot_to_empty(&self) -> Option<(usize, usize)> {
        self.first_slot().filter(|(level, slot)| self.begin_of(*level, *slot) <= self.limit_ns >> TICK_BITS)
    }

    /// The first tick of a slot of the present lap of its level.
    const fn begin_of(&self, level: usize, slot: usize) -> u64 {
        let shift = level as u32 * SLOT_BITS;
        let lap = self.now_tick >> shift >> SLOT_BITS;
        (lap << SLOT_BITS | slot as u64) << shift
    }

    const fn list_of(level: usize, slot: usize) -> usize {
        level * SLOTS + slot
    }
}

#[cfg(test)]
mod tests;
