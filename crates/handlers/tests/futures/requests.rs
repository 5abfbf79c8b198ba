//! Closures with the state, within a future.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{self, Poll, Waker};
use std::thread;

use handlers::futures::{self, Spawner};
use reactor::Context;

use crate::{OnDrop, reactor, turn};

#[test]
fn an_answer_wakes_the_last_that_has_asked_for_it() {
    let mut reactor = reactor::<u32>();
    let task = async {
        let mut answer = pin!(futures::with_context(|cx: &mut Context<'_, u32>| *cx.state));
        let mut is_first = true;
        poll_fn(|cx| {
            if std::mem::take(&mut is_first) {
                let mut other = task::Context::from_waker(Waker::noop());
                assert!(answer.as_mut().poll(&mut other).is_pending());
            }
            answer.as_mut().poll(cx)
        })
        .await
    };
    let answer = futures::block_on(&mut reactor, &mut 42, task);
    assert_eq!(answer.unwrap(), 42);
}

#[test]
fn a_task_with_many_closures_goes_on_in_one_turn() {
    let mut reactor = reactor::<Vec<u32>>();
    let task = async {
        for number in 0..10 {
            futures::with_context(move |cx: &mut Context<'_, Vec<u32>>| cx.state.push(number))
                .await;
        }
    };
    futures::spawn(&mut reactor, task, |(), cx| cx.state.push(100)).unwrap();
    let mut numbers = Vec::new();
    turn(&mut reactor, &mut numbers);
    assert!(numbers.into_iter().eq((0..10).chain([100])));
}

#[test]
fn a_closure_of_a_future_that_was_dropped_in_the_same_poll_is_not_called() {
    let mut reactor = reactor::<u32>();
    let dropped = Rc::new(Cell::new(false));
    let set = Rc::clone(&dropped);
    let task = poll_fn(move |cx| {
        let set = Rc::clone(&set);
        let captured = OnDrop(move || set.set(true));
        let closure = futures::with_context(move |cx: &mut Context<'_, u32>| {
            let _captured = captured;
            *cx.state += 1;
        });
        assert!(pin!(closure).poll(cx).is_pending());
        Poll::Ready(())
    });
    futures::spawn(&mut reactor, task, |(), _cx| ()).unwrap();
    let mut called = 0;
    reactor.run(&mut called).unwrap();
    assert_eq!((called, dropped.get()), (0, true));
}

#[test]
#[should_panic(expected = "no task of a loop with the state u8 is polled")]
fn a_closure_for_another_state_than_the_loop_s_panics() {
    let task = futures::with_context(|_cx: &mut Context<'_, u8>| ());
    let _ = futures::block_on(&mut reactor::<u32>(), &mut 0, task);
}

#[test]
fn a_closure_may_spawn_and_cancel_tasks() {
    let mut reactor = reactor::<u32>();
    let task = futures::with_context(|cx: &mut Context<'_, u32>| {
        let key = futures::spawn(cx.registry, pending::<()>(), |(), _cx| ()).expect("spawned");
        futures::spawn(cx.registry, async {}, |(), cx| *cx.state += 1).expect("spawned");
        key.cancel(cx.registry)
    });
    futures::spawn(&mut reactor, task, |result, cx| {
        *cx.state += 10 * u32::from(result.is_ok())
    })
    .unwrap();
    let mut state = 0;
    reactor.run(&mut state).unwrap();
    assert_eq!(state, 11);
}

#[test]
fn threads_spawn_futures_that_need_not_be_send() {
    let mut reactor = reactor::Reactor::<Vec<usize>>::new().unwrap();
    let spawner = Spawner::new(&mut reactor).unwrap();
    let alive = reactor.remote().unwrap().keep_alive();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let spawner = spawner.clone();
            thread::spawn(move || {
                let make = move |_cx: &mut Context<'_, _>| {
                    let local = Rc::new(number);
                    async move {
                        futures::yield_now().await;
                        *local
                    }
                };
                spawner.spawn(make, |number, cx| cx.state.push(number))
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap().unwrap());
    drop(alive);
    let mut numbers = Vec::new();
    reactor.run(&mut numbers).unwrap();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3]);
    drop(reactor);
    assert!(spawner.spawn(|_cx| async {}, |(), _cx| ()).is_err());
}
