//! Events set by threads, for loops and threads that wait.

use loom::thread::spawn;
use modelled::{Event, Exit, Next, Reactor, SetOutcome, join};

use crate::model;

/// Returns a loop that waits once for `event`, and counts it.
fn loop_with(event: &Event) -> Reactor<usize> {
    let mut reactor = Reactor::<usize>::new().unwrap();
    let key = reactor.on_event(event, |cx| {
        *cx.state += 1;
        Ok(Next::Remove)
    });
    key.unwrap();
    reactor
}

/// Fails if `set` leaves the waits to those who come later.
#[test]
fn each_set_lets_one_wait_through_on_a_loop_or_a_thread() {
    model(|| {
        let event = Event::auto_reset();
        let mut reactor = loop_with(&event);
        let waiting = spawn({
            let event = event.clone();
            move || assert!(event.wait(None))
        });
        let setting = spawn({
            let event = event.clone();
            move || assert_eq!([event.set(), event.set()], [SetOutcome::Set; 2])
        });
        let mut calls = 0;
        assert_eq!(reactor.run(&mut calls).unwrap(), Exit::NothingLeft);
        join(waiting);
        join(setting);
        assert_eq!((calls, event.is_set()), (1, false));
    });
}

/// Fails if a set that was consumed for the registration is not restored.
#[test]
fn a_set_is_restored_if_its_registration_ends_first() {
    model(|| {
        let event = Event::auto_reset();
        let mut reactor = Reactor::<usize>::new().unwrap();
        let key = reactor.on_event(&event, |cx| {
            *cx.state += 1;
            Ok(Next::Keep)
        });
        let key = key.unwrap();
        reactor.defer(move |cx| cx.registry.remove(key).unwrap());
        let setting = spawn({
            let event = event.clone();
            move || assert_eq!(event.set(), SetOutcome::Set)
        });
        let mut calls = 0;
        assert_eq!(reactor.run(&mut calls).unwrap(), Exit::NothingLeft);
        join(setting);
        assert_eq!(
            calls + usize::from(event.is_set()),
            1,
            "handled, or still set"
        );
    });
}

/// Fails if a set that is restored does not end the next wait.
#[test]
fn a_set_that_a_loop_does_not_use_is_passed_to_the_thread_that_waits() {
    model(|| {
        let event = Event::auto_reset();
        let reactor = loop_with(&event);
        let waiting = spawn({
            let event = event.clone();
            move || assert!(event.wait(None))
        });
        let setting = spawn({
            let event = event.clone();
            move || event.set()
        });
        drop(reactor);
        join(waiting);
        join(setting);
        assert!(!event.is_set());
    });
}

/// Fails if a wait that misses an event keeps those before it.
#[test]
fn a_wait_for_all_takes_no_event_before_it_has_all() {
    model(|| {
        let (left, right) = (Event::auto_reset(), Event::auto_reset());
        let mut reactor = loop_with(&left);
        let waiting = spawn({
            let (left, right) = (left.clone(), right.clone());
            move || assert!(Event::wait_all(&[&right, &left], None))
        });
        let setting = spawn({
            let (left, right) = (left.clone(), right.clone());
            move || {
                assert_eq!(right.set(), SetOutcome::Set);
                assert_eq!([left.set(), left.set()], [SetOutcome::Set; 2]);
            }
        });
        let mut calls = 0;
        assert_eq!(reactor.run(&mut calls).unwrap(), Exit::NothingLeft);
        join(waiting);
        join(setting);
        assert_eq!((calls, left.is_set(), right.is_set()), (1, false, false));
    });
}

/// Fails if the thread whose wait has ended is not unparked.
#[test]
fn a_wait_for_any_takes_one_event_and_leaves_the_other() {
    model(|| {
        let (left, right) = (Event::auto_reset(), Event::auto_reset());
        let setting = [&left, &right].map(|event| {
            let event = event.clone();
            spawn(move || event.set())
        });
        let both = [&left, &right];
        let first = Event::wait_any(&both, None).unwrap();
        let second = Event::wait_any(&both, None).unwrap();
        assert_eq!(first + second, 1, "each event ends one wait");
        setting.into_iter().for_each(|thread| {
            let _ = join(thread);
        });
        assert!(!left.is_set() && !right.is_set());
    });
}
