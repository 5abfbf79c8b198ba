//! Drawn operations on timers and timeouts, compared with the list of [`model`](super::model).

use std::io::ErrorKind;

use proptest::prelude::*;
use reactor::{Missed, PanicPolicy};

use super::model::{How, MS, NEVER, Nanos, Op, Outcome, SOURCES, Step, compare};

fn delay() -> impl Strategy<Value = Nanos> {
    prop_oneof![
        2 => Just(0),
        1 => 1..MS / 8,
        2 => 1..MS * 3,
        2 => (0..200_u64).prop_map(|ms| ms * MS),
        1 => 0..MS * 5_000,
        1 => 0..MS * 100_000_000,
        1 => Just(NEVER),
    ]
}

fn difference() -> impl Strategy<Value = i64> {
    const LONG: i64 = MS as i64;
    prop_oneof![
        Just(0),
        -LONG * 3..LONG * 3,
        (-9..20_i64).prop_map(|ms| ms * LONG),
        -LONG * 500..LONG * 5_000
    ]
}

fn pass() -> impl Strategy<Value = Nanos> {
    prop_oneof![Just(0), 0..MS / 8, 0..MS * 3, 0..MS * 100, 0..MS * 100_000]
}

fn op() -> impl Strategy<Value = Op> {
    let which = any::<usize>;
    let missed = prop_oneof![Just(Missed::Skip), Just(Missed::Burst), Just(Missed::Delay)];
    let how = prop_oneof![
        6 => delay().prop_map(How::After),
        2 => difference().prop_map(How::At),
        3 => difference().prop_map(How::AtWall),
        2 => (delay(), missed).prop_map(|(period, missed)| How::Every(period, missed)),
    ];
    prop_oneof![
        13 => (how, prop::bool::weighted(0.1)).prop_map(|(how, is_bomb)| Op::Arm(how, is_bomb)),
        6 => (which(), delay()).prop_map(|(which, delay)| Op::Reset(which, delay)),
        4 => which().prop_map(Op::Cancel),
        3 => (which(), delay()).prop_map(|(which, most)| Op::Slack(which, most)),
        2 => (which(), any::<bool>()).prop_map(|(which, is_background)| Op::Background(which, is_background)),
        5 => (0..SOURCES, prop::option::weighted(0.9, delay())).prop_map(|(place, timeout)| Op::Timeout(place, timeout)),
        2 => (0..SOURCES).prop_map(Op::Toggle),
        1 => difference().prop_map(Op::SetWall),
        1 => (pass(), any::<bool>()).prop_map(|(time, looks_again)| Op::Stall(time, looks_again)),
    ]
}

fn callback() -> impl Strategy<Value = (Vec<Op>, Outcome)> {
    let kind = prop_oneof![
        Just(ErrorKind::Interrupted),
        Just(ErrorKind::WouldBlock),
        Just(ErrorKind::Other)
    ];
    let outcome = prop_oneof![
        4 => delay().prop_map(Outcome::Again),
        2 => difference().prop_map(Outcome::AtWall),
        3 => Just(Outcome::Done),
        1 => kind.prop_map(Outcome::Fail),
        1 => Just(Outcome::Panic),
    ];
    (prop::collection::vec(op(), 0..5), outcome)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => op().prop_map(Step::Do),
        3 => pass().prop_map(Step::Turn),
        1 => pass().prop_map(Step::Advance),
        1 => Just(Step::Run),
    ];
    prop::collection::vec(step, 1..100)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn each_timer_runs_at_its_time_and_in_order_after_any_operations(
        steps in steps(),
        callbacks in prop::collection::vec(callback(), 0..60),
        policy in prop_oneof![Just(PanicPolicy::Propagate), Just(PanicPolicy::RemoveHandler)],
    ) {
        compare(steps, callbacks, policy).unwrap();
    }
}
