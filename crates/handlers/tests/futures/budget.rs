//! The budget of a turn: a task that is always ready starves nobody.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use handlers::futures;
use reactor::{ManualClock, Missed, Next, Reactor};

use crate::{reactor, turn};

/// Spawns a task that is always woken, and counts its polls in the state.
fn spin(reactor: &mut Reactor<Vec<u32>>, number: u32) {
    let task = poll_fn(move |cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    });
    let counted = async move {
        let mut task = task;
        loop {
            futures::with_context(move |cx: &mut reactor::Context<'_, Vec<u32>>| {
                cx.state.push(number)
            })
            .await;
            let _ = poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut task).poll(cx))).await;
        }
    };
    futures::spawn(reactor, counted, |(), _cx| ()).expect("spawned");
}

#[test]
fn a_turn_polls_no_more_often_than_its_budget_allows() {
    for polls in [0, 1, 2, 7, 256, 1000] {
        let mut reactor = reactor::<u32>();
        futures::set_budget(&mut reactor, polls, Duration::MAX).unwrap();
        let counts = poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        futures::spawn(&mut reactor, counts, |(), _cx| ()).unwrap();
        for turns in 1..4 {
            turn(&mut reactor, &mut 0);
            let polled = futures::tasks(&mut reactor)[0].polls;
            assert_eq!(polled, turns * polls.max(1) as u64);
        }
    }
}

#[test]
fn tasks_that_are_always_ready_take_turns() {
    let mut reactor = reactor::<Vec<u32>>();
    spin(&mut reactor, 1);
    spin(&mut reactor, 2);
    let mut order = Vec::new();
    turn(&mut reactor, &mut order);
    let count = |number| order.iter().filter(|polled| **polled == number).count();
    assert!(count(1).abs_diff(count(2)) <= 1, "{order:?}");
}

/// Returns the polls of a turn whose polls take so long.
fn polls_of(duration: Duration) -> u64 {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<u32>::builder()
        .clock(clock.clone())
        .build()
        .expect("a loop");
    let task = poll_fn(move |cx| {
        clock.advance(duration);
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    });
    futures::spawn(&mut reactor, task, |(), _cx| ()).expect("spawned");
    turn(&mut reactor, &mut 0);
    futures::tasks(&mut reactor)[0].polls
}

#[test]
fn a_pass_ends_when_its_time_is_used_up() {
    let micros = Duration::from_micros;
    assert_eq!(polls_of(micros(1000)), 8); // after the first look at the clock
    assert_eq!(polls_of(micros(200)), 32); // looks at 8, 16, 24 and 32
    assert_eq!(polls_of(micros(100)), 56); // looks at 8, 16, and then each time after eight
    assert_eq!(polls_of(micros(20)), 256); // looks at 8, 16, 32, 64, and then each after eight
    assert_eq!(polls_of(micros(1)), 256);
}

#[test]
fn a_task_that_is_always_ready_keeps_no_callback_from_running() {
    let mut reactor = Reactor::<[u32; 3]>::new().unwrap();
    let spins = poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    });
    futures::spawn(&mut reactor, spins, |(), _cx| ()).unwrap();
    let remote = reactor.remote().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    drop(_writer);
    reactor
        .add(reader, reactor::Interest::READABLE, |_reader, cx| {
            cx.state[0] += 1;
            Ok(Next::Keep)
        })
        .unwrap();
    reactor.every(Duration::ZERO, Missed::Skip, |cx| {
        cx.state[1] += 1;
        Ok(Next::Keep)
    });
    let mut calls = [0; 3];
    for _ in 0..10 {
        remote.post(|cx| cx.state[2] += 1).unwrap();
        turn(&mut reactor, &mut calls);
    }
    assert_eq!((calls[0], calls[2]), (10, 10));
    assert!(calls[1] > 0);
}

#[test]
fn a_task_that_gives_way_goes_on_in_the_next_turn() {
    let mut reactor = reactor::<u32>();
    let gives_way = async {
        for _ in 0..3 {
            futures::yield_now().await;
        }
    };
    futures::spawn(&mut reactor, gives_way, |(), cx| *cx.state += 1).unwrap();
    let mut ended = 0;
    for turns in 1..=4 {
        assert_eq!(ended, 0, "{turns}");
        turn(&mut reactor, &mut ended);
    }
    assert_eq!(ended, 1);
}

#[test]
fn a_sleep_that_is_asked_again_and_again_gives_way() {
    const MANY: u32 = 1_000_000;
    let mut reactor = reactor::<()>();
    let count = futures::block_on(&mut reactor, &mut (), async {
        let (begun, over) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let (begins, seen) = (Rc::clone(&begun), Rc::clone(&over));
        let asks = futures::spawn_local(async move {
            let (mut sleep, mut count) = (std::pin::pin!(futures::sleep(Duration::ZERO)), 0);
            sleep.as_mut().await;
            begins.set(true);
            while !seen.get() && count < MANY {
                sleep.as_mut().await;
                count += 1;
            }
            count
        });
        while !begun.get() {
            futures::yield_now().await;
        }
        over.set(true);
        asks.await
    });
    assert!(count.unwrap().is_ok_and(|count| count < MANY));
}

/// Wakes its own task, once.
async fn wake_once() {
    let mut is_first = true;
    poll_fn(move |cx| {
        if !std::mem::take(&mut is_first) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn a_task_that_gives_way_goes_on_in_the_next_turn_whatever_else_wakes_it() {
    for gives_way in [true, false] {
        let mut reactor = reactor::<bool>();
        let waits = async move {
            if gives_way {
                futures::yield_now().await;
            } else {
                futures::sleep(Duration::ZERO).await;
            }
        };
        let both = futures_lite::future::zip(waits, wake_once());
        futures::spawn(&mut reactor, both, |_, cx| *cx.state = true).unwrap();
        let mut is_over = false;
        turn(&mut reactor, &mut is_over);
        assert!(!is_over, "it went on in the same turn");
        assert_eq!(futures::tasks(&mut reactor)[0].polls, 2);
        turn(&mut reactor, &mut is_over);
        assert!(is_over);
    }
}
