//! The runs of timers: their order, never early, and without starving a source, and their failures.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use reactor::{Interest, ManualClock, Next, PanicPolicy, Reactor, Then};

use super::{Log, manual, ms, note};
use crate::{Result, read_all, turn_now};

#[test]
fn timers_run_by_deadline_ties_in_the_order_of_arming_each_at_its_time() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    for (name, delay) in [
        ("late", 30),
        ("tie one", 20),
        ("tie two", 20),
        ("early", 10),
        ("tie three", 20),
    ] {
        reactor.after(ms(delay), note(name, began, Then::Done));
    }
    reactor.at(began + ms(15), note("at", began, Then::Done));
    let mut log = Log::new();
    assert_eq!(reactor.advance(&mut log, ms(29))?, 5);
    let expected = [
        ("early", ms(10)),
        ("at", ms(15)),
        ("tie one", ms(20)),
        ("tie two", ms(20)),
        ("tie three", ms(20)),
    ];
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
    reactor.run(&mut ran)?; // returns with its last timer
    assert!(ran.len() == 1 && ran[0] - began >= ms(3));
    Ok(())
}

#[test]
fn in_high_resolution_a_timer_takes_one_turn_too_and_is_not_early() -> Result {
    let period = Duration::from_micros(150);
    let mut reactor = Reactor::<Vec<Duration>>::builder()
        .high_resolution()
        .build()?;
    let mut last = Instant::now();
    let mut left = 20;
    reactor.after(period, move |cx| {
        cx.state
            .push(cx.now() - std::mem::replace(&mut last, cx.now()));
        left -= 1;
        Ok(if left == 0 {
            Then::Done
        } else {
            Then::After(period)
        })
    });
    let mut ran = Vec::new();
    reactor.run(&mut ran)?;
    assert!(
        ran.len() == 20 && ran.iter().all(|waited| *waited >= period),
        "{ran:?}"
    );
    let metrics = reactor.metrics();
    assert_eq!(
        (metrics.turns, metrics.stale_events, metrics.failures),
        (20, 0, 0)
    );
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
    assert_eq!(
        log.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["past", "zero"]
    );
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
fn a_timer_that_rearms_with_zero_delay_starves_no_source() -> Result {
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
fn sources_are_served_while_a_hundred_thousand_due_timers_run() -> Result {
    const TIMERS: usize = 100_000;
    let clock = ManualClock::new();
    let mut reactor = Reactor::<[usize; 2]>::builder()
        .clock(clock.clone())
        .build()?;
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
fn thousands_of_timers_armed_within_the_present_tick_run_in_time() -> Result {
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

#[test]
fn a_failing_or_panicking_timer_ends_alone() -> Result {
    let mut reactor = Reactor::<u32>::builder()
        .clock(ManualClock::new())
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    reactor.after(ms(1), |_| Err(io::Error::other("broken")));
    reactor.after(ms(1), |_| panic!("on purpose"));
    reactor.after(ms(1), |cx| {
        *cx.state += 1;
        Ok(Then::Done)
    });
    let mut calls = 0;
    reactor.advance(&mut calls, ms(1))?;
    assert_eq!(
        (calls, reactor.metrics().failures, reactor.metrics().panics),
        (1, 1, 1)
    );
    reactor.run(&mut calls)?;

    let mut reactor = Reactor::<u32>::builder()
        .clock(ManualClock::new())
        .build()?;
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
