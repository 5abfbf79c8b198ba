//! Futures that are dropped while they wait: nothing that they waited for is lost or kept.

use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures_lite::future;
use futures_sink::Sink;
use handlers::futures::{self, Async, JoinHandle, QueueSink};
use reactor::{Capacity, Event, ManualClock, Next, Reactor, ReasonToRun, Then, notification_queue};

use super::Result;
use crate::{OnDrop, reactor, turn};

/// Spawns a task that waits for an event, and cancels it in the turn in which the loop passes
/// through the event.
fn cancel_as_the_event_passes(reactor: &mut Reactor<()>, event: &Event) -> Result {
    let waited = event.clone();
    let wait = async move { futures::wait_event(&waited).await };
    let key = futures::spawn(reactor, wait, |_, _cx| ())?;
    turn(reactor, &mut ());
    assert_eq!(reactor.len(), 2, "the loop waits for the event");
    let sets = event.clone();
    // Timers run before the events of a turn.
    reactor.after(Duration::ZERO, move |cx| {
        sets.set();
        assert!(key.cancel(cx.registry).is_ok());
        Ok::<_, std::io::Error>(Then::Done)
    });
    turn(reactor, &mut ());
    turn(reactor, &mut ());
    turn(reactor, &mut ());
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    Ok(())
}

#[test]
fn an_event_that_passes_in_the_turn_of_the_cancel_is_not_lost() -> Result {
    for event in [
        Event::auto_reset(),
        Event::semaphore(0, 3),
        Event::manual_reset(),
    ] {
        let mut reactor = reactor::<()>();
        cancel_as_the_event_passes(&mut reactor, &event)?;
        assert!(event.is_set(), "{event:?}");
        event.reset();
        assert!(!event.is_set(), "{event:?}: set once");
    }
    Ok(())
}

#[test]
fn a_wait_that_is_dropped_after_a_reset_does_not_set_a_manual_reset_event() -> Result {
    let mut reactor = reactor::<()>();
    let event = Event::manual_reset();
    let waited = event.clone();
    futures::block_on(&mut reactor, &mut (), async move {
        let mut wait = futures::wait_event(&waited);
        assert!(future::poll_once(&mut wait).await.is_none());
        waited.set();
        futures::sleep(Duration::from_millis(1)).await; // the loop passes through
        waited.reset();
        drop(wait);
    })?;
    assert!(!event.is_set());
    Ok(())
}

/// Fills a queue, and returns a sink for it whose flush waits for room.
fn full_sink(reactor: &mut Reactor<()>) -> Result<(QueueSink<u32>, reactor::Receiver<u32>)> {
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    sender.try_send(0)?;
    let mut sink = futures::sink(reactor, sender)?;
    Pin::new(&mut sink).start_send(1)?;
    Ok((sink, receiver))
}

#[test]
fn a_sink_that_is_polled_often_waits_once_for_room() -> Result {
    let mut reactor = reactor::<()>();
    let (mut sink, receiver) = full_sink(&mut reactor)?;
    let flushes = poll_fn(move |cx| {
        let flushed = Pin::new(&mut sink).poll_flush(cx);
        if flushed.is_pending() {
            cx.waker().wake_by_ref(); // a task that waits for something else too
        }
        flushed
    });
    futures::spawn(&mut reactor, flushes, |sent, _cx| assert_eq!(sent, Ok(())))?;
    for _ in 0..10 {
        turn(&mut reactor, &mut ());
    }
    let waits = reactor.reasons_to_run().find_map(|reason| match reason {
        ReasonToRun::KeepAlive { held, .. } => Some(held),
        _ => None,
    });
    assert_eq!(waits, Some(1));
    reactor.consume(receiver, |_value: Option<u32>, _cx| Ok(Next::Keep))?;
    reactor.run(&mut ())?;
    Ok(())
}

/// A waker that reports its drop.
struct Reports(Arc<AtomicBool>);

