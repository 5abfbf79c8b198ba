//! Allocations, counted: none for an event, one for a registration.
//!
//! This is a program of its own, since it replaces the allocator.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use allocation_counter::measure;
use reactor::{
    Capacity, Context, Interest, Next, PanicPolicy, Priority, Reactor, Remote, Then,
    notification_queue,
};

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

/// Returns a reactor with one connection that echoes, and its peer.
fn echo(
    policy: PanicPolicy,
) -> std::result::Result<(Reactor<u64>, UnixStream), Box<dyn std::error::Error>> {
    let (near, far) = UnixStream::pair()?;
    let mut reactor = Reactor::<u64>::builder().on_panic(policy).build()?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        let mut buf = [0; 256];
        let n = near.read(&mut buf)?;
        near.write_all(&buf[..n])?;
        *cx.state += 1;
        Ok(Next::Keep)
    })?;
    Ok((reactor, far))
}

/// Sends one message there and back.
fn round_trip(reactor: &mut Reactor<u64>, messages: &mut u64, far: &mut UnixStream) {
    far.write_all(&[7; 64]).unwrap();
    let goal = *messages + 1;
    while *messages < goal {
        reactor
            .turn(messages, Some(Duration::from_secs(20)))
            .unwrap();
    }
    far.read_exact(&mut [0; 64]).unwrap();
}

#[test]
fn an_echoed_message_allocates_nothing() -> Result {
    for policy in [PanicPolicy::Propagate, PanicPolicy::RemoveHandler] {
        let (mut reactor, mut far) = echo(policy)?;
        let mut messages = 0;
        round_trip(&mut reactor, &mut messages, &mut far);
        let allocated = measure(|| {
            for _ in 0..1000 {
                round_trip(&mut reactor, &mut messages, &mut far);
            }
        });
        assert_eq!((messages, allocated.count_total), (1001, 0), "{policy:?}");
    }
    Ok(())
}

#[test]
fn sources_that_stay_ready_and_priorities_allocate_nothing() -> Result {
    let mut reactor = Reactor::<u64>::new()?;
    let mut peers = Vec::new();
    for priority in [Priority::High, Priority::Normal, Priority::Low] {
        let (near, far) = UnixStream::pair()?;
        peers.push(far);
        let key = reactor.add(near, Interest::WRITABLE, |_, cx: &mut Context<'_, u64>| {
            *cx.state += 1;
            let interest = cx.registry.interest(cx.key())?;
            cx.registry.set_interest(cx.key(), Interest::NONE)?;
            cx.registry.set_interest(cx.key(), interest)?;
            Ok(Next::Keep)
        })?;
        reactor.set_priority(key, priority)?;
    }
    let mut calls = 0;
    reactor.turn(&mut calls, None)?;
    let allocated = measure(|| {
        for _ in 0..1000 {
            reactor.turn(&mut calls, None).unwrap();
        }
    });
    assert_eq!((calls, allocated.count_total), (3003, 0));
    Ok(())
}

#[test]
fn a_registration_allocates_once_and_its_end_frees_that() -> Result {
    let mut reactor = Reactor::<u64>::new()?;
    let mut add = |source| {
        reactor
            .add(source, Interest::READABLE, |_, _| Ok(Next::Keep))
            .unwrap()
    };
    let warm: Vec<_> = (0..4).map(|_| add(UnixStream::pair().unwrap().0)).collect();
    warm.into_iter()
        .for_each(|key| reactor.remove(key).unwrap());
    let (near, _far) = UnixStream::pair()?;
    // The poller has a table by the number of the fd. A source with a greater number has been
    // there, whatever numbers the tests beside this one have taken meanwhile.
    let above = rustix::io::fcntl_dupfd_cloexec(&near, near.as_raw_fd() + 1)?;
    let key = reactor
        .add(above, Interest::READABLE, |_, _| Ok(Next::Keep))
        .unwrap();
    reactor.remove(key)?;
    let marker = 7_u64;
    let allocated = measure(|| {
        let key = reactor
            .add(near, Interest::READABLE, move |_, cx| {
                *cx.state += marker;
                Ok(Next::Keep)
            })
            .unwrap();
        reactor.remove(key).unwrap();
    });
    assert_eq!((allocated.count_total, allocated.count_current), (1, 0));
    Ok(())
}

