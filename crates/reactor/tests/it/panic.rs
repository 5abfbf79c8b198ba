//! Panics in a callback, under both policies, and callbacks that hold up the loop.

use std::cell::Cell;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{
    CloseReason, Context, Handler, Interest, Io, Key, Next, PanicPolicy, Priority, Reactor,
};

use crate::{Log, Result, add_counting_reader, readable, turn_now};

/// Returns ten readers with bytes to read, and one among them that panics.
fn readers_and_one_that_panics(
    policy: PanicPolicy,
) -> Result<(Reactor<Vec<u32>>, Vec<UnixStream>)> {
    let mut reactor = Reactor::builder().on_panic(policy).build()?;
    let mut peers = Vec::new();
    for place in 0..10 {
        if place == 5 {
            let (near, far) = readable()?;
            peers.push(far);
            reactor.add(
                near,
                Interest::READABLE,
                |_, _: &mut Context<'_, Vec<u32>>| panic!("on purpose"),
            )?;
        }
        let (_, mut far) = add_counting_reader(&mut reactor, place)?;
        far.write_all(b"x")?;
        peers.push(far);
    }
    Ok((reactor, peers))
}

/// The others keep their events.
#[test]
fn a_propagated_panic_ends_its_registration_alone() -> Result {
    let (mut reactor, _peers) = readers_and_one_that_panics(PanicPolicy::Propagate)?;
    let mut calls = vec![0; 10];
    let unwound = catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut calls)));
    assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"on purpose"));
    assert_eq!(reactor.len(), 10);
    assert!(
        calls.contains(&0),
        "the panic came before some of the calls"
    );
    turn_now(&mut reactor, &mut calls);
    assert_eq!(calls, [1; 10]);
    Ok(())
}

#[test]
fn a_panic_that_propagates_ends_the_watch_before_the_source_is_closed() -> Result {
    let (near, mut far) = readable()?;
    let duplicate = near.try_clone()?;
    let mut reactor = Reactor::<()>::new()?;
    reactor.add(near, Interest::READABLE, |_, _| panic!("on purpose"))?;
    catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut ()))).unwrap_err();
    far.write_all(b"x")?;
    turn_now(&mut reactor, &mut ());
    assert_eq!(
        reactor.metrics().stale_events,
        0,
        "the duplicate keeps no watch alive"
    );
    reactor.add(duplicate, Interest::READABLE, |near, _| {
        crate::read_all(near).map(|_| Next::Keep)
    })?;
    assert_eq!(turn_now(&mut reactor, &mut ()), 1);
    Ok(())
}

#[test]
fn a_panic_that_propagates_leaves_queues_and_priorities_as_they_were() -> Result {
    let mut reactor = Reactor::<Vec<&str>>::new()?;
    let mut peers = Vec::new();
    for (name, priority) in [
        ("low", Priority::Low),
        ("high", Priority::High),
        ("normal", Priority::Normal),
    ] {
        let (near, far) = readable()?;
        peers.push(far);
        let key = reactor.add(
            near,
            Interest::READABLE,
            move |_, cx: &mut Context<'_, Vec<&str>>| {
                cx.state.push(name);
                if cx.state.len() == 4 {
                    panic!("on purpose")
                } else {
                    Ok(Next::Keep)
                }
            },
        )?;
        reactor.set_priority(key, priority)?;
    }
    let mut words = Vec::new();
    turn_now(&mut reactor, &mut words);
    catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut words))).unwrap_err();
    assert_eq!(words, ["high", "normal", "low", "high"]);
    turn_now(&mut reactor, &mut words);
    assert_eq!(words[4..], ["normal", "low"]);
    Ok(())
}

#[test]
fn a_panic_removes_its_handler_alone_where_the_policy_says_so() -> Result {
    let (mut reactor, _peers) = readers_and_one_that_panics(PanicPolicy::RemoveHandler)?;
    let mut calls = vec![0; 10];
    assert_eq!(turn_now(&mut reactor, &mut calls), 11);
    assert_eq!((calls.as_slice(), reactor.len()), ([1; 10].as_slice(), 10));
    assert_eq!(reactor.metrics().panics, 1);
    Ok(())
}

