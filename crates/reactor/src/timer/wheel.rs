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
        if entry.place.linked && deadline >= entry.deadline {
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, HashMap};

    const TICK: u64 = 1_000_000;

    impl Blank for u64 {
        fn blank() -> Self {
            0
        }
    }

    /// What the wheel should do, by a sorted list.
    #[derive(Default)]
    struct Model {
        /// By deadline and arming.
        timers: BTreeMap<(u64, u64), Key>,
        places: HashMap<Key, (u64, u64)>,
        armings: u64,
        now: u64,
    }

    impl Model {
        fn arm(&mut self, key: Key, deadline: u64) {
            self.cancel(key);
            self.armings += 1;
            let place = (deadline.max(self.now), self.armings);
            self.timers.insert(place, key);
            self.places.insert(key, place);
        }

        fn cancel(&mut self, key: Key) {
            self.places.remove(&key).and_then(|place| self.timers.remove(&place));
        }

        fn first(&self) -> Option<u64> {
            self.timers.keys().map(|place| place.0).next().filter(|deadline| *deadline != NEVER)
        }

        fn expire(&mut self, now: u64) -> Vec<Key> {
            self.now = now;
            let mut due = Vec::new();
            while self.first().is_some_and(|deadline| deadline.div_ceil(TICK) <= now / TICK) {
                due.extend(self.timers.pop_first().map(|(_, key)| key));
            }
            for key in &due {
                self.places.remove(key);
            }
            due
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Arm(u64),
        Rearm(prop::sample::Index, u64),
        PushBack(prop::sample::Index, u64),
        Cancel(prop::sample::Index),
        Advance(u64),
    }

    /// From less than a tick to years, and for ever.
    fn delay() -> impl Strategy<Value = u64> {
        prop_oneof![
            Just(0),
            1..TICK * 3,
            (0..200_u64).prop_map(|ticks| ticks * TICK),
            0..TICK * 5_000,
            0..TICK * 100_000_000,
            Just(TICK << 52),
            Just(NEVER),
        ]
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => delay().prop_map(Op::Arm),
            2 => (any::<prop::sample::Index>(), delay()).prop_map(|(which, delay)| Op::Rearm(which, delay)),
            3 => (any::<prop::sample::Index>(), 0..TICK * 500).prop_map(|(which, delay)| Op::PushBack(which, delay)),
            1 => any::<prop::sample::Index>().prop_map(Op::Cancel),
            3 => prop_oneof![0..TICK, 0..TICK * 100, 0..TICK * 100_000, Just(TICK << 40)].prop_map(Op::Advance),
        ]
    }

    /// Runs `operations` on both. The time of the wheel stands on whole ticks, so that "has passed" and "is due" agree.
    fn compare(operations: Vec<Op>, verify: bool) -> Result<(), TestCaseError> {
        let (mut wheel, mut model) = (Wheel::<u64, TICK>::new(), Model::default());
        let mut keys = Vec::new();
        for (name, operation) in (1_u64..).zip(operations) {
            match operation {
                Op::Arm(delay) => {
                    let deadline = model.now.saturating_add(delay);
                    let key = wheel.arm(deadline, model.now, name).expect("far from full");
                    model.arm(key, deadline);
                    keys.push(key);
                }
                Op::Rearm(ref which, delay) | Op::PushBack(ref which, delay) if !keys.is_empty() => {
                    let key = *which.get(&keys);
                    let Some(old) = wheel.deadline(key) else {
                        prop_assert!(!wheel.rearm(key, delay, model.now), "a stale key");
                        continue;
                    };
                    let base = if matches!(operation, Op::PushBack(..)) && old != NEVER { old } else { model.now };
                    let deadline = base.saturating_add(delay);
                    prop_assert!(wheel.rearm(key, deadline, model.now));
                    model.arm(key, deadline);
                }
                Op::Cancel(which) if !keys.is_empty() => {
                    let key = keys.swap_remove(which.index(keys.len()));
                    prop_assert!(wheel.cancel(key).is_some());
                    model.cancel(key);
                    prop_assert!(wheel.cancel(key).is_none());
                }
                Op::Advance(by) => {
                    let now = (model.now.saturating_add(by) / TICK * TICK).min(TICK << 43);
                    wheel.expire(now);
                    let fired: Vec<Key> = pop_all(&mut wheel);
                    prop_assert_eq!(fired, model.expire(now));
                    prop_assert!(!wheel.has_due());
                    if let Some(first) = model.first() {
                        let next = wheel.next_deadline().expect("a timer is armed");
                        prop_assert!(next <= first.div_ceil(TICK).saturating_mul(TICK), "it would be late");
                    }
                }
                _ => {}
            }
            if verify {
                wheel.verify();
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn order_and_times_are_those_of_a_sorted_list(operations in prop::collection::vec(op(), 1..300)) {
            compare(operations, true)?;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2, max_shrink_iters: 0, ..ProptestConfig::default() })]
        #[test]
        fn order_and_times_hold_over_a_hundred_thousand_operations(operations in prop::collection::vec(op(), 100_000)) {
            compare(operations, false)?;
        }
    }

    fn pop_all(wheel: &mut Wheel<u64, TICK>) -> Vec<Key> {
        std::iter::from_fn(|| wheel.pop_due().map(|(key, _)| key)).collect()
    }

    fn fired(wheel: &mut Wheel<u64, TICK>, now_ms: u64) -> Vec<u64> {
        wheel.expire(now_ms * TICK);
        let fired = pop_all(wheel);
        wheel.verify();
        fired.into_iter().filter_map(|key| wheel.cancel(key)).collect()
    }

    #[test]
    fn a_timer_that_is_pushed_back_does_not_move_before_its_old_slot_comes_up() {
        let mut wheel = Wheel::<u64, TICK>::new();
        let key = wheel.arm(10 * TICK, 0, 1).unwrap();
        for later in 11..1000 {
            wheel.rearm(key, later * TICK, 0);
            assert_eq!(wheel.next_deadline(), Some(10 * TICK));
        }
        assert_eq!(fired(&mut wheel, 10), []);
        assert_eq!(wheel.next_deadline(), Some(999 * TICK));
        assert_eq!(fired(&mut wheel, 998), []);
        assert_eq!(fired(&mut wheel, 999), [1]);
        assert_eq!((wheel.next_deadline(), wheel.len()), (None, 0));
    }

    #[test]
    fn a_deadline_is_rounded_up_to_whole_ticks_and_never_down() {
        let mut wheel = Wheel::<u64, TICK>::new();
        wheel.arm(TICK + 1, 0, 1).unwrap();
        wheel.expire(2 * TICK - 1);
        assert!(wheel.pop_due().is_none());
        assert_eq!(fired(&mut wheel, 2), [1]);
    }

    #[test]
    fn what_has_passed_is_due_at_once_and_in_the_order_of_arming() {
        let mut wheel = Wheel::<u64, TICK>::new();
        wheel.expire(5 * TICK + TICK / 2);
        for (deadline, name) in [(5 * TICK + TICK / 2, 1), (0, 2), (TICK, 3)] {
            wheel.arm(deadline, 5 * TICK + TICK / 2, name).unwrap();
        }
        assert!(wheel.has_due());
        wheel.expire(5 * TICK + TICK / 2);
        let names: Vec<u64> = pop_all(&mut wheel).into_iter().filter_map(|key| wheel.cancel(key)).collect();
        assert_eq!(names, [1, 2, 3]);
    }

    #[test]
    fn what_was_due_before_goes_before_what_had_passed_when_it_was_armed() {
        let mut wheel = Wheel::<u64, TICK>::new();
        for name in 1..=3 {
            wheel.arm(name * TICK, 0, name).unwrap();
        }
        wheel.expire(3 * TICK);
        let (first, _) = wheel.pop_due().unwrap();
        assert_eq!(wheel.cancel(first), Some(1));
        wheel.arm(0, 3 * TICK, 4).unwrap(); // in the middle of it: for the next time
        assert!(wheel.has_due());
        assert_eq!(fired(&mut wheel, 3), [2, 3, 4]);
        assert!(!wheel.has_due());
    }

    #[test]
    fn cancelling_leaves_nothing_behind() {
        let mut wheel = Wheel::<u64, TICK>::new();
        for round in 0..100_000 {
            let key = wheel.arm(round * TICK * 7, 0, round).unwrap();
            assert_eq!(wheel.cancel(key), Some(round));
            assert!(!wheel.rearm(key, 0, 0));
        }
        wheel.verify();
        assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
    }

    #[test]
    fn a_due_timer_that_is_cancelled_or_armed_anew_does_not_fire() {
        let mut wheel = Wheel::<u64, TICK>::new();
        let keys: Vec<Key> = (1..=4).map(|name| wheel.arm(TICK, 0, name).unwrap()).collect();
        wheel.expire(TICK);
        assert_eq!(wheel.pop_due().unwrap().0, keys[0]);
        wheel.cancel(keys[1]);
        wheel.rearm(keys[2], 3 * TICK, TICK);
        assert_eq!(wheel.pop_due().unwrap().0, keys[3]);
        assert!(wheel.pop_due().is_none());
        assert_eq!(fired(&mut wheel, 3), [3]);
    }
}
