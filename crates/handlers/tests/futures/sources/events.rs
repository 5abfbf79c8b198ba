//! Events within futures.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use futures_lite::future;
use handlers::futures::{self, EventWait};
use reactor::{Context, Event};

use super::Result;
use crate::{reactor, turn};

/// Polls a wait until the loop has registered it, and drops it.
async fn begin_and_drop(wait: EventWait) {
    let goes_on = async {
        futures::yield_now().await;
        Ok(usize::MAX)
    };
    assert_eq!(future::or(wait, goes_on).await.ok(), Some(usize::MAX));
}

#[test]
fn an_event_that_is_set_already_needs_no_registration() -> Result {
    let mut reactor = reactor::<()>();
    let event = Event::auto_reset();
    event.set();
    let waited = event.clone();
    let passed = futures::block_on(&mut reactor, &mut (), async move {
        future::poll_once(futures::wait_event(&waited)).await
    })?;
    assert!(matches!(passed, Some(Ok(0))), "at once");
    assert!(!event.is_set());
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    Ok(())
}

#[test]
fn a_wait_for_any_returns_the_index_of_the_event() -> Result {
    let mut reactor = reactor::<()>();
    let events = [Event::auto_reset(), Event::auto_reset()];
    let set = events[1].clone();
    let waits = events.clone();
    let index = futures::block_on(&mut reactor, &mut (), async move {
        let wait = futures::spawn_local(futures::wait_any(&[&waits[0], &waits[1]]));
        futures::yield_now().await;
        let setter = thread::spawn(move || set.set());
        let index = wait.await;
        let _ = setter.join();
        index
    })??;
    assert_eq!(index?, 1);
    assert!(events.iter().all(|event| !event.is_set()));
    Ok(())
}

#[test]
fn a_wait_for_all_passes_through_all_events_at_once() -> Result {
    let mut reactor = reactor::<()>();
    let events = [Event::auto_reset(), Event::auto_reset()];
    let waits = events.clone();
    let is_early = futures::block_on(&mut reactor, &mut (), async move {
        let wait = futures::spawn_local(futures::wait_all(&[&waits[0], &waits[1]]));
        waits[0].set();
        futures::sleep(Duration::from_millis(1)).await;
        let is_early = wait.is_finished() || !waits[0].is_set();
        waits[1].set();
        wait.await.map(|index| index.map(|_| is_early))
    })???;
    assert!(!is_early);
    assert!(events.iter().all(|event| !event.is_set()));
    Ok(())
}

#[test]
fn a_wait_that_is_dropped_takes_no_event() -> Result {
    let mut reactor = reactor::<()>();
    let event = Event::auto_reset();
    let waited = event.clone();
    futures::block_on(&mut reactor, &mut (), async move {
        begin_and_drop(futures::wait_event(&waited)).await;
        futures::yield_now().await;
        waited.set();
        futures::sleep(Duration::from_millis(1)).await;
    })?;
    assert!(event.is_set());
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    Ok(())
}

#[test]
fn a_wait_that_is_dropped_before_its_request_is_not_registered() -> Result {
    let mut reactor = reactor::<()>();
    let event = Event::auto_reset();
    let waited = event.clone();
    futures::block_on(&mut reactor, &mut (), async move {
        let polled = future::poll_once(futures::wait_event(&waited)).await;
        assert!(polled.is_none());
    })?;
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    Ok(())
}

#[test]
fn a_wait_whose_registration_a_callback_removes_begins_again() -> Result {
    let mut reactor = reactor::<()>();
    let event = Event::auto_reset();
    let waited = event.clone();
    let index = futures::block_on(&mut reactor, &mut (), async move {
        let wait = futures::spawn_local(futures::wait_event(&waited));
        futures::yield_now().await;
        futures::with_context(|cx: &mut Context<'_, ()>| {
            let last = cx.registry.registrations().last().map(|info| info.key);
            last.map(|key| cx.registry.remove(key))
        })
        .await;
        futures::yield_now().await;
        event.set();
        wait.await
    })??;
    assert_eq!(index?, 0);
    Ok(())
}

#[test]
fn an_event_that_a_dropped_wait_has_passed_is_set_again() -> Result {
    let mut reactor = reactor::<()>();
    let event = Event::auto_reset();
    let waited = event.clone();
    let (is_passed, is_set) = futures::block_on(&mut reactor, &mut (), async move {
        let mut wait = futures::wait_event(&waited);
        assert!(future::poll_once(&mut wait).await.is_none());
        futures::yield_now().await;
        waited.set();
        futures::sleep(Duration::from_millis(1)).await; // the loop passes through
        let is_passed = !waited.is_set();
        drop(wait);
        (is_passed, waited.is_set())
    })?;
    assert!(is_passed && is_set);
    Ok(())
}

