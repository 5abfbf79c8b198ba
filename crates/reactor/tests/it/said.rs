//! Statements of the documentation about rare cases, and cases in which a user may expect the
//! opposite.

use std::io::ErrorKind;
use std::time::Duration;

use reactor::{Event, EventFd, Interest, ManualClock, Missed, Next, Reactor};

use crate::{Result, set_event, sets, turn_now};

const NOW: Option<Duration> = Some(Duration::ZERO);

#[test]
fn an_event_that_is_named_twice_in_a_wait_for_all_is_passed_twice() {
    let semaphore = Event::semaphore(1, 3);
    assert!(
        !Event::wait_all(&[&semaphore, &semaphore.clone()], NOW),
        "one count is not enough"
    );
    assert!(sets(&semaphore) && Event::wait_all(&[&semaphore; 2], NOW));
    assert!(!semaphore.is_set(), "both were taken");
    let auto = set_event();
    assert!(!Event::wait_all(&[&auto; 2], NOW), "it lets one through");
    assert!(auto.is_set(), "and was not passed");
    let manual = Event::manual_reset();
    manual.set();
    assert!(Event::wait_all(&[&manual; 2], NOW) && manual.is_set());
}

#[test]
fn a_handler_of_no_events_is_never_called_and_keeps_the_loop_running() -> Result {
    let mut reactor = Reactor::<u32>::new()?;
    let called = |cx: &mut reactor::Context<'_, u32>| {
        *cx.state += 1;
        Ok(Next::Keep)
    };
    let keys = [
        reactor.on_any(&[], move |_, cx| called(cx))?,
        reactor.on_all(&[], called)?,
    ];
    let mut calls = 0;
    turn_now(&mut reactor, &mut calls);
    assert_eq!((calls, reactor.reasons_to_run().count()), (0, 2));
    keys.into_iter().try_for_each(|key| reactor.remove(key))?;
    reactor.run(&mut calls)?;
    Ok(())
}

#[test]
fn a_handler_of_an_eventfd_is_called_again_to_find_it_empty() -> Result {
    let event = EventFd::counter(0)?;
    let other = event.try_clone()?;
    let mut reactor = Reactor::<Vec<Option<u64>>>::new()?;
    reactor.add(event, Interest::READABLE, |event, cx| {
        let count = event.try_io(Interest::READABLE, |event| event.read());
        cx.state.push(count.as_ref().ok().copied());
        count.map(|_| Next::Keep)
    })?;
    let mut reads = Vec::new();
    other.add(3)?;
    turn_now(&mut reactor, &mut reads);
    assert_eq!(reads, [Some(3)], "one call a turn");
    turn_now(&mut reactor, &mut reads);
    turn_now(&mut reactor, &mut reads);
    assert_eq!(reads, [Some(3), None]);
    Ok(())
}

#[test]
fn a_reset_of_a_periodic_timer_by_its_own_callback_changes_nothing() -> Result {
    let mut reactor = Reactor::<(Vec<u64>, Option<reactor::TimerKey>)>::builder()
        .clock(ManualClock::new())
        .build()?;
    let began = reactor.now();
    let timer = reactor.every(Duration::from_secs(10), Missed::Skip, move |cx| {
        cx.state.0.push((cx.now() - began).as_secs());
        let timer = cx.state.1.ok_or(ErrorKind::NotFound)?;
        cx.registry.reset(timer, Duration::from_secs(1))?;
        Ok(Next::Keep)
    });
    let mut state = (Vec::new(), Some(timer));
    reactor.advance(&mut state, Duration::from_secs(35))?;
    assert_eq!(state.0, [10, 20, 30]);
    // From elsewhere: one tick, with the later ticks unchanged.
    reactor.reset(timer, Duration::from_secs(2))?;
    reactor.advance(&mut state, Duration::from_secs(20))?;
    assert_eq!(state.0, [10, 20, 30, 37, 50]);
    Ok(())
}

#[test]
fn all_remotes_together_are_one_background_registration() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let first = reactor.remote()?;
    let _second = (reactor.remote()?, first.clone());
    assert_eq!((reactor.len(), reactor.is_empty()), (1, false));
    let names: Vec<_> = reactor
        .registrations()
        .map(|listed| (listed.name.to_owned(), listed.keeps_alive))
        .collect();
    assert_eq!(names, [("remote".to_owned(), false)]);
    reactor.run(&mut ())?; // returns at once
    Ok(())
}
