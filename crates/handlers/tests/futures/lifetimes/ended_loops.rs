//! Loops that end while a future waits, and tasks that are cancelled: nothing hangs, and nothing is
//! kept.

#![allow(clippy::panic, reason = "panics are a subject")]

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::{AsyncReadExt, StreamExt, future};
use handlers::futures::{self, Async, JoinError};
use reactor::{Capacity, Reactor, notification_queue};

use super::Result;
use super::cases::{CASES, Wait, poll};
use crate::{OnDrop, catching, reactor, turn};

#[test]
fn a_loop_that_is_dropped_in_each_wait_drops_the_task() -> Result {
    for case in &CASES {
        for turns in 0..3 {
            let mut reactor = reactor::<()>();
            let (wait, _needed) = (case.make)(&mut reactor)?;
            let is_dropped = Rc::new(Cell::new(false));
            let drops = Rc::clone(&is_dropped);
            let flag = OnDrop(move || drops.set(true));
            let task = async move {
                let _flag = flag;
                wait.await;
            };
            let key = futures::spawn(&mut reactor, task, |(), _cx| ())?;
            (0..turns).for_each(|_| turn(&mut reactor, &mut ()));
            assert!(key.is_alive(&mut reactor), "{}", case.name);
            drop(reactor);
            assert!(is_dropped.get(), "{} after {turns} turns", case.name);
        }
    }
    Ok(())
}