#[test]
fn extending_timers_and_timeouts_allocates_nothing() -> Result {
    let mut reactor = Reactor::<u64>::new()?;
    let (near, _far) = UnixStream::pair()?;
    let source = reactor.add(near, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    let timer = reactor.after(Duration::from_secs(60), |_| Ok(Then::Done));
    reactor.set_timeout(source, Some(Duration::from_secs(60)))?;
    let allocated = measure(|| {
        for _ in 0..1000 {
            reactor
                .set_timeout(source, Some(Duration::from_secs(60)))
                .unwrap();
            reactor.reset(timer, Duration::from_secs(60)).unwrap();
            reactor.reset(timer, Duration::from_secs(30)).unwrap();
        }
    });
    assert_eq!(allocated.count_total, 0);
    let updates = reactor.metrics().kernel_updates;
    assert_eq!(updates, 1, "the registration of the source");
    Ok(())
}

#[test]
fn a_timer_takes_one_allocation_for_what_it_captures_and_a_timeout_none() -> Result {
    let mut reactor = Reactor::<u64>::new()?;
    let (near, _far) = UnixStream::pair()?;
    let source = reactor.add(near, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    // Four slots of the arena, which are used again.
    let warm: Vec<_> = (0..4)
        .map(|_| reactor.after(Duration::ZERO, |_| Ok(Then::Done)))
        .collect();
    warm.into_iter()
        .for_each(|timer| reactor.cancel(timer).unwrap());
    let captured = 7_u64;
    let allocated = measure(|| {
        reactor
            .set_timeout(source, Some(Duration::from_secs(60)))
            .unwrap();
        let timer = reactor.after(Duration::from_secs(60), move |cx| {
            *cx.state = captured;
            Ok(Then::Done)
        });
        reactor.cancel(timer).unwrap();
    });
    assert_eq!((allocated.count_total, allocated.count_current), (1, 0));
    Ok(())
}

#[test]
fn a_timer_takes_at_most_50_bytes_beside_its_closure() -> Result {
    const TIMERS: i64 = 1 << 17; // the arena has grown to exactly this size by doubling
    let mut reactor = Reactor::<u64>::new()?;
    let allocated = measure(|| {
        for _ in 0..TIMERS {
            reactor.after(Duration::from_secs(60), |_| Ok(Then::Done));
        }
    });
    let arenas = (24 + 16) * TIMERS;
    // Twice as many items, half of them of cancelled timers.
    let lists = 64 * (2 * TIMERS / 15 + 512);
    assert!(
        (arenas + lists..=50 * TIMERS).contains(&allocated.bytes_current),
        "{}",
        allocated.bytes_current
    );
    Ok(())
}

#[test]
fn deferring_a_closure_without_captures_allocates_nothing() -> Result {
    fn again(cx: &mut Context<'_, u64>) {
        *cx.state += 1;
        cx.registry.defer(again);
    }
    let mut reactor = Reactor::<u64>::new()?;
    (0..100).for_each(|_| _ = reactor.defer(again));
    let mut ran = 0;
    reactor.turn(&mut ran, None)?;
    reactor.turn(&mut ran, None)?;
    let allocated = measure(|| {
        for _ in 0..10 {
            reactor.turn(&mut ran, None).unwrap();
        }
    });
    assert_eq!((ran, allocated.count_total), (1200, 0));
    Ok(())
}

#[test]
fn a_deferred_callback_that_captures_allocates_once() -> Result {
    let mut reactor = Reactor::<u64>::new()?;
    reactor.defer(|_| {});
    let captured = 7_u64;
    let allocated = measure(|| {
        reactor.defer(move |cx| *cx.state = captured);
        let mut state = 0;
        reactor.turn(&mut state, None).unwrap();
        assert_eq!(state, 7);
    });
    assert_eq!((allocated.count_total, allocated.count_current), (1, 0));
    Ok(())
}

#[test]
fn a_registered_source_takes_as_many_bytes_as_the_table_says() -> Result {
    const SOURCES: u64 = 512; // the arena has grown to exactly this size by doubling
    const SLOT: u64 = 64;
    const IO: u64 = 12; // the size of a source that is one fd
    const CLOSURE: u64 = 8;
    let files = std::fs::File::open("/dev/null")?;
    let mut sources: Vec<_> = (0..SOURCES)
        .map(|_| files.try_clone())
        .collect::<std::io::Result<_>>()?;
    let mut reactor = Reactor::<u64>::new()?;
    let allocated = measure(|| {
        for (captured, source) in (0..SOURCES).zip(sources.drain(..)) {
            reactor
                .add(source, Interest::NONE, move |_, cx| {
                    *cx.state += captured;
                    Ok(Next::Keep)
                })
                .unwrap();
        }
    });
    let entry = (IO + CLOSURE).next_multiple_of(8);
    assert_eq!(allocated.bytes_current, ((SLOT + entry) * SOURCES) as i64);
    Ok(())
}

/// A burst leaves no memory behind.
#[test]
fn values_through_a_queue_allocate_nothing() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let mut reactor = Reactor::<u64>::new()?;
    let own = sender.clone();
    reactor.consume(receiver, move |value: Option<[u64; 8]>, cx| {
        *cx.state += 1;
        if value == Some([9; 8]) {
            own.try_send([1; 8]).unwrap(); // so that the other buffer is in use too
        }
        Ok(Next::Keep)
    })?;
    let mut handled = 0;
    let mut send = |count: u64, value: u64| {
        (0..count).for_each(|_| sender.try_send([value; 8]).unwrap());
        while !sender.is_empty() {
            reactor.turn(&mut handled, Some(Duration::ZERO)).unwrap();
        }
        reactor.turn(&mut handled, Some(Duration::ZERO)).unwrap();
    };
    send(100, 1);
    send(100, 1); // each of the two buffers once
    let allocated = measure(|| (0..100).for_each(|_| send(100, 1)));
    assert_eq!(allocated.count_total, 0);
    for value in [1, 9] {
        let burst = measure(|| send(100_000, value));
        assert!(
            burst.bytes_max > 100_000 * 64 && burst.bytes_current < 10_000,
            "{burst:?}"
        );
    }
    Ok(())
}

/// Posts closures of three types, in this order: with no, small, and large captures.
fn post_three(remote: &Remote<u64>) {
    let (little, much) = (7_u64, [2_u64; 512]);
    remote.post(|cx| *cx.state += 1).unwrap();
    remote.post(move |cx| *cx.state += little).unwrap();
    remote.post(move |cx| *cx.state += much[511]).unwrap();
}

#[test]
fn posted_closures_allocate_nothing_once_their_types_are_known() -> Result {
    let mut reactor = Reactor::<u64>::new()?;
    let remote = reactor.remote()?;
    let mut state = 0;
    let mut round = || {
        post_three(&remote);
        reactor.turn(&mut state, Some(Duration::ZERO)).unwrap();
    };
    round(); // the two buffers are exchanged
    round();
    let allocated = measure(|| (0..100).for_each(|_| round()));
    assert_eq!(
        (state, allocated.count_total, allocated.count_current),
        (1020, 0, 0)
    );
    Ok(())
}

#[test]
fn memory_of_a_flood_of_posts_is_freed() -> Result {
    let mut reactor = Reactor::<u64>::new()?;
    let remote = reactor.remote()?;
    let mut state = 0;
    let allocated = measure(|| {
        (0..10_000).for_each(|_| post_three(&remote));
        while reactor.turn(&mut state, Some(Duration::ZERO)).unwrap() > 0 {}
    });
    assert_eq!(state, 100_000);
    assert!(
        allocated.bytes_current < 1 << 18,
        "{} bytes are kept",
        allocated.bytes_current
    );
    Ok(())
}

#[test]
fn memory_for_many_deferred_callbacks_is_freed_once_there_are_few() -> Result {
    let mut reactor = Reactor::<u64>::new()?;
    let mut calls = 0;
    reactor.defer(|cx| *cx.state += 1);
    reactor.turn(&mut calls, Some(Duration::ZERO))?;
    let allocated = measure(|| {
        (0..1_000_000).for_each(|_| _ = reactor.defer(|cx| *cx.state += 1));
        for _ in 0..2 {
            reactor.defer(|cx| *cx.state += 1);
            reactor.turn(&mut calls, Some(Duration::ZERO)).unwrap();
        }
    });
    assert_eq!(calls, 1_000_003);
    assert!(
        allocated.bytes_max > 30_000_000 && allocated.bytes_current < 200_000,
        "{allocated:?}"
    );
    let many = |reactor: &mut Reactor<u64>, calls: &mut u64| {
        (0..10_000).for_each(|_| _ = reactor.defer(|cx| *cx.state += 1));
        reactor.turn(calls, Some(Duration::ZERO)).unwrap();
    };
    many(&mut reactor, &mut calls);
    let allocated = measure(|| (0..10).for_each(|_| many(&mut reactor, &mut calls)));
    assert_eq!(allocated.count_total, 0, "what is used each turn is kept");
    Ok(())
}
