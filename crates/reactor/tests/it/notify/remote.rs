//! Remotes: closures and calls from other threads, wakeups, and tokens that keep a loop alive.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use reactor::{
    CallError, Capacity, Context, Interest, LoopGone, LoopThread, Next, PanicPolicy, Priority,
    Reactor, Remote, Then, TryPostError, notification_queue,
};

use super::Values;
use crate::{Result, turn_now};

#[test]
fn a_remote_posts_calls_and_stops() -> Result {
    let mut reactor = Reactor::<Values>::new()?;
    let remote = reactor.remote()?;
    let _alive = remote.keep_alive();
    let thread = thread::spawn(move || {
        remote.post(|cx| cx.state.push(1)).unwrap();
        let seen = remote.clone().call(|cx| {
            cx.state.push(2);
            cx.state.len()
        });
        remote.post(|cx| cx.state.push(3)).unwrap();
        remote.stop().unwrap();
        seen
    });
    let mut values = Values::new();
    reactor.run(&mut values)?;
    assert_eq!(thread.join().map_err(|_| "it panicked")?, Ok(2));
    assert_eq!(values, [1, 2, 3]);
    Ok(())
}

#[test]
fn a_call_on_the_loop_thread_is_refused_and_one_to_a_dropped_loop_ends() -> Result {
    let mut reactor = Reactor::<Values>::new()?;
    let remote = reactor.remote()?;
    assert_eq!(remote.call(|_| 1), Err(CallError::OnLoopThread));
    let called = remote.clone();
    let waits = Arc::new(Barrier::new(2));
    let ready = Arc::clone(&waits);
    let thread = thread::spawn(move || {
        ready.wait();
        called.call(|_| 1)
    });
    waits.wait();
    let dropped = Arc::new(());
    let held = Arc::clone(&dropped);
    remote.post(move |_| drop(held))?;
    drop(reactor); // before or after the call was posted
    assert_eq!(
        thread.join().map_err(|_| "it panicked")?,
        Err(CallError::Lost)
    );
    assert_eq!(
        Arc::strong_count(&dropped),
        1,
        "what was not run is dropped"
    );
    assert_eq!(
        (remote.post(|_| ()), remote.stop()),
        (Err(LoopGone), Err(LoopGone))
    );
    remote.wake(); // the loop is gone
    Ok(())
}

#[test]
fn a_stop_outlives_the_queue_that_it_was_posted_to() -> Result {
    let mut reactor = Reactor::<Values>::new()?;
    let remote = reactor.remote()?;
    remote.stop()?;
    let queue = reactor.remote_key().ok_or("a remote was made")?;
    reactor.remove(queue)?;
    turn_now(&mut reactor, &mut Values::new());
    assert!(reactor.is_stopping());
    Ok(())
}

#[test]
fn a_posted_closure_that_panics_takes_no_other_with_it() -> Result {
    for policy in [PanicPolicy::RemoveHandler, PanicPolicy::Propagate] {
        let mut reactor = Reactor::<Values>::builder().on_panic(policy).build()?;
        let remote = reactor.remote()?;
        remote.post(|cx| cx.state.push(1))?;
        remote.post(|_| panic!("as the test wants"))?;
        remote.post(|cx| cx.state.push(2))?;
        let mut values = Values::new();
        let turned = catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut values)));
        assert_eq!(turned.is_err(), policy == PanicPolicy::Propagate);
        remote.post(|cx| cx.state.push(3))?;
        turn_now(&mut reactor, &mut values);
        assert_eq!(values, [1, 2, 3], "{policy:?}");
        assert_eq!(
            reactor.metrics().panics,
            u64::from(policy == PanicPolicy::RemoveHandler)
        );
    }
    Ok(())
}

/// The queue is handed over in several pieces.
#[test]
fn posted_closures_of_all_types_run_in_the_order_of_their_threads() -> Result {
    let mut reactor = Reactor::<[Values; 4]>::new()?;
    let remote = reactor.remote()?;
    let queue = reactor
        .registrations()
        .next()
        .ok_or("the queue of the remotes")?
        .key;
    reactor.set_max_messages_per_turn(queue, 7)?;
    let threads = [0, 1, 2, 3].map(|thread| {
        let (remote, alive) = (remote.clone(), remote.keep_alive());
        thread::spawn(move || {
            for n in 0..1000 {
                let posted = match (n * 7 + thread as u32) % 4 {
                    0 => remote.post(move |cx| cx.state[thread].push(n)),
                    1 => remote.post(move |cx| cx.state[thread].extend([n])),
                    2 => remote.post(Box::new(move |cx: &mut Context<'_, [Values; 4]>| {
                        cx.state[thread].push(n)
                    })),
                    _ => {
                        let much = [n; 2000];
                        remote.post(move |cx| cx.state[thread].push(much[1999]))
                    }
                };
                assert_eq!(posted, Ok(()));
            }
            drop(alive);
        })
    });
    let mut values = [const { Values::new() }; 4];
    reactor.run(&mut values)?;
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert!(
        values
            .iter()
            .all(|of_thread| of_thread.iter().copied().eq(0..1000))
    );
    Ok(())
}

