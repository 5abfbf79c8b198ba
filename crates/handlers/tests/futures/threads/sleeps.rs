//! Sleeps that are moved by several threads.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future;
use handlers::futures::{self, Sleep};
use reactor::Reactor;

use super::Result;
use crate::{reactor, turn};

/// Returns a sleep that was polled once by a task of this loop.
fn begun(reactor: &mut Reactor<()>, seconds: u64) -> Result<Sleep> {
    let mut sleep = futures::sleep_until(reactor.now() + Duration::from_secs(seconds));
    let polled = async move {
        assert!(future::poll_once(&mut sleep).await.is_none());
        (sleep,)
    };
    let (sleep,) = futures::block_on(reactor, &mut (), polled)?;
    Ok(sleep)
}

/// Moves a sleep on another thread.
fn move_on_a_thread(mut sleep: Sleep, deadline: Instant) -> Result<Sleep> {
    let moved = thread::spawn(move || {
        sleep.reset(deadline);
        sleep
    });
    moved.join().map_err(|_| "a panic".into())
}

/// Awaits a sleep. Returns the time of its end.
fn end_of(reactor: &mut Reactor<()>, sleep: Sleep) -> Result<Option<Instant>> {
    let end = async move {
        sleep.await;
        futures::now()
    };
    Ok(futures::block_on(reactor, &mut (), end)?)
}

#[test]
fn a_sleep_ends_at_its_last_time_whichever_threads_have_moved_it() -> Result {
    for (by_thread, by_loop) in [(2, 5), (5, 2), (20, 5), (5, 20)] {
        let mut reactor = reactor::<()>();
        let sleep = begun(&mut reactor, 10)?;
        let after = |seconds| reactor.now() + Duration::from_secs(seconds);
        let (first, last) = (after(by_thread), after(by_loop));
        let mut sleep = move_on_a_thread(sleep, first)?;
        sleep.reset(last);
        assert_eq!(end_of(&mut reactor, sleep)?, Some(last));
        turn(&mut reactor, &mut ());
        assert_eq!(reactor.timers().count(), 0);
    }
    Ok(())
}

#[test]
fn a_sleep_that_a_thread_moves_after_its_end_waits_for_the_new_time() -> Result {
    let mut reactor = reactor::<()>();
    let sleep = begun(&mut reactor, 1)?;
    reactor.advance(&mut (), Duration::from_secs(2))?;
    assert!(sleep.is_elapsed());
    let last = reactor.now() + Duration::from_secs(3);
    let sleep = move_on_a_thread(sleep, last)?;
    assert!(!sleep.is_elapsed());
    assert_eq!(end_of(&mut reactor, sleep)?, Some(last));
    Ok(())
}

#[test]
fn a_task_goes_on_waiting_for_a_sleep_that_a_thread_moves() -> Result {
    let mut reactor = reactor::<()>();
    let (began, sleep) = (reactor.now(), futures::sleep(Duration::from_secs(10)));
    let sleep = Arc::new(Mutex::new(sleep));
    let awaited = Arc::clone(&sleep);
    let waits = std::future::poll_fn(move |cx| {
        let mut sleep = awaited.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *sleep).poll(cx).map(|()| futures::now())
    });
    let waits = futures::spawn_joinable(&mut reactor, waits)?;
    turn(&mut reactor, &mut ());
    turn(&mut reactor, &mut ());
    for seconds in [3, 7, 5] {
        let (moved, until) = (Arc::clone(&sleep), began + Duration::from_secs(seconds));
        let moves = move || {
            let mut sleep = moved.lock().unwrap_or_else(PoisonError::into_inner);
            sleep.reset(until);
        };
        thread::spawn(moves).join().map_err(|_| "a panic")?;
    }
    let end = futures::block_on(&mut reactor, &mut (), waits)??;
    assert_eq!(end, Some(began + Duration::from_secs(5)));
    Ok(())
}
