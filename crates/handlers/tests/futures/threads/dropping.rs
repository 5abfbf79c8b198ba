//! Handles that another thread drops, at each moment of their lives.

use std::any::Any;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures_lite::future;
use handlers::WorkerPool;
use handlers::futures::{self, Async};
use reactor::Reactor;
use support::{PATIENCE, in_time};

use super::Result;

type Dropping = mpsc::Sender<Box<dyn Any + Send>>;

/// Brings a sleep and a source to a moment of their lives that depends on `number`, and sends them
/// to a thread that drops them.
async fn drop_elsewhere(number: u64, near: UnixStream, dropping: Dropping) {
    let mut sleep = futures::sleep(Duration::from_micros(number * 37 % 2000));
    let source = Async::new(near).expect("a source");
    if !number.is_multiple_of(4) {
        let _ = future::poll_once(&mut sleep).await;
    }
    if number % 4 > 1 {
        let _ = future::poll_once(source.readable()).await;
    }
    if number % 4 > 2 {
        futures::yield_now().await;
    }
    let source: Box<dyn Any + Send> = if number.is_multiple_of(3) {
        let mut taking = source.into_inner();
        match future::poll_once(&mut taking).await {
            Some(taken) => Box::new(taken),
            None => Box::new(taking),
        }
    } else {
        Box::new(source)
    };
    let _ = dropping.send(source);
    if number.is_multiple_of(5) {
        (&mut sleep).await;
    }
    let _ = dropping.send(Box::new(sleep));
}

/// Spawns the tasks. Returns the peers of the sources, and the thread that drops.
fn begin(reactor: &mut Reactor<()>) -> (Vec<UnixStream>, thread::JoinHandle<()>) {
    let (dropping, dropped) = mpsc::channel::<Box<dyn Any + Send>>();
    let peers = (0..200).map(|number| {
        let (near, far) = UnixStream::pair().expect("a pair");
        let task = drop_elsewhere(number, near, dropping.clone());
        futures::spawn(reactor, task, |(), _cx| ()).expect("a task");
        far.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        far
    });
    let peers = peers.collect();
    (
        peers,
        thread::spawn(move || dropped.into_iter().for_each(drop)),
    )
}

fn expect_closed(peers: Vec<UnixStream>) {
    for mut peer in peers {
        assert_eq!(peer.read(&mut [0; 1]).expect("the end"), 0);
    }
}

#[test]
fn handles_that_a_thread_drops_at_any_moment_leave_nothing_behind() -> Result {
    for _ in 0..10 {
        let mut reactor = Reactor::<()>::new()?;
        let (peers, thread) = begin(&mut reactor);
        reactor.run(&mut ())?;
        thread.join().map_err(|_| "a panic")?;
        support::turn_until_quiet(&mut reactor, &mut ())?;
        assert_eq!((reactor.len(), reactor.timers().count()), (1, 0));
        expect_closed(peers);
    }
    Ok(())
}

#[test]
fn handles_that_a_thread_drops_while_the_loop_ends_are_closed() {
    in_time("the end of the loop", || {
        for turns in 0..10 {
            let mut reactor = Reactor::<()>::new().expect("a loop");
            let (peers, thread) = begin(&mut reactor);
            (0..turns % 5).for_each(|_| crate::turn(&mut reactor, &mut ()));
            drop(reactor);
            thread.join().expect("no panic");
            expect_closed(peers);
        }
    });
}

/// Returns how often a task is polled that begins to await `waits`, drops it, and then sleeps.
fn polls_of<F: Future + Unpin + 'static>(reactor: &mut Reactor<()>, mut waits: F) -> Result<u32> {
    let polls = Rc::new(Cell::new(0));
    let counts = Rc::clone(&polls);
    let task = async move {
        assert!(future::poll_once(&mut waits).await.is_none());
        drop(waits);
        futures::sleep(Duration::from_millis(5)).await;
    };
    let mut task = Box::pin(task);
    let counted = poll_fn(move |cx| {
        counts.set(counts.get() + 1);
        task.as_mut().poll(cx)
    });
    futures::block_on(reactor, &mut (), counted)?;
    Ok(polls.get())
}

#[test]
fn the_drop_of_a_future_does_not_wake_the_task_that_has_awaited_it() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let (end, ended) = mpsc::channel::<()>();
    let job = futures::submit(&pool, move || ended.recv());
    assert_eq!(polls_of(&mut reactor, job)?, 2, "a job");
    drop(end);
    let (near, _far) = UnixStream::pair()?;
    let near = Async::new(near)?;
    let near = futures::block_on(&mut reactor, &mut (), async move {
        assert!(future::poll_once(near.readable()).await.is_none());
        futures::yield_now().await;
        near
    })?;
    assert_eq!(polls_of(&mut reactor, near.into_inner())?, 2, "a source");
    Ok(())
}
