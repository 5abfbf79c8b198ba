//! The time of a turn, and clocks that tests drive.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use reactor::{Context, Error, Interest, ManualClock, Missed, Next, Reactor, Then};

use super::{Log, manual, ms, note};
use crate::{Result, read_all, turn_now};

#[test]
fn a_jumping_clock_runs_a_day_at_once_and_lets_sources_go_first() -> Result {
    let clock = ManualClock::jumping();
    let began = clock.now();
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"x")?;
    let mut reactor = Reactor::builder().clock(clock).build()?;
    reactor.every(
        Duration::from_secs(3600),
        Missed::Skip,
        move |cx: &mut Context<'_, Log>| {
            cx.state.push(("hour", cx.now() - began));
            Ok(if cx.state.len() < 25 {
                Next::Keep
            } else {
                Next::Remove
            })
        },
    );
    reactor.add(near, Interest::READABLE, move |_, cx| {
        cx.state.push(("source", cx.now() - began));
        Ok(Next::Remove)
    })?;
    let mut log = Log::new();
    reactor.run(&mut log)?;
    assert_eq!(log[0], ("source", Duration::ZERO));
    assert_eq!(
        (log.len(), log[24]),
        (25, ("hour", Duration::from_secs(24 * 3600)))
    );
    Ok(())
}

