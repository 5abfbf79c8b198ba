//! Sinks of full queues.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_lite::future;
use futures_sink::Sink;
use handlers::futures::{self, Disconnected, sink, spawn_local, with_context, yield_now};
use reactor::{Capacity, Context, LoopThread, Next, notification_queue};

use super::Result;
use super::queues::{close, flush, send};
use crate::{OnDrop, catching, reactor, turn};

const PATIENCE: Duration = Duration::from_secs(60);

/// Returns how often something keeps the loop alive, apart from tasks.
async fn tokens() -> usize {
    with_context(|cx: &mut Context<'_, ()>| {
        let held = cx.registry.reasons_to_run().map(|reason| match reason {
            reactor::ReasonToRun::KeepAlive { held, .. } => held,
            _ => 0,
        });
        held.sum()
    })
    .await
}

#[test]
fn a_sink_waits_once_however_often_it_is_polled() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    let mut sink = sink(&mut reactor, sender)?;
    let held = futures::block_on(&mut reactor, &mut (), async move {
        send(&mut sink, 1).await?;
        send(&mut sink, 2).await?; // waits in the sink
        for _ in 0..100 {
            assert!(future::poll_once(flush(&mut sink)).await.is_none());
            yield_now().await;
        }
        drop(receiver);
        let held = tokens().await;
        assert_eq!(flush(&mut sink).await, Err(Disconnected));
        assert_eq!(send(&mut sink, 3).await, Err(Disconnected));
        assert_eq!(Pin::new(&mut sink).start_send(4), Err(Disconnected));
        assert_eq!(
            flush(&mut sink).await,
            Err(Disconnected),
            "value 2 was lost"
        );
        Ok::<_, Disconnected>(held)
    })??;
    assert_eq!(held, 1);
    Ok(())
}

#[test]
fn a_sink_that_is_dropped_while_it_waits_holds_nothing() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    let watched = sender.clone();
    let mut sink = sink(&mut reactor, sender)?;
    let [first, second] = [Arc::new(()), Arc::new(())];
    let values = [Arc::clone(&first), Arc::clone(&second)];
    futures::block_on(&mut reactor, &mut (), async move {
        for value in values {
            send(&mut sink, value).await?;
        }
        let waited = future::poll_once(flush(&mut sink)).await;
        assert!(waited.is_none());
        Ok::<_, Disconnected>(())
    })??;
    assert_eq!(
        Arc::strong_count(&second),
        1,
        "it was dropped with the sink"
    );
    reactor.run(&mut ())?; // returns, although the queue is full for ever
    assert_eq!((watched.len(), Arc::strong_count(&first)), (1, 2));
    drop(watched);
    let mut received = 0;
    reactor.consume(receiver, |value: Option<_>, _cx| {
        Ok(value.map_or(Next::Remove, |_| Next::Keep))
    })?;
    received += reactor.turn(&mut (), Some(Duration::ZERO))?;
    reactor.run(&mut ())?; // the end of the queue: no sender is left
    assert!(received > 0);
    Ok(())
}

#[test]
fn sinks_that_wait_take_turns() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    let received = Rc::new(RefCell::new(Vec::new()));
    let keeps = Rc::clone(&received);
    for name in ['a', 'b', 'c'] {
        let mut sink = sink(&mut reactor, sender.clone())?;
        let sends = async move {
            for _ in 0..20 {
                send(&mut sink, name).await?;
            }
            close(&mut sink).await
        };
        futures::spawn(&mut reactor, sends, |sent, _cx| assert_eq!(sent, Ok(())))?;
    }
    drop(sender);
    reactor.consume(receiver, move |name, _cx| {
        keeps.borrow_mut().extend(name);
        Ok(Next::Keep)
    })?;
    reactor.run(&mut ())?;
    let order: String = received.take().iter().collect();
    assert_eq!(order.len(), 60);
    for end in 0..order.len() {
        let sent = ['a', 'b', 'c'].map(|name| order[..end].matches(name).count());
        let ahead = sent.iter().max().zip(sent.iter().min());
        assert!(
            ahead.is_some_and(|(most, least)| most - least <= 3),
            "{order}"
        );
    }
    Ok(())
}