/// Closures that were handed over to the loop before that still run.
#[test]
fn posted_closures_that_have_not_run_are_dropped_with_their_queue() -> Result {
    let held = Arc::new(());
    let post = |remote: &Remote<Values>, n| {
        let (one, other) = (Arc::clone(&held), Arc::clone(&held));
        remote.post(move |cx| cx.state.extend((Arc::strong_count(&one) > 0).then_some(n)))?;
        remote.post(move |cx| {
            cx.state
                .extend((Arc::strong_count(&other) > 0).then_some(n + 1))
        })
    };
    let mut reactor = Reactor::<Values>::new()?;
    let remote = reactor.remote()?;
    let queue = reactor
        .registrations()
        .next()
        .ok_or("the queue of the remotes")?
        .key;
    reactor.set_max_messages_per_turn(queue, 3)?;
    remote.post(move |cx| cx.registry.remove(queue).unwrap())?;
    post(&remote, 1)?;
    post(&remote, 3)?;
    let mut values = Values::new();
    turn_now(&mut reactor, &mut values);
    assert_eq!((values, Arc::strong_count(&held)), (vec![1, 2], 1));
    assert_eq!(post(&remote, 5), Err(LoopGone));
    let again = reactor.remote()?;
    post(&again, 7)?;
    assert_eq!(Arc::strong_count(&held), 3);
    drop(reactor);
    assert_eq!(
        (post(&again, 9), Arc::strong_count(&held)),
        (Err(LoopGone), 1)
    );
    Ok(())
}

#[test]
fn a_posted_closure_belongs_to_no_source_and_may_do_anything() -> Result {
    let mut reactor = Reactor::<Values>::new()?;
    let remote = reactor.remote()?;
    remote.post(|cx| {
        assert!(!cx.registry.contains(cx.key()));
        cx.registry.after(Duration::ZERO, |cx| {
            cx.state.push(1);
            Ok(Then::Done)
        });
        let again = cx.registry.remote().unwrap();
        again.post(|cx| cx.state.push(2)).unwrap();
    })?;
    let mut values = Values::new();
    reactor.run(&mut values)?; // in the background, but posted closures run
    values.sort_unstable();
    assert_eq!(values, [1, 2]);
    assert_eq!(
        reactor.registrations().count(),
        1,
        "one queue for all remotes"
    );
    Ok(())
}

#[test]
fn a_wake_is_a_turn_also_when_the_loop_is_about_to_sleep() -> Result {
    let mut reactor = Reactor::<usize>::new()?;
    let remote = reactor.remote()?;
    let (rounds, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (changed, looked) = (Arc::clone(&rounds), Arc::clone(&seen));
    reactor.before_wait(move |cx| {
        *cx.state = changed.load(Ordering::Acquire);
        looked.store(*cx.state, Ordering::Release);
        if *cx.state == 1000 {
            cx.registry.stop();
        }
        Ok(Next::Keep)
    });
    let waker = remote.waker();
    let alive = remote.keep_alive();
    let thread = thread::spawn(move || {
        for round in 1..=1000 {
            rounds.store(round, Ordering::Release);
            waker.wake();
            while seen.load(Ordering::Acquire) < round {
                thread::yield_now();
            }
        }
    });
    let mut state = 0;
    reactor.run(&mut state)?;
    thread.join().map_err(|_| "it panicked")?;
    drop(alive);
    assert_eq!(state, 1000);
    Ok(())
}

#[test]
fn run_ends_when_the_last_token_that_keeps_it_alive_is_dropped() -> Result {
    let mut reactor = Reactor::<Values>::new()?;
    let remote = reactor.remote()?;
    let tokens = [remote.keep_alive(), remote.keep_alive()];
    let ended = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&ended);
    let thread = thread::spawn(move || {
        for token in tokens {
            remote.call(|_| ()).unwrap(); // so the loop runs
            assert!(!ends.load(Ordering::Relaxed));
            drop(token);
        }
    });
    reactor.run(&mut Values::new())?;
    ended.store(true, Ordering::Relaxed);
    thread.join().map_err(|_| "it panicked")?;
    Ok(())
}

