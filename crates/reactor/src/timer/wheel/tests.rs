//! Tests of single guarantees of the wheel. `model` compares the wheel with sorted lists.

mod model;

use super::*;

/// A millisecond.
const MS: u64 = 1_000_000;

impl Blank for u64 {
    fn blank() -> Self {
        0
    }
}

impl<P: Blank> Wheel<P> {
    /// Checks every invariant.
    #[track_caller]
    fn verify(&self) {
        let filed = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.filing.slot() != SlotId::NOWHERE)
            .count();
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
    iter::from_fn(|| wheel.pop_due().map(|(due, ..)| due.key)).collect()
}

fn fired(wheel: &mut Wheel<u64>, now_ns: u64) -> Vec<u64> {
    wheel.expire(now_ns);
    let fired = pop_all(wheel);
    wheel.verify();
    fired
        .into_iter()
        .filter_map(|key| cancel(wheel, key))
        .collect()
}

#[test]
fn an_extended_timer_does_not_move_before_its_old_slot_is_due() {
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
fn past_deadlines_are_due_at_once_and_in_the_order_of_arming() {
    let mut wheel = Wheel::<u64>::new();
    wheel.expire(5 * MS + MS / 2);
    for (deadline, name) in [(5 * MS + MS / 2, 1), (0, 2), (MS, 3)] {
        arm(&mut wheel, deadline, 5 * MS + MS / 2, name).unwrap();
    }
    assert!(wheel.has_due());
    wheel.expire(5 * MS + MS / 2);
    let names: Vec<u64> = pop_all(&mut wheel)
        .into_iter()
        .filter_map(|key| cancel(&mut wheel, key))
        .collect();
    assert_eq!(names, [1, 2, 3]);
}

/// Both are due at the beginning of a tick, where the slot of the first one begins too.
#[test]
fn of_two_timers_due_at_one_time_the_one_armed_first_runs_first() {
    const TICK: u64 = 1 << TICK_BITS;
    let mut wheel = Wheel::<u64>::new();
    arm(&mut wheel, 5 * TICK, 0, 1).unwrap();
    arm(&mut wheel, 0, 5 * TICK, 2).unwrap(); // its deadline has passed: due now
    assert_eq!(fired(&mut wheel, 5 * TICK), [1, 2]);
}

#[test]
fn earlier_due_timers_run_before_those_armed_with_a_past_deadline() {
    let mut wheel = Wheel::<u64>::new();
    for name in 1..=3 {
        arm(&mut wheel, name * MS, 0, name).unwrap();
    }
    wheel.expire(3 * MS);
    let first = wheel.pop_due().unwrap().0.key;
    assert_eq!(cancel(&mut wheel, first), Some(1));
    arm(&mut wheel, 0, 3 * MS, 4).unwrap(); // armed between two pops: due at the next `expire`
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
fn stale_items_of_cancelled_timers_are_swept_before_they_exceed_the_room() {
    let mut wheel = Wheel::<u64>::new();
    // With this many timers, the lists have room for stale items only because it was reserved.
    let stay: Vec<Key> = (0..0x3fff)
        .map(|name| arm(&mut wheel, 1000 * MS, 0, name).unwrap())
        .collect();
    let (mut most, room) = (0, wheel.levels.room());
    for round in 0..20_000 {
        let goes = arm(&mut wheel, 1000 * MS + round % 50, 0, round).unwrap();
        if round % 2 == 0 {
            wheel.rearm(goes, 999 * MS, 0); // a stale item in the old slot
        }
        wheel.cancel(goes);
        most = most.max(wheel.levels.stale());
        if round % 1000 == 0 {
            wheel.verify();
        }
    }
    assert!(
        wheel.room == 0x4000 && (0x3ff0..=wheel.room).contains(&most),
        "{most} stale items"
    );
    assert_eq!(wheel.levels.room(), room, "the lists had to grow");
    assert_eq!(fired(&mut wheel, 999 * MS), []);
    wheel.expire(1000 * MS);
    assert_eq!(pop_all(&mut wheel), stay);
}

/// Four timers in as many slots, while the slot of one of them is emptied and has a stale item.
#[test]
fn a_timer_that_moves_out_of_the_slot_being_emptied_takes_no_new_memory() {
    const TICK: u64 = 1 << TICK_BITS;
    let mut wheel = Wheel::<u64>::new();
    let goes = arm(&mut wheel, 70 * TICK, 0, 0).unwrap();
    let room = wheel.levels.room();
    arm(&mut wheel, 71 * TICK, 0, 1).unwrap();
    cancel(&mut wheel, goes).unwrap();
    for name in 2..=4 {
        arm(&mut wheel, name * 128 * TICK, 0, name).unwrap();
    }
    assert_eq!((wheel.room, wheel.levels.stale()), (4, 1));
    assert_eq!(fired(&mut wheel, 64 * TICK), []);
    assert_eq!(wheel.levels.room(), room);
    assert_eq!(fired(&mut wheel, 600 * TICK), [1, 2, 3, 4]);
}

#[test]
fn a_slot_that_lost_its_last_timer_wakes_no_loop() {
    let mut wheel = Wheel::<u64>::new();
    let keys: Vec<Key> = (0..100)
        .map(|name| arm(&mut wheel, 1000 * MS, 0, name).unwrap())
        .collect();
    let later = arm(&mut wheel, 5000 * MS, 0, 100).unwrap();
    for key in keys {
        assert_eq!(wheel.next_deadline(), Some(1000 * MS));
        wheel.cancel(key);
        wheel.verify();
    }
    assert_eq!(
        (wheel.next_deadline(), wheel.levels.stale()),
        (Some(5000 * MS), 0)
    );
    wheel.cancel(later);
    assert_eq!(wheel.next_deadline(), None);
}

#[test]
fn a_timer_that_comes_back_to_the_slot_it_left_is_due_once() {
    let mut wheel = Wheel::<u64>::new();
    arm(&mut wheel, 1000 * MS, 0, 0).unwrap(); // the slot keeps a timer
    let mut moved = arm(&mut wheel, 1000 * MS + 2, 0, 1).unwrap();
    for _ in 0..3 {
        wheel.rearm(moved, 1000 * MS + 1, 0);
        wheel.verify();
        wheel.rearm(moved, 100 * MS, 0);
        wheel.rearm(moved, 50 * MS, 0);
        wheel.verify();
        wheel.cancel(moved);
        moved = arm(&mut wheel, 1000 * MS + 2, 0, 1).unwrap(); // reuses the place
        wheel.verify();
    }
    assert_eq!(fired(&mut wheel, 999 * MS), []);
    assert_eq!(fired(&mut wheel, 1001 * MS), [0, 1]);
    assert_eq!(
        (wheel.len(), wheel.next_deadline(), wheel.levels.stale()),
        (0, None, 0)
    );
}

#[test]
fn a_due_timer_that_is_cancelled_or_rearmed_does_not_fire() {
    let mut wheel = Wheel::<u64>::new();
    let keys: Vec<Key> = (1..=4)
        .map(|name| arm(&mut wheel, MS, 0, name).unwrap())
        .collect();
    wheel.expire(MS);
    assert_eq!(wheel.pop_due().unwrap().0.key, keys[0]);
    wheel.cancel(keys[1]);
    wheel.rearm(keys[2], 3 * MS, MS);
    assert_eq!(wheel.pop_due().unwrap().0.key, keys[3]);
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
        assert!(wheel.near.room().max(wheel.passing.len()) < 200);
    }
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
fn a_timer_is_not_extended_beyond_the_end_of_time() {
    let (mut wheel, now) = (Wheel::<u64>::new(), NEVER / 2);
    let key = arm(&mut wheel, 1000 * MS, 0, 1).unwrap();
    assert!(wheel.postpone(key, now, NEVER / 2, 0));
    assert_eq!(wheel.deadline(key), Some(NEVER - 1));
    assert!(!wheel.postpone(key, now, NEVER / 2 + 1, 0));
}

#[test]
fn ties_run_in_order_of_arming_when_the_low_half_of_the_number_wraps() {
    let mut wheel = Wheel::<u64>::new();
    wheel.armings = u64::from(u32::MAX) - 3;
    let postponed = arm(&mut wheel, 9 * MS, 0, 0).unwrap();
    for name in 1..=6 {
        arm(&mut wheel, 10 * MS, 0, name).unwrap();
    }
    wheel.rearm(postponed, 10 * MS, 0);
    assert_eq!(fired(&mut wheel, 10 * MS), [1, 2, 3, 4, 5, 6, 0]);
}

#[test]
fn without_timers_nothing_is_due() {
    for deadline in [0, 50, 10 * MS] {
        let mut wheel = Wheel::<u64>::new();
        let key = arm(&mut wheel, deadline, 0, 1).unwrap();
        wheel.expire(20 * MS);
        wheel.cancel(key);
        assert_eq!((wheel.has_due(), wheel.next_deadline()), (false, None));
    }
}
