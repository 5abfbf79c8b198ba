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

use handlers::futures::{self, Async, JoinHandle};
use reactor::{ManualClock, Reactor, Then};

use super::Result;
use crate::{OnDrop, reactor, turn};

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
