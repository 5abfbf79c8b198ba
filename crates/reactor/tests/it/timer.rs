//! Timers and timeouts, on a clock that the tests drive.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use reactor::{Context, Error, Interest, ManualClock, Missed, Next, PanicPolicy, Reactor, Then, TimerKey};

use crate::{Result, read_all, turn_now};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What ran, and when after the beginning.
type Log = Vec<(&'static str, Duration)>;

/// A reactor on a manual clock, and when that began.
fn manual() -> Result<(Reactor<Log>, ManualClock, Instant)> {
    let clock = ManualClock::new();
    let began = clock.now();
    Ok((Reactor::builder().clock(clock.clone()).build()?, clock, began))
}

/// A callback that notes its name and its time.
fn note(name: &'static str, began: Instant, then: Then) -> impl FnMut(&mut Context<'_, Log>) -> io::Result<Then> {
    move |cx| {
        cx.state.push((name, cx.now() - began));
        Ok(then)
    }
}

#[test]
fn timers_run_by_deadline_ties_in_the_order_of_arming_each_at_its_time() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    for (name, delay) in [("late", 30), ("tie one", 20), ("tie two", 20), ("early", 10), ("tie three", 20)] {
        reactor.after(ms(delay), note(name, began, Then::Done));
    }
    reactor.at(began + ms(15), note("at", began, Then::Done));
    let mut log = Log::new();
    assert_eq!(reactor.advance(&mut log, ms(29))?, 5);
    let expected = [("early", ms(10)), ("at", ms(15)), ("tie one", ms(20)), ("tie two", ms(20)), ("tie three", ms(20))];
    assert_eq!(log, expected);
    assert_eq!(reactor.advance(&mut log, ms(1))?, 1);
    assert_eq!(log[5], ("late", ms(30)));
    Ok(())
}

#[test]
fn a_timer_is_never_early_also_after_a_stall() -> Result {
    let (mut reactor, clock, began) = manual()?;
    clock.advance(Duration::from_nanos(300_000)); // between two ticks
    reactor.after(ms(5), note("timer", began, Then::After(ms(5))));
    let mut log = Log::new();
    reactor.advance(&mut log, Duration::from_nanos(5_000_000 - 1))?;
    assert_eq!(log, []);
    clock.advance(Duration::from_secs(3600)); // the loop was stuck
    turn_now(&mut reactor, &mut log);
    assert_eq!(log.len(), 1, "once, however late");
    let ran = log[0].1;
    reactor.advance(&mut log, ms(6))?;
    assert!(log[1].1 >= ran + ms(5), "{log:?}");
    Ok(())
}

#[test]
fn a_timer_on_the_system_s_clock_is_not_early_either() -> Result {
    let mut reactor = Reactor::<Vec<Instant>>::new()?;
    let began = Instant::now();
    reactor.after(ms(3), |cx| {
        cx.state.push(cx.now());
        Ok(Then::Done)
    });
    let mut ran = Vec::new();
    reactor.run(&mut ran)?; // ends with its last timer
    assert!(ran.len() == 1 && ran[0] - began >= ms(3));
    Ok(())
}

#[test]
fn zero_and_the_past_are_next_turn_and_the_greatest_duration_is_never() -> Result {
    let (mut reactor, clock, began) = manual()?;
    clock.advance(Duration::from_nanos(1_700_000));
    let never = reactor.after(Duration::MAX, note("never", began, Then::Done));
    reactor.at(began, note("past", began, Then::Done));
    reactor.after(Duration::ZERO, |cx| {
        cx.state.push(("zero", Duration::ZERO));
        cx.registry.after(Duration::ZERO, |cx| {
            cx.state.push(("armed while timers run", Duration::ZERO));
            Ok(Then::Done)
        });
        Ok(Then::Done)
    });
    let mut log = Log::new();
    assert_eq!(turn_now(&mut reactor, &mut log), 2);
    assert_eq!(log.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["past", "zero"]);
    assert_eq!(turn_now(&mut reactor, &mut log), 1);
    assert_eq!(log[2].0, "armed while timers run");
    reactor.after(Duration::ZERO, note("zero", began, Then::Done));
    let now = clock.now() - began;
    reactor.advance(&mut log, ms(50))?;
    assert_eq!(log[3], ("zero", now), "before any time has passed");
    assert_eq!(reactor.remaining(never)?, None);
    reactor.advance(&mut log, Duration::from_secs(100 * 365 * 24 * 3600))?;
    assert_eq!(log.len(), 4);
    Ok(())
}

