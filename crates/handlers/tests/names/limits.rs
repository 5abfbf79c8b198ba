//! The limits of a resolver, at their bounds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use handlers::{Resolver, ResolverBuilder};
use reactor::Reactor;
use support::{Result, run_out, turn_until, turn_until_quiet};

use crate::{Held, Told, address, held, resolve, still};

/// Looks up `a.example`, `b.example` and so on, and returns the refused ones.
fn refused(builder: ResolverBuilder, count: u8) -> Result<String> {
    let (resolver, held) = held(builder);
    let mut reactor = Reactor::<Told>::new()?;
    for host in (b'a'..).take(count.into()).map(char::from) {
        resolve(&resolver, &mut reactor, &format!("{host}.example:80"));
    }
    let mut told = Told::default();
    reactor.turn(&mut told, Some(Duration::ZERO))?;
    let refused = told.names().iter().map(|(name, _)| &name[..1]).collect();
    drop(held);
    run_out(&mut reactor, &mut told)?;
    assert_eq!(told.0.len(), usize::from(count));
    Ok(refused)
}

#[test]
fn lookups_beyond_the_limits_are_refused() -> Result {
    let limits = |threads, waiting| {
        Resolver::builder()
            .max_threads(threads)
            .max_waiting(waiting)
    };
    assert_eq!(refused(limits(1, 0), 3)?, "bc");
    assert_eq!(refused(limits(0, 0), 3)?, "bc"); // one thread at least
    assert_eq!(refused(limits(2, 0), 3)?, "c");
    assert_eq!(refused(limits(1, 1), 3)?, "c");
    assert_eq!(refused(limits(2, 1), 4)?, "d");
    assert_eq!(refused(limits(1, usize::MAX), 20)?, "");
    assert_eq!(refused(limits(usize::MAX, 0), 20)?, "");
    assert_eq!(refused(limits(usize::MAX, usize::MAX), 20)?, "");
    assert_eq!(refused(Resolver::builder(), 20)?, "");
    Ok(())
}

#[test]
fn a_refusal_names_the_limits() -> Result {
    let (resolver, held) = held(Resolver::builder().max_threads(1).max_waiting(1));
    let mut reactor = Reactor::<Vec<io::Error>>::new()?;
    for _ in 0..3 {
        let target = crate::target("db.example:80");
        resolver.resolve(&mut reactor, &target, |answer, cx| {
            cx.state.extend(answer.err());
        });
    }
    let mut errors = Vec::new();
    reactor.turn(&mut errors, Some(Duration::ZERO))?;
    let error = errors.pop().ok_or("a refusal")?;
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    assert_eq!(
        error.to_string(),
        "resolve db.example:80: too many lookups: 1 run and 1 wait (the limits)"
    );
    drop(held);
    run_out(&mut reactor, &mut errors)
}

#[test]
fn no_more_lookups_run_at_once_than_there_may_be_threads() -> Result {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (counted, seen) = (Arc::clone(&running), Arc::clone(&most));
    let resolver = Resolver::builder()
        .max_threads(3)
        .lookup(move |_host, _service| {
            seen.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            counted.fetch_sub(1, Ordering::SeqCst);
            Ok(vec![address("192.0.2.1:80")])
        })
        .build();
    let mut reactor = Reactor::<Told>::new()?;
    for _ in 0..500 {
        resolve(&resolver, &mut reactor, "db.example:80");
    }
    let mut told = Told::default();
    run_out(&mut reactor, &mut told)?;
    assert_eq!(told.0.len(), 500);
    assert!(told.names().iter().all(|(_, found)| *found));
    assert!(most.load(Ordering::SeqCst) <= 3, "{most:?} at once");
    Ok(())
}

#[test]
fn idle_threads_are_used_before_others_are_started() -> Result {
    let (resolver, held) = held(Resolver::builder().max_threads(8));
    let mut reactor = Reactor::<Told>::new()?;
    let mut told = Told::default();
    for count in 1..=5 {
        resolve(&resolver, &mut reactor, "db.example:80");
        held.answers.send(Ok(vec![address("192.0.2.1:80")]))?;
        turn_until(&mut reactor, &mut told, |told| told.0.len() == count)?;
        wait_until_idle(&resolver);
        assert!(
            format!("{resolver:?}").contains("threads: 1"),
            "{resolver:?}"
        );
    }
    Ok(())
}

/// Waits until each thread has returned from its lookup.
fn wait_until_idle(resolver: &Resolver) {
    while !format!("{resolver:?}").contains("running: 0") {
        std::thread::yield_now();
    }
}

#[test]
fn a_timeout_of_zero_ends_a_lookup_in_the_next_turn() -> Result {
    let (resolver, held) = held(Resolver::builder().timeout(Duration::ZERO));
    let (mut reactor, _clock) = still()?;
    resolve(&resolver, &mut reactor, "db.example:80");
    let mut told = Told::default();
    held.expect_begun(&["db.example"]);
    turn_until(&mut reactor, &mut told, |told| !told.0.is_empty())?;
    assert_eq!(
        told.error(),
        "resolve db.example:80: no answer within 0ns: check the name servers of /etc/resolv.conf"
    );
    Ok(())
}

