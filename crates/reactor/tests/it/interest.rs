//! Interest is a mask in user space: the kernel gets each direction once.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use reactor::{AddError, Error, Interest, Next, Reactor};

use crate::{Result, add_counting_reader, read_all, tcp_pair, turn_now, turn_until};

#[test]
fn events_during_interest_none_are_delivered_when_interest_returns() -> Result {
    let mut reactor = Reactor::new()?;
    let (key, mut far) = add_counting_reader(&mut reactor, 0)?;
    let mut calls = vec![0];
    reactor.set_interest(key, Interest::NONE)?;
    far.write_all(b"x")?;
    assert_eq!(turn_now(&mut reactor, &mut calls), 0);
    let updates = reactor.metrics().kernel_updates;
    reactor.set_interest(key, Interest::READABLE)?;
    assert_eq!(turn_now(&mut reactor, &mut calls), 1);
    assert_eq!(reactor.metrics().kernel_updates, updates);
    Ok(())
}

#[test]
fn a_direction_is_registered_in_the_kernel_when_first_wanted_and_once() -> Result {
    let (near, _far) = UnixStream::pair()?;
    let mut reactor = Reactor::<()>::new()?;
    let key = reactor.add(near, Interest::READABLE, |near, _| {
        read_all(near).map(|_| Next::Keep)
    })?;
    assert_eq!(reactor.metrics().kernel_updates, 1);
    for round in 0..10 {
        reactor.set_interest(key, Interest::READABLE | Interest::WRITABLE)?;
        assert_eq!(reactor.metrics().kernel_updates, 2, "round {round}");
        assert_eq!(
            turn_now(&mut reactor, &mut ()),
            1,
            "it is writable, round {round}"
        );
        reactor.set_interest(key, Interest::READABLE)?;
        assert_eq!(turn_now(&mut reactor, &mut ()), 0);
        assert_eq!(reactor.interest(key)?, Interest::READABLE);
    }
    assert_eq!(reactor.metrics().kernel_updates, 2);
    Ok(())
}

#[test]
fn a_source_watched_for_reading_is_watched_for_urgent_data_too() -> Result {
    let (near, far) = tcp_pair()?;
    let mut reactor = Reactor::<u32>::new()?;
    let key = reactor.add(near, Interest::READABLE, |_, cx| {
        *cx.state += u32::from(cx.readiness().is_priority());
        Ok(Next::Keep)
    })?;
    reactor.set_interest(key, Interest::PRIORITY)?;
    assert_eq!(reactor.metrics().kernel_updates, 1);
    let mut calls = 0;
    rustix::net::send(&far, b"!", rustix::net::SendFlags::OOB)?;
    turn_until(&mut reactor, &mut calls, |calls| *calls == 1);
    Ok(())
}

/// It is disarmed in the kernel.
#[test]
fn a_source_without_interest_that_keeps_waking_the_loop_is_disarmed() -> Result {
    let mut reactor = Reactor::new()?;
    let (key, mut far) = add_counting_reader(&mut reactor, 0)?;
    let mut calls = vec![0];
    reactor.set_interest(key, Interest::NONE)?;
    for _ in 0..100 {
        far.write_all(b"x")?;
        turn_now(&mut reactor, &mut calls);
    }
    let metrics = reactor.metrics();
    assert_eq!(
        (
            metrics.events,
            metrics.unwanted_events,
            metrics.kernel_updates
        ),
        (8, 8, 2)
    );
    // With interest again, the source is watched again, and no byte that came meanwhile is lost.
    reactor.set_interest(key, Interest::READABLE)?;
    turn_until(&mut reactor, &mut calls, |calls| calls[0] == 1);
    assert_eq!(reactor.metrics().kernel_updates, 3);
    far.write_all(b"x")?;
    turn_until(&mut reactor, &mut calls, |calls| calls[0] == 2);
    Ok(())
}

#[test]
fn a_direction_with_spurious_wakeups_between_calls_is_disarmed_too() -> Result {
    // Each read of the receiver of a Unix stream makes room, which wakes the sender if it is
    // watched for writing.
    let (near, mut far) = UnixStream::pair()?;
    let mut reactor = Reactor::<u32>::new()?;
    let key = reactor.add(near, Interest::READABLE | Interest::WRITABLE, |near, cx| {
        *cx.state += 1;
        let bytes = read_all(near)?;
        near.write_all(&bytes)?;
        Ok(Next::Keep)
    })?;
    let mut calls = 0;
    turn_until(&mut reactor, &mut calls, |calls| *calls == 1);
    reactor.set_interest(key, Interest::READABLE)?;
    let updates = reactor.metrics().kernel_updates;
    for _ in 0..100 {
        far.write_all(b"x")?;
        turn_now(&mut reactor, &mut calls);
        far.read_exact(&mut [0; 1])?;
        turn_now(&mut reactor, &mut calls);
    }
    let metrics = reactor.metrics();
    assert_eq!(
        (calls, metrics.unwanted_events, metrics.kernel_updates),
        (101, 8, updates + 1)
    );
    Ok(())
}

