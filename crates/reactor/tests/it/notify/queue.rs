//! Queues of typed values, from any thread to a handler of the loop.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::thread;
use std::time::Duration;

use reactor::{
    Capacity, Context, Error, Interest, Kind, Next, PanicPolicy, Priority, Reactor, Then,
    notification_queue,
};

use super::Values;
use crate::{Result, read_all, turn_now};

/// Notes each value.
fn note(value: Option<u32>, cx: &mut Context<'_, Values>) -> std::io::Result<Next> {
    cx.state.extend(value);
    Ok(Next::Keep)
}

#[test]
fn values_arrive_in_order_and_run_ends_with_the_last_sender() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let mut reactor = Reactor::<Vec<Option<u32>>>::new()?;
    sender.try_send(1)?;
    reactor.consume(receiver, |value, cx| {
        cx.state.push(value);
        Ok(Next::Keep)
    })?;
    let other = sender.clone();
    let thread = thread::spawn(move || (2..5).try_for_each(|value| other.try_send(value)));
    drop(sender);
    let mut values = Vec::new();
    reactor.run(&mut values)?;
    thread.join().map_err(|_| "it panicked")??;
    assert_eq!(values, [Some(1), Some(2), Some(3), Some(4), None]);
    assert!(reactor.is_empty(), "its registration has ended");
    Ok(())
}

#[test]
fn a_queue_whose_senders_are_all_gone_ends_at_once() -> Result {
    let (sender, receiver) = notification_queue::<u32>(Capacity::Unbounded);
    drop(sender);
    let mut reactor = Reactor::<Vec<Option<u32>>>::new()?;
    reactor.consume(receiver, |value, cx| {
        cx.state.push(value);
        Ok(Next::Keep)
    })?;
    let mut values = Vec::new();
    reactor.run(&mut values)?;
    assert_eq!(values, [None]);
    Ok(())
}

#[test]
fn a_sender_to_a_sleeping_loop_writes_once_and_to_a_busy_one_never() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let mut reactor = Reactor::<Values>::new()?;
    reactor.consume(receiver, note)?;
    let mut values = Values::new();
    for value in 0..1000 {
        sender.try_send(value)?; // the loop is awake: it is this thread
    }
    turn_now(&mut reactor, &mut values);
    assert_eq!((values.len(), reactor.metrics().wakeups), (1000, 0));

    // Each value is answered before the next is sent, so the loop sleeps in between, unless it
    // finds the next one earlier.
    let remote = reactor.remote()?;
    let (turns_before, sent) = (reactor.metrics().turns, 50);
    let thread = thread::spawn(move || {
        for _ in 0..sent {
            remote.call(|_| ()).unwrap();
        }
        remote.stop().unwrap();
    });
    reactor.run(&mut values)?;
    thread.join().map_err(|_| "it panicked")?;
    let metrics = reactor.metrics();
    assert!(metrics.wakeups <= sent + 1, "{metrics:?}");
    assert!(
        metrics.turns - turns_before >= metrics.wakeups,
        "more than one a sleep: {metrics:?}"
    );
    Ok(())
}

#[test]
fn a_full_queue_returns_values_until_the_loop_has_handled_some() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Bounded(3));
    let mut reactor = Reactor::<Values>::new()?;
    let queue = reactor.consume(receiver, note)?;
    reactor.set_max_messages_per_turn(queue, 2)?;
    let mut many = VecDeque::from([0, 1, 2, 3, 4]);
    assert_eq!(sender.send_many(&mut many), Err(TrySendError::Full(())));
    assert_eq!(
        (many.make_contiguous(), sender.len()),
        ([3, 4].as_mut_slice(), 3)
    );
    assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
    let mut values = Values::new();
    turn_now(&mut reactor, &mut values);
    assert_eq!(
        (values.as_slice(), sender.len()),
        ([0, 1].as_slice(), 1),
        "two a turn"
    );
    assert_eq!(sender.send_many(&mut many), Ok(()));
    assert_eq!(
        sender.try_send(9),
        Err(TrySendError::Full(9)),
        "what is taken and not handled counts"
    );
    turn_now(&mut reactor, &mut values);
    turn_now(&mut reactor, &mut values);
    assert_eq!(values, [0, 1, 2, 3, 4]);
    assert!(sender.is_empty());
    Ok(())
}

