//! Timer wheel: expiry order for many timers, O(1) to arm, to re-arm and to cancel.
//!
//! Eight levels of 64 slots; a slot of level `n` is 64^n ticks wide. A timer sits on the level of the highest digit, to
//! base 64, in which its tick differs from the present one: so everything on a level comes before everything on the
//! next, and the next slot to look at is the first occupied one of the lowest occupied level. Time is a count of
//! nanoseconds that enters only through [`Wheel::expire`] and [`Wheel::tell`]; the wheel knows no clock and no fd.
//!
//! Ground rules:
//! - Pushing a timer back stores its new deadline and rank, nothing else. It stays linked where it is, and moves when that
//!   slot comes up: the idle timeout of a busy connection moves once in its length, however often it is pushed back.
//! - Slots are emptied in the order of their time, each in full, and what is due of one is sorted by deadline, ties by
//!   arming. A slot of the lowest level is one tick wide, so the sorts are small; the order is that of a sorted list.
//! - Never early: a deadline is rounded up to whole ticks.
//!
//! Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1997), scheme 7. Unlike the paper we do not tick:
//! a bitmap for each level finds the next slot, and each slot knows a lower bound of its deadlines, so the loop sleeps until
//! a timer is due and not until a slot has to be moved down.

use std::cmp::Reverse;
use std::collections::VecDeque;

use crate::slots::{Blank, Key, Slots};

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 8;
/// Ticks that the levels tell apart. What is farther away waits in the last slot, to be looked at again.
const SPAN: u64 = 1 << (SLOT_BITS * LEVELS as u32);
/// Ends a list.
const NOBODY: u32 = u32::MAX;

/// A deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// One timer.
#[derive(Debug)]
struct Entry<P> {
    /// In nanoseconds.
    deadline: u64,
    /// Of all armings so far which this was: ties of the deadline go by it. It wraps, and is compared by difference.
    arming: u32,
    place: Place,
    payload: P,
}

/// Where a timer is linked, which may be an earlier place than its deadline says.
#[derive(Clone, Copy, Debug)]
struct Place {
    prev: u32,
    next: u32,
    level: u8,
    slot: u8,
    linked: bool,
}

impl Place {
    const NOWHERE: Self = Self { prev: NOBODY, next: NOBODY, level: 0, slot: 0, linked: false };
}

impl<P: Blank> Blank for Entry<P> {
    fn blank() -> Self {
        Self { deadline: NEVER, arming: 0, place: Place::NOWHERE, payload: P::blank() }
    }
}

impl<P> Entry<P> {
    /// Leaves its list, if it is in one: the place that it had.
    #[inline]
    fn leave(&mut self) -> Option<Place> {
        std::mem::take(&mut self.place.linked).then_some(self.place)
    }
}

#[derive(Debug)]
struct Level {
    /// INVARIANT (occupancy): bit `s` is set exactly when the list of slot `s` is not empty. Kept by `link`, `close_gap`
    /// and `take_slot`, checked by `verify`. A bit too many wakes the loop for nothing, a bit too few loses a timer.
    occupied: u64,
    heads: [u32; SLOTS],
    /// INVARIANT (bound): while a slot is occupied, none of its timers has an earlier deadline. Pushing back and
    /// cancelling leave it too low, which wakes the loop early and does no harm.
    earliest: [u64; SLOTS],
}

/// A timer that is due, unless it has been armed anew or cancelled since.
#[derive(Clone, Copy, Debug)]
struct Due {
    deadline: u64,
    arming: u32,
    key: Key,
}

/// Timers with a payload each. Times are apart that are `TICK_NS` apart: a constant, since it is divided by.
#[derive(Debug)]
pub(crate) struct Wheel<P, const TICK_NS: u64> {
    entries: Slots<Entry<P>>,
    levels: Box<[Level; LEVELS]>,
    /// INVARIANT: bit `n` is set exactly when level `n` has an occupied slot.
    occupied_levels: u8,
    /// The latest time told.
    now_ns: u64,
    /// Every slot that begins by this tick has been emptied.
    now_tick: u64,
    armings: u32,
    /// Up to this tick slots are emptied, one after the other, as what is due is asked for.
    target: u64,
    due: VecDeque<Due>,
    /// What had passed when it was armed: due at the next `expire`, so that no timer runs twice for one.
    passed: VecDeque<Due>,
    /// What is due of one slot, while it is sorted.
    batch: Vec<Due>,
}

impl<P: Blank, const TICK_NS: u64> Wheel<P, TICK_NS> {
    /// An empty wheel at time 0.
    pub(crate) fn new() -> Self {
        let level = || Level { occupied: 0, heads: [NOBODY; SLOTS], earliest: [NEVER; SLOTS] };
        Self {
            entries: Slots::new(),
            levels: Box::new(std::array::from_fn(|_| level())),
            occupied_levels: 0,
            now_ns: 0,
            now_tick: 0,
            armings: 0,
            target: 0,
            due: VecDeque::new(),
            passed: VecDeque::new(),
            batch: Vec::new(),
        }
    }

