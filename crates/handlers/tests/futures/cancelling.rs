//! Cancelling: by whom, and when.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::rc::Rc;

use handlers::futures::{self, JoinError, StaleTask, TaskKey};
use reactor::Context;

use crate::{Dropped, OnDrop, Signal, reactor, turn};

type Log = Rc<RefCell<Vec<&'static str>>>;

fn waits(name: &'static str, log: &Log) -> impl Future<Output = ()> + use<> {
    let dropped = Dropped {
        name,
        log: Rc::clone(log),
    };
    async move {
        let _dropped = dropped;
        pending().await
    }
}

#[test]
fn a_cancelled_task_is_dropped_at_once_and_its_callback_is_not_called() {
    let (mut reactor, log) = (reactor::<u32>(), Log::default());
    let key = futures::spawn(&mut reactor, waits("task", &log), |(), cx| *cx.state += 1).unwrap();
    let mut called = 0;
    turn(&mut reactor, &mut called);
    assert_eq!(key.cancel(&mut reactor), Ok(()));
    assert_eq!(*log.borrow(), ["task"]);
    reactor.run(&mut called).unwrap();
    assert_eq!(called, 0);
}

#[test]
fn a_task_may_be_cancelled_before_its_first_poll() {
    let (mut reactor, log) = (reactor::<()>(), Log::default());
    let key = futures::spawn(&mut reactor, waits("task", &log), |(), _cx| ()).unwrap();
    assert_eq!(key.cancel(&mut reactor), Ok(()));
    assert_eq!(*log.borrow(), ["task"]);
    reactor.run(&mut ()).unwrap();
}

#[test]
fn the_key_of_an_ended_task_is_stale_also_in_its_callback() {
    let mut reactor = reactor::<Vec<Result<(), StaleTask>>>();
    let key = Rc::new(Cell::new(None::<TaskKey>));
    let own = Rc::clone(&key);
    let then = move |(), cx: &mut Context<'_, Vec<_>>| {
        let key = own.get().expect("it was set");
        cx.state.push(key.cancel(cx.registry));
    };
    key.set(Some(futures::spawn(&mut reactor, async {}, then).unwrap()));
    let mut results = Vec::new();
    reactor.run(&mut results).unwrap();
    let key = key.get().unwrap();
    assert_eq!(results, [Err(StaleTask(key))]);
    assert_eq!(key.cancel(&mut reactor), Err(StaleTask(key)));
    assert_eq!(
        io::Error::from(StaleTask(key)).kind(),
        io::ErrorKind::NotFound
    );
    let next = futures::spawn(&mut reactor, async {}, |(), _cx| ()).unwrap();
    assert_ne!(key, next);
    assert!(!key.is_alive(&mut reactor));
    assert!(next.is_alive(&mut reactor));
}

#[test]
fn a_task_may_cancel_itself_through_the_registry() {
    let (mut reactor, log) = (reactor::<u32>(), Log::default());
    let key = Rc::new(Cell::new(None::<TaskKey>));
    let (own, waits) = (Rc::clone(&key), waits("task", &log));
    let task = async move {
        let cancels = futures::with_context(move |cx: &mut Context<'_, u32>| {
            *cx.state += 1;
            own.get().expect("it was set").cancel(cx.registry)
        });
        let _ = cancels.await;
        waits.await
    };
    key.set(Some(
        futures::spawn(&mut reactor, task, |(), cx| *cx.state += 10).unwrap(),
    ));
    let mut state = 0;
    reactor.run(&mut state).unwrap();
    assert_eq!((state, &**log.borrow()), (1, &["task"][..]));
}