/// Values that the loop has taken and not handled count as well as those in the queue.
#[test]
fn many_values_at_once_keep_the_capacity_that_the_loop_has_taken_from() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Bounded(4));
    let mut reactor = Reactor::<Values>::new()?;
    let queue = reactor.consume(receiver, note)?;
    reactor.set_max_messages_per_turn(queue, 1)?;
    sender.send_many(&mut (0..4).collect())?;
    let mut values = Values::new();
    turn_now(&mut reactor, &mut values);
    sender.try_send(4)?;
    let mut more = VecDeque::from([5, 6]);
    assert_eq!(
        (sender.send_many(&mut more), more.len(), sender.len()),
        (Err(TrySendError::Full(())), 2, 4)
    );
    turn_now(&mut reactor, &mut values);
    assert_eq!(sender.send_many(&mut more), Err(TrySendError::Full(())));
    assert_eq!(more, [6]);
    while turn_now(&mut reactor, &mut values) > 0 {}
    assert_eq!(values, [0, 1, 2, 3, 4, 5]);
    Ok(())
}

#[test]
fn a_flood_of_values_is_spread_over_turns_and_starves_no_source_or_timer() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let mut reactor = Reactor::<[usize; 3]>::new()?;
    let endless = sender.clone();
    let queue = reactor.consume(receiver, move |_, cx| {
        cx.state[0] += 1;
        let _ = endless.try_send(()); // a queue that never ends
        Ok(Next::Keep)
    })?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        cx.state[1] += 1;
        read_all(near).map(|_| Next::Keep)
    })?;
    reactor.after(Duration::ZERO, |cx| {
        cx.state[2] += 1;
        Ok(Then::After(Duration::ZERO))
    });
    for _ in 0..5000 {
        sender.try_send(())?;
    }
    let mut counts = [0; 3];
    for turn in 1..=10 {
        std::io::Write::write_all(&mut far, b"x")?;
        turn_now(&mut reactor, &mut counts);
        assert_eq!(counts, [turn * 1024, turn, turn]);
    }
    reactor.set_max_messages_per_turn(queue, 0)?;
    turn_now(&mut reactor, &mut counts);
    assert_eq!(counts[0], 10 * 1024 + 1, "one at least");
    Ok(())
}

#[test]
fn a_queue_can_be_paused_named_prioritised_and_removed_like_any_source() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let mut reactor = Reactor::<Values>::new()?;
    let queue = reactor.consume(receiver, note)?;
    reactor.set_name(queue, "orders")?;
    reactor.set_priority(queue, Priority::High)?;
    let listed = reactor
        .registrations()
        .next()
        .map(|queue| (queue.name.to_owned(), queue.kind, queue.fd));
    assert_eq!(listed, Some(("orders".to_owned(), Kind::Queue, -1)));
    let mut values = Values::new();
    for round in 0..20 {
        reactor.set_interest(queue, Interest::NONE)?;
        sender.try_send(round)?;
        turn_now(&mut reactor, &mut values);
        assert_eq!(values.len(), round as usize, "it is paused");
        reactor.set_interest(queue, Interest::READABLE)?;
        turn_now(&mut reactor, &mut values);
        assert_eq!(values.len(), round as usize + 1);
    }
    reactor.set_background(queue)?;
    sender.try_send(20)?;
    reactor.run(&mut values)?; // the values are handled, then nothing keeps the loop alive
    assert_eq!(values.len(), 21);
    sender.try_send(21)?;
    reactor.remove(queue)?;
    assert_eq!(sender.try_send(22), Err(TrySendError::Disconnected(22)));
    assert_eq!(
        sender.send_many(&mut VecDeque::from([23])),
        Err(TrySendError::Disconnected(()))
    );
    turn_now(&mut reactor, &mut values);
    assert_eq!(values.len(), 21);
    assert!(matches!(
        reactor.set_max_messages_per_turn(queue, 1),
        Err(Error::StaleKey(_))
    ));
    Ok(())
}

