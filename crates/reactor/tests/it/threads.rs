//! Loops on threads of their own.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use reactor::{
    CallError, Capacity, LoopPool, LoopThread, Next, PanicPolicy, Reactor, Remote, Then,
    notification_queue,
};

use crate::Result;

#[test]
fn a_loop_thread_runs_until_nothing_is_left_and_returns_its_state() -> Result {
    let thread = LoopThread::<RefCell<Vec<_>>>::spawn("worker", |registry| {
        registry.after(Duration::from_millis(2), |cx| {
            cx.state.get_mut().push("timer");
            Ok(Then::Done)
        });
        Ok(RefCell::new(vec![])) // a state that stays on one thread
    })?;
    let name = thread
        .remote()
        .call(|_| std::thread::current().name().map(str::to_owned))?;
    assert_eq!(name.as_deref(), Some("worker"));
    thread
        .remote()
        .post(|cx| cx.state.get_mut().push("posted"))?;
    let mut state = thread.join()?.into_inner();
    state.sort_unstable();
    assert_eq!(state, ["posted", "timer"]);
    Ok(())
}

#[test]
fn a_stopped_or_dropped_loop_ends_although_it_has_work() -> Result {
    let endless = |registry: &mut reactor::Registry<Arc<()>>| {
        registry.after(Duration::from_secs(3600), |_| Ok(Then::Done));
    };
    let state = Arc::new(());
    for drops in [false, true] {
        let held = Arc::clone(&state);
        let thread = LoopThread::spawn("endless", move |registry| {
            endless(registry);
            Ok(held)
        })?;
        let remote = thread.remote().clone();
        if drops {
            drop(thread);
        } else {
            thread.stop()?;
        }
        assert_eq!(Arc::strong_count(&state), 1, "it has ended");
        assert_eq!(remote.call(|_| ()), Err(CallError::Lost));
    }
    Ok(())
}

#[test]
fn failures_of_a_loop_thread_are_returned_by_spawn_or_join() -> Result {
    let failed = LoopThread::<()>::spawn("fails", |_| Err(std::io::Error::other("no socket")));
    assert_eq!(
        failed.map_err(|error| error.to_string()).err().as_deref(),
        Some("no socket")
    );
    let panicked = LoopThread::<()>::spawn("panics", |_| panic!("at once"));
    let told = panicked.map_err(|error| error.to_string()).err();
    assert_eq!(
        told.as_deref(),
        Some("the loop of thread \"panics\" panicked: at once")
    );

    let thread = LoopThread::spawn("panics later", |_| Ok(()))?;
    thread.remote().post(|_| panic!("as the test wants"))?;
    let told = thread.join().map_err(|error| error.to_string()).err();
    assert_eq!(
        told.as_deref(),
        Some("the loop of thread \"panics later\" panicked: as the test wants")
    );

    let survives = LoopThread::spawn_with(
        "survives",
        || Reactor::builder().on_panic(PanicPolicy::RemoveHandler),
        |_| Ok(1),
    )?;
    assert_eq!(
        survives
            .remote()
            .call(|_| panic!("as the test wants"))
            .map(|(): ()| ()),
        Err(CallError::Panicked)
    );
    assert_eq!(survives.join()?, 1);
    Ok(())
}

#[test]
fn a_pool_is_reached_one_after_the_other_by_number_and_as_a_whole() -> Result {
    let pool = LoopPool::spawn(3, "loop-", |number, _| Ok(vec![number]))?;
    assert_eq!((pool.len(), pool.is_empty()), (3, false));
    for _ in 0..6 {
        pool.round_robin()
            .ok_or("it is empty")?
            .post(|cx| cx.state.push(10))?;
    }
    pool.get(1)
        .ok_or("no such loop")?
        .post(|cx| cx.state.push(20))?;
    assert!(pool.get(3).is_none());
    pool.broadcast(|cx| cx.state.push(30))?;
    assert_eq!(
        pool.join()?,
        [
            vec![0, 10, 10, 30],
            vec![1, 10, 10, 20, 30],
            vec![2, 10, 10, 30]
        ]
    );
    let empty = LoopPool::<()>::spawn(0, "none", |_, _| Ok(()))?;
    assert!(empty.round_robin().is_none() && empty.least_loaded().is_none() && empty.is_empty());
    Ok(())
}

