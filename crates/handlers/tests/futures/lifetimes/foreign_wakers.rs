//! Wakers and sources of the user, whose destructors and wakes panic.

#![allow(clippy::panic, reason = "panics are the subject")]

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use handlers::futures::{self, Async};

use super::Result;
use crate::{catching, reactor, turn};

/// A waker that panics when it is dropped.
struct Bomb(Arc<AtomicUsize>);

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a bug");
    }
}

/// Polls a future with a waker of its own.
async fn polled_with<F: Future<Output: 'static> + Unpin>(mut future: F, waker: Waker) {
    assert!(
        Pin::new(&mut future)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop(waker);
    let _kept = future;
    std::future::pending().await
}

/// A waker that counts its wakes.
#[derive(Default)]
struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_part_of_a_task_is_woken_by_the_waker_of_its_own_poll() -> Result {
    type Wait = Pin<Box<dyn Future<Output = ()>>>;
    let (near, mut far) = UnixStream::pair()?;
    let near = Async::new(near)?;
    let waits: [Wait; 3] = [
        Box::pin(futures::sleep(Duration::from_secs(1))),
        Box::pin(futures::yield_now()),
        Box::pin(async move { drop(near.readable().await) }),
    ];
    let mut reactor = reactor::<()>();
    let counts = waits.each_ref().map(|_| Arc::new(Counts::default()));
    for (mut wait, count) in waits.into_iter().zip(counts.clone()) {
        let polls = Arc::new(AtomicUsize::new(0));
        let task = poll_fn(move |_cx| {
            assert_eq!(polls.fetch_add(1, Ordering::Relaxed), 0, "the task sleeps");
            let waker = Waker::from(Arc::clone(&count));
            let part = wait.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(part.is_pending());
            Poll::<()>::Pending
        });
        futures::spawn(&mut reactor, task, |(), _cx| ())?;
    }
    turn(&mut reactor, &mut ());
    far.write_all(b"x")?;
    turn(&mut reactor, &mut ());
    reactor.turn(&mut (), Some(Duration::from_secs(1)))?;
    let counts = counts.map(|count| count.0.load(Ordering::Relaxed));
    assert_eq!(counts, [1; 3]);
    Ok(())
}

#[test]
fn a_wait_with_the_waker_of_another_task_wakes_that_task() -> Result {
    let mut reactor = reactor::<Vec<&'static str>>();
    let mut given = None;
    let other = Rc::new(RefCell::new(None));
    let takes = Rc::clone(&other);
    let mut sleep = futures::sleep(Duration::from_secs(1));
    let woken = poll_fn(move |cx| match given.replace(()) {
        None => {
            takes.replace(Some(cx.waker().clone()));
            Poll::Pending
        }
        Some(()) => Poll::Ready(()),
    });
    futures::spawn(&mut reactor, woken, |(), cx| cx.state.push("woken"))?;
    let polls = poll_fn(move |_cx| {
        if let Some(waker) = other.take() {
            let polled = Pin::new(&mut sleep).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            return Poll::Pending;
        }
        Poll::Ready(())
    });
    futures::spawn(&mut reactor, polls, |(), cx| cx.state.push("polled again"))?;
    let mut seen = Vec::new();
    turn(&mut reactor, &mut seen);
    reactor.turn(&mut seen, Some(Duration::from_secs(1)))?;
    assert_eq!(seen, ["woken"]);
    Ok(())
}

/// A waker that begins a wait of its own when it is dropped.
struct WaitsAtItsEnd(fn());

impl Wake for WaitsAtItsEnd {
    fn wake(self: Arc<Self>) {}
}