#[test]
fn a_timer_that_runs_again_after_no_time_starves_nobody() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let mut reactor = Reactor::<[u32; 2]>::new()?;
    reactor.after(Duration::ZERO, |cx| {
        cx.state[0] += 1;
        Ok(Then::After(Duration::ZERO))
    });
    reactor.add(near, Interest::READABLE, |near, cx| {
        cx.state[1] += 1;
        read_all(near).map(|_| Next::Keep)
    })?;
    let mut calls = [0; 2];
    for turn in 1..=10 {
        far.write_all(b"x")?;
        reactor.turn(&mut calls, None)?;
        assert_eq!(calls, [turn; 2]);
    }
    Ok(())
}

#[test]
fn a_timer_can_be_put_off_brought_forward_and_asked() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    let timer = reactor.after(ms(10), note("timer", began, Then::Done));
    let mut log = Log::new();
    for _ in 0..100 {
        reactor.advance(&mut log, ms(9))?;
        reactor.reset(timer, ms(10))?;
        assert_eq!(reactor.remaining(timer)?, Some(ms(10)));
    }
    assert_eq!(log, []);
    reactor.reset(timer, ms(3))?;
    reactor.advance(&mut log, ms(10))?;
    assert_eq!(log, [("timer", ms(903))]);
    for answer in [reactor.reset(timer, ms(1)), reactor.cancel(timer), reactor.remaining(timer).map(drop)] {
        assert!(matches!(answer, Err(Error::StaleKey(_))), "{answer:?}");
    }
    Ok(())
}

#[test]
fn a_timer_that_is_overdue_and_reset_to_zero_runs_next_turn() -> Result {
    let (mut reactor, clock, began) = manual()?;
    let timer = reactor.after(ms(5), note("timer", began, Then::Done));
    clock.advance(Duration::from_nanos(10_300_000)); // between two ticks, and nobody has looked yet
    reactor.reset(timer, Duration::ZERO)?;
    let mut log = Log::new();
    assert_eq!(turn_now(&mut reactor, &mut log), 1);
    Ok(())
}

#[test]
fn a_callback_may_cancel_the_next_due_the_last_due_and_itself() -> Result {
    struct State {
        timers: Vec<TimerKey>,
        ran: Vec<usize>,
    }
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut state = State { timers: Vec::new(), ran: Vec::new() };
    for place in 0..5 {
        let timer = reactor.after(ms(10), move |cx: &mut Context<'_, State>| {
            cx.state.ran.push(place);
            if place == 0 {
                for victim in [1, 4, 0] {
                    let victim = cx.state.timers[victim];
                    cx.registry.cancel(victim)?;
                    assert!(cx.registry.cancel(victim).is_err());
                }
                return Ok(Then::After(ms(10))); // which comes too late
            }
            Ok(Then::Done)
        });
        state.timers.push(timer);
    }
    reactor.advance(&mut state, ms(100))?;
    assert_eq!(state.ran, [0, 2, 3]);
    reactor.run(&mut state)?; // nothing is left, nor counted as left
    Ok(())
}

/// The ticks of a timer of 10 ms, of which the loop was busy from the first one on for 37 ms.
fn ticks_after_a_stall(missed: Missed) -> Result<Vec<u128>> {
    let (mut reactor, clock, began) = manual()?;
    let mut stall = Some(ms(37));
    reactor.every(ms(10), missed, move |cx| {
        cx.state.push(("tick", cx.now() - began));
        clock.advance(stall.take().unwrap_or_default());
        Ok(if cx.state.len() < 6 { Next::Keep } else { Next::Remove })
    });
    let mut log = Log::new();
    reactor.advance(&mut log, ms(200))?;
    Ok(log.iter().map(|(_, at)| at.as_millis()).collect())
}