#[test]
fn panics_in_deferred_callbacks_and_hooks_follow_the_same_policies() -> Result {
    let mut reactor = Reactor::<Vec<&str>>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    reactor.defer(|_| panic!("on purpose"));
    reactor.defer(|cx| cx.state.push("deferred"));
    reactor.before_wait(|_| panic!("on purpose"));
    let mut words = Vec::new();
    turn_now(&mut reactor, &mut words);
    turn_now(&mut reactor, &mut words);
    assert_eq!((words, reactor.metrics().panics), (vec!["deferred"], 2));

    let mut reactor = Reactor::<Vec<&str>>::new()?;
    reactor.defer(|_| panic!("on purpose"));
    reactor.defer(|cx| cx.state.push("deferred"));
    let hook = reactor.after_wait(|cx| {
        if cx.state.is_empty() {
            panic!("on purpose")
        } else {
            Ok(Next::Keep)
        }
    });
    let mut words = Vec::new();
    catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut words))).unwrap_err();
    assert!(reactor.remove_hook(hook).is_err());
    catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut words))).unwrap_err();
    assert_eq!(turn_now(&mut reactor, &mut words), 1);
    assert_eq!(words, ["deferred"]);
    Ok(())
}

#[test]
fn a_handler_that_panicked_is_notified() -> Result {
    struct Panicking(Log);
    impl Handler<(), UnixStream> for Panicking {
        fn ready(&mut self, _: &mut Io<UnixStream>, _: &mut Context<'_, ()>) -> io::Result<Next> {
            panic!("on {}", "purpose")
        }

        fn closed(&mut self, reason: CloseReason, _: &mut Context<'_, ()>) {
            self.0.borrow_mut().push(format!("{reason:?}"));
        }
    }
    let log = Log::default();
    let (near, _far) = readable()?;
    let mut reactor = Reactor::<()>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    reactor.add_handler(near, Interest::READABLE, Panicking(Rc::clone(&log)))?;
    reactor.run(&mut ())?;
    assert_eq!(*log.borrow(), ["Panicked(\"on purpose\")"]);
    Ok(())
}

#[test]
fn a_slow_callback_makes_the_loop_look_closer_and_is_then_reported() -> Result {
    const SLOW: Duration = Duration::from_millis(2);
    let mut reactor = Reactor::<()>::builder().slow_after(SLOW).build()?;
    let busy = |_: &mut Context<'_, ()>| {
        let began = Instant::now();
        while began.elapsed() < SLOW {}
    };
    reactor.defer(busy);
    turn_now(&mut reactor, &mut ());
    assert_eq!(
        (reactor.metrics().slow_calls, reactor.metrics().clock_reads),
        (0, 2),
        "only the turn was timed"
    );
    reactor.defer(busy);
    turn_now(&mut reactor, &mut ());
    assert_eq!(
        (reactor.metrics().slow_calls, reactor.metrics().clock_reads),
        (1, 6)
    );
    Ok(())
}

#[test]
fn without_a_threshold_nothing_is_timed() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    reactor.defer(|_| {});
    turn_now(&mut reactor, &mut ());
    assert_eq!(reactor.metrics().clock_reads, 0);
    Ok(())
}

/// A handler that panics when it is dropped.
struct BombOf(&'static str);

impl Drop for BombOf {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("{}", self.0);
        }
    }
}

#[test]
fn a_registration_may_end_by_its_panic_in_a_loop_that_propagates() -> Result {
    let (mut reactor, _peers) = readers_and_one_that_panics(PanicPolicy::Propagate)?;
    let caught = reactor.registrations().nth(5).unwrap().key;
    reactor.set_panic_policy(caught, PanicPolicy::RemoveHandler)?;
    let mut calls = vec![0; 10];
    turn_now(&mut reactor, &mut calls);
    assert_eq!(
        (
            reactor.metrics().panics,
            reactor.contains(caught),
            calls.iter().sum::<u32>()
        ),
        (1, false, 10)
    );
    // All other panics follow the policy of the loop.
    let (near, _far) = readable()?;
    reactor.add(
        near,
        Interest::READABLE,
        |_, _: &mut Context<'_, Vec<u32>>| panic!("on purpose"),
    )?;
    assert!(catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut calls))).is_err());
    reactor.defer(|_| panic!("on purpose"));
    assert!(catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut calls))).is_err());
    Ok(())
}

#[test]
fn a_registration_may_propagate_in_a_loop_that_removes_handlers() -> Result {
    let (mut reactor, _peers) = readers_and_one_that_panics(PanicPolicy::RemoveHandler)?;
    let essential = reactor.registrations().nth(5).unwrap().key;
    reactor.set_panic_policy(essential, PanicPolicy::Propagate)?;
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        turn_now(&mut reactor, &mut vec![0; 10])
    }));
    assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"on purpose"));
    assert!(!reactor.contains(essential) && reactor.metrics().panics == 0);
    Ok(())
}