#[test]
fn a_task_may_cancel_another_that_is_woken_in_the_same_pass() {
    let (mut reactor, signal) = (reactor::<u32>(), Signal::default());
    let key = Rc::new(Cell::new(None::<TaskKey>));
    let (other, wakes) = (Rc::clone(&key), signal.clone());
    let first = async move {
        wakes.set(); // the other is woken, and then cancelled
        futures::with_context(move |cx: &mut Context<'_, u32>| {
            other.get().expect("it was set").cancel(cx.registry)
        })
        .await
    };
    let second = signal.wait();
    key.set(Some(
        futures::spawn(&mut reactor, second, |(), cx| *cx.state += 10).unwrap(),
    ));
    let mut state = 0;
    turn(&mut reactor, &mut state);
    futures::spawn(&mut reactor, first, |result, cx| {
        *cx.state += u32::from(result.is_ok())
    })
    .unwrap();
    reactor.run(&mut state).unwrap();
    assert_eq!(state, 1);
}

#[test]
fn a_task_that_aborts_its_own_handle_ends_after_that_poll() {
    let (mut reactor, log) = (reactor::<()>(), Log::default());
    let handle = Rc::new(RefCell::new(None::<futures::JoinHandle<()>>));
    let (own, waits, ended) = (Rc::clone(&handle), waits("task", &log), Rc::clone(&log));
    let task = async move {
        if let Some(handle) = &*own.borrow() {
            handle.abort();
        }
        ended.borrow_mut().push("the rest of the poll");
        waits.await
    };
    handle.replace(Some(futures::spawn_joinable(&mut reactor, task).unwrap()));
    reactor.run(&mut ()).unwrap();
    assert_eq!(*log.borrow(), ["the rest of the poll", "task"]);
}

#[test]
fn a_handle_may_be_aborted_outside_of_tasks_and_after_the_end() {
    let (mut reactor, log) = (reactor::<()>(), Log::default());
    let handle = futures::spawn_joinable(&mut reactor, waits("task", &log)).unwrap();
    turn(&mut reactor, &mut ());
    handle.abort();
    assert!(!handle.is_finished());
    reactor.run(&mut ()).unwrap();
    assert!(handle.is_finished());
    handle.abort();
    let ended = futures::block_on(&mut reactor, &mut (), handle);
    assert_eq!(ended.unwrap(), Err(JoinError::Cancelled));
    assert_eq!(*log.borrow(), ["task"]);
}

#[test]
fn an_abort_of_a_task_whose_place_is_used_again_changes_nothing() {
    let mut reactor = reactor::<u32>();
    let (abort, signal) = (
        Rc::new(RefCell::new(None::<futures::JoinHandle<()>>)),
        Signal::default(),
    );
    let handle = futures::spawn_joinable(&mut reactor, pending::<()>()).unwrap();
    handle.abort(); // carried out in the next pass, when the place has another task
    handle.key().cancel(&mut reactor).unwrap();
    abort.replace(Some(handle));
    futures::spawn(&mut reactor, signal.wait(), |(), cx| *cx.state += 1).unwrap();
    let mut ended = 0;
    turn(&mut reactor, &mut ended);
    signal.set();
    reactor.run(&mut ended).unwrap();
    assert_eq!(ended, 1);
}

#[test]
fn a_destructor_may_spawn_and_abort_while_its_task_is_cancelled() {
    let mut reactor = reactor::<()>();
    let log = Log::default();
    let aborted = Rc::new(RefCell::new(Some(
        futures::spawn_joinable(&mut reactor, waits("aborted", &log)).unwrap(),
    )));
    let spawned = Rc::clone(&log);
    let acts = OnDrop(move || {
        if let Some(handle) = aborted.take() {
            handle.abort();
        }
        let log = Rc::clone(&spawned);
        drop(futures::spawn_local(async move {
            log.borrow_mut().push("spawned")
        }));
    });
    let task = async move {
        let _acts = acts;
        pending::<()>().await;
    };
    let key = futures::spawn(&mut reactor, task, |(), _cx| ()).unwrap();
    turn(&mut reactor, &mut ());
    key.cancel(&mut reactor).unwrap();
    reactor.run(&mut ()).unwrap();
    let mut log = log.take();
    log.sort_unstable();
    assert_eq!(log, ["aborted", "spawned"]);
}