#[test]
fn a_periodic_timer_that_missed_ticks_does_what_its_policy_says() -> Result {
    assert_eq!(ticks_after_a_stall(Missed::Skip)?, [10, 47, 50, 60, 70, 80]);
    assert_eq!(ticks_after_a_stall(Missed::Burst)?, [10, 47, 47, 47, 50, 60]);
    assert_eq!(ticks_after_a_stall(Missed::Delay)?, [10, 47, 57, 67, 77, 87]);
    Ok(())
}

#[test]
fn a_hundred_thousand_due_at_once_run_in_turns_between_which_sources_are_served() -> Result {
    const TIMERS: usize = 100_000;
    let clock = ManualClock::new();
    let mut reactor = Reactor::<[usize; 2]>::builder().clock(clock.clone()).build()?;
    for _ in 0..TIMERS {
        reactor.after(ms(10), |cx| {
            cx.state[0] += 1;
            Ok(Then::Done)
        });
    }
    let (near, mut far) = UnixStream::pair()?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        cx.state[1] += 1;
        read_all(near).map(|_| Next::Keep)
    })?;
    clock.advance(ms(10));
    let mut calls = [0; 2];
    let mut turns = 0;
    while calls[0] < TIMERS {
        far.write_all(b"x")?;
        turns += 1;
        reactor.turn(&mut calls, None)?;
        assert_eq!(calls, [(turns * 1024).min(TIMERS), turns]);
    }
    Ok(())
}

#[test]
fn a_silent_source_is_told_once_that_its_timeout_has_passed_and_a_talking_one_never() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    let mut peers = Vec::new();
    for name in ["talking", "silent"] {
        let (near, far) = UnixStream::pair()?;
        peers.push(far);
        let key = reactor.add(near, Interest::READABLE, move |near, cx: &mut Context<'_, Log>| {
            if cx.readiness().is_timeout() {
                cx.state.push((name, cx.now() - began));
            }
            read_all(near)?;
            Ok(Next::Keep)
        })?;
        reactor.set_timeout(key, Some(ms(50)))?;
        if name == "silent" {
            reactor.set_interest(key, Interest::NONE)?; // a timeout is told whatever the interest
        } else {
            reactor.every(ms(40), Missed::Skip, move |cx| {
                cx.registry.set_timeout(key, Some(ms(50))).map(|()| Next::Keep).map_err(Into::into)
            });
        }
    }
    let mut log = Log::new();
    reactor.advance(&mut log, ms(1000))?;
    assert_eq!(log, [("silent", ms(50))]);
    Ok(())
}

#[test]
fn a_timeout_can_be_ended_set_anew_and_goes_with_its_source() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    let (near, _far) = UnixStream::pair()?;
    let key = reactor.add(near, Interest::READABLE, move |_, cx: &mut Context<'_, Log>| {
        cx.state.push(("timeout", cx.now() - began));
        cx.registry.set_timeout(cx.key(), Some(ms(30)))?;
        Ok(Next::Keep)
    })?;
    let mut log = Log::new();
    reactor.set_timeout(key, Some(ms(10)))?;
    reactor.set_timeout(key, None)?;
    reactor.advance(&mut log, ms(100))?;
    assert_eq!(log, []);
    reactor.set_timeout(key, Some(ms(10)))?;
    reactor.advance(&mut log, ms(40))?;
    assert_eq!(log, [("timeout", ms(110)), ("timeout", ms(140))]);
    reactor.remove(key)?;
    reactor.advance(&mut log, ms(100))?;
    assert_eq!(log.len(), 2);
    assert!(matches!(reactor.set_timeout(key, Some(ms(1))), Err(Error::StaleKey(stale)) if stale == key));
    reactor.run(&mut log)?;
    Ok(())
}

#[test]
fn a_timeout_that_comes_with_data_is_one_call_with_both_facts() -> Result {
    let clock = ManualClock::new();
    let (near, mut far) = UnixStream::pair()?;
    let mut reactor = Reactor::<Vec<String>>::builder().clock(clock.clone()).build()?;
    let key = reactor.add(near, Interest::READABLE, |_, cx| {
        cx.state.push(cx.readiness().to_string());
        Ok(Next::Keep) // reads nothing: it stays ready, and queued
    })?;
    reactor.set_timeout(key, Some(ms(10)))?;
    far.write_all(b"x")?;
    let mut calls = Vec::new();
    turn_now(&mut reactor, &mut calls);
    clock.advance(ms(10));
    turn_now(&mut reactor, &mut calls); // called as ready, told of the timeout while queued for the next turn
    turn_now(&mut reactor, &mut calls);
    assert_eq!(calls, ["readable", "readable", "readable+timeout"]);
    Ok(())
}

