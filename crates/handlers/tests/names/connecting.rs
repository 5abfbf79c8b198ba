//! Connecting to names over the loopback device.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use handlers::{
    CloseReason, Connecting, Connection, ConnectionHandler, ConnectionOptions, Resolver,
    SocketStream, Timeout, errno,
};
use reactor::{Context, ManualClock, Reactor};
use support::{Result, listen, run_out, silent_listener, turn_until, turn_until_quiet};

use crate::{address, held, target};

/// The calls that a handler got.
#[derive(Debug, Default)]
struct Seen {
    open: Vec<SocketAddr>,
    received: Vec<u8>,
    closed: Vec<CloseReason>,
}

impl Seen {
    #[track_caller]
    fn error(&self) -> &io::Error {
        match &self.closed[..] {
            [CloseReason::Failed(error)] => error,
            closed => panic!("{closed:?}"),
        }
    }
}

/// Notes its calls.
struct Notes;

impl ConnectionHandler<Seen> for Notes {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        cx.state.open.push(connection.peer_addr()?);
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        cx.state.received.extend(data);
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.closed.push(reason);
    }
}

/// Returns a loop on a clock that does not advance by itself.
fn still() -> Result<(Reactor<Seen>, ManualClock)> {
    let clock = ManualClock::new();
    let reactor = Reactor::builder().clock(clock.clone()).build()?;
    Ok((reactor, clock))
}

/// Returns options whose resolver finds `found` for each name.
fn finding(found: impl Into<Vec<SocketAddr>>) -> ConnectionOptions {
    let found = found.into();
    let resolver = Resolver::builder()
        .lookup(move |_host, _service| Ok(found.clone()))
        .build();
    ConnectionOptions::new().resolver(resolver)
}

/// Connects to `db.example:5432`.
fn connect(reactor: &mut Reactor<Seen>, options: &ConnectionOptions) -> Connecting<Seen> {
    Connection::connect_to(reactor, target("db.example:5432"), options, Notes)
}

/// Returns an address at which nothing listens.
fn refuses() -> Result<SocketAddr> {
    Ok(listen("127.0.0.1:0")?.1) // the listener is closed by now
}

#[test]
fn a_name_is_connected_to_by_its_addresses_in_order() -> Result {
    let (listener, there) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::<Seen>::new()?;
    let mut seen = Seen::default();
    // A refusal is followed by the next attempt at once: no clock advances here.
    let options = finding([refuses()?, refuses()?, there]);
    let connecting = connect(&mut reactor, &options);
    assert!(connecting.is_pending());
    assert_eq!(seen.open, []);
    turn_until(&mut reactor, &mut seen, |seen| !seen.open.is_empty())?;
    assert!(!connecting.is_pending());
    assert_eq!(seen.open, [there]);
    let mut peer = listener.accept()?.0;
    peer.write_all(b"hello")?;
    drop(peer);
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(seen.received, b"hello");
    assert_eq!(seen.closed.len(), 1);
    Ok(())
}

#[test]
fn a_silent_address_is_followed_by_the_next_after_250_ms() -> Result {
    let (_silent, silent) = silent_listener("127.0.0.1:0")?;
    let (_listener, there) = listen("127.0.0.1:0")?;
    let (mut reactor, clock) = still()?;
    let mut seen = Seen::default();
    let options = finding([silent, there]);
    connect(&mut reactor, &options);
    let waits = |reactor: &mut Reactor<Seen>, seen: &mut Seen| -> Result {
        while reactor.timers().count() == 0 || !reactor.timers().any(|timer| timer.keeps_alive) {
            reactor.turn(seen, Some(Duration::from_millis(1)))?;
        }
        turn_until_quiet(reactor, seen)
    };
    waits(&mut reactor, &mut seen)?;
    clock.advance(Duration::from_millis(249));
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(seen.open, []);
    clock.advance(Duration::from_millis(1));
    turn_until(&mut reactor, &mut seen, |seen| !seen.open.is_empty())?;
    assert_eq!(seen.open, [there]);
    Ok(())
}

