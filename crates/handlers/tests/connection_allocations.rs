//! Allocations of connections, counted: none while a connection is idle, none for an exchange.
//!
//! This is a program of its own, since it replaces the allocator.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use handlers::{Connection, ConnectionKey, ConnectionOptions, RateLimit, on_data};
use reactor::Reactor;

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

/// Opens a connection that echoes.
fn open_echo(
    reactor: &mut Reactor<u64>,
    near: UnixStream,
    options: &ConnectionOptions,
) -> ConnectionKey<u64> {
    let echo = on_data(|data, connection, cx: &mut reactor::Context<'_, u64>| {
        *cx.state += data.len() as u64;
        let _ = connection.write(data)?;
        Ok(data.len())
    });
    Connection::open(reactor, near, options, echo).unwrap()
}

/// Sends one message there and back.
fn exchange(reactor: &mut Reactor<u64>, bytes: &mut u64, far: &mut UnixStream, message: &mut [u8]) {
    far.write_all(message).unwrap();
    let goal = *bytes + message.len() as u64;
    while *bytes < goal {
        reactor.turn(bytes, Some(Duration::from_secs(20))).unwrap();
    }
    // Bytes under a rate limit leave through the queue.
    reactor.turn(bytes, Some(Duration::ZERO)).unwrap();
    far.read_exact(message).unwrap();
}

#[test]
fn an_exchange_allocates_nothing() -> Result {
    for options in [
        ConnectionOptions::new(),
        ConnectionOptions::new().idle_timeout(Duration::from_secs(60)),
    ] {
        let mut reactor = Reactor::new()?;
        let (near, mut far) = UnixStream::pair()?;
        open_echo(&mut reactor, near, &options);
        let (mut bytes, mut message) = (0, [7; 1000]);
        exchange(&mut reactor, &mut bytes, &mut far, &mut message);
        let allocated = measure(|| {
            for _ in 0..100 {
                exchange(&mut reactor, &mut bytes, &mut far, &mut message);
            }
        });
        assert_eq!(allocated.count_total, 0);
    }
    Ok(())
}

#[test]
fn an_access_from_the_callback_of_another_connection_allocates_nothing() -> Result {
    let mut reactor = Reactor::new()?;
    let [(near, mut far), (accessed, _peer)] = [UnixStream::pair()?, UnixStream::pair()?];
    let accessed = open_echo(&mut reactor, accessed, &ConnectionOptions::new());
    let accesses = on_data(
        move |data, connection, cx: &mut reactor::Context<'_, u64>| {
            *cx.state += data.len() as u64;
            let _ = connection.write(data)?;
            accessed
                .with(cx, |accessed, _| assert_eq!(accessed.queued(), 0))
                .map_err(std::io::Error::other)?;
            Ok(data.len())
        },
    );
    Connection::open(&mut reactor, near, &ConnectionOptions::new(), accesses)?;
    let (mut bytes, mut message) = (0, [7; 1000]);
    exchange(&mut reactor, &mut bytes, &mut far, &mut message);
    let allocated = measure(|| exchange(&mut reactor, &mut bytes, &mut far, &mut message));
    assert_eq!(allocated.count_total, 0);
    Ok(())
}

#[test]
fn a_connection_that_is_idle_after_an_exchange_holds_one_allocation() -> Result {
    let mut reactor = Reactor::new()?;
    let options = ConnectionOptions::new();
    let (mut bytes, mut message) = (0, vec![7; 100_000]);
    let (warm, mut far) = UnixStream::pair()?;
    open_echo(&mut reactor, warm, &options);
    exchange(&mut reactor, &mut bytes, &mut far, &mut message);
    let (near, mut far) = UnixStream::pair()?;
    let mut near = Some(near);
    let allocated = measure(|| {
        open_echo(&mut reactor, near.take().unwrap(), &options);
        exchange(&mut reactor, &mut bytes, &mut far, &mut message);
        reactor.turn(&mut bytes, Some(Duration::ZERO)).unwrap();
    });
    assert_eq!(
        allocated.count_current, 1,
        "the registration: {allocated:?}"
    );
    assert!(allocated.bytes_current < 320, "{allocated:?}");
    Ok(())
}

