//! The wheel against a sorted list, and its promises one by one.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// A millisecond.
const MS: u64 = 1_000_000;

impl Blank for u64 {
    fn blank() -> Self {
        0
    }
}

/// What the wheel should do, by sorted lists.
#[derive(Default)]
struct Model {
    /// By deadline and arming.
    timers: BTreeMap<(u64, u64), Key>,
    /// What had passed when it was armed, since the last `expire`.
    passing: BTreeMap<(u64, u64), Key>,
    places: HashMap<Key, (u64, u64)>,
    armings: u64,
    now: u64,
    limit: u64,
}

impl Model {
    fn arm(&mut self, key: Key, deadline: u64) {
        self.cancel(key);
        self.armings += 1;
        let place = (deadline.max(self.now), self.armings);
        let list = if deadline <= self.now { &mut self.passing } else { &mut self.timers };
        list.insert(place, key);
        self.places.insert(key, place);
    }

    fn cancel(&mut self, key: Key) {
        if let Some(place) = self.places.remove(&key) {
            self.timers.remove(&place).or_else(|| self.passing.remove(&place));
        }
    }

    fn expire(&mut self) {
        self.limit = self.now;
        self.timers.append(&mut self.passing);
    }

    fn first(&self) -> Option<u64> {
        self.timers.keys().map(|place| place.0).next().filter(|deadline| *deadline != NEVER)
    }

    fn has_due(&self) -> bool {
        !self.passing.is_empty() || self.first().is_some_and(|first| first <= self.limit)
    }