#[test]
fn a_wait_that_is_cancelled_leaves_nothing_behind() -> Result {
    for case in &CASES {
        for turns in 0..4 {
            let mut reactor = reactor::<()>();
            let (wait, needed) = (case.make)(&mut reactor)?;
            let others: Vec<_> = futures::tasks(&mut reactor);
            let key = futures::spawn(&mut reactor, wait, |(), _cx| ())?;
            (0..turns).for_each(|_| turn(&mut reactor, &mut ()));
            assert_eq!(key.cancel(&mut reactor), Ok(()), "{}", case.name);
            for other in others {
                assert_eq!(other.key.cancel(&mut reactor), Ok(()));
            }
            drop(needed); // the receiver of a full queue, so that the sink waits no more
            reactor.run(&mut ())?;
            let name = case.name;
            let left: Vec<_> = reactor
                .registrations()
                .map(|info| info.to_string())
                .collect();
            let known = if name == "sink" { 2 } else { 1 };
            assert!(left.len() <= known, "{name} after {turns} turns: {left:?}");
            assert_eq!(reactor.timers().count(), 0, "{name} after {turns} turns");
            assert_eq!(futures::tasks(&mut reactor).len(), 0, "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_wait_that_outlives_its_loop_says_so_on_another_loop() -> Result {
    for case in &CASES {
        let mut first = reactor::<()>();
        let (wait, _needed) = (case.make)(&mut first)?;
        let wait = Rc::new(RefCell::new(wait));
        let begins = Rc::clone(&wait);
        let task = poll_fn(move |cx| poll(&begins, cx).unwrap_or(Poll::Pending));
        futures::spawn(&mut first, task, |(), _cx| ())?;
        (0..3).for_each(|_| turn(&mut first, &mut ()));
        drop(first);
        let mut second = reactor::<&'static str>();
        let goes_on = poll_fn(move |cx| {
            // Once more than the first wake, after which an event is waited for again.
            let _ = poll(&wait, cx);
            Poll::Ready(match poll(&wait, cx) {
                None => "panic",
                Some(Poll::Ready(())) => "ready",
                Some(Poll::Pending) => "pending",
            })
        });
        let mut seen = "";
        if case.afterwards == "ready" {
            continue; // a future that has returned is not polled twice
        }
        futures::spawn(&mut second, goes_on, |seen, cx| *cx.state = seen)?;
        turn(&mut second, &mut seen);
        assert_eq!(seen, case.afterwards, "{}", case.name);
    }
    Ok(())
}

#[test]
fn a_task_of_another_loop_is_woken_when_the_loop_of_its_wait_ends() -> Result {
    for case in CASES.iter().filter(|case| case.afterwards == "ready") {
        let (mut first, mut second) = (reactor::<()>(), reactor::<bool>());
        let (wait, _needed) = (case.make)(&mut first)?;
        let wait = Rc::new(RefCell::new(wait));
        let begins = Rc::clone(&wait);
        let task = poll_fn(move |cx| poll(&begins, cx).unwrap_or(Poll::Pending));
        futures::spawn(&mut first, task, |(), _cx| ())?;
        turn(&mut first, &mut ());
        let goes_on = poll_fn(move |cx| poll(&wait, cx).unwrap_or(Poll::Pending));
        futures::spawn(&mut second, goes_on, |(), cx| *cx.state = true)?;
        let mut has_ended = false;
        turn(&mut second, &mut has_ended);
        assert!(!has_ended, "{}", case.name);
        drop(first);
        (0..3).for_each(|_| turn(&mut second, &mut has_ended));
        assert!(has_ended, "{}", case.name);
    }
    Ok(())
}

#[test]
fn a_closure_whose_loop_ends_before_its_call_ends_the_task_that_awaits_it() -> Result {
    let (mut first, mut second) = (reactor::<u8>(), catching::<()>());
    let wait = futures::with_context(|_cx: &mut reactor::Context<'_, u8>| ());
    let wait: Rc<RefCell<Wait>> = Rc::new(RefCell::new(Box::pin(wait)));
    let begins = Rc::clone(&wait);
    // The panic ends the pass before the closure is called.
    let task = poll_fn(move |cx| {
        assert_eq!(poll(&begins, cx), Some(Poll::Pending));
        panic!("a bug")
    });
    futures::spawn(&mut first, task, |(), _cx| ())?;
    assert!(catch_unwind(AssertUnwindSafe(|| turn(&mut first, &mut 0))).is_err());
    let goes_on = poll_fn(move |cx| wait.borrow_mut().as_mut().poll(cx));
    let handle = futures::spawn_joinable(&mut second, goes_on)?;
    turn(&mut second, &mut ());
    assert!(!handle.is_finished());
    drop(first);
    turn(&mut second, &mut ());
    turn(&mut second, &mut ());
    assert!(handle.is_finished());
    let ended = futures::block_on(&mut second, &mut (), handle)?;
    assert!(matches!(ended, Err(JoinError::Panicked(_))), "{ended:?}");
    Ok(())
}

#[test]
fn bytes_that_arrive_after_a_cancel_are_read_by_the_next_task() -> Result {
    for turns in 0..4 {
        let mut reactor = reactor::<()>();
        let (near, mut far) = UnixStream::pair()?;
        let near = Rc::new(Async::new(near)?);
        let reader = Rc::clone(&near);
        let reads = async move { drop((&*reader).read(&mut [0; 8]).await) };
        let key = futures::spawn(&mut reactor, reads, |(), _cx| ())?;
        (0..turns).for_each(|_| turn(&mut reactor, &mut ()));
        if turns == 3 {
            far.write_all(b"1234")?; // reported to the loop, and read by nobody
            reactor.defer(move |cx| assert!(key.cancel(cx.registry).is_ok()));
        } else {
            assert!(key.cancel(&mut reactor).is_ok());
            far.write_all(b"1234")?;
        }
        let rest = futures::block_on(&mut reactor, &mut (), async move {
            let mut bytes = [0; 4];
            let read = future::or(
                async { (&*near).read_exact(&mut bytes).await.is_ok() },
                async {
                    futures::sleep(Duration::from_secs(5)).await;
                    false
                },
            );
            read.await
        })?;
        assert!(rest, "after {turns} turns");
    }
    Ok(())
}

#[test]
fn values_that_a_cancelled_wait_has_not_taken_are_received_by_the_next() -> Result {
    for turns in 0..4 {
        let mut reactor = reactor::<()>();
        let (sender, receiver) = notification_queue(Capacity::Bounded(4));
        let stream = Rc::new(RefCell::new(futures::receive(&mut reactor, receiver)?));
        let waits = Rc::clone(&stream);
        let next = poll_fn(move |cx| waits.borrow_mut().poll_next(cx).map(drop));
        let key = futures::spawn(&mut reactor, next, |(), _cx| ())?;
        (0..turns).for_each(|_| turn(&mut reactor, &mut ()));
        sender.try_send(7)?;
        assert!(key.cancel(&mut reactor).is_ok());
        let value = futures::block_on(&mut reactor, &mut (), async move {
            poll_fn(|cx| stream.borrow_mut().poll_next(cx)).await
        })?;
        assert_eq!(value, Some(7), "after {turns} turns");
    }
    Ok(())
}

#[test]
fn a_peer_sees_the_end_of_each_source_of_a_loop_that_is_dropped() -> Result {
    let mut reactor = reactor::<()>();
    let mut peers = Vec::new();
    for turns in 0..3 {
        let (near, far) = UnixStream::pair()?;
        far.set_nonblocking(true)?;
        peers.push(far);
        let mut near = Async::new(near)?;
        let reads = async move { drop(near.read(&mut [0; 1]).await) };
        futures::spawn(&mut reactor, reads, |(), _cx| ())?;
        (0..turns).for_each(|_| turn(&mut reactor, &mut ()));
    }
    drop(reactor);
    for mut peer in peers {
        assert_eq!(peer.read(&mut [0; 1])?, 0);
    }
    Ok(())
}

#[test]
fn a_task_may_hold_its_own_handle_whichever_way_it_ends() -> Result {
    type Ends = fn(&mut Reactor<()>, futures::TaskKey) -> bool;
    let ways: [(&str, Ends); 3] = [
        ("cancelled", |reactor, key| key.cancel(reactor).is_ok()),
        ("woken to its end", |_, _| true),
        ("with its loop", |_, _| false),
    ];
    for (name, ends) in ways {
        let (mut reactor, signal) = (reactor::<()>(), crate::Signal::default());
        let own = Rc::new(RefCell::new(None));
        let is_dropped = Rc::new(Cell::new(false));
        let (waits, held, drops) = (signal.wait(), Rc::clone(&own), Rc::clone(&is_dropped));
        let task = async move {
            let _handle = held; // dropped with the future
            let _flag = OnDrop(move || drops.set(true));
            waits.await;
        };
        let mut handle = futures::spawn_joinable(&mut reactor, task)?;
        let key = handle.key();
        let polled = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        own.replace(Some(handle));
        drop(own);
        turn(&mut reactor, &mut ());
        if ends(&mut reactor, key) {
            signal.set();
            reactor.run(&mut ())?;
            assert_eq!(futures::tasks(&mut reactor).len(), 0, "{name}");
        }
        drop(reactor);
        assert!(is_dropped.get(), "{name}");
    }
    Ok(())
}