#[test]
fn the_families_of_a_name_alternate() -> Result {
    // Both families refuse, the last address of IPv4 answers: each address was tried once.
    let (_listener, there) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::<Seen>::new()?;
    let mut seen = Seen::default();
    let v6 = |port| address(&format!("[::1]:{port}"));
    let refused = refuses()?;
    let options = finding([v6(refused.port()), v6(refused.port() - 1), refused, there]);
    connect(&mut reactor, &options);
    turn_until(&mut reactor, &mut seen, |seen| !seen.open.is_empty())?;
    assert_eq!(seen.open, [there]);
    Ok(())
}

#[test]
fn a_name_is_looked_up_by_the_resolver_of_the_process() -> Result {
    let (_listener, there) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::<Seen>::new()?;
    let mut seen = Seen::default();
    let name = format!("localhost:{}", there.port());
    Connection::connect_to(
        &mut reactor,
        target(&name),
        &ConnectionOptions::new(),
        Notes,
    );
    turn_until(&mut reactor, &mut seen, |seen| !seen.open.is_empty())?;
    assert_eq!(seen.open, [there]);
    Ok(())
}

#[test]
fn an_error_names_the_target_and_the_address() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let refused = refuses()?;
    connect(&mut reactor, &finding([refused]));
    let mut seen = Seen::default();
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(errno(seen.error()), Some(111)); // ECONNREFUSED
    assert_eq!(
        seen.error().to_string(),
        format!("connect to db.example:5432 ({refused}): Connection refused (os error 111)")
    );
    Ok(())
}

#[test]
fn a_lookup_that_fails_is_a_failed_connection() -> Result {
    let failing = Resolver::builder()
        .lookup(|_host, _service| Err(io::Error::new(ErrorKind::NotFound, "no such name")))
        .build();
    let options = ConnectionOptions::new().resolver(failing);
    let mut reactor = Reactor::<Seen>::new()?;
    let mut seen = Seen::default();
    let connecting = connect(&mut reactor, &options);
    run_out(&mut reactor, &mut seen)?;
    assert!(!connecting.is_pending());
    assert_eq!(seen.error().kind(), ErrorKind::NotFound);
    assert_eq!(
        seen.error().to_string(),
        "resolve db.example:5432: no such name"
    );

    seen.closed.clear();
    Connection::connect_to(&mut reactor, target("[fe80::1%none]:80"), &options, Notes);
    assert!(seen.closed.is_empty());
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(errno(seen.error()), Some(19)); // ENODEV
    let text = "connect to [fe80::1%none]:80: network interface none: No such device (os error 19)";
    assert_eq!(seen.error().to_string(), text);
    Ok(())
}

#[test]
fn the_connect_timeout_includes_the_lookup() -> Result {
    let second = Duration::from_secs(1);
    for (of_lookup, of_connect, is_connect) in [
        (Some(2 * second), Some(second), true),
        (None, Some(second), true),
        (Some(second), Some(second), true),
        (Some(second), Some(2 * second), false),
        (Some(second), None, false),
    ] {
        let (resolver, held) = held(Resolver::builder().timeout(of_lookup));
        let options = ConnectionOptions::new()
            .resolver(resolver)
            .connect_timeout(of_connect);
        let (mut reactor, clock) = still()?;
        let mut seen = Seen::default();
        let connecting = connect(&mut reactor, &options);
        held.expect_begun(&["db.example"]);
        clock.advance(second - Duration::from_millis(1));
        turn_until_quiet(&mut reactor, &mut seen)?;
        assert!(connecting.is_pending());
        clock.advance(Duration::from_millis(1));
        turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
        assert!(!connecting.is_pending());
        match &seen.closed[..] {
            [CloseReason::TimedOut(Timeout::Connect)] => assert!(is_connect),
            [CloseReason::Failed(error)] => {
                assert!(!is_connect);
                assert_eq!(error.kind(), ErrorKind::TimedOut);
            }
            closed => panic!("{closed:?}"),
        }
        run_out(&mut reactor, &mut seen)?;
        assert_eq!(seen.closed.len(), 1);
    }
    Ok(())
}

