//! Handles of tasks.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;

use handlers::futures::{self, JoinError, StaleTask};
use reactor::Context;

use crate::{OnDrop, Signal, catching, reactor, turn};

#[test]
fn a_dropped_handle_detaches_the_task() {
    let mut reactor = reactor::<()>();
    let signal = Signal::default();
    let sets = signal.clone();
    let waits = futures::block_on(&mut reactor, &mut (), async move {
        drop(futures::spawn_local(async move { sets.set() }));
        signal.wait().await;
    });
    waits.unwrap();
}

#[test]
fn a_handle_may_be_awaited_long_after_the_end_of_its_task() {
    let mut reactor = reactor::<()>();
    let handle = futures::spawn_joinable(&mut reactor, async { "done" }).unwrap();
    reactor.run(&mut ()).unwrap();
    assert!(handle.is_finished());
    let result = futures::block_on(&mut reactor, &mut (), handle);
    assert_eq!(result.unwrap(), Ok("done"));
}

#[test]
fn a_handle_that_moves_to_another_task_wakes_the_last_that_polled_it() {
    let mut reactor = reactor::<Vec<&str>>();
    let (signal, begin) = (Signal::default(), Signal::default());
    let mut handle = futures::spawn_joinable(&mut reactor, signal.wait()).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let first = async move {
        // Polled once here, and passed on.
        let polled =
            std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::pin!(&mut handle).poll(cx)));
        assert!(polled.await.is_pending());
        let _ = send.send(handle);
    };
    let begun = begin.wait();
    let second = async move {
        begun.await;
        receive.recv().expect("the first has sent it").await
    };
    futures::spawn(&mut reactor, first, |(), _cx| ()).unwrap();
    futures::spawn(&mut reactor, second, |_result, cx| cx.state.push("second")).unwrap();
    let mut ended = Vec::new();
    turn(&mut reactor, &mut ended);
    begin.set();
    turn(&mut reactor, &mut ended);
    signal.set();
    reactor.run(&mut ended).unwrap();
    assert_eq!(ended, ["second"]);
}

#[test]
fn a_task_that_panics_is_reported_to_its_handle_with_its_message() {
    let mut reactor = catching::<()>();
    let result = futures::block_on(&mut reactor, &mut (), async {
        futures::spawn_local(async { panic!("a bug") }).await
    });
    assert_eq!(
        result.unwrap(),
        Err::<(), _>(JoinError::Panicked("a bug".to_owned()))
    );
}

#[test]
fn the_handle_of_a_task_whose_loop_has_ended_reports_a_cancelled_task() {
    let mut gone = reactor::<()>();
    let handle = futures::spawn_joinable(&mut gone, pending::<()>()).unwrap();
    turn(&mut gone, &mut ());
    drop(gone);
    handle.abort();
    let result = futures::block_on(&mut reactor(), &mut (), handle);
    assert_eq!(result.unwrap(), Err(JoinError::Cancelled));
}

#[test]
fn a_result_that_no_handle_waits_for_is_dropped_with_the_task() {
    let mut reactor = reactor::<()>();
    let dropped = Rc::new(Cell::new(false));
    let set = Rc::clone(&dropped);
    let output = OnDrop(move || set.set(true));
    drop(futures::spawn_joinable(&mut reactor, async move { output }).unwrap());
    turn(&mut reactor, &mut ());
    assert!(dropped.get());
}

#[test]
fn a_result_that_its_handle_has_not_taken_is_dropped_with_the_handle() {
    for is_loop_gone in [false, true] {
        let mut reactor = Some(reactor::<()>());
        let dropped = Rc::new(Cell::new(false));
        let set = Rc::clone(&dropped);
        let output = OnDrop(move || set.set(true));
        let alive = reactor.as_mut().unwrap();
        let handle = futures::spawn_joinable(alive, async move { output }).unwrap();
        turn(alive, &mut ());
        reactor.take_if(|_| is_loop_gone);
        assert!(!dropped.get() && handle.is_finished());
        drop(handle);
        assert!(dropped.get(), "the loop is gone: {is_loop_gone}");
    }
}