#[test]
fn a_jumping_clock_runs_a_day_at_once_and_lets_sources_go_first() -> Result {
    let clock = ManualClock::jumping();
    let began = clock.now();
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"x")?;
    let mut reactor = Reactor::builder().clock(clock).build()?;
    reactor.every(Duration::from_secs(3600), Missed::Skip, move |cx: &mut Context<'_, Log>| {
        cx.state.push(("hour", cx.now() - began));
        Ok(if cx.state.len() < 25 { Next::Keep } else { Next::Remove })
    });
    reactor.add(near, Interest::READABLE, move |_, cx| {
        cx.state.push(("source", cx.now() - began));
        Ok(Next::Remove)
    })?;
    let mut log = Log::new();
    reactor.run(&mut log)?;
    assert_eq!(log[0], ("source", Duration::ZERO));
    assert_eq!((log.len(), log[24]), (25, ("hour", Duration::from_secs(24 * 3600))));
    Ok(())
}

#[test]
fn a_standing_clock_stands_while_the_loop_waits() -> Result {
    let (mut reactor, clock, began) = manual()?;
    reactor.after(ms(1), note("timer", began, Then::Done));
    let mut log = Log::new();
    assert_eq!(reactor.turn(&mut log, Some(ms(3)))?, 0); // of the system's milliseconds
    assert_eq!((log.len(), clock.now()), (0, began));
    clock.advance(ms(1));
    assert_eq!(reactor.turn(&mut log, None)?, 1);
    Ok(())
}

#[test]
fn a_long_callback_may_read_the_clock_again() -> Result {
    let (mut reactor, clock, began) = manual()?;
    reactor.defer(move |cx| {
        cx.state.push(("before", cx.now() - began));
        clock.advance(ms(7));
        cx.state.push(("still", cx.now() - began));
        assert_eq!(cx.registry.refresh_now() - began, ms(7));
        cx.state.push(("after", cx.now() - began));
    });
    let mut log = Log::new();
    turn_now(&mut reactor, &mut log);
    assert_eq!(log, [("before", ms(0)), ("still", ms(0)), ("after", ms(7))]);
    Ok(())
}

#[test]
fn a_wait_for_a_timer_reads_the_clock_once_more_and_a_timer_that_rests_has_nobody_read_it() -> Result {
    for (delay, readings) in [(ms(3_600_000), 2), (Duration::MAX, 0)] {
        let (near, mut far) = UnixStream::pair()?;
        let mut reactor = Reactor::<Log>::new()?;
        reactor.after(delay, |_| Ok(Then::Done));
        reactor.add(near, Interest::READABLE, |near, _cx| read_all(near).map(|_bytes| Next::Keep))?;
        let mut log = Log::new();
        turn_now(&mut reactor, &mut log); // finds out what it has to wait for
        let before = reactor.metrics().clock_reads;
        for turns in 1..4 {
            far.write_all(b"x")?;
            assert_eq!(reactor.turn(&mut log, None)?, 1);
            assert_eq!(reactor.metrics().clock_reads - before, turns * readings);
        }
    }
    Ok(())
}

#[test]
fn a_failing_or_panicking_timer_ends_alone() -> Result {
    let mut reactor =
        Reactor::<u32>::builder().clock(ManualClock::new()).on_panic(PanicPolicy::RemoveHandler).build()?;
    reactor.after(ms(1), |_| Err(io::Error::other("broken")));
    reactor.after(ms(1), |_| panic!("on purpose"));
    reactor.after(ms(1), |cx| {
        *cx.state += 1;
        Ok(Then::Done)
    });
    let mut calls = 0;
    reactor.advance(&mut calls, ms(1))?;
    assert_eq!((calls, reactor.metrics().failures, reactor.metrics().panics), (1, 1, 1));
    reactor.run(&mut calls)?;

    let mut reactor = Reactor::<u32>::builder().clock(ManualClock::new()).build()?;
    reactor.after(ms(1), |_| panic!("on purpose"));
    reactor.after(ms(1), |cx| {
        *cx.state += 1;
        Ok(Then::Done)
    });
    catch_unwind(AssertUnwindSafe(|| reactor.advance(&mut calls, ms(1)))).unwrap_err();
    turn_now(&mut reactor, &mut calls);
    assert_eq!(calls, 2);
    reactor.run(&mut calls)?; // the one that panicked is gone
    Ok(())
}