    fn pop_due(&mut self) -> Option<Key> {
        self.first().filter(|first| *first <= self.limit)?;
        let (_, key) = self.timers.pop_first()?;
        self.places.remove(&key);
        Some(key)
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// So long after now, or before.
    Arm(i64),
    Rearm(usize, i64),
    PushBack(usize, u64),
    Cancel(usize),
    /// Time passes, and nobody asks what is due.
    Pass(u64),
    Expire,
    /// So many of what is due are asked for: a turn has room for no more.
    Pop(usize),
}

/// From before now to years after, and never.
fn delay() -> impl Strategy<Value = i64> {
    const LONG: i64 = MS as i64;
    prop_oneof![
        Just(0),
        -LONG * 3..0,
        1..LONG / 8,
        1..LONG * 3,
        (0..200_i64).prop_map(|ms| ms * LONG),
        0..LONG * 5_000,
        0..LONG * 100_000_000,
        Just(1 << 62),
        Just(i64::MAX),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => delay().prop_map(Op::Arm),
        2 => (any::<usize>(), delay()).prop_map(|(which, delay)| Op::Rearm(which, delay)),
        3 => (any::<usize>(), 0..MS * 500).prop_map(|(which, delay)| Op::PushBack(which, delay)),
        1 => any::<usize>().prop_map(Op::Cancel),
        3 => prop_oneof![
            25 => 0..MS / 8,
            25 => 0..MS,
            25 => 0..MS * 100,
            24 => 0..MS * 100_000,
            1 => Just(1 << 54), // half a year, rare enough that time does not come to its end
        ].prop_map(Op::Pass),
        3 => Just(Op::Expire),
        3 => prop_oneof![0..4_usize, Just(usize::MAX)].prop_map(Op::Pop),
    ]
}

fn deadline_after(now: u64, delay: i64) -> u64 {
    if delay == i64::MAX { NEVER } else { now.saturating_add_signed(delay) }
}

/// Runs `operations` on both.
fn compare(operations: impl IntoIterator<Item = Op>, verify: bool) -> Result<(), TestCaseError> {
    let (mut wheel, mut model) = (Wheel::<u64>::new(), Model::default());
    let mut keys = Vec::new();
    let mut known = None; // when something will be due, unless the wheel has changed
    for (name, operation) in (1_u64..).zip(operations) {
        match operation {
            Op::Arm(delay) => {
                let deadline = deadline_after(model.now, delay);
                let key = arm(&mut wheel, deadline, model.now, name).expect("far from full");
                model.arm(key, deadline);
                keys.push(key);
            }
            Op::Rearm(which, delay) if !keys.is_empty() => {
                let (key, deadline) = (keys[which % keys.len()], deadline_after(model.now, delay));
                prop_assert!(wheel.rearm(key, deadline, model.now));
                model.arm(key, deadline);
            }
            Op::PushBack(which, delay) if !keys.is_empty() => {
                let key = keys[which % keys.len()];
                let Some(old) = wheel.deadline(key).filter(|old| *old != NEVER) else { continue };
                prop_assert!(wheel.rearm(key, old.saturating_add(delay), model.now));
                model.arm(key, old.saturating_add(delay));
            }
            Op::Cancel(which) if !keys.is_empty() => {
                let key = keys.swap_remove(which % keys.len());
                prop_assert!(wheel.cancel(key).is_some());
                model.cancel(key);
                prop_assert!(wheel.cancel(key).is_none() && !wheel.rearm(key, 0, model.now), "a stale key");
            }
            Op::Pass(by) => model.now = model.now.saturating_add(by).min(NEVER / 2),
            Op::Expire => {
                wheel.expire(model.now);
                model.expire();
            }
            Op::Pop(many) => {
                for _ in 0..many {
                    let due = wheel.pop_due().map(|(key, ..)| key);
                    prop_assert_eq!(due, model.pop_due());
                    if due.is_none() {
                        break;
                    }
                }
            }
            _ => {}
        }
        if verify {
            wheel.verify();
        }
        if model.has_due() {
            prop_assert!(wheel.has_due());
        } else if !wheel.has_due() {
            let next = wheel.next_deadline();
            prop_assert!(model.first().is_none_or(|first| next.is_some_and(|next| next <= first)), "late");
        }
        if std::mem::take(&mut wheel.changed) {
            known = if wheel.has_due() { Some(0) } else { wheel.next_deadline() };
        }
        let first = if model.has_due() { Some(0) } else { model.first() };
        prop_assert!(first.is_none_or(|first| known.is_some_and(|known| known <= first)), "a change that was not told");
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

/// Draws operations by themselves: a strategy for each would take most of the time of the test.
fn draw(seed: &mut u64) -> Op {
    let mut random = |below: u64| {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % below
    };
    let mut delay = || {
        let delays = [0, random(MS / 8), random(MS * 3), random(200) * MS, random(MS * 5000), random(MS * 100_000_000)];
        match random(14) {
            0 => i64::MAX,
            1 => -(delays[2] as i64),
            which => delays[which as usize % 6] as i64,
        }
    };
    let delay = delay();
    let which = random(1 << 32) as usize;
    match random(17) {
        0..4 => Op::Arm(delay),
        4..6 => Op::Rearm(which, delay),
        6..9 => Op::PushBack(which, random(MS * 500)),
        9..11 => Op::Cancel(which),
        11..13 => Op::Pass([random(MS / 8), random(MS), random(MS * 100), random(MS * 100_000)][random(4) as usize]),
        13..15 => Op::Expire,
        _ => Op::Pop([0, 1, 3, usize::MAX][random(4) as usize]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn order_and_times_hold_over_a_hundred_thousand_operations(mut seed in 1_u64..) {
        compare((0..100_000).map(|_| draw(&mut seed)), false)?;
    }
}

impl<P: Blank> Wheel<P> {
    /// Checks every invariant.
    #[track_caller]
    fn verify(&self) {
        let filed = self.entries.iter().filter(|(_, entry)| entry.filing.slot() != SlotId::NOWHERE).count();
        self.levels.verify(filed, |place| {
            let (_, entry) = self.entries.at_index(place)?;
            Some((entry.deadline, entry.filing.slot()))
        });
    }
}

fn arm(wheel: &mut Wheel<u64>, deadline: u64, now_ns: u64, name: u64) -> Option<Key> {
    let (key, payload) = wheel.arm(deadline, now_ns, 0)?;
    *payload = name;
    Some(key)
}

fn cancel(wheel: &mut Wheel<u64>, key: Key) -> Option<u64> {
    wheel.cancel(key).map(|(_, name)| *name)
}

fn pop_all(wheel: &mut Wheel<u64>) -> Vec<Key> {
    iter::from_fn(|| wheel.pop_due().map(|(key, ..)| key)).collect()
}

fn fired(wheel: &mut Wheel<u64>, now_ns: u64) -> Vec<u64> {
    wheel.expire(now_ns);
    let fired = pop_all(wheel);
    wheel.verify();
    fired.into_iter().filter_map(|key| cancel(wheel, key)).collect()
}

#[test]
fn a_timer_that_is_pushed_back_does_not_move_before_its_old_slot_comes_up() {
    let mut wheel = Wheel::<u64>::new();
    let key = arm(&mut wheel, 10 * MS, 0, 1).unwrap();
    for later in 11..1000 {
        wheel.rearm(key, later * MS, 0);
        assert_eq!(wheel.next_deadline(), Some(10 * MS));
    }
    assert_eq!(fired(&mut wheel, 10 * MS), []);
    assert_eq!(wheel.next_deadline(), Some(999 * MS));
    assert_eq!(fired(&mut wheel, 998 * MS), []);
    assert_eq!(fired(&mut wheel, 999 * MS), [1]);
    assert_eq!((wheel.next_deadline(), wheel.len()), (None, 0));
}

#[test]
fn a_timer_is_due_at_its_nanosecond_and_not_before() {
    let mut wheel = Wheel::<u64>::new();
    for (name, deadline) in [(1, 5), (2, MS + 1), (3, MS + 2), (4, 70 * MS)] {
        arm(&mut wheel, deadline, 0, name).unwrap();
        wheel.expire(deadline - 1);
        assert!(wheel.pop_due().is_none());
        assert_eq!(wheel.next_deadline(), Some(deadline));
        wheel.verify();
        assert_eq!(fired(&mut wheel, deadline), [name]);
    }
}

#[test]
fn what_has_passed_is_due_at_once_and_in_the_order_of_arming() {
    let mut wheel = Wheel::<u64>::new();
    wheel.expire(5 * MS + MS / 2);
    for (deadline, name) in [(5 * MS + MS / 2, 1), (0, 2), (MS, 3)] {
        arm(&mut wheel, deadline, 5 * MS + MS / 2, name).unwrap();
    }
    assert!(wheel.has_due());
    wheel.expire(5 * MS + MS / 2);
    let names: Vec<u64> = pop_all(&mut wheel).into_iter().filter_map(|key| cancel(&mut wheel, key)).collect();
    assert_eq!(names, [1, 2, 3]);
}

#[test]
fn what_was_due_before_goes_before_what_had_passed_when_it_was_armed() {
    let mut wheel = Wheel::<u64>::new();
    for name in 1..=3 {
        arm(&mut wheel, name * MS, 0, name).unwrap();
    }
    wheel.expire(3 * MS);
    let (first, ..) = wheel.pop_due().unwrap();
    assert_eq!(cancel(&mut wheel, first), Some(1));
    arm(&mut wheel, 0, 3 * MS, 4).unwrap(); // in the middle of it: for the next time
    assert!(wheel.has_due());
    assert_eq!(fired(&mut wheel, 3 * MS), [2, 3, 4]);
    assert!(!wheel.has_due());
}

#[test]
fn cancelling_leaves_nothing_behind() {
    let mut wheel = Wheel::<u64>::new();
    for round in 0..100_000 {
        let key = arm(&mut wheel, round * MS * 7, 0, round).unwrap();
        assert_eq!(cancel(&mut wheel, key), Some(round));
        assert!(!wheel.rearm(key, 0, 0));
    }
    wheel.verify();
    assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
}

#[test]
fn what_cancelled_timers_leave_in_a_slot_is_swept_before_it_outnumbers_the_places() {
    let mut wheel = Wheel::<u64>::new();
    // So many that the lists have room for stale items only because it was reserved.
    let stay: Vec<Key> = (0..0x3fff).map(|name| arm(&mut wheel, 1000 * MS, 0, name).unwrap()).collect();
    let (mut most, room) = (0, wheel.levels.room());
    for round in 0..20_000 {
        let goes = arm(&mut wheel, 1000 * MS + round % 50, 0, round).unwrap();
        if round % 2 == 0 {
            wheel.rearm(goes, 999 * MS, 0); // it leaves one slot, and is in the other twice
        }
        wheel.cancel(goes);
        most = most.max(wheel.levels.stale());
        if round % 1000 == 0 {
            wheel.verify();
        }
    }
    assert!(wheel.room == 0x4000 && (0x3ff0..=wheel.room).contains(&most), "{most} stale items");
    assert_eq!(wheel.levels.room(), room, "the lists had to grow");
    assert_eq!(fired(&mut wheel, 999 * MS), []);
    wheel.expire(1000 * MS);
    assert_eq!(pop_all(&mut wheel), stay);
}

#[test]
fn nobody_is_woken_for_a_slot_that_lost_its_last_timer() {
    let mut wheel = Wheel::<u64>::new();
    let keys: Vec<Key> = (0..100).map(|name| arm(&mut wheel, 1000 * MS, 0, name).unwrap()).collect();
    let later = arm(&mut wheel, 5000 * MS, 0, 100).unwrap();
    for key in keys {
        assert_eq!(wheel.next_deadline(), Some(1000 * MS));
        wheel.cancel(key);
        wheel.verify();
    }
    assert_eq!((wheel.next_deadline(), wheel.levels.stale()), (Some(5000 * MS), 0));
    wheel.cancel(later);
    assert_eq!(wheel.next_deadline(), None);
}

#[test]
fn a_timer_that_comes_back_to_the_slot_it_left_is_due_once() {
    let mut wheel = Wheel::<u64>::new();
    arm(&mut wheel, 1000 * MS, 0, 0).unwrap(); // has the slot stay
    let mut moved = arm(&mut wheel, 1000 * MS + 2, 0, 1).unwrap();
    for _ in 0..3 {
        wheel.rearm(moved, 1000 * MS + 1, 0);
        wheel.verify();
        wheel.rearm(moved, 100 * MS, 0);
        wheel.rearm(moved, 50 * MS, 0);
        wheel.verify();
        wheel.cancel(moved);
        moved = arm(&mut wheel, 1000 * MS + 2, 0, 1).unwrap(); // in the same place
        wheel.verify();
    }
    assert_eq!(fired(&mut wheel, 999 * MS), []);
    assert_eq!(fired(&mut wheel, 1001 * MS), [0, 1]);
    assert_eq!((wheel.len(), wheel.next_deadline(), wheel.levels.stale()), (0, None, 0));
}

#[test]
fn a_due_timer_that_is_cancelled_or_armed_anew_does_not_fire() {
    let mut wheel = Wheel::<u64>::new();
    let keys: Vec<Key> = (1..=4).map(|name| arm(&mut wheel, MS, 0, name).unwrap()).collect();
    wheel.expire(MS);
    assert_eq!(wheel.pop_due().unwrap().0, keys[0]);
    wheel.cancel(keys[1]);
    wheel.rearm(keys[2], 3 * MS, MS);
    assert_eq!(wheel.pop_due().unwrap().0, keys[3]);
    assert!(wheel.pop_due().is_none());
    assert_eq!(fired(&mut wheel, 3 * MS), [3]);
}

#[test]
fn a_wave_of_timers_armed_and_cancelled_within_a_tick_leaves_few_records() {
    let mut wheel = Wheel::<u64>::new();
    let stays = arm(&mut wheel, 20, 0, 0).unwrap();
    for name in 1..100_000 {
        let soon = arm(&mut wheel, 1 + name % 50, 0, name).unwrap();
        wheel.rearm(soon, 0, 0);
        wheel.cancel(soon);
    }
    assert!(wheel.near.len() + wheel.passing.len() < 200);
    wheel.expire(50);
    assert_eq!(pop_all(&mut wheel), [stays]);
}

#[test]
fn a_timer_that_is_never_due_is_not_waited_for() {
    let mut wheel = Wheel::<u64>::new();
    let key = arm(&mut wheel, 10 * MS, 0, 1).unwrap();
    wheel.rearm(key, NEVER, 0);
    assert_eq!((wheel.next_deadline(), wheel.has_due()), (None, false));
    wheel.rearm(key, 20 * MS, 0);
    wheel.rearm(key, 30 * MS, 0);
    assert_eq!(fired(&mut wheel, 20 * MS), []);
    wheel.rearm(key, NEVER, 20 * MS);
    assert_eq!(fired(&mut wheel, 1 << 60), []);
    assert_eq!(wheel.next_deadline(), None);
}

#[test]
fn a_timer_is_not_put_off_beyond_the_end_of_time() {
    let (mut wheel, now) = (Wheel::<u64>::new(), NEVER / 2);
    let key = arm(&mut wheel, 1000 * MS, 0, 1).unwrap();
    assert!(wheel.put_off(key, now, NEVER / 2, 0));
    assert_eq!(wheel.deadline(key), Some(NEVER - 1));
    assert!(!wheel.put_off(key, now, NEVER / 2 + 1, 0));
}

#[test]
fn ties_run_in_the_order_of_arming_where_the_low_half_of_its_number_begins_anew() {
    let mut wheel = Wheel::<u64>::new();
    wheel.armings = u64::from(u32::MAX) - 3;
    let put_off = arm(&mut wheel, 9 * MS, 0, 0).unwrap();
    for name in 1..=6 {
        arm(&mut wheel, 10 * MS, 0, name).unwrap();
    }
    wheel.rearm(put_off, 10 * MS, 0);
    assert_eq!(fired(&mut wheel, 10 * MS), [1, 2, 3, 4, 5, 6, 0]);
}

#[test]
fn where_no_timer_is_left_nothing_is_due() {
    let mut wheel = Wheel::<u64>::new();
    for deadline in [0, 50, 10 * MS] {
        let key = arm(&mut wheel, deadline, 0, 1).unwrap();
        wheel.expire(20 * MS);
        wheel.cancel(key);
        assert_eq!((wheel.has_due(), wheel.next_deadline()), (false, None));
    }
}