#[test]
fn the_least_loaded_loop_of_a_pool_is_the_one_with_the_shortest_queue() -> Result {
    let pool = LoopPool::spawn(3, "loop-", |number, _| Ok(number))?;
    let gate = Arc::new(std::sync::Barrier::new(4));
    let waits = Arc::clone(&gate);
    pool.broadcast(move |_| {
        waits.wait();
        waits.wait(); // all of them are busy between the two waits
    })?;
    gate.wait();
    for number in [0, 0, 1, 2, 2] {
        pool.get(number).ok_or("no such loop")?.post(|_| ())?;
    }
    pool.least_loaded()
        .ok_or("it is empty")?
        .post(|cx| *cx.state += 100)?;
    gate.wait();
    assert_eq!(pool.stop()?, [0, 101, 2]);
    Ok(())
}

#[test]
fn a_loop_that_runs_its_closures_is_not_the_least_loaded() -> Result {
    let pool = LoopPool::spawn(2, "loop-", |number, _| Ok(number))?;
    let first = pool.get(0).ok_or("no loop")?;
    let gate = Arc::new(std::sync::Barrier::new(2));
    for closures in [1, 50] {
        let waits = Arc::clone(&gate);
        // The first closure lets the rest be posted before any is handed over. The second holds up
        // the others.
        first.post({
            let waits = Arc::clone(&gate);
            move |_| {
                waits.wait();
            }
        })?;
        first.post(move |_| {
            waits.wait();
            waits.wait();
        })?;
        (1..closures).try_for_each(|_| first.post(|_| ()))?;
        gate.wait();
        gate.wait();
        let pending = first.pending(); // the second closure is running
        pool.least_loaded()
            .ok_or("none")?
            .post(|cx| *cx.state += 100)?;
        gate.wait();
        assert_eq!(pending, closures);
        while first.pending() > 0 {
            std::thread::yield_now();
        }
    }
    assert_eq!(pool.stop()?, [0, 201]);
    Ok(())
}

#[test]
fn a_loop_whose_registrations_were_all_removed_can_still_be_stopped() -> Result {
    let thread = LoopThread::spawn("bare", |registry| {
        registry.after(Duration::from_secs(3600), |_| Ok(Then::Done));
        Ok(())
    })?;
    let removed = thread.remote().call(|cx| {
        let keys: Vec<_> = cx
            .registry
            .registrations()
            .map(|registration| registration.key)
            .collect();
        keys.into_iter()
            .filter(|key| cx.registry.remove(*key).is_ok())
            .count()
    });
    assert_eq!((removed, thread.remote().is_gone()), (Ok(1), true));
    drop(thread); // waits for the thread
    Ok(())
}

/// A state that holds the thread of its own loop.
struct Own(Option<LoopThread<Self>>);

#[test]
fn a_loop_cannot_wait_for_itself() -> Result {
    let thread = LoopThread::spawn("itself", |_| Ok(Own(None)))?;
    let remote = thread.remote().clone();
    remote.post(move |cx| cx.state.0 = Some(thread))?;
    let stopped = remote.call(|cx| {
        cx.state
            .0
            .take()
            .and_then(|own| own.stop().map_err(|error| error.kind()).err())
    });
    assert_eq!(stopped, Ok(Some(std::io::ErrorKind::Deadlock)));
    Ok(())
}

#[test]
fn loops_of_a_pool_may_wait_for_each_other_when_they_end() -> Result {
    let (sender, receiver) = notification_queue::<()>(Capacity::Unbounded);
    let pool = LoopPool::spawn(2, "loop-", |number, _| Ok(number))?;
    let (first, second) = (pool.get(0).ok_or("no loop")?, pool.get(1).ok_or("no loop")?);
    assert!(first.call(move |cx| cx.registry.consume(receiver, |_, _| Ok(Next::Keep)).is_ok())?);
    // The first loop waits for the last sender, which the second loop holds while it lives.
    let kept = second.call(move |cx| {
        let timer = cx.registry.after(Duration::from_secs(3600), move |_| {
            let _kept = &sender;
            Ok(Then::Done)
        });
        cx.registry.set_timer_background(timer).is_ok()
    })?;
    assert!(kept);
    assert_eq!(pool.join()?, [0, 1]);
    Ok(())
}

#[test]
fn a_loop_that_has_ended_gets_no_more_load() -> Result {
    let pool = LoopPool::spawn(2, "loop-", |number, _| Ok(number))?;
    pool.get(0).ok_or("no loop")?.stop()?;
    while !pool.get(0).is_some_and(Remote::is_gone) {
        std::thread::yield_now();
    }
    for _ in 0..10 {
        pool.least_loaded()
            .ok_or("none is left")?
            .post(|cx| *cx.state += 1)?;
    }
    assert_eq!(pool.stop()?, [0, 11]);
    Ok(())
}
