//! Timers and timeouts on the manual clock, compared with the list of the tests of `reactor`.

use std::io::ErrorKind;

use arbitrary::{Result, Unstructured};
use reactor::{Missed, PanicPolicy};

use self::model::{How, MS, NEVER, Nanos, Op, Outcome, SOURCES, Step, compare};

#[path = "../../../crates/reactor/tests/it/timer/model/mod.rs"]
mod model;

const STEPS_MAX: usize = 100;
const CALLBACKS_MAX: usize = 60;

fn delay(u: &mut Unstructured<'_>) -> Result<Nanos> {
    Ok(match u.int_in_range(0..=5)? {
        0 => 0,
        1 => u.int_in_range(1..=MS / 8)?,
        2 => u.int_in_range(1..=MS * 3)?,
        3 => u.int_in_range(0..=200)? * MS,
        4 => u.int_in_range(0..=MS * 100_000_000)?,
        _ => NEVER,
    })
}

fn difference(u: &mut Unstructured<'_>) -> Result<i64> {
    const LONG: i64 = MS as i64;
    Ok(match u.int_in_range(0..=3)? {
        0 => 0,
        1 => u.int_in_range(-LONG * 3..=LONG * 3)?,
        2 => u.int_in_range(-9..=20)? * LONG,
        _ => u.int_in_range(-LONG * 500..=LONG * 5_000)?,
    })
}

fn pass(u: &mut Unstructured<'_>) -> Result<Nanos> {
    Ok(match u.int_in_range(0..=3)? {
        0 => 0,
        1 => u.int_in_range(0..=MS * 3)?,
        2 => u.int_in_range(0..=100)? * MS,
        _ => u.int_in_range(0..=MS * 100_000)?,
    })
}

fn missed(u: &mut Unstructured<'_>) -> Result<Missed> {
    Ok(*u.choose(&[Missed::Skip, Missed::Burst, Missed::Delay])?)
}

fn op(u: &mut Unstructured<'_>) -> Result<Op> {
    let which = |u: &mut Unstructured<'_>| u.arbitrary::<u8>().map(usize::from);
    Ok(match u.int_in_range(0..=11)? {
        0 | 1 => Op::Arm(How::After(delay(u)?), u.ratio(1, 10)?),
        2 => Op::Arm(How::At(difference(u)?), u.ratio(1, 10)?),
        3 => Op::Arm(How::AtWall(difference(u)?), u.ratio(1, 10)?),
        4 => Op::Arm(How::Every(delay(u)?, missed(u)?), u.ratio(1, 10)?),
        5 => Op::Reset(which(u)?, delay(u)?),
        6 => Op::Cancel(which(u)?),
        7 => Op::Slack(which(u)?, delay(u)?),
        8 => Op::Background(which(u)?, u.arbitrary()?),
        9 => Op::Timeout(
            u.int_in_range(0..=SOURCES - 1)?,
            if u.ratio(9, 10)? {
                Some(delay(u)?)
            } else {
                None
            },
        ),
        10 => Op::Toggle(u.int_in_range(0..=SOURCES - 1)?),
        _ if u.arbitrary()? => Op::SetWall(difference(u)?),
        _ => Op::Stall(pass(u)?, u.arbitrary()?),
    })
}

fn callback(u: &mut Unstructured<'_>) -> Result<(Vec<Op>, Outcome)> {
    let ops = (0..u.int_in_range(0..=4)?)
        .map(|_| op(u))
        .collect::<Result<_>>()?;
    let kinds = [
        ErrorKind::Interrupted,
        ErrorKind::WouldBlock,
        ErrorKind::Other,
    ];
    let outcome = match u.int_in_range(0..=4)? {
        0 => Outcome::Done,
        1 => Outcome::Again(delay(u)?),
        2 => Outcome::AtWall(difference(u)?),
        3 => Outcome::Fail(*u.choose(&kinds)?),
        _ => Outcome::Panic,
    };
    Ok((ops, outcome))
}

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let policy = if u.arbitrary()? {
        PanicPolicy::RemoveHandler
    } else {
        PanicPolicy::Propagate
    };
    let (mut steps, mut callbacks) = (Vec::new(), Vec::new());
    while !u.is_empty() && steps.len() < STEPS_MAX {
        match u.int_in_range(0..=9)? {
            0..=3 => steps.push(Step::Do(op(u)?)),
            4 | 5 => steps.push(Step::Turn(pass(u)?)),
            6 => steps.push(Step::Advance(pass(u)?)),
            7 => steps.push(Step::Run),
            _ if callbacks.len() < CALLBACKS_MAX => callbacks.push(callback(u)?),
            _ => {}
        }
    }
    compare(steps, callbacks, policy).unwrap();
    Ok(())
}