    /// Tells the time, without asking what is due: so that the wheel knows of a deadline that it has passed.
    #[inline]
    pub(crate) fn tell(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    /// Arms a new timer at the time `now_ns`. `None` at 2^32 - 1 timers. A deadline that has passed is due at the next
    /// [`expire`](Self::expire); [`NEVER`] is never due.
    pub(crate) fn arm(&mut self, deadline: u64, now_ns: u64, payload: P) -> Option<Key> {
        self.tell(now_ns);
        let key = self.entries.next_key()?;
        self.armings = self.armings.wrapping_add(1);
        let place = self.link_anew(key, deadline);
        self.entries.fill(key, Entry { deadline, place, arming: self.armings, payload });
        Some(key)
    }

    /// Gives a timer a new deadline at the time `now_ns`, also one that is due: whether the key is one.
    #[inline]
    pub(crate) fn rearm(&mut self, key: Key, deadline: u64, now_ns: u64) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        self.armings = self.armings.wrapping_add(1);
        entry.arming = self.armings;
        if entry.place.linked && deadline >= entry.deadline && deadline > now_ns {
            entry.deadline = deadline; // it moves when its slot comes up
        } else {
            self.move_to(key, deadline, now_ns);
        }
        true
    }

    /// Ends a timer and gives its payload.
    pub(crate) fn cancel(&mut self, key: Key) -> Option<P> {
        let entry = self.entries.get_mut(key)?;
        let payload = std::mem::replace(&mut entry.payload, P::blank());
        if let Some(place) = entry.leave() {
            self.close_gap(place);
        }
        self.entries.free(key);
        Some(payload)
    }

    pub(crate) fn payload(&mut self, key: Key) -> Option<&mut P> {
        self.entries.get_mut(key).map(|entry| &mut entry.payload)
    }

    /// When a timer will be due; [`NEVER`] for one that rests.
    pub(crate) fn deadline(&self, key: Key) -> Option<u64> {
        self.entries.get(key).map(|entry| entry.deadline)
    }

