//! The reasons why a loop runs: the list of reasons, their lines, and that it is empty exactly when
//! `run` returns.

use std::panic::Location;
use std::time::Duration;

use reactor::{Capacity, Error, Interest, Next, Reactor, ReasonToRun, Then, notification_queue};

use crate::{Result, readable, turn_now};

const HOUR: Duration = Duration::from_secs(3600);

#[track_caller]
const fn here() -> &'static Location<'static> {
    Location::caller()
}

/// Returns the kind and the line of each reason, in the order of the list.
fn listed<S>(reactor: &Reactor<S>) -> Vec<(&'static str, Option<u32>)> {
    let reasons = reactor.reasons_to_run().map(|reason| {
        let kind = match reason {
            ReasonToRun::Source(_) => "source",
            ReasonToRun::Timer(_) => "timer",
            ReasonToRun::Deferred { .. } => "deferred",
            ReasonToRun::Idle { .. } => "idle",
            ReasonToRun::KeepAlive { .. } => "keep-alive",
            ReasonToRun::Messages(_) => "messages",
            ReasonToRun::Wake => "wake",
            other => panic!("{other}"),
        };
        assert!(
            reason
                .origin()
                .is_none_or(|origin| origin.file() == file!()),
            "{reason}"
        );
        (kind, reason.origin().map(Location::line))
    });
    reasons.collect()
}

#[test]
fn every_reason_why_run_does_not_end_is_listed_by_its_line() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let remote = reactor.remote()?;
    let (source, _far) = readable()?;
    let line = line!() + 1;
    let source = reactor.add(source, Interest::NONE, |_, _| Ok(Next::Keep))?;
    let timer = reactor.after(HOUR, |_| Ok(Then::Done));
    let idle = reactor.idle(|_| Ok(Next::Keep));
    let tokens = [(); 2].map(|()| remote.keep_alive());
    reactor.defer(|_| ());
    let expected = [
        ("source", 0),
        ("timer", 1),
        ("deferred", 4),
        ("idle", 2),
        ("keep-alive", 3),
    ];
    assert_eq!(
        listed(&reactor),
        expected.map(|(kind, after)| (kind, Some(line + after)))
    );
    let shown: Vec<_> = reactor
        .reasons_to_run()
        .map(|reason| reason.to_string())
        .collect();
    assert!(
        shown[1].starts_with("timer 0v1 in 3599.") || shown[1].starts_with("timer 0v1 in 3600s "),
        "{}",
        shown[1]
    );
    assert!(shown[2].contains("every_reason_why_run"), "{}", shown[2]);
    assert!(
        shown[4].contains(&format!("reasons.rs:{}:", line + 3)) && shown[4].ends_with(", 2 held"),
        "{}",
        shown[4]
    );
    remote.wake();
    assert_eq!(listed(&reactor).last(), Some(&("wake", None)));
    turn_now(&mut reactor, &mut ());
    drop(tokens); // wakes the loop to check
    reactor.remove(source)?;
    reactor.cancel(timer)?;
    reactor.remove_hook(idle)?;
    turn_now(&mut reactor, &mut ());
    assert_eq!(listed(&reactor), []);
    reactor.run(&mut ())?;
    Ok(())
}