#[test]
fn memory_of_the_queue_is_freed_when_it_has_been_sent() -> Result {
    let limited = ConnectionOptions::new().write_rate(RateLimit::new(u64::MAX, u64::MAX));
    for options in [ConnectionOptions::new(), limited] {
        let mut reactor = Reactor::new()?;
        let (near, mut far) = UnixStream::pair()?;
        let key = open_echo(&mut reactor, near, &options);
        let (mut bytes, mut message) = (0, vec![7; 1000]);
        exchange(&mut reactor, &mut bytes, &mut far, &mut message);
        let pieces = vec![1; 100];
        let mut received = vec![0; 100_000];
        let mut send = |by_access: bool, bytes: &mut u64| {
            let pieces = pieces.clone();
            reactor.defer(move |cx| {
                let sent = key.with(cx, |connection, _| {
                    (0..if by_access { 1000 } else { 1 })
                        .try_for_each(|_| connection.write(&pieces).map(drop))
                });
                sent.unwrap().unwrap();
            });
            for _ in 0..3 {
                reactor.turn(bytes, Some(Duration::ZERO)).unwrap();
            }
            far.read_exact(&mut received[..if by_access { 100_000 } else { 100 }])
                .unwrap();
        };
        send(false, &mut bytes);
        let allocated = measure(|| send(true, &mut bytes));
        assert!(
            allocated.bytes_max > 90_000 && allocated.bytes_current < 20_000,
            "{allocated:?}"
        );
    }
    Ok(())
}

#[test]
fn a_byte_after_a_long_message_does_not_keep_the_memory_of_the_message() -> Result {
    const LONG: usize = 8 << 20;
    let mut reactor = Reactor::new()?;
    let (near, mut far) = UnixStream::pair()?;
    far.set_nonblocking(true)?;
    let takes = on_data(|data: &[u8], _, cx: &mut reactor::Context<'_, u64>| {
        let taken = if data.len() > LONG { LONG } else { 0 };
        *cx.state += taken as u64;
        Ok(taken)
    });
    let (mut bytes, message) = (0, vec![7; LONG + 1]);
    let options = ConnectionOptions::new().max_buffered_input(LONG);
    let allocated = measure(|| {
        Connection::open(&mut reactor, near.try_clone().unwrap(), &options, takes).unwrap();
        let mut sent = 0;
        while bytes == 0 {
            sent += far.write(&message[sent..]).unwrap_or(0);
            reactor.turn(&mut bytes, Some(Duration::ZERO)).unwrap();
        }
    });
    assert!(allocated.bytes_max > LONG as u64, "{allocated:?}");
    assert!(allocated.bytes_current < 400_000, "{allocated:?}");
    Ok(())
}

#[test]
fn a_byte_that_is_left_of_a_long_write_does_not_keep_the_rest() -> Result {
    const LONG: usize = 8 << 20;
    let mut reactor = Reactor::<u64>::new()?;
    let (near, mut far) = UnixStream::pair()?;
    far.set_nonblocking(true)?;
    let key = open_echo(&mut reactor, near, &ConnectionOptions::new());
    let (mut bytes, message, mut room) = (0, Arc::new(vec![7; LONG]), vec![0; 1 << 20]);
    reactor.turn(&mut bytes, Some(Duration::ZERO))?;
    let allocated = measure(|| {
        let message = Arc::clone(&message); // kept by the handler
        reactor.defer(move |cx| {
            assert!(
                key.with(cx, |connection, _| connection.write(&message).is_ok())
                    .unwrap()
            )
        });
        // Until the rest has been passed to the kernel, except less than a piece of it.
        let mut read = 0;
        while read < LONG - 600_000 {
            reactor.turn(&mut bytes, Some(Duration::ZERO)).unwrap();
            read += far.read(&mut room).unwrap_or(0);
        }
    });
    assert!(allocated.bytes_current < 600_000, "{allocated:?}");
    Ok(())
}
