//! `Connection::connect_as`: a connection that is opened as another stream than it was made as.

use std::fs::File;
use std::io::{self, IoSlice, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use handlers::{Connecting, Connection, ConnectionOptions, Stream};
use reactor::{Interest, IoState, ManualClock, Next, PanicPolicy, Reactor};
use support::{listen, run_out, silent_listener, turn_until, turn_until_quiet};

use crate::{Result, Seen, as_file, notes};

/// Connects, and opens the connection on what `make` returns.
fn connect(
    reactor: &mut Reactor<Seen>,
    to: SocketAddr,
    make: impl FnOnce(TcpStream) -> io::Result<File> + 'static,
) -> Connecting<Seen> {
    let options = ConnectionOptions::new();
    Connection::connect_as(reactor, [to], &options, make, notes("it"))
}

/// Accepts the connection, and sends a greeting.
fn greet(listener: &TcpListener) -> io::Result<TcpStream> {
    let (mut peer, _) = listener.accept()?;
    peer.write_all(b"welcome")?;
    Ok(peer)
}

#[test]
fn a_connection_is_opened_on_the_stream_that_was_made_of_it() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::new()?;
    let connecting = connect(&mut reactor, address, as_file);
    assert!(connecting.is_pending());
    let mut peer = greet(&listener)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.received == b"welcome")?;
    assert_eq!(
        (&seen.log[..], connecting.is_pending()),
        (&["it open".to_owned()][..], false)
    );
    connecting.cancel(&mut reactor);
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(
        (seen.log.len(), reactor.len()),
        (1, 1),
        "it is open already"
    );
    peer.write_all(b" again")?;
    turn_until(&mut reactor, &mut seen, |seen| {
        seen.received == b"welcome again"
    })
}

#[test]
fn the_line_of_the_call_is_that_of_the_connection() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::new()?;
    let options = ConnectionOptions::new();
    let line = line!() + 1;
    Connection::connect_as(&mut reactor, [address], &options, as_file, notes("it"));
    let _peer = greet(&listener)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| !seen.received.is_empty())?;
    let lines: Vec<_> = reactor
        .registrations()
        .map(|info| info.origin.line())
        .collect();
    assert_eq!(lines, [line]);
    Ok(())
}

#[test]
fn an_error_of_the_function_is_reported_to_the_handler() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::new()?;
    connect(&mut reactor, address, |_stream| {
        Err(io::Error::other("no certificate"))
    });
    let mut peer = greet(&listener)?;
    let mut seen = Seen::default();
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(seen.log, ["it close failed: no certificate"]);
    let _ = peer.read(&mut [0]); // an end or a reset: its greeting was not read
    Ok(())
}

#[test]
fn a_panic_of_the_function_is_reported_to_the_handler() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    connect(&mut reactor, address, |_stream| panic!("on purpose"));
    let _peer = greet(&listener)?;
    let mut seen = Seen::default();
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(seen.log, ["it close panicked: on purpose"]);
    Ok(())
}

/// A stream that shares its fd, which a loop watches at most once.
struct Shared(Rc<PipeReader>);

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream for Shared {
    fn try_read(&mut self, _: &mut IoState, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn try_write(&mut self, _: &mut IoState, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[test]
fn a_stream_that_the_loop_cannot_watch_is_reported_to_the_handler() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::new()?;
    let (reader, _writer) = io::pipe()?;
    let shared = Rc::new(reader);
    let watched = Rc::clone(&shared);
    reactor.add(watched, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    let options = ConnectionOptions::new();
    let make = move |_stream| Ok(Shared(shared));
    Connection::connect_as(&mut reactor, [address], &options, make, notes("it"));
    let _peer = greet(&listener)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| !seen.log.is_empty())?;
    assert!(seen.log[0].starts_with("it close failed"), "{seen:?}");
    assert_eq!((seen.log.len(), reactor.len()), (1, 1));
    Ok(())
}

#[test]
fn a_refused_attempt_is_reported_as_by_connect() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    drop(listener);
    let mut reactor = Reactor::new()?;
    let connecting = connect(&mut reactor, address, as_file);
    let mut seen = Seen::default();
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(seen.log.len(), 1, "{seen:?}");
    assert!(
        seen.log[0].starts_with("it close failed: connect to"),
        "{seen:?}"
    );
    assert!(!connecting.is_pending());
    Ok(())
}

#[test]
fn the_time_for_all_attempts_is_that_of_the_options() -> Result {
    let (_silent, address) = silent_listener("127.0.0.1:0")?;
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let options = ConnectionOptions::new().connect_timeout(Duration::from_secs(3));
    Connection::connect_as(&mut reactor, [address], &options, as_file, notes("it"));
    let mut seen = Seen::default();
    reactor.advance(&mut seen, Duration::from_secs(2))?;
    assert!(seen.log.is_empty(), "{seen:?}");
    reactor.advance(&mut seen, Duration::from_secs(1))?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(seen.log, ["it close connect timeout expired"]);
    Ok(())
}

#[test]
fn a_connect_is_cancelled_before_and_after_an_attempt_has_succeeded() -> Result {
    let (_silent, silent) = silent_listener("127.0.0.1:0")?;
    let (listener, answers) = listen("127.0.0.1:0")?;
    for (address, has_won) in [(silent, false), (answers, true)] {
        let mut reactor = Reactor::new()?;
        let connecting = connect(&mut reactor, address, |_| panic!("it was cancelled"));
        let peer = if has_won {
            Some(greet(&listener)?)
        } else {
            None
        };
        let cancel = connecting.clone();
        // In the turn in which the attempt succeeds, after it and before the stream is made.
        let (near, mut far) = std::os::unix::net::UnixStream::pair()?;
        far.write_all(b"x")?;
        let key = reactor.add(near, Interest::READABLE, move |_, cx| {
            assert!(cancel.is_pending());
            cancel.cancel(cx.registry);
            assert!(!cancel.is_pending());
            Ok(Next::Remove)
        })?;
        reactor.set_priority(key, reactor::Priority::Low)?;
        let mut seen = Seen::default();
        run_out(&mut reactor, &mut seen)?;
        assert_eq!(seen.log, ["it close closed"]);
        drop(peer);
    }
    Ok(())
}

#[test]
fn a_peer_that_resets_at_once_is_reported_once() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::new()?;
    connect(&mut reactor, address, as_file);
    support::reset(greet(&listener)?)?;
    let mut seen = Seen::default();
    run_out(&mut reactor, &mut seen)?;
    let closes = seen.log.iter().filter(|call| call.starts_with("it close"));
    assert_eq!(closes.count(), 1, "{seen:?}");
    assert!(
        seen.log.iter().any(|call| call.contains("os error 104")),
        "{seen:?}"
    );
    Ok(())
}