#[test]
fn one_direction_can_be_silenced_while_the_other_is_wanted() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let mut reactor = Reactor::<u32>::new()?;
    let key = reactor.add(near, Interest::READABLE, |near, cx| {
        *cx.state += 1;
        if cx.readiness().is_readable() {
            read_all(near).map(|_| Next::Keep)
        } else {
            fill(near)
        }
    })?;
    let mut calls = 0;
    reactor.set_interest(key, Interest::WRITABLE)?;
    // Fills the socket, which is then not writable.
    turn_until(&mut reactor, &mut calls, |calls| *calls == 1);
    for _ in 0..100 {
        far.write_all(b"x")?;
        turn_now(&mut reactor, &mut calls);
    }
    assert_eq!((calls, reactor.metrics().unwanted_events), (1, 8));
    reactor.set_interest(key, Interest::READABLE)?;
    turn_until(&mut reactor, &mut calls, |calls| *calls == 2);
    Ok(())
}

fn fill<W: Write>(writer: &mut W) -> std::io::Result<Next> {
    while writer.write(&[0; 4096])? > 0 {} // until `WouldBlock`
    Ok(Next::Keep)
}

#[test]
fn a_handler_that_waits_on_a_hung_up_peer_does_not_spin_the_loop() -> Result {
    let (near, far) = UnixStream::pair()?;
    let mut reactor = Reactor::<u32>::new()?;
    reactor.add(near, Interest::READABLE, |_, cx| {
        *cx.state += 1;
        cx.registry.set_interest(cx.key(), Interest::NONE)?;
        Ok(Next::Keep)
    })?;
    drop(far);
    let mut calls = 0;
    turn_until(&mut reactor, &mut calls, |calls| *calls == 1);
    let events = reactor.metrics().events;
    for _ in 0..100 {
        assert_eq!(turn_now(&mut reactor, &mut calls), 0);
    }
    assert_eq!(
        reactor.metrics().events,
        events,
        "the kernel reports a hang-up once"
    );
    let (timeout, began) = (Duration::from_millis(20), Instant::now());
    assert_eq!(reactor.turn(&mut calls, Some(timeout))?, 0);
    assert!(began.elapsed() >= timeout, "it did not sleep");
    Ok(())
}

#[test]
fn a_handler_may_change_the_interest_of_another() -> Result {
    let mut reactor = Reactor::new()?;
    let (sleeper, mut far) = add_counting_reader(&mut reactor, 0)?;
    reactor.set_interest(sleeper, Interest::NONE)?;
    far.write_all(b"x")?;
    let mut calls = vec![0];
    turn_now(&mut reactor, &mut calls);
    let (near, mut waker) = UnixStream::pair()?;
    reactor.add(near, Interest::READABLE, move |near, cx| {
        read_all(near)?;
        cx.registry.set_interest(sleeper, Interest::READABLE)?;
        Ok(Next::Keep)
    })?;
    waker.write_all(b"x")?;
    turn_until(&mut reactor, &mut calls, |calls| calls[0] == 1);
    Ok(())
}

#[test]
fn a_disarmed_source_cannot_be_registered_twice_and_is_rearmed_later() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let shared = std::sync::Arc::new(near);
    let mut reactor = Reactor::<u32>::new()?;
    let first = reactor.add(
        std::sync::Arc::clone(&shared),
        Interest::READABLE,
        |_, cx| {
            *cx.state += 1;
            Ok(Next::Keep)
        },
    )?;
    reactor.set_interest(first, Interest::NONE)?;
    let mut calls = 0;
    for _ in 0..20 {
        far.write_all(b"x")?;
        turn_now(&mut reactor, &mut calls);
    }
    assert_eq!(
        (calls, reactor.metrics().unwanted_events),
        (0, 8),
        "it was silenced"
    );
    let second = reactor.add(shared, Interest::READABLE, |_, _| Ok(Next::Keep));
    assert!(matches!(
        second,
        Err(AddError {
            error: Error::AlreadyRegistered { .. },
            ..
        })
    ));
    reactor.set_interest(first, Interest::READABLE)?;
    turn_now(&mut reactor, &mut calls);
    assert_eq!(calls, 1);
    Ok(())
}