#[test]
fn time_without_a_manual_clock_cannot_be_advanced() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    assert!(matches!(reactor.advance(&mut (), ms(1)), Err(Error::NoManualClock)));
    Ok(())
}

#[test]
fn a_timer_by_the_wall_clock_runs_when_that_shows_its_time_also_after_it_was_set() -> Result {
    let (mut reactor, clock, began) = manual()?;
    let wall = clock.wall();
    for (name, delay) in [("set back", 20_000), ("on time", 10), ("set forward", 1000)] {
        reactor.at_wall(wall + ms(delay), note(name, began, Then::Done))?;
    }
    reactor.after(ms(2000), note("monotonic", began, Then::Done));
    let mut log = Log::new();
    reactor.advance(&mut log, ms(9))?;
    assert_eq!(log, []);
    reactor.advance(&mut log, ms(1))?;
    assert_eq!(log, [("on time", ms(10))]);

    clock.set_wall(wall + ms(1000));
    assert_eq!(turn_now(&mut reactor, &mut log), 1);
    assert_eq!(log[1], ("set forward", ms(10)));
    clock.set_wall(wall - ms(5000));
    reactor.advance(&mut log, ms(25_000 - 1))?;
    assert_eq!(log[2..], [("monotonic", ms(2000))]);
    reactor.advance(&mut log, ms(1))?;
    assert_eq!(log[3], ("set back", ms(25_010)));
    Ok(())
}

#[test]
fn a_timer_may_go_on_by_either_clock_and_be_put_off_or_cancelled() -> Result {
    let (mut reactor, clock, began) = manual()?;
    let wall = clock.wall();
    let mut thens = vec![Then::Done, Then::AtWall(wall), Then::After(ms(5)), Then::AtWall(wall + ms(100))];
    reactor.after(ms(10), move |cx| {
        cx.state.push(("either", cx.now() - began));
        Ok(thens.pop().expect("it is done"))
    });
    let put_off = reactor.at_wall(wall + ms(50), note("put off", began, Then::Done))?;
    let cancelled = reactor.at_wall(wall + ms(50), note("cancelled", began, Then::Done))?;
    let slack = reactor.at_wall(wall + ms(50), note("with slack", began, Then::Done))?;
    reactor.set_timer_slack(slack, ms(1))?;
    reactor.cancel(cancelled)?;
    reactor.reset(put_off, ms(300))?;
    clock.set_wall(wall - ms(7)); // who has been reset does not care
    let mut log = Log::new();
    reactor.advance(&mut log, ms(1000))?;
    let late = log.iter().position(|(name, _)| *name == "with slack").map(|place| log.remove(place).1);
    assert!(late.is_some_and(|late| (ms(57)..=ms(58)).contains(&late)), "{late:?}");
    let either = [10, 107, 112, 112].map(|after| ("either", ms(after)));
    assert_eq!(log, [&either[..], &[("put off", ms(300))]].concat());
    reactor.run(&mut log)?; // nothing is left to wait for
    Ok(())
}

#[test]
fn a_timer_by_the_wall_clock_is_not_early_and_keeps_no_source_registered() -> Result {
    let mut reactor = Reactor::<Vec<(usize, SystemTime)>>::new()?;
    let due = SystemTime::now() + ms(3);
    for place in 0..20 {
        reactor.at_wall(due, move |cx| {
            cx.state.push((place, cx.registry.wall_now()));
            Ok(Then::Done)
        })?;
    }
    assert!(reactor.is_empty());
    let mut ran = Vec::new();
    reactor.run(&mut ran)?;
    assert!(ran.iter().all(|(_, ran)| *ran >= due), "{ran:?}");
    assert!(ran.iter().map(|(place, _)| *place).eq(0..20), "ties in the order of arming: {ran:?}");
    Ok(())
}