    /// How many timers there are, resting ones included.
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether something is due, or was, that has not been asked for.
    #[inline]
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty() || !self.passed.is_empty() || self.next_to_empty().is_some()
    }

    /// When to call [`expire`](Self::expire) next: not after the first timer is due, and before it only if one has been
    /// pushed back or cancelled.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let (level, slot) = self.first_slot()?;
        let level = &self.levels[level];
        Some(Self::tick_of(level.earliest[slot]).saturating_mul(TICK_NS))
    }

    /// Tells the time: what is due by `now_ns` can be had from [`pop_due`](Self::pop_due).
    pub(crate) fn expire(&mut self, now_ns: u64) {
        if !self.passed.is_empty() {
            // What was due before it was armed and has not been asked for yet goes first.
            while let Some((level, slot)) = self.next_to_empty() {
                self.take_slot(level, slot);
            }
            self.due.append(&mut self.passed);
        }
        self.tell(now_ns);
        self.target = self.now_ns / TICK_NS;
    }

    /// The next timer that is due, by deadline, ties in the order of arming. It stays, resting, until it is armed anew or
    /// cancelled.
    #[inline]
    pub(crate) fn pop_due(&mut self) -> Option<(Key, &mut P)> {
        loop {
            let Some(due) = self.due.pop_front() else {
                // One slot at a time: what it holds is still in the cache when it runs.
                match self.next_to_empty() {
                    Some((level, slot)) => self.take_slot(level, slot),
                    None => {
                        self.now_tick = self.target;
                        return None;
                    }
                }
                continue;
            };
            // Looked up twice for the borrow checker, who does not see that the loop ends with what it lends.
            if self.entries.get(due.key).is_some_and(|entry| entry.arming == due.arming) {
                let entry = self.entries.get_mut(due.key)?;
                entry.deadline = NEVER;
                return Some((due.key, &mut entry.payload));
            }
        }
    }

    /// Empties a slot that has begun: what is due goes to `due`, in order, the rest to where it belongs.
    fn take_slot(&mut self, level: usize, slot: usize) {
        self.now_tick = self.begin_of(level, slot);
        let mut at = std::mem::replace(&mut self.levels[level].heads[slot], NOBODY);
        self.vacate(level, slot);
        let mut batch = std::mem::take(&mut self.batch);
        while let Some((key, entry)) = self.entries.at_index_mut(at) {
            at = entry.place.next;
            entry.place.linked = false;
            let (deadline, arming) = (entry.deadline, entry.arming);
            let tick = Self::tick_of(deadline);
            if tick <= self.now_tick {
                batch.push(Due { deadline, arming, key });
            } else {
                let place = self.link(key, deadline, tick);
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.place = place;
                }
            }
        }
        let armings = self.armings;
        let order = |due: &Due| (due.deadline, Reverse(armings.wrapping_sub(due.arming)));
        if !batch.is_sorted_by_key(order) {
            batch.sort_unstable_by_key(order);
        }
        self.due.extend(batch.drain(..));
        self.batch = batch;
    }

    #[inline(never)]
    fn move_to(&mut self, key: Key, deadline: u64, now_ns: u64) {
        self.tell(now_ns);
        if let Some(place) = self.entries.get_mut(key).and_then(Entry::leave) {
            self.close_gap(place);
        }
        let place = self.link_anew(key, deadline);
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.deadline, entry.place) = (deadline, place);
        }
    }

    /// Makes room for a timer, the latest to be armed, where its deadline belongs at the present time.
    fn link_anew(&mut self, key: Key, deadline: u64) -> Place {
        if deadline > self.now_ns {
            self.link(key, deadline, Self::tick_of(deadline))
        } else {
            self.passed.push_back(Due { deadline, arming: self.armings, key });
            Place::NOWHERE
        }
    }

    /// Makes room for a timer at the head of the list of `tick`, or of an earlier one if that is too far away.
    fn link(&mut self, key: Key, deadline: u64, tick: u64) -> Place {
        if deadline == NEVER {
            return Place::NOWHERE;
        }
        let tick = if tick ^ self.now_tick < SPAN { tick } else { self.now_tick | (SPAN - 1) };
        let digit = (tick ^ self.now_tick).checked_ilog2().unwrap_or(0) / SLOT_BITS;
        let (level, slot) = (digit as usize, (tick >> (digit * SLOT_BITS)) as usize % SLOTS);

        let list = &mut self.levels[level];
        let head = std::mem::replace(&mut list.heads[slot], key.index());
        list.earliest[slot] = if head == NOBODY { deadline } else { list.earliest[slot].min(deadline) };
        list.occupied |= 1 << slot;
        self.occupied_levels |= 1 << level;
        if let Some((_, next)) = self.entries.at_index_mut(head) {
            next.place.prev = key.index();
        }
        Place { prev: NOBODY, next: head, level: level as u8, slot: slot as u8, linked: true }
    }

    /// Joins the neighbours of a timer that has left its list.
    fn close_gap(&mut self, Place { prev, next, level, slot, .. }: Place) {
        if let Some((_, next)) = self.entries.at_index_mut(next) {
            next.place.prev = prev;
        }
        match self.entries.at_index_mut(prev) {
            Some((_, prev)) => prev.place.next = next,
            None => {
                let (level, slot) = (usize::from(level), usize::from(slot));
                self.levels[level].heads[slot] = next;
                if next == NOBODY {
                    self.vacate(level, slot);
                }
            }
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
    fn next_to_empty(&self) -> Option<(usize, usize)> {
        self.first_slot().filter(|(level, slot)| self.begin_of(*level, *slot) <= self.target)
    }

    /// The first tick of a slot of the present lap of its level.
    const fn begin_of(&self, level: usize, slot: usize) -> u64 {
        let shift = level as u32 * SLOT_BITS;
        let lap = self.now_tick >> shift >> SLOT_BITS;
        (lap << SLOT_BITS | slot as u64) << shift
    }

    /// The tick that begins when `deadline` has passed.
    #[inline]
    const fn tick_of(deadline: u64) -> u64 {
        deadline.div_ceil(TICK_NS)
    }
}

#[cfg(test)]
impl<P: Blank, const TICK_NS: u64> Wheel<P, TICK_NS> {
    /// Checks every invariant.
    #[track_caller]
    pub(crate) fn verify(&self) {
        let mut linked = 0;
        for (number, level) in self.levels.iter().enumerate() {
            assert_eq!(self.occupied_levels >> number & 1 == 1, level.occupied != 0, "level {number}");
            for slot in 0..SLOTS {
                assert_eq!(level.occupied >> slot & 1 == 1, level.heads[slot] != NOBODY, "level {number}, slot {slot}");
                let (mut at, mut prev) = (level.heads[slot], NOBODY);
                while let Some((_, entry)) = self.entries.at_index(at) {
                    assert!(entry.place.linked && entry.place.prev == prev);
                    assert_eq!((usize::from(entry.place.level), usize::from(entry.place.slot)), (number, slot));
                    assert!(entry.deadline >= level.earliest[slot], "the bound of level {number}, slot {slot}");
                    let begins = self.begin_of(number, slot);
                    assert!(begins > self.now_tick, "level {number}, slot {slot} should have been emptied");
                    assert!(Self::tick_of(entry.deadline) >= begins);
                    (prev, at, linked) = (at, entry.place.next, linked + 1);
                }
            }
        }
        assert_eq!(linked, self.entries.iter().filter(|(_, entry)| entry.place.linked).count());
    }
}

#[cfg(test)]
mod tests;
