//! Queues as streams and sinks.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::TrySendError;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use futures_lite::StreamExt;
use futures_sink::Sink;
use handlers::futures::{self, Disconnected, QueueSink};
use reactor::{Capacity, Next, notification_queue};

use super::Result;
use crate::reactor;

pub(super) async fn send<T>(
    sink: &mut QueueSink<T>,
    value: T,
) -> std::result::Result<(), Disconnected> {
    poll_fn(|cx| Pin::new(&mut *sink).poll_ready(cx)).await?;
    Pin::new(&mut *sink).start_send(value)
}

pub(super) async fn close<T>(sink: &mut QueueSink<T>) -> std::result::Result<(), Disconnected> {
    poll_fn(|cx| Pin::new(&mut *sink).poll_close(cx)).await
}

pub(super) async fn flush<T>(sink: &mut QueueSink<T>) -> std::result::Result<(), Disconnected> {
    poll_fn(|cx| Pin::new(&mut *sink).poll_flush(cx)).await
}

#[test]
fn a_stream_returns_all_values_and_then_the_end() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let stream = futures::receive(&mut reactor, receiver)?;
    for value in 0..1000 {
        sender.try_send(value)?;
    }
    drop(sender);
    let values: Vec<_> = futures::block_on(&mut reactor, &mut (), stream.collect())?;
    assert!(values.iter().copied().eq(0..1000));
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    Ok(())
}

/// More calls than a poll makes.
const MANY: u32 = 1_000_000;

/// Repeats `call` until another task has run. Returns how often it was called.
async fn repeat(mut call: impl AsyncFnMut() + 'static) -> u32 {
    let is_over = Rc::new(Cell::new(false));
    let seen = Rc::clone(&is_over);
    let repeats = futures::spawn_local(async move {
        let mut count = 0;
        while !seen.get() && count < MANY {
            call().await;
            count += 1;
        }
        count
    });
    futures::yield_now().await;
    is_over.set(true);
    repeats.await.expect("the task has not panicked")
}

#[test]
fn a_stream_that_has_ended_leaves_turns_to_others() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue::<()>(Capacity::Unbounded);
    let mut stream = futures::receive(&mut reactor, receiver)?;
    drop(sender);
    let ended = repeat(async move || assert_eq!(stream.next().await, None));
    assert!(futures::block_on(&mut reactor, &mut (), ended)? < MANY);
    Ok(())
}

#[test]
fn a_sink_with_room_and_one_without_a_queue_leave_turns_to_others() -> Result {
    for has_queue in [true, false] {
        let mut reactor = reactor::<()>();
        let (sender, receiver) = notification_queue::<()>(Capacity::Unbounded);
        let mut sink = futures::sink(&mut reactor, sender)?;
        let kept = has_queue.then_some(receiver);
        let sends = repeat(async move || {
            assert_eq!(send(&mut sink, ()).await.is_ok(), has_queue);
        });
        assert!(futures::block_on(&mut reactor, &mut (), sends)? < MANY);
        drop(kept);
    }
    Ok(())
}

#[test]
fn a_stream_takes_no_more_than_32_values_in_advance() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue(Capacity::Bounded(8));
    let mut stream = futures::receive(&mut reactor, receiver)?;
    let mut sent = 0;
    for _ in 0..20 {
        while sender.try_send(sent).is_ok() {
            sent += 1;
        }
        reactor.turn(&mut (), Some(Duration::ZERO))?;
    }
    assert_eq!(sent, 32 + 8);
    let values = futures::block_on(&mut reactor, &mut (), async move {
        let mut values = Vec::new();
        while values.len() < 40 {
            values.extend(stream.next().await);
        }
        values
    })?;
    assert!(
        values.iter().copied().eq(0..40),
        "it goes on after the pause"
    );
    let closed = sender.try_send(0);
    assert!(
        matches!(closed, Err(TrySendError::Disconnected(0))),
        "the stream was dropped"
    );
    Ok(())
}

#[test]
fn a_stream_takes_no_value_before_it_has_returned_those_in_advance() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let mut stream = futures::receive(&mut reactor, receiver)?;
    (0..100).try_for_each(|value| sender.try_send(value))?;
    let left = futures::block_on(&mut reactor, &mut (), async move {
        let mut left = Vec::new();
        for _ in 0..33 {
            stream.next().await;
            futures::yield_now().await;
            left.push(sender.len());
        }
        left
    })?;
    assert_eq!(left[..31], [100 - 32; 31]);
    assert_eq!(left[32], 100 - 64);
    Ok(())
}

