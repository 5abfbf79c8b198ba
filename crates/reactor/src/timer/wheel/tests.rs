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
        while self.first().is_some_and(|deadline| deadline <= now) {
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
    Rearm(usize, u64),
    PushBack(usize, u64),
    Cancel(usize),
    Advance(u64),
}

/// From less than a tick to years, and for ever.
fn delay() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        1..MS * 3,
        (0..200_u64).prop_map(|ms| ms * MS),
        0..MS * 5_000,
        0..MS * 100_000_000,
        Just(1 << 62),
        Just(NEVER),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => delay().prop_map(Op::Arm),
        2 => (any::<usize>(), delay()).prop_map(|(which, delay)| Op::Rearm(which, delay)),
        3 => (any::<usize>(), 0..MS * 500).prop_map(|(which, delay)| Op::PushBack(which, delay)),
        1 => any::<usize>().prop_map(Op::Cancel),
        3 => prop_oneof![
            25 => Just(0),
            25 => 0..MS,
            25 => 0..MS * 100,
            24 => 0..MS * 100_000,
            1 => Just(1 << 54), // half a year, rare enough that time does not come to its end
        ].prop_map(Op::Advance),
    ]
}

/// Runs `operations` on both.
fn compare(operations: impl IntoIterator<Item = Op>, verify: bool) -> Result<(), TestCaseError> {
    let (mut wheel, mut model) = (Wheel::<u64>::new(), Model::default());
    let mut keys = Vec::new();
    for (name, operation) in (1_u64..).zip(operations) {
        match operation {
            Op::Arm(delay) => {
                let deadline = model.now.saturating_add(delay);
                let key = wheel.arm(deadline, model.now, name).expect("far from full");
                model.arm(key, deadline);
                keys.push(key);
            }
            Op::Rearm(which, delay) | Op::PushBack(which, delay) if !keys.is_empty() => {
                let key = keys[which % keys.len()];
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
                let key = keys.swap_remove(which % keys.len());
                prop_assert!(wheel.cancel(key).is_some());
                model.cancel(key);
                prop_assert!(wheel.cancel(key).is_none());
            }
            Op::Advance(by) => {
                let now = model.now.saturating_add(by).min(NEVER / 2);
                wheel.expire(now);
                let fired: Vec<Key> = pop_all(&mut wheel);
                prop_assert_eq!(fired, model.expire(now));
                prop_assert!(!wheel.has_due());
                if let Some(first) = model.first() {
                    let next = wheel.next_deadline().expect("a timer is armed");
                    prop_assert!(next <= first, "it would be late");
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

/// Draws operations by themselves: a strategy for each would take most of the time of the test.
fn draw(seed: &mut u64) -> Op {
    let mut random = |below: u64| {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % below
    };
    let delay =
        [0, random(MS / 8), random(MS * 3), random(200) * MS, random(MS * 5000), random(MS * 100_000_000), NEVER];
    let delay = delay[random(7) as usize];
    let which = random(1 << 32) as usize;
    match random(14) {
        0..4 => Op::Arm(delay),
        4..6 => Op::Rearm(which, delay),
        6..9 => Op::PushBack(which, random(MS * 500)),
        9..11 => Op::Cancel(which),
        _ => Op::Advance([0, random(MS / 8), random(MS), random(MS * 100), random(MS * 100_000)][random(5) as usize]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn order_and_times_hold_over_a_hundred_thousand_operations(mut seed in 1_u64..) {
        compare((0..100_000).map(|_| draw(&mut seed)), false)?;
    }
}

impl<P: Blank> Wheel<P> {
    /// Checks every invariant.
    #[track_caller]
    fn verify(&self) {
        self.lists.verify();
        let mut filed = 0;
        for (number, level) in self.levels.iter().enumerate() {
            assert_eq!(self.occupied_levels >> number & 1 == 1, level.occupied != 0, "level {number}");
            for slot in 0..SLOTS {
                let items = self.lists.items(Self::list_of(number, slot));
                assert_eq!(level.occupied >> slot & 1 == 1, !items.is_empty(), "level {number}, slot {slot}");
                filed += items.len();
                for (place, position) in items {
                    let (_, entry) = self.entries.at_index(place).expect("a cancelled timer is filed");
                    assert_eq!(entry.position, position);
                    assert!(entry.deadline >= level.earliest[slot], "the bound of level {number}, slot {slot}");
                    let begins = self.begin_of(number, slot);
                    assert!(begins > self.now_tick, "level {number}, slot {slot} should have been emptied");
                    assert!(entry.deadline >> TICK_BITS >= begins);
                }
            }
        }
        assert_eq!(filed, self.entries.iter().filter(|(_, entry)| entry.position != Position::NOWHERE).count());
    }
}

fn pop_all(wheel: &mut Wheel<u64>) -> Vec<Key> {
    std::iter::from_fn(|| wheel.pop_due().map(|(key, _)| key)).collect()
}

fn fired(wheel: &mut Wheel<u64>, now_ns: u64) -> Vec<u64> {
    wheel.expire(now_ns);
    let fired = pop_all(wheel);
    wheel.verify();
    fired.into_iter().filter_map(|key| wheel.cancel(key)).collect()
}

#[test]
fn a_timer_that_is_pushed_back_does_not_move_before_its_old_slot_comes_up() {
    let mut wheel = Wheel::<u64>::new();
    let key = wheel.arm(10 * MS, 0, 1).unwrap();
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
        wheel.arm(deadline, 0, name).unwrap();
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
        wheel.arm(deadline, 5 * MS + MS / 2, name).unwrap();
    }
    assert!(wheel.has_due());
    wheel.expire(5 * MS + MS / 2);
    let names: Vec<u64> = pop_all(&mut wheel).into_iter().filter_map(|key| wheel.cancel(key)).collect();
    assert_eq!(names, [1, 2, 3]);
}

#[test]
fn what_was_due_before_goes_before_what_had_passed_when_it_was_armed() {
    let mut wheel = Wheel::<u64>::new();
    for name in 1..=3 {
        wheel.arm(name * MS, 0, name).unwrap();
    }
    wheel.expire(3 * MS);
    let (first, _) = wheel.pop_due().unwrap();
    assert_eq!(wheel.cancel(first), Some(1));
    wheel.arm(0, 3 * MS, 4).unwrap(); // in the middle of it: for the next time
    assert!(wheel.has_due());
    assert_eq!(fired(&mut wheel, 3 * MS), [2, 3, 4]);
    assert!(!wheel.has_due());
}

#[test]
fn cancelling_leaves_nothing_behind() {
    let mut wheel = Wheel::<u64>::new();
    for round in 0..100_000 {
        let key = wheel.arm(round * MS * 7, 0, round).unwrap();
        assert_eq!(wheel.cancel(key), Some(round));
        assert!(!wheel.rearm(key, 0, 0));
    }
    wheel.verify();
    assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
}

#[test]
fn a_due_timer_that_is_cancelled_or_armed_anew_does_not_fire() {
    let mut wheel = Wheel::<u64>::new();
    let keys: Vec<Key> = (1..=4).map(|name| wheel.arm(MS, 0, name).unwrap()).collect();
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
    let stays = wheel.arm(20, 0, 0).unwrap();
    for name in 1..100_000 {
        let soon = wheel.arm(1 + name % 50, 0, name).unwrap();
        wheel.rearm(soon, 0, 0);
        wheel.cancel(soon);
    }
    assert!(wheel.near.len() + wheel.passing.len() < 200);
    wheel.expire(50);
    assert_eq!(pop_all(&mut wheel), [stays]);
}
