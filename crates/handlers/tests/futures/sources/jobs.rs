//! Jobs of the worker pool within futures.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;

use futures_lite::future;
use handlers::futures::{self, JobEnd};
use handlers::{Refusal, WorkerPool};
use reactor::Reactor;

use super::Result;

/// Threads do not wait for a clock that jumps.
fn reactor() -> Result<Reactor<()>> {
    Ok(Reactor::new()?)
}

#[test]
fn a_job_returns_its_result_to_a_task() -> Result {
    let mut reactor = reactor()?;
    let pool = WorkerPool::builder().workers(2).build(&mut reactor)?;
    let handle = pool.handle();
    let here = thread::current().id();
    let (there, text) = futures::block_on(&mut reactor, &mut (), async move {
        let there = futures::submit(&handle, || thread::current().id()).await?;
        let text = futures::submit(&handle, || "from a worker".to_owned()).await?;
        Ok::<_, JobEnd>((there, text))
    })??;
    assert_ne!(there, here);
    assert_eq!(text, "from a worker");
    Ok(())
}

#[test]
fn a_job_that_panics_or_is_refused_says_so() -> Result {
    let mut reactor = reactor()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let handle = pool.handle();
    let panics = futures::submit(&handle, || {
        assert!(thread::current().name().is_none(), "on purpose")
    });
    let panicked = futures::block_on(&mut reactor, &mut (), panics)?;
    assert!(matches!(&panicked, Err(JobEnd::Panicked(panic)) if panic.message == "on purpose"));
    pool.drain();
    let refused = futures::block_on(&mut reactor, &mut (), futures::submit(&handle, || ()))?;
    assert_eq!(refused, Err(JobEnd::Refused(Refusal::Closed)));
    let kinds = [Refusal::Closed, Refusal::Full]
        .map(|refusal| io::Error::from(JobEnd::Refused(refusal)).kind() == refusal.kind());
    assert_eq!(kinds, [true; 2]);
    Ok(())
}

#[test]
fn a_job_wakes_the_last_that_has_asked_for_it() -> Result {
    let mut reactor = reactor()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let (end, ended) = mpsc::channel::<()>();
    let mut job = futures::submit(&pool, move || ended.recv().is_err());
    let is_done = futures::block_on(&mut reactor, &mut (), async move {
        let mut other = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut job).poll(&mut other).is_pending());
        let job = futures::spawn_local(job);
        futures::yield_now().await;
        drop(end);
        job.await
    })??;
    assert_eq!(is_done, Ok(true));
    Ok(())
}

#[test]
fn a_job_whose_future_is_dropped_does_not_begin() -> Result {
    let mut reactor = reactor()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let handle = pool.handle();
    let (end, ended) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    futures::block_on(&mut reactor, &mut (), async move {
        let busy = futures::submit(&handle, move || ended.recv());
        let mut queued = futures::submit(&handle, move || begun.send(()));
        assert!(future::poll_once(&mut queued).await.is_none());
        drop(queued);
        drop(end);
        let _ = busy.await;
        assert_eq!(futures::submit(&handle, || 7).await, Ok(7));
    })?;
    assert!(begins.recv().is_err(), "it was dropped without a run");
    Ok(())
}

#[test]
fn a_job_of_a_pool_that_is_shut_down_is_dropped() -> Result {
    let mut reactor = reactor()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let (end, ended) = mpsc::channel::<()>();
    let busy = futures::submit(&pool, move || ended.recv());
    let queued = futures::submit(&pool, || ());
    drop(end);
    pool.shutdown_now();
    let ends = futures::block_on(
        &mut reactor,
        &mut (),
        async move { (busy.await, queued.await) },
    )?;
    assert!(ends.0.is_ok() || ends.0 == Err(JobEnd::Dropped));
    assert!(ends.1.is_ok() || ends.1 == Err(JobEnd::Dropped));
    Ok(())
}
