//! Limits of time, and periodic ticks, by a clock that jumps to the next timer.

use std::cell::Cell;
use std::future::{pending, ready};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use handlers::futures::{self, BlockOnError, Elapsed, Interval, Timeout};
use reactor::{ManualClock, Missed, Reactor};

use crate::reactor;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_future_that_takes_too_long_has_elapsed() -> Result<(), BlockOnError> {
    let mut reactor = reactor::<()>();
    let (limited, passed) = futures::block_on(&mut reactor, &mut (), async {
        let began = futures::now();
        let limited = futures::timeout(secs(3), pending::<()>()).await;
        (
            limited,
            futures::now().zip(began).map(|(now, began)| now - began),
        )
    })?;
    assert_eq!((limited, passed), (Err(Elapsed), Some(secs(3))));
    assert_eq!(std::io::Error::from(Elapsed).kind(), ErrorKind::TimedOut);
    Ok(())
}

#[test]
fn a_future_that_is_done_in_the_turn_of_its_deadline_is_done() -> Result<(), BlockOnError> {
    let mut reactor = reactor::<()>();
    let limited = futures::block_on(&mut reactor, &mut (), async {
        let deadline = futures::now().map(|now| now + secs(3));
        let sleep = futures::sleep(secs(3));
        match deadline {
            Some(deadline) => futures::timeout_at(deadline, sleep).await,
            None => Err(Elapsed),
        }
    })?;
    assert_eq!(limited, Ok(()));
    Ok(())
}

#[test]
fn a_future_that_is_done_at_once_arms_no_timer() -> Result<(), BlockOnError> {
    let mut reactor = reactor::<()>();
    let limited = futures::block_on(&mut reactor, &mut (), async {
        futures::timeout(Duration::ZERO, ready(7)).await
    })?;
    assert_eq!(limited, Ok(7));
    assert_eq!(reactor.metrics().timers, 0);
    Ok(())
}

#[test]
fn a_limit_that_is_not_reached_leaves_no_timer() -> Result<(), BlockOnError> {
    let mut reactor = reactor::<()>();
    futures::block_on(&mut reactor, &mut (), async {
        let limited = futures::timeout(secs(3600), futures::sleep(secs(1))).await;
        assert_eq!(limited, Ok(()));
    })?;
    assert_eq!(reactor.timers().count(), 0);
    Ok(())
}

#[test]
fn ticks_are_due_at_multiples_of_the_period() -> Result<(), BlockOnError> {
    let mut reactor = reactor::<()>();
    let ticks = futures::block_on(&mut reactor, &mut (), async {
        let began = futures::now();
        let interval = futures::interval(secs(10));
        let ticks: Vec<_> = interval.take(3).collect().await;
        let since = |tick| began.map(|began| tick - began);
        ticks.into_iter().map(since).collect::<Option<Vec<_>>>()
    })?;
    assert_eq!(ticks, Some(vec![secs(10), secs(20), secs(30)]));
    Ok(())
}

#[test]
fn missed_ticks_are_treated_as_the_policy_says() -> Result<(), BlockOnError> {
    let policies = [
        (Missed::Skip, [10, 20, 40]),
        (Missed::Burst, [10, 20, 30]),
        (Missed::Delay, [10, 20, 45]),
    ];
    for (missed, due) in policies {
        let clock = ManualClock::jumping();
        let builder = Reactor::<()>::builder().clock(clock.clone());
        let mut reactor = builder.build()?;
        let ticks = futures::block_on(&mut reactor, &mut (), async move {
            let began = futures::now();
            let mut interval = futures::interval(secs(10)).missed(missed);
            let mut ticks = Vec::new();
            for _ in 0..3 {
                let tick = interval.tick().await;
                ticks.extend(began.map(|began| (tick - began).as_secs()));
                if ticks.len() == 1 {
                    clock.advance(secs(25)); // the loop is busy until 35
                }
            }
            ticks
        })?;
        assert_eq!(ticks, due, "{missed:?}");
    }
    Ok(())
}

#[test]
fn a_period_of_zero_ticks_in_each_turn() -> Result<(), BlockOnError> {
    let mut reactor = reactor::<()>();
    futures::block_on(&mut reactor, &mut (), async {
        let mut interval = futures::interval(Duration::ZERO);
        for _ in 0..10 {
            interval.tick().await;
        }
    })?;
    assert!((10..=12).contains(&reactor.metrics().turns));
    Ok(())
}

#[test]
fn a_tick_that_is_not_awaited_to_its_end_is_not_lost() -> Result<(), BlockOnError> {
    let mut reactor = reactor::<()>();
    let ticks = Rc::new(Cell::new(0));
    let counted = Rc::clone(&ticks);
    futures::block_on(&mut reactor, &mut (), async move {
        let mut interval = futures::interval(secs(10));
        for _ in 0..7 {
            let tick = async {
                interval.tick().await;
                counted.set(counted.get() + 1);
            };
            future::or(tick, futures::sleep(secs(4))).await;
        }
    })?;
    assert_eq!(ticks.get(), 2, "at 10 and at 20 of 28 seconds");
    Ok(())
}

#[test]
fn a_reset_interval_ticks_a_period_after_the_reset() -> Result<(), BlockOnError> {
    let mut reactor = reactor::<()>();
    let began = reactor.now();
    let ticks = futures::block_on(&mut reactor, &mut (), async {
        let mut interval = futures::interval(secs(10));
        let first = interval.tick().await;
        futures::sleep(secs(4)).await;
        interval.reset();
        [first, interval.tick().await, interval.tick().await]
    })?;
    assert_eq!(
        ticks.map(|tick| tick - began),
        [secs(10), secs(24), secs(34)]
    );
    assert_eq!(reactor.now() - began, secs(34));
    Ok(())
}

#[test]
fn limits_and_intervals_are_send() {
    const fn is_send<T: Send + Sync>() {}
    is_send::<Interval>();
    is_send::<Timeout<std::future::Ready<()>>>();
    is_send::<Elapsed>();
}
