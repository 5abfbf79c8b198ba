//! Compares the wheel with sorted lists: the order and times of timers, after random operations.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

/// The expected behaviour of the wheel, by sorted lists.
#[derive(Default)]
struct Model {
    /// The key of each timer, by its deadline and the number of its arming.
    timers: BTreeMap<(u64, u64), Key>,
    /// Timers whose deadline had passed when they were armed, since the last `expire`.
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
        let list = if deadline <= self.now {
            &mut self.passing
        } else {
            &mut self.timers
        };
        list.insert(place, key);
        self.places.insert(key, place);
    }

    fn cancel(&mut self, key: Key) {
        if let Some(place) = self.places.remove(&key) {
            self.timers
                .remove(&place)
                .or_else(|| self.passing.remove(&place));
        }
    }

    fn expire(&mut self) {
        self.limit = self.now;
        self.timers.append(&mut self.passing);
    }

    fn first(&self) -> Option<u64> {
        self.timers
            .keys()
            .map(|place| place.0)
            .next()
            .filter(|deadline| *deadline != NEVER)
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
    /// Arms a timer for this long after now. A negative number is before now.
    Arm(i64),
    Rearm(usize, i64),
    PushBack(usize, u64),
    Cancel(usize),
    /// Sets marks and a note, which stay with the timer whatever becomes of its deadline.
    Mark(usize, u16),
    /// Moves time on, without `expire`.
    Pass(u64),
    /// Time passes to the beginning of a tick, where deadlines of the same delay meet.
    Align,
    Expire,
    /// Pops at most this many due timers, as a turn does.
    Pop(usize),
}

/// A timer has six marks.
const MARKS_END: u16 = 1 << 6;

/// Returns delays from before now to years later, and one that is never due.
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
        1 => (any::<usize>(), 0..MARKS_END).prop_map(|(which, marks)| Op::Mark(which, marks)),
        3 => prop_oneof![
            25 => 0..MS / 8,
            25 => 0..MS,
            25 => 0..MS * 100,
            24 => 0..MS * 100_000,
            1 => Just(1 << 54), // half a year: rare enough that time does not overflow
        ].prop_map(Op::Pass),
        2 => Just(Op::Align),
        3 => Just(Op::Expire),
        3 => prop_oneof![0..4_usize, Just(usize::MAX)].prop_map(Op::Pop),
    ]
}

fn deadline_after(now: u64, delay: i64) -> u64 {
    if delay == i64::MAX {
        NEVER
    } else {
        now.saturating_add_signed(delay)
    }
}