#[test]
fn ties_of_the_wall_clock_keep_their_order_when_it_is_set() -> Result {
    let (mut reactor, clock, _began) = manual()?;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for name in names {
        reactor.at_wall(clock.wall() + ms(1000), note(name, clock.now(), Then::Done))?;
    }
    clock.set_wall(clock.wall() + ms(400));
    let mut log = Log::new();
    reactor.advance(&mut log, ms(600))?;
    assert_eq!(log.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    Ok(())
}

#[test]
fn a_clock_that_is_set_back_in_the_very_turn_of_a_timer_puts_it_off() -> Result {
    let (mut reactor, clock, began) = manual()?;
    reactor.at_wall(clock.wall() + ms(10), note("put off", began, Then::Done))?;
    let setter = clock.clone();
    let mut once = true;
    reactor.after_wait(move |cx| {
        if std::mem::take(&mut once) && cx.now() >= began + ms(10) {
            setter.set_wall(setter.wall() - ms(5));
        } else {
            once = cx.now() < began + ms(10);
        }
        Ok(Next::Keep)
    });
    let mut log = Log::new();
    assert_eq!(reactor.advance(&mut log, ms(14))?, 0, "what was put off has not run");
    reactor.advance(&mut log, ms(1))?;
    assert_eq!(log, [("put off", ms(15))]);
    Ok(())
}

#[test]
fn slack_can_be_set_again_and_taken_back() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    let aligned = Duration::from_nanos(1 << 25);
    let first = reactor.after(aligned, note("first", began, Then::Done));
    let second = reactor.after(aligned, note("second", began, Then::Done));
    reactor.set_timer_slack(first, Duration::ZERO)?; // no slack before, none now: it keeps its rank
    reactor.set_timer_slack(second, ms(20))?;
    assert_eq!(reactor.remaining(second)?, Some(aligned), "the time with most zeros is its own");
    let moved = reactor.after(ms(1), note("moved", began, Then::Done));
    for _ in 0..10 {
        reactor.set_timer_slack(moved, ms(50))?;
    }
    assert!(reactor.remaining(moved)?.is_some_and(|left| left > ms(1) && left <= ms(51)));
    reactor.set_timer_slack(moved, Duration::ZERO)?;
    assert_eq!(reactor.remaining(moved)?, Some(ms(1)));
    let never = reactor.after(Duration::MAX, note("never", began, Then::Done));
    reactor.set_timer_slack(never, Duration::MAX)?;
    reactor.set_timer_slack(first, Duration::MAX)?; // as late as it likes is no slack: there is no such time
    let mut log = Log::new();
    reactor.advance(&mut log, ms(40))?;
    assert_eq!(log.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["moved", "first", "second"]);
    Ok(())
}

#[test]
fn slack_lets_timers_share_a_wake_and_none_is_early_or_later_than_it_may_be() -> Result {
    let wakes = |slack| -> Result<usize> {
        let (mut reactor, _clock, began) = manual()?;
        for delay in 1..=1000_u64 {
            let timer = reactor.after(Duration::ZERO, note("", began, Then::Done));
            reactor.set_timer_slack(timer, slack)?;
            reactor.reset(timer, Duration::from_micros(delay * 1234))?;
        }
        let mut log = Log::new();
        reactor.advance(&mut log, Duration::from_secs(2))?;
        assert_eq!(log.len(), 1000);
        for (ran, delay) in log.iter().map(|(_, ran)| *ran).zip(1..) {
            let due = Duration::from_micros(delay * 1234);
            assert!((due..=due + slack).contains(&ran), "{due:?} ran at {ran:?}");
        }
        log.dedup_by_key(|(_, ran)| *ran);
        Ok(log.len())
    };
    assert_eq!(wakes(Duration::ZERO)?, 1000);
    // Two to the 25 ns, 34 ms, fit into 50 ms, and two to the 26 do not.
    assert_eq!(wakes(ms(50))?, 1234_usize.div_ceil(34) + 1);
    Ok(())
}

