//! Lookups that end before their answer: cancelled, or with their loop. Functions that panic.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::Duration;

use handlers::{Lookup, Resolver};
use reactor::{PanicPolicy, Reactor};
use support::{Result, run_out, turn_until};

use crate::{Answer, Told, address, held, resolve, target};

#[test]
fn a_cancelled_lookup_drops_its_callback_at_once() -> Result {
    let (resolver, held) = held(Resolver::builder());
    let mut reactor = Reactor::<()>::new()?;
    let captured = Rc::new(());
    let kept = Rc::clone(&captured);
    let lookup = resolver.resolve(
        &mut reactor,
        &target("db.example:80"),
        move |_answer, _cx| unreachable!("{kept:?}: it was cancelled"),
    );
    let other = lookup.clone();
    held.expect_begun(&["db.example"]);
    lookup.cancel(&mut reactor);
    assert_eq!(Rc::strong_count(&captured), 1);
    assert!(!lookup.is_pending() && !other.is_pending());
    assert!(reactor.is_empty());
    assert_eq!(reactor.timers().count(), 0);
    other.cancel(&mut reactor); // once more: nothing happens
    held.answers.send(Ok(Vec::new()))?;
    run_out(&mut reactor, &mut ())
}

#[test]
fn a_dropped_handle_cancels_nothing() -> Result {
    let (resolver, held) = held(Resolver::builder());
    let mut reactor = Reactor::<Told>::new()?;
    drop(resolve(&resolver, &mut reactor, "db.example:80"));
    drop(resolver);
    held.answers.send(Ok(vec![address("192.0.2.1:80")]))?;
    let mut told = Told::default();
    run_out(&mut reactor, &mut told)?;
    assert_eq!(told.names(), [("db.example:80", true)]);
    Ok(())
}

/// The state of a loop of which only one callback may run.
#[derive(Debug, Default)]
struct Once {
    lookups: Vec<Lookup<Self>>,
    called: usize,
}

#[test]
fn a_callback_can_cancel_itself_and_another_that_is_due() -> Result {
    for name in ["192.0.2.1:80", "[fe80::1%none]:80", "unix:@name"] {
        let mut reactor = Reactor::<Once>::new()?;
        let mut once = Once::default();
        for _ in 0..3 {
            let resolver = Resolver::default();
            let lookup = resolver.resolve(&mut reactor, &target(name), |_answer, cx| {
                cx.state.called += 1;
                for lookup in &cx.state.lookups {
                    lookup.cancel(cx.registry);
                }
            });
            once.lookups.push(lookup);
        }
        run_out(&mut reactor, &mut once)?;
        assert_eq!(once.called, 1);
    }
    Ok(())
}

#[test]
fn a_callback_can_look_up_the_next_name() -> Result {
    let resolver = Resolver::builder()
        .max_threads(1)
        .lookup(|_host, _service| Ok(vec![address("192.0.2.1:80")]))
        .build();
    let mut reactor = Reactor::<Told>::new()?;
    let next = resolver.clone();
    resolver.resolve(&mut reactor, &target("a.example:80"), move |_answer, cx| {
        resolve(&next, cx.registry, "b.example:80");
    });
    let mut told = Told::default();
    run_out(&mut reactor, &mut told)?;
    assert_eq!(told.names(), [("b.example:80", true)]);
    Ok(())
}

#[test]
fn a_lookup_is_dropped_with_its_loop() -> Result {
    let (resolver, held) = held(Resolver::builder().max_threads(1));
    let mut reactor = Reactor::<()>::new()?;
    let captured = Rc::new(());
    let lookups = ["a.example:80", "b.example:80", "127.0.0.1:80"].map(|name| {
        let kept = Rc::clone(&captured);
        resolver.resolve(&mut reactor, &target(name), move |_answer, _cx| {
            unreachable!("{kept:?}: its loop is gone")
        })
    });
    held.expect_begun(&["a.example"]);
    drop(reactor); // does not wait for the thread
    assert_eq!(Rc::strong_count(&captured), 1);
    assert!(lookups.iter().all(|lookup| !lookup.is_pending()));

    // The answer reaches nobody, and the thread serves another loop.
    let mut reactor = Reactor::<Told>::new()?;
    resolve(&resolver, &mut reactor, "c.example:80");
    held.answers.send(Ok(vec![address("192.0.2.1:80")]))?;
    held.answers.send(Ok(vec![address("192.0.2.2:80")]))?;
    let mut told = Told::default();
    run_out(&mut reactor, &mut told)?;
    assert_eq!(told.0[0].1.as_deref(), Ok(&[address("192.0.2.2:80")][..]));
    held.expect_begun(&["c.example"]);
    Ok(())
}

