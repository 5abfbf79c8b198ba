//! Wakers: when they are used, and on which thread.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::thread;

use handlers::futures;

use crate::{OnDrop, Signal, reactor, turn};

/// Returns the waker of a task that is done after its first poll.
fn waker_of_an_ended_task(reactor: &mut reactor::Reactor<u32>) -> Waker {
    let kept = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&kept);
    let task = poll_fn(move |cx| {
        keep.replace(Some(cx.waker().clone()));
        Poll::Ready(())
    });
    futures::spawn(reactor, task, |(), _cx| ()).expect("it is spawned");
    turn(reactor, &mut 0);
    kept.take().expect("the task was polled")
}

#[test]
fn a_waker_that_outlives_its_task_wakes_no_later_task() {
    let mut reactor = reactor::<u32>();
    let waker = waker_of_an_ended_task(&mut reactor);
    let polls = Rc::new(Cell::new(0));
    let counted = Rc::clone(&polls);
    let later = poll_fn(move |_cx| {
        counted.set(counted.get() + 1);
        Poll::<()>::Pending
    });
    futures::spawn(&mut reactor, later, |(), _cx| ()).unwrap();
    turn(&mut reactor, &mut 0);
    for _ in 0..3 {
        waker.wake_by_ref();
        turn(&mut reactor, &mut 0);
    }
    assert_eq!(polls.get(), 1);
}

#[test]
fn a_waker_that_outlives_its_task_causes_no_turn() {
    let mut reactor = reactor::<u32>();
    let waker = waker_of_an_ended_task(&mut reactor);
    waker.wake_by_ref();
    reactor.run(&mut 0).unwrap(); // nothing is left
    let turns = reactor.metrics().turns;
    waker.wake_by_ref();
    reactor.run(&mut 0).unwrap();
    assert_eq!(reactor.metrics().turns, turns);
}

#[test]
fn a_waker_that_outlives_its_loop_does_nothing() {
    let mut reactor = reactor::<u32>();
    let waker = waker_of_an_ended_task(&mut reactor);
    drop(reactor);
    waker.wake_by_ref();
    thread::spawn(move || waker.wake()).join().unwrap();
}

#[test]
fn a_task_that_is_woken_during_its_poll_is_polled_again() {
    let mut reactor = reactor::<u32>();
    let mut polls = 0;
    let task = poll_fn(move |cx| {
        polls += 1;
        cx.waker().wake_by_ref();
        cx.waker().wake_by_ref();
        if polls < 4 {
            Poll::Pending
        } else {
            Poll::Ready(polls)
        }
    });
    futures::spawn(&mut reactor, task, |polls, cx| *cx.state = polls).unwrap();
    let mut polls = 0;
    reactor.run(&mut polls).unwrap();
    assert_eq!(polls, 4);
}

#[test]
fn several_wakes_before_a_poll_are_one() {
    let mut reactor = reactor::<u32>();
    let signal = Signal::default();
    let (waited, polls) = (signal.wait(), Rc::new(Cell::new(0)));
    let counted = Rc::clone(&polls);
    let mut waited = Box::pin(waited);
    let task = poll_fn(move |cx| {
        counted.set(counted.get() + 1);
        waited.as_mut().poll(cx)
    });
    futures::spawn(&mut reactor, task, |(), cx| *cx.state += 1).unwrap();
    let mut ended = 0;
    turn(&mut reactor, &mut ended);
    let waker = signal.waker.borrow().clone().unwrap();
    (0..10).for_each(|_| waker.wake_by_ref());
    signal.set();
    turn(&mut reactor, &mut ended);
    assert_eq!((polls.get(), ended), (2, 1));
}

#[test]
fn a_destructor_that_wakes_another_task_wakes_it() {
    let mut reactor = reactor::<u32>();
    let signal = Signal::default();
    futures::spawn(&mut reactor, signal.wait(), |(), cx| *cx.state += 1).unwrap();
    let wakes = OnDrop(move || signal.set());
    let dropped = async move {
        let _wakes = wakes;
        pending::<()>().await;
    };
    let key = futures::spawn(&mut reactor, dropped, |(), _cx| ()).unwrap();
    let mut ended = 0;
    turn(&mut reactor, &mut ended);
    key.cancel(&mut reactor).unwrap();
    assert_eq!(ended, 0);
    reactor.run(&mut ended).unwrap();
    assert_eq!(ended, 1);
}

#[test]
fn a_wake_between_two_turns_keeps_the_next_turn_from_sleeping() {
    let mut reactor = reactor::<u32>();
    let signal = Signal::default();
    futures::spawn(&mut reactor, signal.wait(), |(), cx| *cx.state += 1).unwrap();
    let mut ended = 0;
    turn(&mut reactor, &mut ended);
    signal.set();
    reactor.turn(&mut ended, None).unwrap();
    assert_eq!(ended, 1);
}

#[test]
fn no_wake_of_four_threads_is_lost_among_a_million() {
    const WAKES: u64 = 250_000;
    let mut reactor = reactor::Reactor::<u64>::new().unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&sent);
    let (tell, wakers) = std::sync::mpsc::channel::<Waker>();
    let task = poll_fn(move |cx| {
        let _ = tell.send(cx.waker().clone());
        let seen = seen.load(Ordering::Relaxed);
        if seen == 4 * WAKES {
            Poll::Ready(seen)
        } else {
            Poll::Pending
        }
    });
    futures::spawn(&mut reactor, task, |seen, cx| *cx.state = seen).unwrap();
    let waking = thread::spawn(move || {
        let waker = wakers.recv().unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..WAKES {
                        sent.fetch_add(1, Ordering::Relaxed);
                        waker.wake_by_ref();
                    }
                });
            }
        });
    });
    let mut seen = 0;
    reactor.run(&mut seen).unwrap(); // ends with the last wake, or never
    waking.join().unwrap();
    assert_eq!(seen, 4 * WAKES);
}

#[test]
fn a_future_that_was_woken_by_a_thread_sees_what_it_wrote_before() {
    let mut reactor = reactor::Reactor::<Vec<u64>>::new().unwrap();
    let (send, receive) = std::sync::mpsc::channel::<u64>();
    let (tell, wakers) = std::sync::mpsc::channel::<Waker>();
    let mut got = Vec::new();
    let task = poll_fn(move |cx| {
        let _ = tell.send(cx.waker().clone());
        got.extend(receive.try_iter());
        if got.len() == 1000 {
            Poll::Ready(std::mem::take(&mut got))
        } else {
            Poll::Pending
        }
    });
    futures::spawn(&mut reactor, task, |got, cx| *cx.state = got).unwrap();
    let sending = thread::spawn(move || {
        let waker = wakers.recv().unwrap();
        for number in 0..1000 {
            send.send(number).unwrap();
            waker.wake_by_ref();
        }
    });
    let mut got = Vec::new();
    reactor.run(&mut got).unwrap();
    sending.join().unwrap();
    assert!(got.into_iter().eq(0..1000));
}