#[test]
fn values_that_wait_behind_a_panic_are_not_forgotten() -> Result {
    let mut reactor = Reactor::<Values>::new()?;
    let (panics, at_panics) = notification_queue::<()>(Capacity::Unbounded);
    reactor.consume(at_panics, |_, _| panic!("as the test wants"))?;
    let remote = reactor.remote()?;
    panics.try_send(())?;
    remote.post(|cx| cx.state.push(1))?;
    let mut values = Values::new();
    let ran = catch_unwind(AssertUnwindSafe(|| reactor.run(&mut values)));
    assert!(ran.is_err() && values.is_empty());
    reactor.run(&mut values)?;
    assert_eq!(values, [1]);
    Ok(())
}

/// Notes the number of pending closures while it runs.
fn note_pending(remote: &Remote<Values>) -> std::result::Result<(), LoopGone> {
    let asks = remote.clone();
    remote.post(move |cx| cx.state.push(asks.pending() as u32))
}

#[test]
fn a_posted_closure_is_pending_until_it_has_run() -> Result {
    for at_a_time in [1024, 3, 1] {
        let mut reactor = Reactor::<Values>::new()?;
        let remote = reactor.remote()?;
        let queue = reactor
            .registrations()
            .next()
            .ok_or("the queue of the remotes")?
            .key;
        reactor.set_max_messages_per_turn(queue, at_a_time)?;
        assert_eq!(remote.pending(), 0);
        for posted in 1..=10 {
            note_pending(&remote)?;
            assert_eq!(remote.pending(), posted);
        }
        assert_eq!(format!("{remote:?}"), "Remote { pending: 10, .. }");
        let mut values = Values::new();
        while remote.pending() > 0 {
            turn_now(&mut reactor, &mut values);
            assert_eq!(remote.pending(), 10 - values.len());
        }
        assert_eq!(
            values,
            [10, 9, 8, 7, 6, 5, 4, 3, 2, 1],
            "the one that runs is one of them"
        );
    }
    Ok(())
}

#[test]
fn a_closure_that_has_panicked_is_not_pending() -> Result {
    for policy in [PanicPolicy::RemoveHandler, PanicPolicy::Propagate] {
        let mut reactor = Reactor::<Values>::builder().on_panic(policy).build()?;
        let remote = reactor.remote()?;
        remote.post(|_| panic!("as the test wants"))?;
        note_pending(&remote)?;
        remote.post(|_| panic!("as the test wants"))?;
        let mut values = Values::new();
        for _ in 0..3 {
            let _ = catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut values)));
        }
        assert_eq!((values, remote.pending()), (vec![2], 0), "{policy:?}");
    }
    Ok(())
}

#[test]
fn closures_dropped_with_their_queue_or_their_loop_are_not_pending() -> Result {
    let mut reactor = Reactor::<Values>::new()?;
    let remote = reactor.remote()?;
    let queue = reactor
        .registrations()
        .next()
        .ok_or("the queue of the remotes")?
        .key;
    reactor.set_max_messages_per_turn(queue, 3)?;
    remote.post(move |cx| cx.registry.remove(queue).unwrap())?;
    for _ in 0..5 {
        note_pending(&remote)?;
    }
    let mut values = Values::new();
    turn_now(&mut reactor, &mut values);
    assert_eq!(
        (values, remote.pending()),
        (vec![2, 1], 0),
        "three were handed over"
    );

    let again = reactor.remote()?;
    again.post(|_| panic!("as the test wants"))?;
    note_pending(&again)?;
    note_pending(&again)?;
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        turn_now(&mut reactor, &mut Values::new())
    }));
    assert_eq!(
        (unwound.is_err(), again.pending()),
        (true, 2),
        "they are handed over"
    );
    note_pending(&again)?;
    assert_eq!(again.pending(), 3);
    drop(reactor);
    assert_eq!((again.pending(), remote.pending()), (0, 0));
    Ok(())
}

