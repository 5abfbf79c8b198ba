//! Timers on the wall clock, which may be set.

use std::time::SystemTime;

use reactor::{Next, Reactor, Then};

use super::{Log, manual, ms, note};
use crate::{Result, turn_now};

#[test]
fn a_wall_clock_timer_runs_at_its_time_also_after_the_clock_was_set() -> Result {
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
fn a_timer_may_rearm_on_either_clock_and_be_extended_or_cancelled() -> Result {
    let (mut reactor, clock, began) = manual()?;
    let wall = clock.wall();
    let mut thens = vec![
        Then::Done,
        Then::AtWall(wall),
        Then::After(ms(5)),
        Then::AtWall(wall + ms(100)),
    ];
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
    clock.set_wall(wall - ms(7)); // not affected after `reset`
    let mut log = Log::new();
    reactor.advance(&mut log, ms(1000))?;
    let late = log
        .iter()
        .position(|(name, _)| *name == "with slack")
        .map(|place| log.remove(place).1);
    assert!(
        late.is_some_and(|late| (ms(57)..=ms(58)).contains(&late)),
        "{late:?}"
    );
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
    assert!(
        ran.iter().map(|(place, _)| *place).eq(0..20),
        "ties in the order of arming: {ran:?}"
    );
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
    assert_eq!(
        log.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
        names
    );
    Ok(())
}

#[test]
fn a_wall_clock_set_before_the_first_timer_on_it_changes_no_order() -> Result {
    let (mut reactor, clock, began) = manual()?;
    clock.set_wall(clock.wall() - ms(400));
    reactor.at_wall(
        clock.wall() + ms(10),
        note("by the wall", began, Then::Done),
    )?;
    reactor.after(ms(10), note("armed later", began, Then::Done));
    let mut log = Log::new();
    reactor.advance(&mut log, ms(10))?;
    assert_eq!(log, [("by the wall", ms(10)), ("armed later", ms(10))]);
    Ok(())
}

#[test]
fn a_clock_set_back_in_the_very_turn_of_a_timer_postpones_it() -> Result {
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
    assert_eq!(
        reactor.advance(&mut log, ms(14))?,
        0,
        "what was put off has not run"
    );
    reactor.advance(&mut log, ms(1))?;
    assert_eq!(log, [("put off", ms(15))]);
    Ok(())
}
