//! Sleeps on the wheel and the clock of the loop.

#![allow(clippy::async_yields_async, reason = "a sleep is passed on")]

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use handlers::futures::{self, Sleep};
use reactor::{ManualClock, Reactor};

use crate::{reactor, turn};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines() {
    let mut reactor = reactor::<Vec<u64>>();
    for delay in [3, 1, 2, 0] {
        let sleeps = async move { futures::sleep(secs(delay)).await };
        futures::spawn(&mut reactor, sleeps, move |(), cx| cx.state.push(delay)).unwrap();
    }
    let mut order = Vec::new();
    reactor.run(&mut order).unwrap();
    assert_eq!(order, [0, 1, 2, 3]);
}

#[test]
fn a_sleep_within_a_task_counts_from_its_making() {
    let mut reactor = reactor::<()>();
    let began = reactor.now();
    futures::block_on(&mut reactor, &mut (), async {
        let long = futures::sleep(secs(3));
        futures::sleep(secs(2)).await;
        long.await;
    })
    .unwrap();
    assert_eq!(reactor.now() - began, secs(3));
}

#[test]
fn a_sleep_outside_of_tasks_counts_from_its_first_poll() {
    let clock = ManualClock::jumping();
    let mut reactor = Reactor::<()>::builder()
        .clock(clock.clone())
        .build()
        .unwrap();
    let sleep = futures::sleep(secs(3));
    assert_eq!(sleep.deadline(), None);
    clock.advance(secs(10));
    let began = reactor.now();
    futures::block_on(&mut reactor, &mut (), sleep).unwrap();
    assert_eq!(reactor.now() - began, secs(3));
}

#[test]
fn a_sleep_that_its_task_polls_again_keeps_its_timer() {
    let mut reactor = reactor::<()>();
    let waits = async {
        let (mut sleep, mut polls) = (pin!(futures::sleep(secs(3))), 0);
        poll_fn(|cx| {
            polls += 1;
            if polls < 4 {
                cx.waker().wake_by_ref();
            }
            sleep.as_mut().poll(cx)
        })
        .await;
    };
    futures::spawn(&mut reactor, waits, |(), _cx| ()).unwrap();
    futures::set_budget(&mut reactor, 1, secs(1)).unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        turn(&mut reactor, &mut ());
        seen.extend(reactor.timers().map(|timer| timer.key));
    }
    assert_eq!(seen, [seen[0]; 4]);
}

#[test]
fn a_sleep_that_moves_to_another_task_wakes_that_one() {
    let mut reactor = reactor::<u32>();
    let sleep = Rc::new(RefCell::new(Box::pin(futures::sleep(secs(3)))));
    for task in 1..=2 {
        let sleep = Rc::clone(&sleep);
        let polls = poll_fn(move |cx| sleep.borrow_mut().as_mut().poll(cx));
        futures::spawn(&mut reactor, polls, move |(), cx| *cx.state = task).unwrap();
    }
    let mut ended = 0;
    while ended == 0 {
        reactor.turn(&mut ended, None).unwrap();
    }
    assert_eq!((ended, reactor.timers().count()), (2, 0));
}