impl Drop for WaitsAtItsEnd {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn waits_for_a_time() {
    let mut sleep = futures::sleep(Duration::from_secs(2));
    let polled = Pin::new(&mut sleep).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
}

fn waits_for_a_byte() {
    let (near, _far) = UnixStream::pair().expect("two sockets");
    let near = Async::new(near).expect("a source");
    let polled = near.poll_readable(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
}

#[test]
fn a_waker_may_wait_in_its_destructor() -> Result {
    let mut reactor = reactor::<usize>();
    let (near, _far) = UnixStream::pair()?;
    let near = Async::new(near)?;
    let task = async move {
        let mut sleep = futures::sleep(Duration::from_secs(1));
        for _ in 0..3 {
            let [of_sleep, of_source] = [waits_for_a_time, waits_for_a_byte]
                .map(|waits| Waker::from(Arc::new(WaitsAtItsEnd(waits))));
            let polled = Pin::new(&mut sleep).poll(&mut Context::from_waker(&of_sleep));
            assert!(polled.is_pending());
            let polled = near.poll_readable(&mut Context::from_waker(&of_source));
            assert!(polled.is_pending());
        }
    };
    futures::spawn(&mut reactor, task, |(), cx| *cx.state += 1)?;
    let mut ended = 0;
    reactor.run(&mut ended)?;
    assert_eq!((ended, reactor.timers().count()), (1, 0));
    Ok(())
}

#[test]
fn wakers_whose_destructors_panic_are_dropped_one_by_one_with_their_loop() {
    for make in [reactor::<()>, catching::<()>] {
        let (mut reactor, dropped) = (make(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..3 {
            let waker = Waker::from(Arc::new(Bomb(Arc::clone(&dropped))));
            let sleep = futures::sleep(Duration::from_secs(1));
            futures::spawn(&mut reactor, polled_with(sleep, waker), |(), _cx| ()).unwrap();
        }
        turn(&mut reactor, &mut ());
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(reactor)));
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
    }
}

/// A source that panics when it is dropped.
struct Explosive(UnixStream, Arc<AtomicUsize>);

impl AsFd for Explosive {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Explosive {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
        panic!("a bug");
    }
}

#[test]
fn sources_whose_destructors_panic_are_dropped_one_by_one_with_their_loop() -> Result {
    let (mut reactor, dropped) = (reactor::<()>(), Arc::new(AtomicUsize::new(0)));
    let mut peers = Vec::new();
    for _ in 0..3 {
        let (near, far) = UnixStream::pair()?;
        peers.push(far);
        let source = Async::new(Explosive(near, Arc::clone(&dropped)))?;
        let waits = async move { source.readable().await };
        futures::spawn(&mut reactor, waits, |_, _cx| ())?;
    }
    turn(&mut reactor, &mut ());
    assert_eq!(reactor.len(), 4);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(reactor))).is_err());
    assert_eq!(dropped.load(Ordering::Relaxed), 3);
    Ok(())
}

/// A waker that panics when it wakes.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a bug");
    }
}

#[test]
fn a_reader_whose_waker_panics_costs_the_writer_no_wake() -> Result {
    let mut reactor = catching::<bool>();
    let (near, far) = UnixStream::pair()?;
    let near = Rc::new(Async::new(near)?);
    // The room for bytes is used up, so that the writer waits too.
    rustix::net::sockopt::set_socket_send_buffer_size(near.get_ref(), 4096)?;
    let (reader, writer) = (Rc::clone(&near), near);
    let reads = poll_fn(move |_cx| {
        let waker = Waker::from(Arc::new(Panics));
        let polled = reader.poll_readable(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        Poll::Ready(())
    });
    futures::spawn(&mut reactor, reads, |(), _cx| ())?;
    let writes = async move {
        while writer
            .write_with(|mut stream| stream.write(&[0; 4096]))
            .await
            .is_ok()
        {}
    };
    futures::spawn(&mut reactor, writes, |(), cx| *cx.state = true)?;
    let mut has_ended = false;
    turn(&mut reactor, &mut has_ended);
    drop(far); // an end and an error: both are woken
    reactor.run(&mut has_ended)?;
    assert!(has_ended);
    Ok(())
}