/// The rest of the values waits, or is dropped.
#[test]
fn a_handler_may_pause_or_remove_its_own_queue() -> Result {
    let alive = Rc::new(());
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let mut reactor = Reactor::<Values>::new()?;
    let held = Rc::clone(&alive);
    let queue = reactor.consume(receiver, move |value, cx| {
        let _held = &held;
        let value = value.unwrap_or_default();
        cx.state.push(value);
        if value == 2 {
            cx.registry.set_interest(cx.key(), Interest::NONE)?;
        } else if value == 3 {
            cx.registry.remove(cx.key())?;
        }
        Ok(Next::Keep)
    })?;
    for value in 1..=5 {
        sender.try_send(value)?;
    }
    let mut values = Values::new();
    turn_now(&mut reactor, &mut values);
    turn_now(&mut reactor, &mut values);
    assert_eq!(values, [1, 2]);
    reactor.set_interest(queue, Interest::READABLE)?;
    turn_now(&mut reactor, &mut values);
    assert_eq!((values, Rc::strong_count(&alive)), (vec![1, 2, 3], 1));
    assert_eq!(sender.try_send(6), Err(TrySendError::Disconnected(6)));
    assert!(sender.is_empty());
    Ok(())
}

#[test]
fn an_error_or_a_panic_ends_the_queue_and_would_block_does_not() -> Result {
    let mut reactor = Reactor::<Values>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    let mut values = Values::new();
    for end in [
        || Err(std::io::Error::other("broken")),
        || panic!("as the test wants"),
        || Ok(Next::Remove),
    ] {
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        reactor.consume(receiver, move |value: Option<u32>, cx| {
            cx.state.extend(value);
            match value {
                Some(1) => Err(std::io::ErrorKind::WouldBlock.into()),
                Some(2) => Err(std::io::ErrorKind::Interrupted.into()),
                _ => end(),
            }
        })?;
        (1..=4).try_for_each(|value| sender.try_send(value))?;
        turn_now(&mut reactor, &mut values);
        assert_eq!(std::mem::take(&mut values), [1, 2, 3]);
        assert_eq!(sender.try_send(5), Err(TrySendError::Disconnected(5)));
    }
    assert!(reactor.is_empty());
    let metrics = reactor.metrics();
    assert_eq!((metrics.failures, metrics.panics), (1, 1));
    Ok(())
}

#[test]
fn a_queue_beyond_the_limit_of_registrations_is_returned() -> Result {
    let mut reactor = Reactor::<Values>::builder().max_registrations(1).build()?;
    let (_kept, first) = notification_queue(Capacity::Unbounded);
    let (sender, second) = notification_queue(Capacity::Unbounded);
    reactor.consume(first, note)?;
    let refused = reactor
        .consume(second, note)
        .err()
        .ok_or("there was a place")?;
    assert!(matches!(
        refused.error,
        Error::Full {
            max_registrations: 1,
            ..
        }
    ));
    sender.try_send(1)?; // the queue is still open
    drop(refused.inner);
    assert_eq!(sender.try_send(2), Err(TrySendError::Disconnected(2)));
    Ok(())
}

#[test]
fn fifty_threads_lose_no_value_and_each_keeps_its_order() -> Result {
    const THREADS: usize = 50;
    const VALUES: usize = 20_000;
    let (sender, receiver) = notification_queue::<(usize, usize)>(Capacity::Unbounded);
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    reactor.consume(receiver, |value, cx| {
        if let Some((thread, number)) = value {
            assert_eq!(cx.state[thread], number, "of thread {thread}");
            cx.state[thread] += 1;
        }
        Ok(Next::Keep)
    })?;
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let sender = sender.clone();
            thread::spawn(move || {
                (0..VALUES).try_for_each(|number| sender.try_send((thread, number)))
            })
        })
        .collect();
    drop(sender);
    let mut counts = vec![0; THREADS];
    reactor.run(&mut counts)?;
    for thread in threads {
        thread.join().map_err(|_| "it panicked")??;
    }
    assert_eq!(counts, [VALUES; THREADS]);
    Ok(())
}