#[test]
fn an_event_that_is_set_after_its_task_was_cancelled_stays_set() -> Result {
    for all in [false, true] {
        let mut reactor = reactor::<()>();
        let events = [Event::auto_reset(), Event::auto_reset()];
        let waits = events.clone();
        let waiting = async move {
            let waits = [&waits[0], &waits[1]];
            let wait = match all {
                true => futures::wait_all(&waits),
                false => futures::wait_any(&waits),
            };
            wait.await
        };
        let task = futures::spawn(&mut reactor, waiting, |_, _cx| ())?;
        turn(&mut reactor, &mut ());
        // The loop ends its wait with the next pass, and passes through the events before.
        task.cancel(&mut reactor)?;
        for event in &events {
            event.set();
        }
        (0..3).for_each(|_| turn(&mut reactor, &mut ()));
        assert!(events.iter().all(Event::is_set));
        assert_eq!(reactor.len(), 1, "the queue of the executor");
    }
    Ok(())
}

#[test]
fn a_wait_that_the_loop_refuses_returns_the_error() -> Result {
    let mut reactor = reactor::Reactor::<()>::builder()
        .max_registrations(1)
        .build()?;
    let event = Event::manual_reset();
    let waited = futures::block_on(&mut reactor, &mut (), async move {
        futures::wait_event(&event).await
    })?;
    assert!(matches!(waited, Err(reactor::Error::Full { .. })));
    Ok(())
}

#[test]
fn a_manual_event_that_was_reset_is_not_set_by_a_dropped_wait() -> Result {
    for all in [false, true] {
        let mut reactor = reactor::<()>();
        let (manual, auto) = (Event::manual_reset(), Event::auto_reset());
        let events = [manual.clone(), auto.clone()];
        futures::block_on(&mut reactor, &mut (), async move {
            let [manual, auto] = &events;
            let mut wait = if all {
                futures::wait_all(&[manual, auto])
            } else {
                futures::wait_event(manual)
            };
            assert!(future::poll_once(&mut wait).await.is_none());
            futures::yield_now().await;
            auto.set();
            manual.set(); // the loop passes through
            futures::sleep(Duration::from_millis(1)).await;
            manual.reset();
            drop(wait);
        })?;
        assert_eq!((manual.is_set(), auto.is_set()), (false, true), "{all}");
    }
    Ok(())
}

#[test]
fn a_pass_for_a_wait_that_a_callback_has_dropped_is_undone() -> Result {
    for all in [false, true] {
        let mut reactor = reactor::<()>();
        let event = Event::auto_reset();
        let waits = Rc::new(RefCell::new(None));
        let (kept, waited) = (Rc::clone(&waits), event.clone());
        futures::block_on(&mut reactor, &mut (), async move {
            let mut wait = if all {
                futures::wait_all(&[&waited])
            } else {
                futures::wait_event(&waited)
            };
            assert!(future::poll_once(&mut wait).await.is_none());
            kept.replace(Some(wait));
            futures::yield_now().await;
        })?;
        // The wait is dropped after the set, and before the loop is notified of it.
        event.set();
        assert!(!event.is_set(), "the loop has passed through");
        drop(waits.take());
        reactor.turn(&mut (), Some(Duration::ZERO))?;
        reactor.turn(&mut (), Some(Duration::ZERO))?;
        assert!(event.is_set(), "{all}");
        assert_eq!(reactor.len(), 1, "the queue of the executor");
    }
    Ok(())
}

#[test]
fn a_wait_for_no_event_waits_and_one_for_thousands_misses_none() -> Result {
    let mut reactor = reactor::<()>();
    futures::block_on(&mut reactor, &mut (), async {
        begin_and_drop(futures::wait_any(&[])).await;
        begin_and_drop(futures::wait_all(&[])).await;
        let events: Vec<_> = (0..5000).map(|_| Event::auto_reset()).collect();
        let all: Vec<_> = events.iter().collect();
        let any = futures::spawn_local(futures::wait_any(&all));
        futures::yield_now().await;
        events[4999].set();
        assert!(matches!(any.await, Ok(Ok(4999))));
        let every = futures::spawn_local(futures::wait_all(&all));
        for event in &events {
            futures::yield_now().await;
            assert!(!every.is_finished());
            event.set();
        }
        assert!(matches!(every.await, Ok(Ok(0))));
        assert!(!events.iter().any(Event::is_set));
    })?;
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    Ok(())
}

#[test]
fn an_event_that_stays_set_leaves_turns_to_others() -> Result {
    const MANY: u32 = 1_000_000;
    let mut reactor = reactor::<()>();
    let event = Event::manual_reset();
    event.set();
    let over = Rc::new(Cell::new(false));
    let seen = Rc::clone(&over);
    let passed = futures::block_on(&mut reactor, &mut (), async move {
        let waits = futures::spawn_local(async move {
            let mut passed = 0;
            while !seen.get() && passed < MANY {
                futures::wait_event(&event).await?;
                passed += 1;
            }
            Ok::<_, reactor::Error>(passed)
        });
        futures::yield_now().await;
        over.set(true);
        waits.await
    })??;
    assert!(passed? < MANY, "another task has ended it");
    Ok(())
}