#[test]
fn the_list_is_empty_exactly_when_run_takes_no_turn() -> Result {
    for subset in 0..1_u32 << 7 {
        let mut reactor = Reactor::<()>::new()?;
        let remote = reactor.remote()?;
        let (sender, receiver) = notification_queue::<u8>(Capacity::Unbounded);
        let queue = reactor.consume(receiver, |_, _| Ok(Next::Keep))?;
        reactor.set_background(queue)?;
        let (source, _far) = readable()?;
        let key = reactor.add(source, Interest::NONE, |_, _| Ok(Next::Keep))?;
        let timer = reactor.after(HOUR, |_| Ok(Then::Done));
        let mut token = None;
        reactor.before_wait(|cx| {
            cx.registry.stop();
            Ok(Next::Keep)
        });
        reactor.set_background(key)?;
        reactor.set_timer_background(timer)?;
        assert_eq!(listed(&reactor), [], "what is in the background, and hooks");
        for reason in (0..7).filter(|bit| subset & 1 << bit != 0) {
            match reason {
                0 => reactor.set_foreground(key)?,
                1 => reactor.set_timer_foreground(timer)?,
                2 => drop(reactor.defer(|_| ())),
                3 => drop(reactor.idle(|_| Ok(Next::Remove))),
                4 => token = Some(remote.keep_alive()),
                5 => sender.try_send(1).map_err(|_| "it was refused")?,
                _ => remote.wake(),
            }
        }
        let turns = reactor.metrics().turns;
        let reasons = listed(&reactor);
        reactor.run(&mut ())?;
        assert_eq!(
            reactor.metrics().turns - turns,
            u64::from(!reasons.is_empty()),
            "{reasons:?}"
        );
        assert_eq!(reasons.is_empty(), subset == 0);
        drop(token);
    }
    Ok(())
}

#[test]
fn values_that_a_queue_in_the_background_still_has_are_a_reason() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (sender, receiver) = notification_queue::<u8>(Capacity::Unbounded);
    let line = line!() + 1;
    let queue = reactor.consume(receiver, |_, _| Ok(Next::Keep))?;
    reactor.set_background(queue)?;
    reactor.set_max_messages_per_turn(queue, 1)?;
    (0..3)
        .try_for_each(|value| sender.try_send(value))
        .map_err(|_| "it was refused")?;
    assert_eq!(
        listed(&reactor),
        [("wake", None)],
        "the loop has not looked"
    );
    turn_now(&mut reactor, &mut ());
    assert_eq!(listed(&reactor), [("messages", Some(line))]);
    reactor.run(&mut ())?;
    assert_eq!(listed(&reactor), []);
    Ok(())
}

#[test]
fn registrations_of_a_library_can_show_the_line_of_its_user() -> Result {
    let mut reactor = Reactor::<(u32, bool)>::new()?;
    let remote = reactor.remote()?;
    let line = line!() + 1;
    let user = here();
    let timer = reactor.after(Duration::ZERO, |_| Ok(Then::After(HOUR)));
    reactor.set_timer_origin(timer, user)?;
    assert_eq!(listed(&reactor), [("timer", Some(line))]);
    turn_now(&mut reactor, &mut (0, false));
    assert_eq!(
        listed(&reactor),
        [("timer", Some(line))],
        "also when it has run"
    );
    reactor.cancel(timer)?;
    assert!(matches!(
        reactor.set_timer_origin(timer, user),
        Err(Error::StaleKey(_))
    ));
    remote.post_from(user, |_| ()).map_err(|_| "it is gone")?;
    reactor.after(Duration::ZERO, |cx| {
        cx.registry.defer(|cx| {
            let listed = cx
                .registry
                .reasons_to_run()
                .filter_map(|reason| reason.origin())
                .map(Location::line);
            assert_eq!(
                listed.collect::<Vec<_>>(),
                [cx.state.0],
                "what was posted is deferred behind it"
            );
            cx.state.1 = true;
        });
        Ok(Then::Done)
    });
    let mut state = (line, false);
    turn_now(&mut reactor, &mut state);
    assert!(state.1);
    reactor.defer_from(user, |_| ());
    assert_eq!(listed(&reactor), [("deferred", Some(line))]);
    let (source, _far) = readable()?;
    let key = reactor.add(source, Interest::NONE, |_, _| Ok(Next::Keep))?;
    reactor.set_origin(key, user)?;
    assert_eq!(reactor.origin(key)?, user);
    reactor.remove(key)?;
    assert!(matches!(reactor.origin(key), Err(Error::StaleKey(_))));
    Ok(())
}