#[test]
fn a_dropped_sleep_leaves_no_timer() {
    let mut reactor = reactor::<()>();
    let task = async {
        let mut sleep = Box::pin(futures::sleep(secs(100)));
        poll_fn(|cx| {
            assert!(sleep.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        futures::yield_now().await;
        sleep
    };
    let sleep = futures::block_on(&mut reactor, &mut (), task).unwrap();
    assert_eq!(reactor.timers().count(), 1);
    drop(sleep); // outside of tasks
    turn(&mut reactor, &mut ());
    assert_eq!(reactor.timers().count(), 0);
}

#[test]
fn a_sleep_that_another_thread_drops_leaves_no_timer() {
    let mut reactor = reactor::<()>();
    let task = async {
        let mut sleep = pin!(futures::sleep(secs(100)));
        poll_fn(|cx| std::task::Poll::Ready(sleep.as_mut().poll(cx))).await
    };
    assert!(
        futures::block_on(&mut reactor, &mut (), task)
            .unwrap()
            .is_pending()
    );
    turn(&mut reactor, &mut ());
    assert_eq!(reactor.timers().count(), 0);
    let mut moved = Box::pin(futures::sleep(secs(100)));
    let task = async move {
        let polled = poll_fn(|cx| std::task::Poll::Ready(moved.as_mut().poll(cx)));
        assert!(polled.await.is_pending());
        moved
    };
    let moved = futures::block_on(&mut reactor, &mut (), task).unwrap();
    assert_eq!(reactor.timers().count(), 1);
    thread::spawn(move || drop(moved)).join().unwrap();
    turn(&mut reactor, &mut ());
    assert_eq!(reactor.timers().count(), 0);
}

#[test]
fn a_sleep_may_be_moved_before_and_after_its_end() {
    let mut reactor = reactor::<()>();
    let began = reactor.now();
    futures::block_on(&mut reactor, &mut (), async move {
        let mut sleep = futures::sleep(secs(10));
        let first = poll_fn(|cx| std::task::Poll::Ready(pin!(&mut sleep).poll(cx)));
        assert!(first.await.is_pending());
        sleep.reset(began + secs(2));
        (&mut sleep).await;
        assert!(sleep.is_elapsed());
        sleep.reset(began + secs(5));
        assert!(!sleep.is_elapsed());
        assert_eq!(sleep.deadline(), Some(began + secs(5)));
        sleep.await;
    })
    .unwrap();
    assert_eq!(reactor.now() - began, secs(5));
    assert_eq!(reactor.timers().count(), 0);
}

#[test]
fn a_sleep_that_is_moved_while_its_task_waits_ends_at_the_new_time() {
    let mut reactor = reactor::<()>();
    let began = reactor.now();
    let sleep = Rc::new(RefCell::new(futures::sleep(secs(10))));
    let awaited = Rc::clone(&sleep);
    let waits = poll_fn(move |cx| pin!(&mut *awaited.borrow_mut()).poll(cx));
    futures::spawn(&mut reactor, waits, |(), _cx| ()).unwrap();
    turn(&mut reactor, &mut ());
    for moved in [20, 4] {
        sleep.borrow_mut().reset(began + secs(moved));
        turn(&mut reactor, &mut ());
    }
    reactor.run(&mut ()).unwrap();
    assert_eq!(reactor.now() - began, secs(4));
}

#[test]
fn a_sleep_that_another_thread_has_moved_ends_at_the_new_time() {
    for moved in [4, 20] {
        let mut reactor = reactor::<()>();
        let began = reactor.now();
        let task = async {
            let mut sleep = futures::sleep(secs(10));
            let first = poll_fn(|cx| std::task::Poll::Ready(pin!(&mut sleep).poll(cx)));
            assert!(first.await.is_pending());
            sleep
        };
        let mut sleep = futures::block_on(&mut reactor, &mut (), task).unwrap();
        let moves = thread::spawn(move || {
            sleep.reset(began + secs(moved));
            sleep
        });
        let sleep = moves.join().unwrap();
        futures::block_on(&mut reactor, &mut (), sleep).unwrap();
        assert_eq!(reactor.now() - began, secs(moved));
    }
}

#[test]
fn a_time_that_has_passed_gives_way_once() {
    let mut reactor = reactor::<()>();
    let now = reactor.now();
    let task = async move {
        futures::sleep_until(now).await;
        futures::sleep(Duration::ZERO).await;
    };
    let turns = reactor.metrics().turns;
    futures::block_on(&mut reactor, &mut (), task).unwrap();
    assert_eq!(reactor.metrics().turns - turns, 3);
}

#[test]
fn a_sleep_without_an_end_does_not_fail() {
    let mut reactor = reactor::<()>();
    let forever = async { futures::sleep(Duration::MAX).await };
    let key = futures::spawn(&mut reactor, forever, |(), _cx| ()).unwrap();
    turn(&mut reactor, &mut ());
    turn(&mut reactor, &mut ());
    key.cancel(&mut reactor).unwrap();
    reactor.run(&mut ()).unwrap();
    assert_eq!(reactor.timers().count(), 0);
}

#[test]
fn the_list_of_timers_shows_the_line_of_a_sleep() {
    let mut reactor = reactor::<()>();
    let line = line!() + 1;
    let sleeps = async { futures::sleep(secs(1)).await };
    futures::spawn(&mut reactor, sleeps, |(), _cx| ()).unwrap();
    turn(&mut reactor, &mut ());
    let lines: Vec<_> = reactor.timers().map(|timer| timer.origin.line()).collect();
    assert_eq!(lines, [line]);
}

#[test]
fn a_sleep_may_be_sent_and_shared_between_threads() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Sleep>();
}

#[test]
#[should_panic(expected = "a sleep was polled outside of a task")]
fn a_sleep_outside_of_a_task_panics() {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = pin!(futures::sleep(secs(1))).poll(&mut cx);
}
