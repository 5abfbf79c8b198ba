//! Counts: allocations, locks that would show as wakeups, readings of the clock.

use std::future::poll_fn;
use std::sync::mpsc::channel;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use allocation_counter::measure;
use handlers::futures;
use reactor::{Context, Reactor};

use crate::{reactor, turn};

/// The rounds before a count, in which buffers grow.
const ROUNDS: usize = 100;

/// Spawns a task that never ends. Returns its waker.
fn spawn_waiting<S: 'static>(reactor: &mut Reactor<S>, state: &mut S) -> Waker {
    let (tell, wakers) = channel();
    let task = poll_fn(move |cx| {
        let _ = tell.send(cx.waker().clone());
        Poll::<()>::Pending
    });
    let task = async move {
        let mut task = task;
        let mut is_first = true;
        poll_fn(move |cx| {
            if std::mem::take(&mut is_first) {
                let _ = std::pin::Pin::new(&mut task).poll(cx);
            }
            Poll::<()>::Pending
        })
        .await;
    };
    futures::spawn(reactor, task, |(), _cx| ()).expect("spawned");
    turn(reactor, state);
    wakers.recv().expect("the task was polled")
}

/// Returns the allocations of a round, after some rounds.
fn allocations_of(mut round: impl FnMut()) -> u64 {
    (0..ROUNDS).for_each(|_| round());
    let counted = measure(|| (0..ROUNDS).for_each(|_| round()));
    assert_eq!(counted.count_total % ROUNDS as u64, 0, "the rounds differ");
    counted.count_total / ROUNDS as u64
}

#[test]
fn a_wake_and_its_poll_allocate_nothing() {
    let mut reactor = reactor::<()>();
    let waker = spawn_waiting(&mut reactor, &mut ());
    let allocated = allocations_of(|| {
        waker.wake_by_ref();
        turn(&mut reactor, &mut ());
    });
    assert_eq!(allocated, 0);
}

#[test]
fn a_wake_by_another_thread_allocates_nothing() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let wakers: Vec<_> = (0..100)
        .map(|_| spawn_waiting(&mut reactor, &mut ()))
        .collect();
    let mut allocated = 0;
    for _ in 0..3 {
        let wakers = &wakers;
        allocated = thread::scope(|scope| {
            let waking = || measure(|| wakers.iter().for_each(Waker::wake_by_ref));
            scope.spawn(waking).join().unwrap().count_total
        });
        turn(&mut reactor, &mut ());
    }
    assert_eq!(allocated, 0);
}

#[test]
fn a_task_that_is_spawned_and_ends_costs_one_allocation() {
    let mut reactor = reactor::<u64>();
    let mut ended = 0;
    let allocated = allocations_of(|| {
        futures::spawn(&mut reactor, async { 1 }, |one, cx| *cx.state += one).unwrap();
        turn(&mut reactor, &mut ended);
    });
    assert_eq!((allocated, ended), (1, 2 * ROUNDS as u64));
}

#[test]
fn a_task_with_a_handle_costs_one_allocation() {
    let mut reactor = reactor::<()>();
    let allocated = allocations_of(|| {
        drop(futures::spawn_joinable(&mut reactor, async { 1 }).unwrap());
        turn(&mut reactor, &mut ());
    });
    assert_eq!(allocated, 1);
}

#[test]
fn a_closure_with_the_state_costs_one_allocation() {
    let mut reactor = reactor::<u64>();
    let (waker, calls) = (spawn_waiting(&mut reactor, &mut 0), 2 * ROUNDS as u64);
    drop(waker);
    let (tell, wakers) = channel();
    let task = async move {
        loop {
            futures::with_context(|cx: &mut Context<'_, u64>| *cx.state += 1).await;
            let mut is_first = true;
            poll_fn(|cx| {
                let _ = tell.send(cx.waker().clone());
                if std::mem::take(&mut is_first) {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
        }
    };
    futures::spawn(&mut reactor, task, |(), _cx| ()).unwrap();
    let mut called = 0;
    turn(&mut reactor, &mut called);
    let waker = wakers.recv().unwrap();
    drop(wakers); // so that the task sends no more
    let allocated = allocations_of(|| {
        waker.wake_by_ref();
        turn(&mut reactor, &mut called);
    });
    assert_eq!((allocated, called), (1, calls + 1));
}

#[test]
fn a_sleep_costs_no_allocation() {
    let mut reactor = reactor::<()>();
    let task = async {
        loop {
            futures::sleep(Duration::from_secs(1)).await;
        }
    };
    futures::spawn(&mut reactor, task, |(), _cx: &mut Context<'_, ()>| ()).unwrap();
    turn(&mut reactor, &mut ());
    let allocated = allocations_of(|| {
        reactor.advance(&mut (), Duration::from_secs(1)).unwrap();
    });
    assert_eq!(allocated, 0);
}

#[test]
fn a_thousand_wakes_of_a_sleep_write_to_the_eventfd_once() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let wakers: Vec<_> = (0..100)
        .map(|_| spawn_waiting(&mut reactor, &mut ()))
        .collect();
    turn(&mut reactor, &mut ());
    let before = reactor.metrics().wakeups;
    for sleeps in 1..=3 {
        reactor.prepare_to_wait(); // from now on the loop counts as asleep
        thread::scope(|scope| {
            for wakers in wakers.chunks(25) {
                scope.spawn(|| {
                    for _ in 0..10 {
                        wakers.iter().for_each(Waker::wake_by_ref);
                    }
                });
            }
        });
        turn(&mut reactor, &mut ());
        turn(&mut reactor, &mut ());
        assert_eq!(reactor.metrics().wakeups - before, sleeps);
    }
}

#[test]
fn a_wake_on_the_loop_writes_to_no_eventfd() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let waker = spawn_waiting(&mut reactor, &mut ());
    let before = reactor.metrics();
    for _ in 0..10 {
        let wakes = waker.clone();
        reactor.defer(move |_cx| wakes.wake());
        turn(&mut reactor, &mut ());
    }
    let after = reactor.metrics();
    assert_eq!(after.wakeups - before.wakeups, 0);
}

#[test]
fn a_turn_with_few_polls_reads_the_clock_once() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let waker = spawn_waiting(&mut reactor, &mut ());
    let before = reactor.metrics().clock_reads;
    for _ in 0..10 {
        waker.wake_by_ref();
        turn(&mut reactor, &mut ());
    }
    assert_eq!(reactor.metrics().clock_reads - before, 10);
}

#[test]
fn a_wake_by_a_source_is_answered_in_the_same_turn() {
    let mut reactor = Reactor::<u32>::new().unwrap();
    let signal = crate::Signal::default();
    let sets = signal.clone();
    futures::spawn(&mut reactor, signal.wait(), |(), cx| *cx.state += 1).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut ended = 0;
    turn(&mut reactor, &mut ended);
    reactor
        .add(reader, reactor::Interest::READABLE, move |_reader, _cx| {
            sets.set();
            Ok(reactor::Next::Remove)
        })
        .unwrap();
    drop(writer); // the end is an event
    turn(&mut reactor, &mut ended);
    assert_eq!(ended, 1);
}