#[test]
fn slack_moves_a_periodic_timer_s_ticks_but_not_its_period() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    let timer = reactor.every(ms(100), Missed::Skip, move |cx| {
        cx.state.push(("tick", cx.now() - began));
        Ok(Next::Keep)
    });
    reactor.set_timer_slack(timer, ms(20))?;
    let mut log = Log::new();
    reactor.advance(&mut log, ms(1000) + ms(20))?;
    assert_eq!(log.len(), 10);
    for ((_, ran), tick) in log.iter().zip(1..) {
        assert!((ms(100 * tick)..=ms(100 * tick + 20)).contains(ran), "tick {tick} at {ran:?}");
    }
    Ok(())
}

#[test]
fn a_timer_in_the_background_keeps_nothing_alive_until_it_comes_to_the_fore() -> Result {
    let (mut reactor, clock, began) = manual()?;
    let timer = reactor.every(ms(10), Missed::Skip, move |cx| {
        cx.state.push(("tick", cx.now() - began));
        Ok(Next::Keep)
    });
    let mut log = Log::new();
    for _ in 0..2 {
        reactor.set_timer_background(timer)?;
    }
    reactor.run(&mut log)?; // returns
    clock.advance(ms(10));
    reactor.run(&mut log)?;
    assert_eq!(log, [], "there was nothing to run for");
    for _ in 0..2 {
        reactor.set_timer_foreground(timer)?;
    }
    reactor.after(ms(0), |cx| {
        cx.registry.stop();
        Ok(Then::Done)
    });
    reactor.run(&mut log)?;
    assert_eq!(log.len(), 1);
    reactor.cancel(timer)?;
    for gone in [reactor.set_timer_background(timer), reactor.set_timer_foreground(timer)] {
        assert!(matches!(gone, Err(Error::StaleKey(_))));
    }
    assert!(matches!(reactor.set_timer_slack(timer, ms(1)), Err(Error::StaleKey(_))));
    reactor.run(&mut log)?;
    Ok(())
}

#[test]
fn in_high_resolution_a_timer_takes_one_turn_too_and_is_not_early() -> Result {
    let period = Duration::from_micros(150);
    let mut reactor = Reactor::<Vec<Duration>>::builder().high_resolution().build()?;
    let mut last = Instant::now();
    let mut left = 20;
    reactor.after(period, move |cx| {
        cx.state.push(cx.now() - std::mem::replace(&mut last, cx.now()));
        left -= 1;
        Ok(if left == 0 { Then::Done } else { Then::After(period) })
    });
    let mut ran = Vec::new();
    reactor.run(&mut ran)?;
    assert!(ran.len() == 20 && ran.iter().all(|waited| *waited >= period), "{ran:?}");
    let metrics = reactor.metrics();
    assert_eq!((metrics.turns, metrics.stale_events, metrics.failures), (20, 0, 0));
    Ok(())
}

#[test]
fn what_was_armed_and_cancelled_holds_up_nobody() -> Result {
    let (mut reactor, clock, _began) = manual()?;
    for delay in [Duration::ZERO, Duration::from_micros(50), ms(10)] {
        let timer = reactor.after(delay, |_| Ok(Then::Done));
        reactor.cancel(timer)?;
        assert_eq!(reactor.advance(&mut Log::new(), ms(1))?, 0);
    }
    let timer = reactor.after(ms(1), |_| Ok(Then::Done));
    clock.advance(ms(1));
    reactor.cancel(timer)?;
    assert_eq!(reactor.advance(&mut Log::new(), ms(1))?, 0);
    Ok(())
}

#[test]
fn a_timer_that_is_put_off_for_ever_never_runs() -> Result {
    let clock = ManualClock::jumping();
    let mut reactor = Reactor::<Log>::builder().clock(clock.clone()).build()?;
    let (near, _far) = UnixStream::pair()?;
    let source = reactor.add(near, Interest::READABLE, |_, cx| {
        cx.state.push(("timeout", Duration::ZERO));
        Ok(Next::Keep)
    })?;
    let timer = reactor.after(ms(10), note("timer", clock.now(), Then::Done));
    reactor.set_timeout(source, Some(ms(10)))?;
    reactor.reset(timer, Duration::MAX)?;
    reactor.set_timeout(source, Some(Duration::MAX))?;
    reactor.after(ms(20), note("last", clock.now(), Then::Done));
    let mut log = Log::new();
    for _ in 0..4 {
        reactor.turn(&mut log, Some(ms(1)))?;
    }
    reactor.advance(&mut log, Duration::from_secs(3600))?;
    assert_eq!(log.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["last"]);
    Ok(())
}