#[test]
fn a_result_outlives_its_loop() {
    let mut gone = reactor::<()>();
    let (first, second) = (async { 1 }, async { 2 });
    let first = futures::spawn_joinable(&mut gone, first).unwrap();
    let second = futures::spawn_joinable(&mut gone, second).unwrap();
    turn(&mut gone, &mut ());
    drop(gone);
    let both = async { (second.await, first.await) };
    let both = futures::block_on(&mut reactor(), &mut (), both);
    assert_eq!(both.unwrap(), (Ok(2), Ok(1)));
}

#[test]
fn a_task_is_woken_by_the_end_of_the_loop_of_the_task_that_it_awaits() {
    let (mut awaits, mut gone) = (reactor::<Option<JoinError>>(), reactor::<()>());
    let handle = futures::spawn_joinable(&mut gone, pending::<()>()).unwrap();
    let pass = |result: Result<(), JoinError>, cx: &mut Context<'_, _>| *cx.state = result.err();
    futures::spawn(&mut awaits, handle, pass).unwrap();
    let mut error = None;
    turn(&mut awaits, &mut error);
    drop(gone);
    awaits.run(&mut error).unwrap();
    assert_eq!(error, Some(JoinError::Cancelled));
}

#[test]
fn a_task_whose_result_waits_has_ended_for_all_but_its_handle() {
    let mut reactor = reactor::<()>();
    let handle = futures::spawn_joinable(&mut reactor, async { "first" }).unwrap();
    let key = handle.key();
    reactor.run(&mut ()).unwrap(); // the result does not keep it alive
    assert!(!key.is_alive(&mut reactor));
    assert_eq!(key.cancel(&mut reactor), Err(StaleTask(key)));
    assert_eq!(key.set_background(&mut reactor, true), Err(StaleTask(key)));
    assert!(futures::tasks(&mut reactor).is_empty());
    // Other tasks do not touch the result.
    let others: Vec<_> = (0..100)
        .map(|number| futures::spawn_joinable(&mut reactor, async move { number }).unwrap())
        .collect();
    turn(&mut reactor, &mut ());
    let all = async {
        for (number, other) in others.into_iter().enumerate() {
            assert_eq!(other.await, Ok(number));
        }
        handle.await
    };
    let result = futures::block_on(&mut reactor, &mut (), all);
    assert_eq!(result.unwrap(), Ok("first"));
}

#[test]
fn a_polled_handle_reports_a_result_once() {
    let mut reactor = reactor::<()>();
    let mut handle = futures::spawn_joinable(&mut reactor, async { 1 }).unwrap();
    turn(&mut reactor, &mut ());
    let twice = async move { ((&mut handle).await, (&mut handle).await) };
    let twice = futures::block_on(&mut reactor, &mut (), twice);
    assert_eq!(twice.unwrap(), (Ok(1), Err(JoinError::Cancelled)));
}

#[test]
fn a_task_may_own_its_handle_and_its_place_is_used_again() {
    let mut reactor = catching::<()>();
    let own = Rc::new(RefCell::new(None));
    let ends: [fn(); 2] = [|| {}, || panic!("a bug")];
    for (round, end) in ends.into_iter().enumerate() {
        let owned = Rc::clone(&own);
        let task = async move {
            let _handle = owned.take();
            futures::yield_now().await;
            end();
        };
        let handle = futures::spawn_joinable(&mut reactor, task).unwrap();
        // The number of its place, and how often that was used before.
        assert_eq!(handle.key().to_string(), format!("0v{round}"));
        own.replace(Some(handle));
        reactor.run(&mut ()).unwrap();
    }
}

#[test]
#[should_panic(expected = "spawn_local was called outside of a task")]
fn spawning_on_no_loop_panics() {
    drop(futures::spawn_local(async {}));
}

#[test]
fn a_loop_within_a_task_of_another_loop_runs_its_own_tasks() {
    let mut outer = reactor::<()>();
    let answer = futures::block_on(&mut outer, &mut (), async {
        let mut inner = reactor::<()>();
        let of_inner = futures::block_on(&mut inner, &mut (), async {
            futures::spawn_local(async { 1 }).await.unwrap()
        });
        of_inner.unwrap() + futures::spawn_local(async { 2 }).await.unwrap()
    });
    assert_eq!(answer.unwrap(), 3);
}