impl Wake for Reports {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_handle_that_is_dropped_lets_go_of_its_waker() -> Result {
    let mut reactor = reactor::<()>();
    let mut handle: JoinHandle<()> = futures::spawn_joinable(&mut reactor, pending())?;
    let is_dropped = Arc::new(AtomicBool::new(false));
    let waker = Waker::from(Arc::new(Reports(Arc::clone(&is_dropped))));
    let polled = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(waker);
    assert!(!is_dropped.load(Ordering::Relaxed));
    drop(handle);
    assert!(is_dropped.load(Ordering::Relaxed));
    Ok(())
}

#[test]
fn a_time_counts_from_now_in_a_destructor_of_a_cancelled_task() -> Result {
    let mut reactor = reactor::<()>();
    let ended = Rc::new(RefCell::new(None));
    let ends = Rc::clone(&ended);
    let cleans_up = OnDrop(move || {
        let ends = Rc::clone(&ends);
        let limited = futures::timeout(
            Duration::from_secs(5),
            futures::sleep(Duration::from_secs(1)),
        );
        drop(futures::spawn_local(async move {
            ends.replace(Some(limited.await));
        }));
    });
    let task = async move {
        let _cleans_up = cleans_up;
        pending::<()>().await
    };
    let key = futures::spawn(&mut reactor, task, |(), _cx| ())?;
    turn(&mut reactor, &mut ());
    let begin = reactor.now();
    reactor.after(Duration::from_secs(3600), move |cx| {
        assert!(key.cancel(cx.registry).is_ok());
        Ok::<_, std::io::Error>(Then::Done)
    });
    reactor.run(&mut ())?;
    assert_eq!(*ended.borrow(), Some(Ok(())));
    let took = reactor.now() - begin;
    assert_eq!(took.as_secs(), 3601);
    Ok(())
}

#[test]
fn a_timeout_is_not_reported_while_the_bytes_lie_in_the_kernel() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Option<bool>>::builder()
        .clock(clock.clone())
        .build()?;
    let (near, mut far) = UnixStream::pair()?;
    let (busy, mut fed) = UnixStream::pair()?;
    let (near, busy) = (Async::new(near)?, Async::new(busy)?);
    fed.write_all(&[0; 64])?;
    let mut is_first = true;
    let task = async move {
        let mut bytes = [0; 1];
        let read = near.read_with(|mut stream| stream.read(&mut bytes));
        let mut limited = pin!(futures::timeout(Duration::from_secs(1), read));
        poll_fn(|cx| {
            // Another part of the task does all operations of the second poll.
            for _ in 0..64 * u32::from(!std::mem::take(&mut is_first)) {
                let one = busy.poll_read_with(cx, |mut stream| stream.read(&mut [0; 1]));
                assert!(one.is_ready());
            }
            limited.as_mut().poll(cx)
        })
        .await
        .is_ok()
    };
    futures::spawn(&mut reactor, task, |in_time, cx| *cx.state = Some(in_time))?;
    let mut in_time = None;
    turn(&mut reactor, &mut in_time);
    far.write_all(b"x")?;
    clock.advance(Duration::from_secs(1));
    turn(&mut reactor, &mut in_time);
    assert_eq!(in_time, Some(true));
    Ok(())
}

#[test]
fn times_and_budgets_hold_at_their_limits() -> Result {
    for (polls, time) in [
        (0, Duration::ZERO),
        (1, Duration::MAX),
        (usize::MAX, Duration::MAX),
    ] {
        let mut reactor = reactor::<u32>();
        futures::set_budget(&mut reactor, polls, time)?;
        for _ in 0..300 {
            futures::spawn(&mut reactor, futures::yield_now(), |(), cx| *cx.state += 1)?;
        }
        let mut ended = 0;
        reactor.run(&mut ended)?;
        assert_eq!(ended, 300, "{polls} polls, {time:?}");
    }
    let mut reactor = reactor::<()>();
    let far = std::time::Instant::now() + Duration::from_secs(u64::from(u32::MAX) * 100);
    let longest: [Pin<Box<dyn Future<Output = ()>>>; 4] = [
        Box::pin(futures::sleep(Duration::MAX)),
        Box::pin(futures::sleep_until(far)),
        Box::pin(async {
            let _ = futures::timeout(Duration::MAX, pending::<()>()).await;
        }),
        Box::pin(async {
            futures::interval(Duration::MAX).tick().await;
        }),
    ];
    let mut keys = Vec::new();
    for wait in longest {
        keys.push(futures::spawn(&mut reactor, wait, |(), _cx| ())?);
    }
    for _ in 0..3 {
        turn(&mut reactor, &mut ());
    }
    assert!(keys.iter().all(|key| key.is_alive(&mut reactor)));
    assert_eq!(reactor.timers().count(), 4);
    let in_time = futures::timeout(Duration::MAX, async { 1 });
    let spawned = futures::spawn_joinable(&mut reactor, in_time)?;
    turn(&mut reactor, &mut ());
    assert!(spawned.is_finished());
    Ok(())
}

#[cfg(feature = "request-context")]
#[test]
fn a_future_that_is_dropped_in_a_wait_is_dropped_in_its_context() {
    use reactor::RequestContext;

    struct Number(u32);
    let seen = Rc::new(std::cell::Cell::new(None));
    let sees = Rc::clone(&seen);
    let looks = OnDrop(move || {
        let current = RequestContext::current();
        sees.set(current.get::<Number>().map(|number| number.0));
    });
    let future = async move {
        let _looks = looks;
        pending::<()>().await
    };
    let context = RequestContext::NONE.with(Number(7));
    drop(futures::in_context(context, future));
    assert_eq!(seen.get(), Some(7));
}