#[test]
fn a_timeout_that_was_set_anew_before_it_was_told_is_not_told() -> Result {
    for renewed in [None, Some(ms(3_600_000))] {
        let (near, mut far) = UnixStream::pair()?;
        let clock = ManualClock::new();
        let mut reactor = Reactor::<Vec<bool>>::builder().clock(clock.clone()).build()?;
        let source = reactor.add(near, Interest::READABLE, |_, cx| {
            let timed_out = cx.readiness().is_timeout();
            cx.state.push(timed_out);
            Ok(Next::Keep) // unread, so it is called each turn
        })?;
        reactor.set_timeout(source, Some(ms(10)))?;
        far.write_all(b"x")?;
        let mut calls = Vec::new();
        turn_now(&mut reactor, &mut calls);
        clock.advance(ms(10));
        assert_eq!(turn_now(&mut reactor, &mut calls), 1, "a timeout that waits for its source's next call is no call");
        reactor.set_timeout(source, renewed)?;
        turn_now(&mut reactor, &mut calls);
        assert_eq!(calls, [false; 3]);
    }
    Ok(())
}

#[test]
fn would_block_waits_for_the_next_tick_and_ends_what_has_none() -> Result {
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
fn a_period_of_zero_is_every_turn_whatever_was_missed() -> Result {
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
fn zero_from_a_source_s_handler_is_this_turn_and_from_a_timer_the_next() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let mut reactor = Reactor::<Vec<&str>>::new()?;
    reactor.add(near, Interest::READABLE, |_, cx| {
        cx.registry.after(Duration::ZERO, |cx| {
            cx.state.push("from a handler");
            cx.registry.after(Duration::ZERO, |cx| {
                cx.state.push("from a timer");
                Ok(Then::Done)
            });
            Ok(Then::Done)
        });
        Ok(Next::Remove)
    })?;
    far.write_all(b"x")?;
    let mut log = Vec::new();
    turn_now(&mut reactor, &mut log);
    assert_eq!(log, ["from a handler"]);
    turn_now(&mut reactor, &mut log);
    assert_eq!(log, ["from a handler", "from a timer"]);
    Ok(())
}

#[test]
fn a_background_timer_can_be_cancelled_also_by_itself() -> Result {
    let (mut reactor, _clock, _began) = manual()?;
    let outside = reactor.after(ms(1), |_| Ok(Then::Done));
    let inside = reactor.after(ms(1), |cx| {
        let own = cx.timer().expect("a timer is running");
        cx.registry.set_timer_background(own)?;
        cx.registry.cancel(own)?;
        assert!(matches!(cx.registry.cancel(own), Err(Error::StaleKey(key)) if key == own.into()));
        Ok(Then::After(ms(1)))
    });
    reactor.set_timer_background(outside)?;
    let listed: Vec<_> = reactor.timers().map(|timer| (timer.key, timer.remaining, timer.keeps_alive)).collect();
    assert_eq!(listed, [(outside, Some(ms(1)), false), (inside, Some(ms(1)), true)]);
    assert!(reactor.timers().all(|timer| timer.origin.file().ends_with("timer.rs")));
    reactor.cancel(outside)?;
    let mut log = Log::new();
    reactor.advance(&mut log, ms(5))?;
    assert_eq!(reactor.timers().count(), 0);
    reactor.run(&mut log)?; // returns
    Ok(())
}

#[test]
fn timers_that_are_armed_within_the_present_tick_by_the_thousand_are_run_in_time() -> Result {
    const TIMERS: usize = 10_000;
    let (mut reactor, _clock, _began) = manual()?;
    for _ in 0..TIMERS {
        reactor.after(ms(1), |cx| {
            cx.registry.after(Duration::from_micros(1), |cx| {
                cx.state.push(("second", Duration::ZERO));
                Ok(Then::Done)
            });
            Ok(Then::Done)
        });
    }
    let mut log = Log::new();
    reactor.advance(&mut log, ms(2))?;
    assert_eq!(log.len(), TIMERS);
    Ok(())
}
