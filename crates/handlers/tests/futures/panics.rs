//! Panics: of polls, callbacks, closures and destructors, under both policies.

#![allow(clippy::panic, reason = "panics are the subject")]

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use handlers::futures::{self, Async, BlockOnError, JoinError, TaskKey};
use reactor::{Context, Reactor};

use crate::{OnDrop, catching, reactor, turn};

type Spawns = fn(&mut Reactor<u32>) -> TaskKey;

/// Each way in which a task can panic.
const PANICS: [(&str, Spawns); 5] = [
    ("poll", |reactor| {
        futures::spawn(reactor, async { panic!("a bug") }, |(), _cx| ()).expect("spawned")
    }),
    ("callback", |reactor| {
        futures::spawn(reactor, async {}, |(), _cx| panic!("a bug")).expect("spawned")
    }),
    ("closure with the state", |reactor| {
        let closure = futures::with_context(|_cx: &mut Context<'_, u32>| panic!("a bug"));
        futures::spawn(reactor, closure, |(), _cx| ()).expect("spawned")
    }),
    ("destructor of the future", |reactor| {
        let bomb = OnDrop(|| panic!("a bug"));
        let task = async move { drop(bomb) };
        futures::spawn(reactor, task, |(), _cx| ()).expect("spawned")
    }),
    ("destructor of the callback", |reactor| {
        let bomb = OnDrop(|| panic!("a bug"));
        let then = move |(), _cx: &mut Context<'_, u32>| drop(bomb);
        futures::spawn(reactor, async {}, then).expect("spawned")
    }),
];

#[test]
fn a_panic_that_is_caught_ends_only_its_own_task() {
    for (name, spawn) in PANICS {
        let mut reactor = catching::<u32>();
        let key = spawn(&mut reactor);
        futures::spawn(&mut reactor, async {}, |(), cx| *cx.state += 1).unwrap();
        let mut ended = 0;
        reactor.run(&mut ended).unwrap();
        assert_eq!((ended, reactor.metrics().panics), (1, 1), "{name}");
        assert!(!key.is_alive(&mut reactor), "{name}");
        assert_eq!(futures::tasks(&mut reactor).len(), 0, "{name}");
    }
}

#[test]
fn a_panic_that_unwinds_ends_only_its_own_task() {
    for (name, spawn) in PANICS {
        let mut reactor = reactor::<u32>();
        let key = spawn(&mut reactor);
        futures::spawn(&mut reactor, async {}, |(), cx| *cx.state += 1).unwrap();
        let mut ended = 0;
        let unwound = catch_unwind(AssertUnwindSafe(|| reactor.run(&mut ended)));
        assert!(unwound.is_err(), "{name}");
        assert!(!key.is_alive(&mut reactor), "{name}");
        reactor.run(&mut ended).unwrap();
        assert_eq!(ended, 1, "{name}");
        assert_eq!(futures::tasks(&mut reactor).len(), 0, "{name}");
    }
}

/// A task whose destructor panics.
fn bomb(reactor: &mut Reactor<u32>) -> TaskKey {
    let bomb = OnDrop(|| panic!("a bug"));
    let task = async move {
        let _bomb = bomb;
        pending::<()>().await;
    };
    futures::spawn(reactor, task, |(), _cx| ()).expect("spawned")
}

#[test]
fn a_destructor_that_panics_while_its_task_is_cancelled_meets_the_policy() {
    let mut reactor = catching::<u32>();
    let key = bomb(&mut reactor);
    assert_eq!(key.cancel(&mut reactor), Ok(()));
    let mut reactor = crate::reactor::<u32>();
    let key = bomb(&mut reactor);
    assert!(catch_unwind(AssertUnwindSafe(|| key.cancel(&mut reactor))).is_err());
    assert!(!key.is_alive(&mut reactor));
    reactor.run(&mut 0).unwrap();
}

#[test]
fn a_panic_in_block_on_leaves_nothing_behind() {
    let mut reactor = reactor::<u32>();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        futures::block_on(&mut reactor, &mut 0, async { panic!("a bug") })
    }));
    assert!(unwound.is_err());
    assert_eq!(futures::tasks(&mut reactor).len(), 0);
    let mut reactor = catching::<u32>();
    let ended = futures::block_on(&mut reactor, &mut 0, async { panic!("a bug") });
    let panicked = JoinError::Panicked("a bug".to_owned());
    assert!(matches!(ended, Err(BlockOnError::Ended(error)) if error == panicked));
    assert_eq!(futures::tasks(&mut reactor).len(), 0);
}