#[test]
fn a_standing_clock_stands_while_the_loop_waits() -> Result {
    let (mut reactor, clock, began) = manual()?;
    reactor.after(ms(1), note("timer", began, Then::Done));
    let mut log = Log::new();
    assert_eq!(reactor.turn(&mut log, Some(ms(3)))?, 0); // on the system's millisecond clock
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

/// A timer that never comes due costs no reading of the clock.
#[test]
fn a_wait_for_a_timer_reads_the_clock_once_more() -> Result {
    for (delay, readings) in [(ms(3_600_000), 2), (Duration::MAX, 0)] {
        let (near, mut far) = UnixStream::pair()?;
        let mut reactor = Reactor::<Log>::new()?;
        reactor.after(delay, |_| Ok(Then::Done));
        reactor.add(near, Interest::READABLE, |near, _cx| {
            read_all(near).map(|_bytes| Next::Keep)
        })?;
        let mut log = Log::new();
        turn_now(&mut reactor, &mut log); // computes its wait
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
fn time_without_a_manual_clock_cannot_be_advanced() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    assert!(matches!(
        reactor.advance(&mut (), ms(1)),
        Err(Error::NoManualClock)
    ));
    Ok(())
}

#[test]
fn at_the_end_of_timer_time_nothing_is_due_and_the_loop_is_not_held_up() -> Result {
    let (mut reactor, clock, began) = manual()?;
    let years = |years: u64| Duration::from_secs(years * 365 * 24 * 3600);
    let (near, _far) = UnixStream::pair()?;
    let source = reactor.add(near, Interest::READABLE, |_, cx| {
        cx.state.push(("timeout", Duration::ZERO));
        Ok(Next::Keep)
    })?;
    let overdue = reactor.after(ms(10), note("put off", began, Then::Done));
    reactor.after(years(300), note("later", began, Then::Done));
    clock.advance(years(400));
    reactor.reset(overdue, years(200))?;
    let mut log = Log::new();
    assert_eq!(turn_now(&mut reactor, &mut log), 0, "{log:?}");
    reactor.after(ms(1), note("after", began, Then::Done));
    reactor.after(Duration::MAX, note("never", began, Then::Done));
    reactor.at_wall(clock.wall() + ms(1), note("by the wall", began, Then::Done))?;
    reactor.set_timeout(source, Some(ms(1)))?;
    for time in [ms(2), years(300)] {
        assert_eq!(reactor.advance(&mut log, time)?, 0, "{log:?}");
    }
    reactor.after(Duration::ZERO, note("at once", began, Then::Done));
    assert_eq!(reactor.advance(&mut log, ms(1))?, 1);
    assert_eq!(reactor.prepare_to_wait(), None);
    Ok(())
}

#[test]
fn a_turn_with_a_timeout_lets_a_jumping_clock_jump_by_that_and_no_further() -> Result {
    let hour = Duration::from_secs(3600);
    for (timer, timeout, passes, ran) in [
        (None, ms(300), ms(300), 0),
        (None, hour, hour, 0),
        (Some(hour), ms(300), ms(300), 0),
        (Some(ms(300)), hour, ms(300), 1),
        (Some(hour), hour, hour, 1),
        (Some(hour), Duration::ZERO, ms(0), 0),
        (Some(Duration::MAX), ms(1), ms(1), 0),
        (Some(hour), Duration::MAX, hour, 1),
    ] {
        let clock = ManualClock::jumping();
        let began = clock.now();
        let mut reactor = Reactor::<Log>::builder().clock(clock.clone()).build()?;
        if let Some(delay) = timer {
            reactor.after(delay, note("timer", began, Then::Done));
        }
        let mut log = Log::new();
        assert_eq!(
            reactor.turn(&mut log, Some(timeout))?,
            ran,
            "{timer:?} {timeout:?}"
        );
        assert_eq!(clock.now() - began, passes, "{timer:?} {timeout:?}");
    }
    Ok(())
}

#[test]
fn a_jumping_clock_stands_while_other_threads_are_at_work_for_the_loop() -> Result {
    let clock = ManualClock::jumping();
    let began = clock.now();
    let mut reactor = Reactor::<Log>::builder().clock(clock.clone()).build()?;
    let remote = reactor.remote()?;
    reactor.after(
        Duration::from_secs(3600),
        note("an hour later", began, Then::Done),
    );
    let mut log = Log::new();
    let alive = remote.keep_alive();
    for timeout in [Duration::ZERO, ms(1)] {
        assert_eq!(reactor.turn(&mut log, Some(timeout))?, 0);
        assert_eq!(clock.now(), began, "a token keeps the loop alive");
    }
    let (job, posts) = (remote.clone(), remote.keep_alive());
    drop(alive);
    let worker = std::thread::spawn(move || {
        job.post(move |cx| {
            cx.state.push(("the job is done", cx.now() - began));
            drop(posts);
        })
    });
    reactor.run(&mut log)?;
    worker.join().unwrap()?;
    assert_eq!(
        log,
        [
            ("the job is done", ms(0)),
            ("an hour later", Duration::from_secs(3600))
        ]
    );
    Ok(())
}

#[test]
fn a_jumping_clock_does_not_pass_over_earlier_posts() -> Result {
    let clock = ManualClock::jumping();
    let began = clock.now();
    let mut reactor = Reactor::<Log>::builder().clock(clock).build()?;
    let remote = reactor.remote()?;
    reactor.after(ms(1), note("timer", began, Then::Done));
    remote.post(move |cx| cx.state.push(("posted", cx.now() - began)))?;
    let mut log = Log::new();
    reactor.run(&mut log)?;
    assert_eq!(log, [("posted", ms(0)), ("timer", ms(1))]);
    Ok(())
}

#[test]
fn a_jumping_clock_jumps_to_a_timeout_after_the_bytes_of_the_source() -> Result {
    let clock = ManualClock::jumping();
    let began = clock.now();
    let mut reactor = Reactor::<Log>::builder().clock(clock).build()?;
    let (near, mut far) = UnixStream::pair()?;
    let key = reactor.add(near, Interest::READABLE, move |near, cx| {
        let what = if cx.readiness().is_timeout() {
            "timeout"
        } else {
            "data"
        };
        cx.state.push((what, cx.now() - began));
        read_all(near)?;
        Ok(if what == "data" {
            Next::Keep
        } else {
            Next::Remove
        })
    })?;
    reactor.set_timeout(key, Some(ms(50)))?;
    far.write_all(b"x")?;
    let mut log = Log::new();
    reactor.run(&mut log)?;
    assert_eq!(log, [("data", ms(0)), ("timeout", ms(50))]);
    Ok(())
}
