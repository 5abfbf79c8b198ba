//! Queues as streams and sinks.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::TrySendError;
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