#[test]
fn a_registration_that_is_removed_ends_its_lookup_at_the_timeout() -> Result {
    let (resolver, _held) = held(Resolver::builder());
    let (mut reactor, clock) = crate::still()?;
    resolve(&resolver, &mut reactor, "db.example:80");
    let lookup = reactor
        .registrations()
        .find(|registration| registration.name == "lookup of db.example:80");
    let key = lookup.ok_or("it is listed")?.key;
    reactor.remove(key)?;
    clock.advance(Duration::from_secs(10));
    let mut told = Told::default();
    turn_until(&mut reactor, &mut told, |told| !told.0.is_empty())?;
    assert_eq!(told.names(), [("db.example:80", false)]);
    Ok(())
}

#[test]
fn a_panic_of_the_lookup_function_is_an_error_of_its_lookup() -> Result {
    let resolver = Resolver::builder()
        .max_threads(1)
        .lookup(|host, _service| match host {
            "a.example" => panic!("no {host}"),
            "b.example" => std::panic::panic_any(PanicsWhenDropped),
            _ => Ok(vec![address("192.0.2.1:80")]),
        })
        .build();
    let mut reactor = Reactor::<Told>::new()?;
    for name in ["a.example:80", "b.example:80", "c.example:80"] {
        resolve(&resolver, &mut reactor, name);
    }
    let mut told = Told::default();
    run_out(&mut reactor, &mut told)?;
    let panicked = |name: &str, message: &str| {
        let text = format!("resolve {name}: the function that looks up panicked: {message}");
        (name.to_owned(), Err(text))
    };
    let expected = [
        panicked("a.example:80", "no a.example"),
        panicked("b.example:80", "a panic whose payload is no text"),
        ("c.example:80".to_owned(), Ok(vec![address("192.0.2.1:80")])),
    ];
    assert_eq!(told.0, expected);
    Ok(())
}

/// Panics in its destructor.
#[derive(Debug)]
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("the destructor");
    }
}

impl std::fmt::Display for PanicsWhenDropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an error")
    }
}

impl std::error::Error for PanicsWhenDropped {}

#[test]
fn a_thread_survives_an_error_that_panics_when_dropped() -> Result {
    let (resolver, held) = held(Resolver::builder().max_threads(1));
    let mut reactor = Reactor::<Told>::new()?;
    let lookup = resolve(&resolver, &mut reactor, "a.example:80");
    held.expect_begun(&["a.example"]);
    lookup.cancel(&mut reactor);
    held.answers
        .send(Err(io::Error::other(PanicsWhenDropped)))?;
    resolve(&resolver, &mut reactor, "b.example:80");
    held.answers.send(Ok(vec![address("192.0.2.1:80")]))?;
    let mut told = Told::default();
    run_out(&mut reactor, &mut told)?;
    assert_eq!(told.names(), [("b.example:80", true)]);
    Ok(())
}

#[test]
fn a_callback_that_panics_ends_its_lookup_and_no_other() -> Result {
    let resolver = Resolver::builder()
        .lookup(|_host, _service| Ok(vec![address("192.0.2.1:80")]))
        .build();
    let mut reactor = Reactor::<Told>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    resolver.resolve(&mut reactor, &target("a.example:80"), |_answer, _cx| {
        panic!("the callback")
    });
    resolve(&resolver, &mut reactor, "b.example:80");
    let mut told = Told::default();
    run_out(&mut reactor, &mut told)?;
    assert_eq!(told.names(), [("b.example:80", true)]);
    assert!(reactor.is_empty());
    assert_eq!(reactor.timers().count(), 0);
    Ok(())
}

#[test]
fn a_callback_may_panic_when_it_is_dropped() -> Result {
    let (resolver, _held) = held(Resolver::builder());
    let start = |reactor: &mut Reactor<()>| {
        let captured = PanicsWhenDropped;
        resolver.resolve(reactor, &target("db.example:80"), move |_answer, _cx| {
            unreachable!("{captured:?}: it was cancelled")
        })
    };
    let mut reactor = Reactor::<()>::new()?;
    let lookup = start(&mut reactor);
    let cancelled = catch_unwind(AssertUnwindSafe(|| lookup.cancel(&mut reactor)));
    assert!(cancelled.is_err());
    assert!(reactor.is_empty() && !lookup.is_pending());
    assert_eq!(reactor.timers().count(), 0);
    run_out(&mut reactor, &mut ())?;

    let (dropped, drops) = channel::<()>();
    let _first = start(&mut reactor);
    resolver.resolve(
        &mut reactor,
        &target("b.example:80"),
        move |_answer: Answer, _cx| unreachable!("{dropped:?}: its loop is gone"),
    );
    assert!(catch_unwind(AssertUnwindSafe(|| drop(reactor))).is_err());
    assert!(drops.recv().is_err(), "the second callback is dropped too");
    Ok(())
}