#[test]
fn sinks_and_threads_send_everything_in_their_order() -> Result {
    const VALUES: u32 = 500;
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    let receiving = LoopThread::spawn("receiving", |registry| {
        let receive = |value: Option<(usize, u32)>, cx: &mut Context<'_, [u32; 4]>| {
            if let Some((from, number)) = value {
                assert_eq!(cx.state[from], number, "of {from}");
                cx.state[from] += 1;
            }
            Ok(Next::Keep)
        };
        registry.consume(receiver, receive)?;
        Ok([0; 4])
    })?;
    let mut reactor = reactor::<()>();
    let threads = [0, 1].map(|from| {
        let sender = sender.clone();
        thread::spawn(move || (0..VALUES).try_for_each(|n| sender.send_within((from, n), PATIENCE)))
    });
    for from in [2, 3] {
        let mut sink = sink(&mut reactor, sender.clone())?;
        let sends = async move {
            for number in 0..VALUES {
                send(&mut sink, (from, number)).await?;
            }
            flush(&mut sink).await
        };
        futures::spawn(&mut reactor, sends, |sent, _cx| assert_eq!(sent, Ok(())))?;
    }
    drop(sender);
    reactor.run(&mut ())?;
    for thread in threads {
        thread.join().map_err(|_| "it panicked")??;
    }
    assert_eq!(receiving.join()?, [VALUES; 4]);
    Ok(())
}

#[test]
fn all_that_wait_learn_that_the_receiver_is_gone() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    sender.try_send(0)?;
    let mut reactor = reactor::<()>();
    let blocked = thread::spawn({
        let sender = sender.clone();
        move || sender.send_within(1, PATIENCE).is_err()
    });
    let mut sinks = Vec::new();
    for _ in 0..3 {
        sinks.push(sink(&mut reactor, sender.clone())?);
    }
    let ends = futures::block_on(&mut reactor, &mut (), async move {
        let waits: Vec<_> = sinks
            .into_iter()
            .map(|mut sink| {
                spawn_local(async move {
                    send(&mut sink, 2).await?;
                    flush(&mut sink).await
                })
            })
            .collect();
        yield_now().await;
        let other = thread::spawn(move || drop(receiver));
        let mut ends = Vec::new();
        for wait in waits {
            ends.push(wait.await.unwrap_or(Ok(())));
        }
        let _ = other.join();
        ends
    })?;
    assert_eq!(ends, [Err(Disconnected); 3]);
    assert!(blocked.join().map_err(|_| "it panicked")?);
    reactor.run(&mut ())?;
    Ok(())
}

#[test]
fn a_sink_whose_loop_is_gone_ends_on_another_loop_when_its_turn_comes() -> Result {
    for is_gone_before in [true, false] {
        for is_received in [true, false] {
            let (mut first, mut second) = (reactor::<()>(), reactor::<Option<_>>());
            let (sender, receiver) = notification_queue(Capacity::Bounded(1));
            let [sent, waits] = [Arc::new(()), Arc::new(())];
            sender.try_send(Arc::clone(&sent))?;
            let mut sink = sink(&mut first, sender)?;
            Pin::new(&mut sink).start_send(Arc::clone(&waits))?;
            let flushes = async move { flush(&mut sink).await };
            futures::spawn(&mut second, flushes, |sent, cx| *cx.state = Some(sent))?;
            let mut ended = None;
            if is_gone_before {
                drop(first);
                turn(&mut second, &mut ended);
            } else {
                turn(&mut second, &mut ended);
                drop(first);
            }
            (0..3).for_each(|_| turn(&mut second, &mut ended));
            let is_free = Arc::strong_count(&waits) == 1;
            assert_eq!(ended.is_some(), is_free, "the end and the drop are one");
            if is_received {
                let receive = |_value: Option<_>, _cx: &mut Context<'_, _>| Ok(Next::Keep);
                second.consume(receiver, receive)?;
            } else {
                drop(receiver);
            }
            (0..3).for_each(|_| turn(&mut second, &mut ended));
            assert_eq!(ended, Some(Err(Disconnected)));
            assert_eq!([sent, waits].map(|value| Arc::strong_count(&value)), [1; 2]);
        }
    }
    Ok(())
}

#[test]
fn a_sink_ends_although_the_destructor_of_its_value_panics() -> Result {
    let panics = || OnDrop(|| resume_unwind(Box::new("a destructor")));
    for is_loop_gone in [true, false] {
        let (mut first, mut second) = (catching::<()>(), catching::<Option<_>>());
        let (sender, receiver) = notification_queue(Capacity::Bounded(1));
        sender.try_send(None)?;
        let mut sink = sink(&mut first, sender)?;
        Pin::new(&mut sink).start_send(Some(panics()))?;
        let flushes = async move { flush(&mut sink).await };
        futures::spawn(&mut second, flushes, |sent, cx| *cx.state = Some(sent))?;
        let mut ended = None;
        turn(&mut second, &mut ended);
        if is_loop_gone {
            drop(first);
            drop(receiver);
        } else {
            drop(receiver);
            turn(&mut first, &mut ());
        }
        turn(&mut second, &mut ended);
        assert_eq!(ended, Some(Err(Disconnected)), "{is_loop_gone}");
    }
    Ok(())
}