#[test]
fn closures_beyond_the_limit_come_back_and_posts_are_not_limited() -> Result {
    for max in [0, 1, 3, usize::MAX] {
        let mut reactor = Reactor::<Values>::builder()
            .max_pending_posts(max)
            .build()?;
        let remote = reactor.remote()?;
        let queue = reactor.remote_key().ok_or("it has a queue")?;
        reactor.set_max_messages_per_turn(queue, 1)?;
        let mut values = Values::new();
        for round in 0..3 {
            let mut taken = 0;
            for number in 0..5 {
                match remote.try_post(move |cx| cx.state.push(number)) {
                    Ok(()) => taken += 1,
                    Err(TryPostError::Full {
                        max_pending_posts, ..
                    }) => assert_eq!(max_pending_posts, max),
                    Err(error) => return Err(error.into()),
                }
            }
            assert_eq!(taken, max.min(5), "round {round}");
            assert_eq!(remote.pending(), taken);
            remote.post(|cx| cx.state.push(9))?; // posts have no limit
            while remote.pending() > 0 {
                turn_now(&mut reactor, &mut values);
            }
            let expected: Vec<_> = (0..taken as u32).chain([9]).collect();
            assert_eq!(std::mem::take(&mut values), expected);
        }
    }
    Ok(())
}

#[test]
fn a_closure_that_runs_or_was_handed_over_counts_for_the_limit() -> Result {
    let mut reactor = Reactor::<Values>::builder().max_pending_posts(2).build()?;
    let remote = reactor.remote()?;
    let own = remote.clone();
    remote.try_post(move |cx| {
        let posted = [1, 2].map(|number| own.try_post(move |cx| cx.state.push(number)).is_ok());
        cx.state.extend(posted.map(u32::from));
    })?;
    remote.try_post(|cx| cx.state.push(7))?;
    let mut values = Values::new();
    turn_now(&mut reactor, &mut values);
    assert_eq!(values, [0, 0, 7]);
    drop(reactor);
    assert!(matches!(
        remote.try_post(|_| ()),
        Err(TryPostError::Gone(_))
    ));
    Ok(())
}

#[test]
fn the_thread_of_a_loop_is_known_before_it_runs_and_after_its_end() -> Result {
    let mut reactor = Reactor::<Values>::new()?;
    let remote = reactor.remote()?;
    let here = thread::current().id();
    assert!(remote.is_loop_thread() && remote.loop_thread() == here);
    let other = LoopThread::spawn("other", |_| Ok(()))?;
    let (there, away) = (other.remote().clone(), remote.clone());
    assert!(!there.is_loop_thread() && there.loop_thread() != here);
    let seen = other.remote().call(move |_| {
        (
            there.is_loop_thread(),
            away.is_loop_thread(),
            thread::current().id(),
        )
    })?;
    assert_eq!(seen, (true, false, other.remote().loop_thread()));
    drop(reactor);
    assert!(remote.is_loop_thread() && remote.loop_thread() == here);
    Ok(())
}

#[test]
fn the_queue_of_the_remotes_has_a_key_as_any_registration() -> Result {
    let mut reactor = Reactor::<Values>::new()?;
    assert_eq!(reactor.remote_key(), None);
    let remote = reactor.remote()?;
    let queue = reactor.remote_key().ok_or("it has a queue")?;
    reactor.set_name(queue, "orders")?;
    reactor.set_priority(queue, Priority::High)?;
    reactor.set_max_messages_per_turn(queue, 1)?;
    let listed: Vec<_> = reactor
        .registrations()
        .map(|listed| (listed.key, listed.name.to_owned()))
        .collect();
    assert_eq!(listed, [(queue, "orders".to_owned())]);
    remote.post(|cx| cx.state.push(1))?;
    remote.post(|cx| cx.state.push(2))?;
    let mut values = Values::new();
    reactor.set_interest(queue, Interest::NONE)?;
    turn_now(&mut reactor, &mut values);
    assert_eq!(values, [], "it is paused");
    reactor.set_interest(queue, Interest::READABLE)?;
    turn_now(&mut reactor, &mut values);
    assert_eq!(values, [1], "one a turn");
    reactor.remove(queue)?;
    assert_eq!((reactor.remote_key(), remote.is_gone()), (None, true));
    reactor.remote()?;
    assert!(reactor.remote_key().is_some_and(|again| again != queue));
    Ok(())
}

#[test]
fn the_limit_of_a_loop_on_a_thread_of_its_own_is_its_builder_s() -> Result {
    let other = LoopThread::spawn_with(
        "other",
        || Reactor::builder().max_pending_posts(0),
        |_| Ok(0),
    )?;
    assert!(matches!(
        other.remote().try_post(|_| ()),
        Err(TryPostError::Full {
            max_pending_posts: 0,
            ..
        })
    ));
    assert_eq!(other.remote().call(|_| 7), Ok(7));
    assert_eq!(other.stop()?, 0);
    Ok(())
}
