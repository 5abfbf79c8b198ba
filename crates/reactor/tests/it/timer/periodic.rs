//! Periodic timers: their ticks, and missed ticks.

use std::io;
use std::time::Duration;

use reactor::{Missed, Next};

use super::{Log, manual, ms};
use crate::{Result, turn_now};

/// Returns the ticks of a timer of 10 ms, with a loop that was busy for 37 ms from the first tick
/// on.
fn ticks_after_a_stall(missed: Missed) -> Result<Vec<u128>> {
    let (mut reactor, clock, began) = manual()?;
    let mut stall = Some(ms(37));
    reactor.every(ms(10), missed, move |cx| {
        cx.state.push(("tick", cx.now() - began));
        clock.advance(stall.take().unwrap_or_default());
        Ok(if cx.state.len() < 6 {
            Next::Keep
        } else {
            Next::Remove
        })
    });
    let mut log = Log::new();
    reactor.advance(&mut log, ms(200))?;
    Ok(log.iter().map(|(_, at)| at.as_millis()).collect())
}

#[test]
fn a_periodic_timer_that_missed_ticks_does_what_its_policy_says() -> Result {
    assert_eq!(ticks_after_a_stall(Missed::Skip)?, [10, 47, 50, 60, 70, 80]);
    assert_eq!(
        ticks_after_a_stall(Missed::Burst)?,
        [10, 47, 47, 47, 50, 60]
    );
    assert_eq!(
        ticks_after_a_stall(Missed::Delay)?,
        [10, 47, 57, 67, 77, 87]
    );
    Ok(())
}

#[test]
fn a_period_of_zero_is_every_turn_under_every_missed_policy() -> Result {
    for missed in [Missed::Skip, Missed::Burst, Missed::Delay] {
        let (mut reactor, clock, _began) = manual()?;
        reactor.every(Duration::ZERO, missed, |cx| {
            cx.state.push(("tick", Duration::ZERO));
            Ok(Next::Keep)
        });
        let mut log = Log::new();
        for turns in 1..=5 {
            clock.advance(ms(3));
            assert_eq!(turn_now(&mut reactor, &mut log), 1);
            assert_eq!(log.len(), turns);
        }
    }
    Ok(())
}

#[test]
fn would_block_waits_for_the_next_tick_and_ends_a_timer_without_one() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    let blocked = || io::Error::from(io::ErrorKind::WouldBlock);
    reactor.every(ms(1), Missed::Skip, move |cx| {
        cx.state.push(("tick", cx.now() - began));
        Err(blocked())
    });
    reactor.after(ms(1), move |_| Err(blocked()));
    let mut log = Log::new();
    reactor.advance(&mut log, ms(5))?;
    assert_eq!((log.len(), reactor.metrics().failures), (5, 1));
    Ok(())
}

#[test]
fn a_new_period_counts_from_the_change_and_its_ticks_are_multiples() -> Result {
    for (changed_at, expected) in [
        (ms(0), vec![3, 6, 9]),
        (ms(7), vec![10, 13, 16]),
        (ms(10), vec![10, 13, 16]),
    ] {
        let (mut reactor, _clock, began) = manual()?;
        let timer = reactor.every(ms(10), Missed::Skip, move |cx| {
            cx.state.push(("tick", cx.now() - began));
            Ok(Next::Keep)
        });
        let mut log = Log::new();
        reactor.advance(&mut log, changed_at)?;
        reactor.set_period(timer, ms(3))?;
        reactor.advance(&mut log, ms(9))?;
        let ticks: Vec<_> = log.iter().map(|(_, at)| at.as_millis()).take(3).collect();
        assert_eq!(ticks, expected, "changed at {changed_at:?}");
    }
    Ok(())
}

#[test]
fn a_callback_changes_its_own_period_as_others_do() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    let mut period = 1;
    reactor.every(ms(1), Missed::Skip, move |cx| {
        cx.state.push(("tick", cx.now() - began));
        period *= 2;
        cx.registry.set_period(cx.timer().unwrap(), ms(period))?;
        Ok(Next::Keep)
    });
    let mut log = Log::new();
    reactor.advance(&mut log, ms(40))?;
    let ticks: Vec<_> = log.iter().map(|(_, at)| at.as_millis()).collect();
    assert_eq!(ticks, [1, 3, 7, 15, 31]);
    Ok(())
}

#[test]
fn only_a_periodic_timer_has_a_period_which_may_be_zero_or_for_ever() -> Result {
    let (mut reactor, _clock, _began) = manual()?;
    let once = reactor.after(ms(1), |_| Ok(reactor::Then::Done));
    assert!(reactor.set_period(once, ms(1)).is_err());
    let timer = reactor.every(ms(1), Missed::Skip, |cx| {
        cx.state.push(("tick", Duration::ZERO));
        Ok(Next::Keep)
    });
    reactor.set_period(timer, Duration::MAX)?;
    let mut log = Log::new();
    reactor.advance(&mut log, ms(1000))?;
    assert!(log.is_empty() && reactor.remaining(timer)?.is_none());
    reactor.set_period(timer, Duration::ZERO)?;
    for _ in 0..3 {
        turn_now(&mut reactor, &mut log);
    }
    assert_eq!(log.len(), 3, "each turn");
    reactor.cancel(timer)?;
    assert!(reactor.set_period(timer, ms(1)).is_err());
    Ok(())
}