#[test]
fn the_time_of_a_lookup_is_not_added_to_the_connect_timeout() -> Result {
    let (resolver, held) = held(Resolver::builder());
    let options = ConnectionOptions::new()
        .resolver(resolver)
        .connect_timeout(Duration::from_secs(5));
    let (_silent, silent) = silent_listener("127.0.0.1:0")?;
    let (mut reactor, clock) = still()?;
    let mut seen = Seen::default();
    connect(&mut reactor, &options);
    held.expect_begun(&["db.example"]);
    clock.advance(Duration::from_secs(3));
    held.answers.send(Ok(vec![silent]))?;
    let is_trying = |reactor: &Reactor<Seen>| {
        reactor
            .registrations()
            .any(|registration| !registration.name.starts_with("lookup"))
    };
    while !is_trying(&reactor) {
        reactor.turn(&mut seen, Some(Duration::from_millis(1)))?;
    }
    clock.advance(Duration::from_millis(1_999));
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert!(seen.closed.is_empty());
    clock.advance(Duration::from_millis(1));
    turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
    assert!(
        matches!(seen.closed[..], [CloseReason::TimedOut(Timeout::Connect)]),
        "{seen:?}"
    );
    run_out(&mut reactor, &mut seen)
}

#[test]
fn a_connect_can_be_cancelled_during_its_lookup() -> Result {
    let (resolver, held) = held(Resolver::builder());
    let options = ConnectionOptions::new().resolver(resolver);
    let mut reactor = Reactor::<Seen>::new()?;
    let mut seen = Seen::default();
    let layered = |reactor: &mut Reactor<Seen>, options: &ConnectionOptions| {
        let make = |_stream: SocketStream| -> io::Result<TcpStream> { unreachable!("cancelled") };
        Connection::connect_to_as(reactor, target("db.example:5432"), options, make, Notes)
    };
    for connect in [connect, layered] {
        let connecting = connect(&mut reactor, &options);
        held.expect_begun(&["db.example"]);
        connecting.clone().cancel(&mut reactor);
        assert!(!connecting.is_pending());
        assert!(seen.closed.is_empty(), "on_close is deferred");
        assert!(reactor.is_empty(), "the lookup is cancelled");
        connecting.cancel(&mut reactor); // once more: nothing happens
        held.answers.send(Ok(vec![refuses()?]))?;
        run_out(&mut reactor, &mut seen)?;
        assert!(matches!(seen.closed[..], [CloseReason::Closed]), "{seen:?}");
        seen.closed.clear();
    }
    Ok(())
}

#[test]
fn the_winner_of_a_name_can_be_opened_as_another_stream() -> Result {
    let (listener, there) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::<Seen>::new()?;
    let mut seen = Seen::default();
    let connecting = Connection::connect_to_as(
        &mut reactor,
        target("db.example:5432"),
        &finding([refuses()?, there]),
        SocketStream::into_tcp,
        Notes,
    );
    turn_until(&mut reactor, &mut seen, |seen| !seen.open.is_empty())?;
    assert!(!connecting.is_pending());
    assert_eq!(seen.open, [there]);
    drop(listener);
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(seen.closed.len(), 1);
    Ok(())
}

#[test]
fn a_connect_is_dropped_with_its_loop_during_its_lookup() -> Result {
    let (resolver, held) = held(Resolver::builder());
    let options = ConnectionOptions::new().resolver(resolver);
    let mut reactor = Reactor::<Seen>::new()?;
    let connecting = connect(&mut reactor, &options);
    held.expect_begun(&["db.example"]);
    drop(reactor); // does not wait for the thread
    drop(connecting);
    drop(held);
    Ok(())
}
