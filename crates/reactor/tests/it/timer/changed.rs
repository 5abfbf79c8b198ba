//! Timers that are extended, cancelled, listed, or set into the background.

use std::os::unix::net::UnixStream;
use std::panic::Location;
use std::time::Duration;

use reactor::{Context, Error, Interest, ManualClock, Missed, Next, Reactor, Then, TimerKey};

use super::{Log, manual, ms, note};
use crate::{Result, turn_now};

#[test]
fn a_timer_can_be_extended_brought_forward_and_queried() -> Result {
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
    for answer in [
        reactor.reset(timer, ms(1)),
        reactor.cancel(timer),
        reactor.remaining(timer).map(drop),
    ] {
        assert!(matches!(answer, Err(Error::StaleKey(_))), "{answer:?}");
    }
    Ok(())
}

#[test]
fn a_timer_that_is_overdue_and_reset_to_zero_runs_next_turn() -> Result {
    let (mut reactor, clock, began) = manual()?;
    let timer = reactor.after(ms(5), note("timer", began, Then::Done));
    // Between two ticks, before the loop has checked.
    clock.advance(Duration::from_nanos(10_300_000));
    reactor.reset(timer, Duration::ZERO)?;
    let mut log = Log::new();
    assert_eq!(turn_now(&mut reactor, &mut log), 1);
    Ok(())
}

#[test]
fn a_timer_that_is_extended_for_ever_never_runs() -> Result {
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
    assert_eq!(
        log.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["last"]
    );
    Ok(())
}

#[test]
fn cancelled_or_extended_timers_cause_one_spurious_wakeup_together() -> Result {
    for is_put_off in [false, true] {
        let clock = ManualClock::jumping();
        let began = clock.now();
        let mut reactor = Reactor::builder().clock(clock).build()?;
        let others =
            [70, 75, 80].map(|delay| reactor.after(ms(delay), note("put off", began, Then::Done)));
        reactor.after(ms(130), note("stays", began, Then::Done));
        for timer in others {
            if is_put_off {
                reactor.reset(timer, ms(300))?
            } else {
                reactor.cancel(timer)?
            }
        }
        let mut log = Log::new();
        reactor.run(&mut log)?;
        log.dedup();
        let ran = [("stays", ms(130)), ("put off", ms(300))];
        assert_eq!(log, ran[..1 + usize::from(is_put_off)]);
        assert_eq!(reactor.metrics().turns, log.len() as u64 + 1);
    }
    Ok(())
}

#[test]
fn a_callback_may_cancel_the_next_due_the_last_due_and_itself() -> Result {
    struct State {
        timers: Vec<TimerKey>,
        ran: Vec<usize>,
    }
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut state = State {
        timers: Vec::new(),
        ran: Vec::new(),
    };
    for place in 0..5 {
        let timer = reactor.after(ms(10), move |cx: &mut Context<'_, State>| {
            cx.state.ran.push(place);
            if place == 0 {
                for victim in [1, 4, 0] {
                    let victim = cx.state.timers[victim];
                    cx.registry.cancel(victim)?;
                    assert!(cx.registry.cancel(victim).is_err());
                }
                return Ok(Then::After(ms(10))); // comes too late
            }
            Ok(Then::Done)
        });
        state.timers.push(timer);
    }
    reactor.advance(&mut state, ms(100))?;
    assert_eq!(state.ran, [0, 2, 3]);
    reactor.run(&mut state)?; // nothing is left, and nothing is counted
    Ok(())
}

#[test]
fn a_timer_that_was_cancelled_does_not_hold_up_the_loop() -> Result {
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
fn a_background_timer_keeps_nothing_alive_until_it_is_foreground() -> Result {
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
    for gone in [
        reactor.set_timer_background(timer),
        reactor.set_timer_foreground(timer),
    ] {
        assert!(matches!(gone, Err(Error::StaleKey(_))));
    }
    assert!(matches!(
        reactor.set_timer_slack(timer, ms(1)),
        Err(Error::StaleKey(_))
    ));
    reactor.run(&mut log)?;
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
    let listed: Vec<_> = reactor
        .timers()
        .map(|timer| (timer.key, timer.remaining, timer.keeps_alive))
        .collect();
    assert_eq!(
        listed,
        [(outside, Some(ms(1)), false), (inside, Some(ms(1)), true)]
    );
    assert!(reactor.timers().all(|timer| timer.origin.file() == file!()));
    reactor.cancel(outside)?;
    let mut log = Log::new();
    reactor.advance(&mut log, ms(5))?;
    assert_eq!(reactor.timers().count(), 0);
    reactor.run(&mut log)?; // returns
    Ok(())
}

#[test]
fn each_of_many_timers_is_listed_with_its_line_also_while_it_runs() -> Result {
    type Places = Vec<(TimerKey, &'static Location<'static>)>;
    #[track_caller]
    fn arm(reactor: &mut Reactor<Places>) -> (TimerKey, &'static Location<'static>) {
        let timer = reactor.after(ms(1), |cx| {
            let listed = cx
                .registry
                .timers()
                .find(|listed| Some(listed.key) == cx.timer());
            cx.state
                .extend(listed.map(|listed| (listed.key, listed.origin)));
            Ok(Then::Done)
        });
        (timer, Location::caller())
    }
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut armed = Places::new();
    for _ in 0..3 {
        let r = &mut reactor;
        armed.extend([
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
        ]);
        armed.extend([
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
            arm(r),
        ]);
    }
    let listed: Places = reactor
        .timers()
        .map(|timer| (timer.key, timer.origin))
        .collect();
    assert_eq!(listed, armed);
    let mut ran = Places::new();
    reactor.advance(&mut ran, ms(1))?;
    assert_eq!(ran, armed);
    Ok(())
}