/// Runs `operations` on the wheel and on the model, and compares the two after each.
fn compare(operations: impl IntoIterator<Item = Op>, verify: bool) -> Result<(), TestCaseError> {
    let (mut wheel, mut model) = (Wheel::<u64>::new(), Model::default());
    let mut keys = Vec::new();
    let mut names = HashMap::new(); // payloads
    let mut said = HashMap::new(); // marks and note of a timer
    let mut popped: Option<Due> = None; // the last record that was due
    let mut known = None; // the last answer for the next deadline, valid until the wheel changes
    for (name, operation) in (1_u64..).zip(operations) {
        match operation {
            Op::Arm(delay) => {
                let deadline = deadline_after(model.now, delay);
                let key = arm(&mut wheel, deadline, model.now, name).expect("far from full");
                model.arm(key, deadline);
                names.insert(key, name);
                keys.push(key);
            }
            Op::Rearm(which, delay) if !keys.is_empty() => {
                let (key, deadline) = (keys[which % keys.len()], deadline_after(model.now, delay));
                prop_assert!(wheel.rearm(key, deadline, model.now));
                model.arm(key, deadline);
                prop_assert!(popped.is_none_or(|due| due.key != key || !wheel.is_current(due)));
            }
            Op::PushBack(which, delay) if !keys.is_empty() => {
                let key = keys[which % keys.len()];
                let Some(old) = wheel.deadline(key).filter(|old| *old != NEVER) else {
                    continue;
                };
                prop_assert!(wheel.rearm(key, old.saturating_add(delay), model.now));
                model.arm(key, old.saturating_add(delay));
            }
            Op::Cancel(which) if !keys.is_empty() => {
                let key = keys.swap_remove(which % keys.len());
                let (marks, _) = said.remove(&key).unwrap_or((0, 0));
                let cancelled = wheel.cancel(key).map(|(marks, name)| (marks, *name));
                prop_assert_eq!(cancelled, Some((marks, names[&key])));
                model.cancel(key);
                prop_assert!(
                    wheel.cancel(key).is_none()
                        && !wheel.rearm(key, 0, model.now)
                        && !wheel.set_marks(key, 0)
                        && !wheel.set_note(key, 0)
                        && wheel.marks(key).is_none()
                        && wheel.payload(key).is_none()
                        && popped.is_none_or(|due| due.key != key || !wheel.is_current(due)),
                    "a stale key"
                );
            }
            Op::Mark(which, marks) if !keys.is_empty() => {
                let (key, note) = (keys[which % keys.len()], !marks);
                prop_assert!(wheel.set_marks(key, marks) && wheel.set_note(key, note));
                prop_assert_eq!(wheel.marks(key), Some(marks));
                prop_assert_eq!(wheel.payload(key).copied(), Some(names[&key]));
                said.insert(key, (marks, note));
            }
            Op::Pass(by) => model.now = model.now.saturating_add(by).min(NEVER / 2),
            Op::Align => model.now = model.now.next_multiple_of(1 << TICK_BITS).min(NEVER / 2),
            Op::Expire => {
                wheel.expire(model.now);
                model.expire();
            }
            Op::Pop(many) => {
                for _ in 0..many {
                    let due = wheel.pop_due().map(|(due, note, name)| (due, note, *name));
                    prop_assert_eq!(due.map(|(due, ..)| due.key), model.pop_due());
                    let Some((due, note, name)) = due else { break };
                    prop_assert_eq!(name, names[&due.key]);
                    prop_assert_eq!(note, said.get(&due.key).map_or(0, |(_, note)| *note));
                    prop_assert!(wheel.is_current(due));
                    popped = Some(due);
                }
            }
            _ => {}
        }
        prop_assert_eq!(wheel.len(), keys.len());
        if verify {
            wheel.verify();
            prop_assert_eq!(wheel.iter().count(), keys.len());
            for (key, deadline, marks, note) in wheel.iter() {
                prop_assert_eq!(wheel.deadline(key), Some(deadline));
                prop_assert_eq!((marks, note), said.get(&key).copied().unwrap_or((0, 0)));
            }
        }
        if model.has_due() {
            prop_assert!(wheel.has_due());
        } else if !wheel.has_due() {
            let next = wheel.next_deadline();
            prop_assert!(
                model
                    .first()
                    .is_none_or(|first| next.is_some_and(|next| next <= first)),
                "late"
            );
        }
        if std::mem::take(&mut wheel.changed) {
            known = if wheel.has_due() {
                Some(0)
            } else {
                wheel.next_deadline()
            };
        }
        let first = if model.has_due() {
            Some(0)
        } else {
            model.first()
        };
        prop_assert!(
            first.is_none_or(|first| known.is_some_and(|known| known <= first)),
            "a change that was not reported"
        );
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

/// Draws one operation. A proptest strategy would take most of the time of the test.
fn draw(seed: &mut u64) -> Op {
    let mut random = |below: u64| {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % below
    };
    let mut delay = || {
        let delays = [
            0,
            random(MS / 8),
            random(MS * 3),
            random(200) * MS,
            random(MS * 5000),
            random(MS * 100_000_000),
        ];
        match random(14) {
            0 => i64::MAX,
            1 => -(delays[2] as i64),
            which => delays[which as usize % 6] as i64,
        }
    };
    let delay = delay();
    let which = random(1 << 32) as usize;
    match random(19) {
        0..4 => Op::Arm(delay),
        4..6 => Op::Rearm(which, delay),
        6..9 => Op::PushBack(which, random(MS * 500)),
        9..11 => Op::Cancel(which),
        11..13 => Op::Pass(
            [
                random(MS / 8),
                random(MS),
                random(MS * 100),
                random(MS * 100_000),
            ][random(4) as usize],
        ),
        13..15 => Op::Expire,
        15 => Op::Align,
        16 => Op::Mark(which, random(u64::from(MARKS_END)) as u16),
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
