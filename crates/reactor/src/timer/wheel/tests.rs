//! The wheel against a sorted list, and its promises one by one.

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