#[test]
fn no_timeout_and_the_greatest_one_never_expire() -> Result {
    for timeout in [None, Some(Duration::MAX)] {
        let (resolver, held) = held(Resolver::builder().timeout(timeout));
        let (mut reactor, clock) = still()?;
        let lookup = resolve(&resolver, &mut reactor, "db.example:80");
        let mut told = Told::default();
        clock.advance(Duration::from_secs(365 * 24 * 3600));
        reactor.turn(&mut told, Some(Duration::ZERO))?;
        reactor.turn(&mut told, Some(Duration::ZERO))?;
        assert!(lookup.is_pending());
        drop(held);
        run_out(&mut reactor, &mut told)?;
        assert_eq!(told.error(), "resolve db.example:80: no answer");
    }
    Ok(())
}

#[test]
fn a_timeout_includes_the_time_before_a_thread_is_free() -> Result {
    let timeout = Duration::from_secs(3);
    let (resolver, held) = held(Resolver::builder().max_threads(1).timeout(timeout));
    let (mut reactor, clock) = still()?;
    let mut told = Told::default();
    resolve(&resolver, &mut reactor, "hangs.example:80");
    held.expect_begun(&["hangs.example"]);
    clock.advance(Duration::from_secs(1));
    resolve(&resolver, &mut reactor, "waits.example:80");
    clock.advance(Duration::from_secs(2));
    turn_until(&mut reactor, &mut told, |told| told.0.len() == 1)?;
    assert_eq!(told.names(), [("hangs.example:80", false)]);
    told.0.clear();
    clock.advance(Duration::from_secs(1));
    turn_until(&mut reactor, &mut told, |told| told.0.len() == 1)?;
    assert_eq!(
        told.error(),
        "resolve waits.example:80: not begun within 3s: other lookups occupy all threads (1)"
    );
    run_out(&mut reactor, &mut told)?;

    // The thread goes on with the next lookup, and not with those that are over.
    told.0.clear();
    resolve(&resolver, &mut reactor, "next.example:80");
    held.answers.send(Ok(vec![address("192.0.2.1:80")]))?;
    held.answers.send(Ok(vec![address("192.0.2.2:80")]))?;
    turn_until(&mut reactor, &mut told, |told| told.0.len() == 1)?;
    assert_eq!(told.0[0].1.as_deref(), Ok(&[address("192.0.2.2:80")][..]));
    held.expect_begun(&["next.example"]);
    Ok(())
}

#[test]
fn an_answer_that_has_arrived_wins_against_the_timeout() -> Result {
    for held_up in [10_000, 10_099, 3_600_000].map(Duration::from_millis) {
        let (resolver, held) = held(Resolver::builder().max_threads(1));
        let (mut reactor, clock) = still()?;
        let mut told = Told::default();
        resolve(&resolver, &mut reactor, "arrived.example:80");
        resolve(&resolver, &mut reactor, "hangs.example:80");
        held.answers.send(Ok(vec![address("192.0.2.1:80")]))?;
        held.expect_begun(&["arrived.example", "hangs.example"]); // the first has been answered
        clock.advance(held_up);
        reactor.turn(&mut told, Some(Duration::ZERO))?;
        assert!(told.names().contains(&("arrived.example:80", true)));
        clock.advance(Duration::from_millis(100)); // the others get a little time to catch up
        turn_until(&mut reactor, &mut told, |told| told.0.len() == 2)?;
        assert!(told.names().contains(&("hangs.example:80", false)));
    }
    Ok(())
}

#[test]
fn a_lookup_has_time_to_catch_up_after_a_stop_of_the_process() -> Result {
    let (resolver, held) = held(Resolver::builder());
    let (mut reactor, clock) = still()?;
    let mut told = Told::default();
    resolve(&resolver, &mut reactor, "db.example:80");
    clock.advance(Duration::from_millis(10_100));
    turn_until_quiet(&mut reactor, &mut told)?;
    clock.advance(Duration::from_millis(99));
    turn_until_quiet(&mut reactor, &mut told)?;
    assert_eq!(told.0, []);
    held.answers.send(Ok(vec![address("192.0.2.1:80")]))?;
    turn_until(&mut reactor, &mut told, |told| !told.0.is_empty())?;
    assert_eq!(told.names(), [("db.example:80", true)]);
    Ok(())
}

#[test]
fn a_cancelled_lookup_leaves_room_for_others() -> Result {
    let (resolver, Held { begun, answers }) =
        held(Resolver::builder().max_threads(1).max_waiting(2));
    let mut reactor = Reactor::<Told>::new()?;
    let mut told = Told::default();
    resolve(&resolver, &mut reactor, "hangs.example:80");
    assert_eq!(begun.recv()?, "hangs.example");
    for round in 0..100 {
        let lookups =
            ["a.example:80", "b.example:80"].map(|name| resolve(&resolver, &mut reactor, name));
        let refused = resolve(&resolver, &mut reactor, "c.example:80");
        reactor.turn(&mut told, Some(Duration::ZERO))?;
        assert!(!refused.is_pending());
        assert_eq!(told.names(), vec![("c.example:80", false); round + 1]);
        for lookup in lookups {
            lookup.cancel(&mut reactor);
        }
    }
    told.0.clear();
    drop(answers);
    run_out(&mut reactor, &mut told)?;
    assert_eq!(told.names(), [("hangs.example:80", false)]);
    assert!(begun.try_recv().is_err(), "no cancelled lookup has begun");
    Ok(())
}