#[test]
fn contents_of_a_dropped_reactor_are_dropped_with_it() -> Result {
    let values: Vec<_> = (0..3).map(|_| Arc::new(())).collect();
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let mut reactor = Reactor::<RefCell<()>>::new()?;
    reactor.consume(receiver, |_, _| Ok(Next::Keep))?;
    values
        .iter()
        .try_for_each(|value| sender.try_send(Arc::clone(value)))?;
    drop(reactor);
    assert!(values.iter().all(|value| Arc::strong_count(value) == 1));
    assert!(matches!(
        sender.try_send(Arc::new(())),
        Err(TrySendError::Disconnected(_))
    ));
    Ok(())
}

#[test]
fn a_timeout_means_nothing_to_a_queue_paused_or_not() -> Result {
    let clock = reactor::ManualClock::new();
    let mut reactor = Reactor::<Values>::builder().clock(clock.clone()).build()?;
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let queue = reactor.consume(receiver, note)?;
    let mut values = Values::new();
    for paused in [false, true] {
        reactor.set_interest(
            queue,
            if paused {
                Interest::NONE
            } else {
                Interest::READABLE
            },
        )?;
        reactor.set_timeout(queue, Some(Duration::from_millis(1)))?;
        if paused {
            sender.try_send(1)?;
            turn_now(&mut reactor, &mut values);
        }
        clock.advance(Duration::from_millis(1));
        turn_now(&mut reactor, &mut values);
        turn_now(&mut reactor, &mut values);
        assert_eq!(values, []);
    }
    reactor.set_interest(queue, Interest::READABLE)?;
    turn_now(&mut reactor, &mut values);
    assert_eq!(values, [1]);
    Ok(())
}

#[test]
fn a_value_counts_until_its_handler_has_returned() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    let mut reactor = Reactor::<Values>::new()?;
    let own = sender.clone();
    let queue = reactor.consume(receiver, move |value, cx| {
        cx.state.extend(value);
        assert_eq!(
            (own.len(), own.try_send(9)),
            (1, Err(TrySendError::Full(9)))
        );
        Ok(Next::Keep)
    })?;
    reactor.set_max_messages_per_turn(queue, 1)?;
    sender.try_send(1)?;
    let mut values = Values::new();
    assert_eq!(turn_now(&mut reactor, &mut values), 1);
    assert!(sender.is_empty());
    assert_eq!(
        turn_now(&mut reactor, &mut values),
        0,
        "nothing was left, so nothing is called"
    );
    Ok(())
}

/// Each turn has a reason: a queue without values, a sender that is not the last, and a call that
/// sends nothing are none.
#[test]
fn a_queue_without_values_lets_the_loop_sleep() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let mut reactor = Reactor::<Values>::new()?;
    reactor.consume(receiver, note)?;
    assert_eq!(reactor.prepare_to_wait(), None);
    let mut values = Values::new();
    turn_now(&mut reactor, &mut values);
    drop(sender.clone());
    assert_eq!(reactor.prepare_to_wait(), None);
    sender.send_many(&mut VecDeque::new())?;
    assert_eq!(reactor.prepare_to_wait(), None);
    drop(sender);
    assert_eq!(reactor.prepare_to_wait(), Some(Duration::ZERO));
    Ok(())
}

#[test]
fn a_loop_that_has_slept_and_is_awake_is_not_written_to() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let mut reactor = Reactor::<Values>::new()?;
    reactor.consume(receiver, note)?;
    let mut values = Values::new();
    reactor.turn(&mut values, Some(Duration::from_millis(1)))?;
    let slept = reactor.metrics().sleeps;
    sender.try_send(1)?;
    turn_now(&mut reactor, &mut values);
    assert_eq!((slept, reactor.metrics().wakeups), (1, 0));
    assert_eq!(values, [1]);
    Ok(())
}
