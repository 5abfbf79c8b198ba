//! Wakers and sources of the user, whose destructors and wakes panic.

#![allow(clippy::panic, reason = "panics are the subject")]

use std::future::{Future, poll_fn};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
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
    let near = std::rc::Rc::new(Async::new(near)?);
    // The room for bytes is used up, so that the writer waits too.
    rustix::net::sockopt::set_socket_send_buffer_size(near.get_ref(), 4096)?;
    let (reader, writer) = (std::rc::Rc::clone(&near), near);
    let reads = poll_fn(move |_cx| {
        let waker = Waker::from(Arc::new(Panics));
        let polled = reader.poll_readable(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        Poll::Ready(())
    });
    futures::spawn(&mut reactor, reads, |(), _cx| ())?;
    let writes = async move {
        while writer
            .write_with(|mut stream| std::io::Write::write(&mut stream, &[0; 4096]))
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
