//! Handles of tasks.

use std::future::pending;
use std::rc::Rc;

use handlers::futures::{self, JoinError};

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
    let dropped = Rc::new(std::cell::Cell::new(false));
    let set = Rc::clone(&dropped);
    let output = OnDrop(move || set.set(true));
    drop(futures::spawn_joinable(&mut reactor, async move { output }).unwrap());
    turn(&mut reactor, &mut ());
    assert!(dropped.get());
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
