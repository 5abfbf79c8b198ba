//! The end of a loop whose task joins a thread that still uses the loop.

use std::future::pending;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use futures_lite::future;
use handlers::futures::{self, Async};
use reactor::{Capacity, Reactor, notification_queue};
use support::{PATIENCE, in_time};

use crate::{OnDrop, reactor, turn};

/// Spawns a task whose destructor drops `before` and joins `thread`, and then another task. Drops
/// the loop.
fn end(
    mut reactor: Reactor<()>,
    before: mpsc::Sender<()>,
    thread: JoinHandle<()>,
    last: impl Future<Output = ()> + 'static,
) {
    let mut both = Some((before, thread));
    let joins = OnDrop(move || {
        let joined = both.take().map(|(before, thread)| {
            drop(before);
            thread.join()
        });
        assert!(joined.is_some_and(|joined| joined.is_ok()));
    });
    let first = async move {
        let _joins = joins;
        pending::<()>().await;
    };
    futures::spawn(&mut reactor, first, |(), _cx| ()).expect("a task");
    futures::spawn(&mut reactor, last, |(), _cx| ()).expect("a task");
    turn(&mut reactor, &mut ());
    drop(reactor);
}

/// Returns a source that its loop watches, and the peer.
fn watched(reactor: &mut Reactor<()>) -> (Async<UnixStream>, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a pair");
    let near = Async::new(near).expect("a source");
    let near = futures::block_on(reactor, &mut (), async move {
        assert!(future::poll_once(near.readable()).await.is_none());
        futures::yield_now().await;
        near
    });
    (near.expect("it ends"), far)
}

/// Runs `use_source` on a thread that begins at the end of the loop.
fn use_at_the_end(use_source: fn(Async<UnixStream>, UnixStream)) {
    in_time("the end of the loop", move || {
        let mut reactor = reactor::<()>();
        let (near, far) = watched(&mut reactor);
        let (ends, at_end) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            assert!(at_end.recv().is_err());
            use_source(near, far);
        });
        end(reactor, ends, thread, pending());
    });
}

#[test]
fn a_task_may_join_a_thread_that_takes_a_source_back_at_the_end() {
    use_at_the_end(|near, _far| {
        let near = future::block_on(near.into_inner());
        assert!(near.peer_addr().is_ok());
    });
}

#[test]
fn a_task_may_join_a_thread_that_waits_for_the_close_of_a_source() {
    use_at_the_end(|near, mut far| {
        drop(near);
        assert_eq!(far.read(&mut [0; 1]).expect("the end"), 0);
    });
}

#[test]
fn a_source_that_a_destructor_waits_for_at_the_end_is_closed() {
    let mut reactor = reactor::<()>();
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let mut near = Some(Async::new(near).expect("a source"));
    let waits = OnDrop(move || {
        let near = near.take().expect("the first call");
        let refused = future::block_on(near.readable());
        assert!(refused.is_err(), "its loop is gone");
    });
    let task = async move {
        let _waits = waits;
        pending::<()>().await;
    };
    // The handle keeps a part of the loop.
    let handle = futures::spawn_joinable(&mut reactor, task).expect("a task");
    turn(&mut reactor, &mut ());
    drop(reactor);
    far.set_nonblocking(true).expect("a socket");
    assert_eq!(far.read(&mut [0; 1]).expect("the end"), 0);
    drop(handle);
}

#[test]
fn a_task_may_join_a_thread_that_sends_to_another_task() {
    in_time("the end of the loop", || {
        let mut reactor = reactor::<()>();
        let (sender, receiver) = notification_queue(Capacity::Bounded(1));
        let stream = futures::receive(&mut reactor, receiver).expect("a stream");
        let holds = async move {
            let _stream = stream;
            pending::<()>().await;
        };
        let thread = thread::spawn(move || while sender.send_within(1, PATIENCE).is_ok() {});
        end(reactor, mpsc::channel().0, thread, holds);
    });
}