#[test]
fn destructors_follow_the_panic_policy_however_the_registration_ends() -> Result {
    for removes_itself in [false, true] {
        let mut reactor = Reactor::<Vec<u32>>::new()?;
        let (near, _far) = readable()?;
        let bomb = BombOf("dropped");
        let key = reactor.add(
            near,
            Interest::READABLE,
            move |_, cx: &mut Context<'_, Vec<u32>>| {
                let _ = &bomb;
                cx.registry.remove(cx.key())?;
                Ok(Next::Keep)
            },
        )?;
        reactor.set_panic_policy(key, PanicPolicy::RemoveHandler)?;
        if removes_itself {
            turn_now(&mut reactor, &mut Vec::new());
        } else {
            reactor.remove(key)?;
        }
        assert_eq!(
            (reactor.metrics().panics, reactor.len()),
            (1, 0),
            "removes itself: {removes_itself}"
        );
    }
    Ok(())
}

#[test]
fn a_policy_is_not_inherited_by_the_next_that_removes_itself() -> Result {
    let mut reactor = Reactor::<Vec<u32>>::new()?;
    for policy in [Some(PanicPolicy::RemoveHandler), None] {
        let (near, _far) = readable()?;
        let bomb = policy.is_none().then(|| BombOf("dropped"));
        let key = reactor.add(
            near,
            Interest::READABLE,
            move |_, cx: &mut Context<'_, Vec<u32>>| {
                let _ = &bomb;
                cx.registry.remove(cx.key())?;
                Ok(Next::Keep)
            },
        )?;
        if let Some(policy) = policy {
            reactor.set_panic_policy(key, policy)?;
            turn_now(&mut reactor, &mut Vec::new());
        }
    }
    assert!(catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut Vec::new()))).is_err());
    assert!(
        reactor
            .set_panic_policy(Key::NULL, PanicPolicy::Propagate)
            .is_err()
    );
    Ok(())
}

/// A handler whose last call panics.
struct PanicsWhenClosed;

impl Handler<Vec<u32>, UnixStream> for PanicsWhenClosed {
    fn ready(&mut self, _: &mut Io<UnixStream>, _: &mut Context<'_, Vec<u32>>) -> io::Result<Next> {
        Ok(Next::Remove)
    }

    fn closed(&mut self, _: CloseReason, _: &mut Context<'_, Vec<u32>>) {
        panic!("on purpose")
    }
}

#[test]
fn the_last_call_of_a_handler_goes_by_the_policy_of_its_registration() -> Result {
    for (of_loop, own) in [
        (PanicPolicy::Propagate, PanicPolicy::RemoveHandler),
        (PanicPolicy::RemoveHandler, PanicPolicy::Propagate),
    ] {
        let mut reactor = Reactor::<Vec<u32>>::builder().on_panic(of_loop).build()?;
        let (near, _far) = readable()?;
        let key = reactor.add_handler(near, Interest::READABLE, PanicsWhenClosed)?;
        reactor.set_panic_policy(key, own)?;
        let turn = catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut Vec::new())));
        assert_eq!(turn.is_err(), own == PanicPolicy::Propagate);
        assert_eq!(
            reactor.metrics().panics,
            u64::from(own == PanicPolicy::RemoveHandler)
        );
        // The next one goes by the policy of the loop.
        let (near, _far) = readable()?;
        reactor.add_handler(near, Interest::READABLE, PanicsWhenClosed)?;
        let turn = catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut Vec::new())));
        assert_eq!(turn.is_err(), of_loop == PanicPolicy::Propagate);
    }
    Ok(())
}

#[test]
fn a_policy_that_a_callback_sets_holds_for_the_calls_behind_it() -> Result {
    let (mut reactor, _peers) = readers_and_one_that_panics(PanicPolicy::Propagate)?;
    let panics = reactor.registrations().nth(5).unwrap().key;
    let (near, _far) = readable()?;
    reactor.after_wait(move |cx| {
        cx.registry
            .set_panic_policy(panics, PanicPolicy::RemoveHandler)?;
        Ok(Next::Remove)
    });
    let mut calls = vec![0; 10];
    turn_now(&mut reactor, &mut calls);
    turn_now(&mut reactor, &mut calls);
    assert_eq!((reactor.metrics().panics, calls), (1, vec![1; 10]));

    let mut reactor = Reactor::<Vec<u32>>::new()?;
    let later = Rc::new(Cell::new(Key::NULL));
    let of_later = Rc::clone(&later);
    reactor.add(
        near,
        Interest::READABLE,
        move |_, cx: &mut Context<'_, Vec<u32>>| {
            cx.registry
                .set_panic_policy(of_later.get(), PanicPolicy::RemoveHandler)?;
            Ok(Next::Remove)
        },
    )?;
    let (near, _far) = readable()?;
    later.set(reactor.add(
        near,
        Interest::READABLE,
        |_, _: &mut Context<'_, Vec<u32>>| panic!("on purpose"),
    )?);
    reactor.run(&mut Vec::new())?;
    assert_eq!(reactor.metrics().panics, 1);
    Ok(())
}