#[test]
fn a_value_of_another_thread_wakes_the_stream() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    let stream = futures::receive(&mut reactor, receiver)?;
    let producer = thread::spawn(move || {
        (0..500).try_for_each(|n| sender.send_within(n, Duration::from_secs(60)))
    });
    let sum = futures::block_on(&mut reactor, &mut (), stream.fold(0, |sum, n: u64| sum + n))?;
    producer.join().map_err(|_| "a panic")??;
    assert_eq!(sum, 499 * 500 / 2);
    Ok(())
}

#[test]
fn a_sink_waits_while_the_queue_is_full() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue(Capacity::Bounded(3));
    let mut sink = futures::sink(&mut reactor, sender)?;
    let received = Rc::new(RefCell::new(Vec::new()));
    let receives = Rc::clone(&received);
    reactor.consume(receiver, move |value: Option<u32>, _cx| {
        receives.borrow_mut().extend(value);
        Ok(Next::Keep)
    })?;
    futures::block_on(&mut reactor, &mut (), async move {
        for value in 0..100 {
            send(&mut sink, value).await?;
        }
        close(&mut sink).await?;
        assert_eq!(
            send(&mut sink, 100).await,
            Err(Disconnected),
            "it is closed"
        );
        Ok::<_, Disconnected>(())
    })??;
    reactor.run(&mut ())?; // until the queue has ended
    assert!(received.borrow().iter().copied().eq(0..100));
    Ok(())
}

#[test]
fn a_sink_without_a_receiver_is_disconnected() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    let mut sink = futures::sink(&mut reactor, sender)?;
    let ended = futures::block_on(&mut reactor, &mut (), async move {
        send(&mut sink, 1).await?;
        send(&mut sink, 2).await?; // waits in the sink
        let waits = futures::spawn_local(async move { send(&mut sink, 3).await });
        futures::yield_now().await;
        drop(receiver);
        waits.await.unwrap_or(Ok(()))
    })?;
    assert_eq!(ended, Err(Disconnected));
    Ok(())
}

#[test]
fn a_sink_keeps_the_value_that_waits_and_refuses_another() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    let mut sink = futures::sink(&mut reactor, sender)?;
    let stream = futures::receive(&mut reactor, receiver)?;
    let received = futures::block_on(&mut reactor, &mut (), async move {
        for value in [1, 2] {
            send(&mut sink, value).await.map_err(|_| "closed")?; // the second one waits
        }
        let third = Pin::new(&mut sink).start_send(3);
        assert_eq!(third, Err(Disconnected), "poll_ready was not called");
        let closing = futures::spawn_local(async move { close(&mut sink).await });
        let received: Vec<_> = stream.collect().await;
        let closed = closing.await.map_err(|_| "cancelled")?;
        closed.map(|()| received).map_err(|_| "closed")
    })??;
    assert_eq!(received, [1, 2]);
    Ok(())
}

#[test]
fn a_sink_wakes_the_last_that_has_polled_it() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    let mut sink = futures::sink(&mut reactor, sender)?;
    let mut stream = futures::receive(&mut reactor, receiver)?;
    futures::block_on(&mut reactor, &mut (), async move {
        for value in [1, 2] {
            send(&mut sink, value).await?; // the second one waits
        }
        let mut other = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut sink).poll_flush(&mut other).is_pending());
        let flushing = futures::spawn_local(async move { flush(&mut sink).await });
        futures::yield_now().await;
        assert_eq!(stream.next().await, Some(1));
        flushing.await.unwrap_or(Err(Disconnected))
    })??;
    Ok(())
}

#[test]
fn a_stream_and_a_sink_make_a_pipeline_on_one_loop() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue(Capacity::Bounded(2));
    let mut stream = futures::receive(&mut reactor, receiver)?;
    let mut sink = futures::sink(&mut reactor, sender)?;
    let sum = futures::block_on(&mut reactor, &mut (), async move {
        let producer = futures::spawn_local(async move {
            for value in 1..=1000_u64 {
                send(&mut sink, value).await?;
            }
            close(&mut sink).await
        });
        let mut sum = 0;
        while let Some(value) = stream.next().await {
            sum += value;
        }
        producer.await.map(|sent| sent.map(|()| sum))
    })??;
    assert_eq!(sum, Ok(500_500));
    Ok(())
}
