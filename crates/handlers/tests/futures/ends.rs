//! The order of drops, and the end of a loop.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use handlers::futures::{self, JoinError};
use reactor::Context;

use crate::{Dropped, OnDrop, catching, reactor, turn};

type Log = Rc<RefCell<Vec<&'static str>>>;

#[test]
fn a_future_is_dropped_before_its_callback_is_called() {
    let (mut reactor, log) = (reactor::<()>(), Log::default());
    let of_future = Dropped {
        name: "future",
        log: Rc::clone(&log),
    };
    let of_callback = Dropped {
        name: "callback",
        log: Rc::clone(&log),
    };
    let called = Rc::clone(&log);
    let task = async move {
        let _of_future = of_future;
    };
    let then = move |(), _cx: &mut Context<'_, ()>| {
        let _of_callback = of_callback;
        called.borrow_mut().push("called");
    };
    futures::spawn(&mut reactor, task, then).unwrap();
    reactor.run(&mut ()).unwrap();
    assert_eq!(*log.borrow(), ["future", "called", "callback"]);
}

#[test]
fn the_end_of_a_loop_drops_its_tasks_in_the_order_of_their_keys() {
    let (mut reactor, log) = (reactor::<()>(), Log::default());
    for name in ["a", "b", "c"] {
        let dropped = Dropped {
            name,
            log: Rc::clone(&log),
        };
        let task = async move {
            let _dropped = dropped;
            pending::<()>().await;
        };
        futures::spawn(&mut reactor, task, |(), _cx| ()).unwrap();
    }
    turn(&mut reactor, &mut ());
    drop(reactor);
    assert_eq!(*log.borrow(), ["a", "b", "c"]);
}

#[test]
fn every_task_is_dropped_with_its_loop_although_destructors_panic() {
    for reactor in [reactor::<()>(), catching::<()>()] {
        let (mut reactor, dropped) = (reactor, Rc::new(Cell::new(0)));
        for _ in 0..5 {
            let count = Rc::clone(&dropped);
            let bomb = OnDrop(move || {
                count.set(count.get() + 1);
                panic!("a bug");
            });
            let task = async move {
                let _bomb = bomb;
                pending::<()>().await;
            };
            futures::spawn(&mut reactor, task, |(), _cx| ()).unwrap();
        }
        let _ = catch_unwind(AssertUnwindSafe(|| drop(reactor)));
        assert_eq!(dropped.get(), 5);
    }
}

#[test]
fn a_task_that_is_spawned_by_a_destructor_at_the_end_is_cancelled() {
    let mut reactor = reactor::<()>();
    let handle = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&handle);
    let spawns = OnDrop(move || {
        kept.replace(Some(futures::spawn_local(pending::<()>())));
    });
    let task = async move {
        let _spawns = spawns;
        pending::<()>().await;
    };
    futures::spawn(&mut reactor, task, |(), _cx| ()).unwrap();
    drop(reactor);
    let handle = handle.take().unwrap();
    assert!(handle.is_finished());
    let result = futures::block_on(&mut crate::reactor(), &mut (), handle);
    assert_eq!(result.unwrap(), Err(JoinError::Cancelled));
}

#[test]
fn a_task_may_own_the_handle_of_another_that_is_dropped_first() {
    let mut reactor = reactor::<()>();
    let first = futures::spawn_joinable(&mut reactor, pending::<()>()).unwrap();
    futures::spawn(&mut reactor, first, |_result, _cx| ()).unwrap();
    turn(&mut reactor, &mut ());
    drop(reactor);
}