#[test]
fn a_turn_after_an_unwound_panic_goes_on_where_the_pass_was_cut() {
    let mut reactor = reactor::<u32>();
    for _ in 0..3 {
        futures::spawn(&mut reactor, async {}, |(), cx| *cx.state += 1).unwrap();
        futures::spawn(&mut reactor, async { panic!("a bug") }, |(), _cx| ()).unwrap();
    }
    let mut ended = 0;
    for expected in 1..=3 {
        let cut = catch_unwind(AssertUnwindSafe(|| turn(&mut reactor, &mut ended)));
        assert!(cut.is_err());
        assert_eq!(ended, expected);
    }
    turn(&mut reactor, &mut ended);
    assert_eq!(futures::tasks(&mut reactor).len(), 0);
}

#[test]
fn a_panic_of_an_answer_without_a_task_stops_no_other_task() {
    for reactor in [catching::<u32>(), reactor()] {
        let mut reactor = reactor;
        let own = Rc::new(Cell::new(None));
        let known = Rc::clone(&own);
        let asking = futures::with_context(move |cx: &mut Context<'_, u32>| {
            let key: Option<TaskKey> = known.get();
            key.unwrap().cancel(cx.registry).unwrap();
            OnDrop(|| panic!("a bug"))
        });
        let asking = async move { drop(asking.await) };
        own.set(futures::spawn(&mut reactor, asking, |(), _cx| ()).ok());
        assert_other_tasks_run(&mut reactor);
    }
}

/// A source whose destructor panics.
struct Bomb(UnixStream);

impl AsFd for Bomb {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bug");
    }
}

#[test]
fn a_panic_of_a_source_that_a_thread_drops_stops_no_other_task() {
    for reactor in [catching::<u32>(), reactor()] {
        let mut reactor = reactor;
        let (near, _far) = UnixStream::pair().unwrap();
        let source = Arc::new(Mutex::new(Some(Async::new(Bomb(near)).unwrap())));
        let polled = Arc::clone(&source);
        let waiting = poll_fn(move |cx| {
            let mut source = polled.lock().unwrap();
            source
                .as_mut()
                .map_or(Poll::Ready(()), |source| source.poll_readable(cx).map(drop))
        });
        let key = futures::spawn(&mut reactor, waiting, |(), _cx| ()).unwrap();
        key.set_background(&mut reactor, true).unwrap();
        turn(&mut reactor, &mut 0);
        std::thread::spawn(move || drop(source.lock().unwrap().take()))
            .join()
            .unwrap();
        assert_other_tasks_run(&mut reactor);
    }
}

/// Checks that tasks run, once a panic has passed.
fn assert_other_tasks_run(reactor: &mut Reactor<u32>) {
    let mut ended = 0;
    let _ = catch_unwind(AssertUnwindSafe(|| turn(reactor, &mut ended)));
    let _ = catch_unwind(AssertUnwindSafe(|| turn(reactor, &mut ended)));
    let ends = futures::spawn(reactor, futures::yield_now(), |(), cx| *cx.state += 1);
    ends.expect("spawned");
    turn(reactor, &mut ended);
    turn(reactor, &mut ended);
    turn(reactor, &mut ended);
    assert_eq!(ended, 1);
}
