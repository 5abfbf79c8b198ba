//! Connecting over the loopback device. An address that refuses is a port without a listener, a
//! silent one is a listener whose queue is full.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use handlers::{
    CloseReason, Connecting, Connection, ConnectionHandler, ConnectionOptions, Timeout, on_data,
};
use reactor::{Context, ManualClock, Reactor};
use support::{Result, listen, reset, silent_listener, turn_until, turn_until_quiet};

const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The calls that a handler got.
#[derive(Debug, Default)]
struct Told {
    /// The peers it is connected to.
    open: Vec<SocketAddr>,
    received: Vec<u8>,
    closed: Vec<CloseReason>,
}

/// Greets the peer, and notes its calls.
struct Greets;

impl ConnectionHandler<Told> for Greets {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Told>,
        cx: &mut Context<'_, Told>,
    ) -> io::Result<()> {
        cx.state.open.push(connection.peer_addr()?);
        let _ = connection.write(b"hello")?;
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, Told>,
        cx: &mut Context<'_, Told>,
    ) -> io::Result<usize> {
        cx.state.received.extend(data);
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Told>) {
        cx.state.closed.push(reason);
    }
}

/// Returns a loop on a clock that does not advance by itself.
fn still() -> Result<Reactor<Told>> {
    Ok(Reactor::builder().clock(ManualClock::new()).build()?)
}

/// Checks that an attempt has left nothing behind: no registration, no timer, no deferred callback.
#[track_caller]
fn expect_nothing_left(reactor: &mut Reactor<Told>, told: &mut Told) -> Result {
    assert!(reactor.is_empty(), "{reactor:?}");
    assert_eq!(reactor.timers().count(), 0);
    reactor.run(told)?; // would wait for ever otherwise
    Ok(())
}

fn refuses(address: &str) -> Result<SocketAddr> {
    Ok(listen(address)?.1) // the listener is closed by now
}

fn options() -> ConnectionOptions {
    ConnectionOptions::new()
}

/// This includes attempts that are not the first.
#[test]
fn each_attempt_is_listed_with_the_line_that_called_connect() -> Result {
    let mut reactor = still()?;
    let (_listener, address) = listen("127.0.0.1:0")?;
    let line = line!() + 1;
    Connection::connect(
        &mut reactor,
        [refuses("127.0.0.1:0")?, address],
        &ConnectionOptions::new(),
        Greets,
    );
    let mut told = Told::default();
    turn_until(&mut reactor, &mut told, |told| told.open.len() == 1)?;
    let origins: Vec<_> = reactor
        .registrations()
        .map(|listed| (listed.origin.file(), listed.origin.line()))
        .collect();
    assert_eq!(origins, [(file!(), line)]);
    Ok(())
}

#[test]
fn a_connection_is_reported_later_and_carries_bytes_both_ways() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    let connecting = Connection::connect(&mut reactor, [address], &options(), Greets);
    assert!(connecting.is_pending() && told.open.is_empty());
    turn_until(&mut reactor, &mut told, |told| !told.open.is_empty())?;
    assert!(!connecting.is_pending());
    assert_eq!(
        (reactor.len(), reactor.timers().count()),
        (1, 0),
        "the connection is what is left"
    );
    let mut peer = listener.accept()?.0;
    let mut greeting = [0; 5];
    peer.read_exact(&mut greeting)?;
    assert_eq!(&greeting, b"hello");
    peer.write_all(b"welcome")?;
    drop(peer);
    turn_until(&mut reactor, &mut told, |told| !told.closed.is_empty())?;
    assert_eq!(
        (&told.open[..], &told.received[..]),
        (&[address][..], &b"welcome"[..])
    );
    assert!(matches!(told.closed[..], [CloseReason::Finished]));
    expect_nothing_left(&mut reactor, &mut told)
}

#[test]
fn an_address_that_refuses_is_a_failure_that_names_it() -> Result {
    let address = refuses("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    let connecting = Connection::connect(&mut reactor, [address], &options(), Greets);
    assert!(told.closed.is_empty(), "not from within the call");
    turn_until(&mut reactor, &mut told, |told| !told.closed.is_empty())?;
    let [CloseReason::Failed(error)] = &told.closed[..] else {
        return Err(format!("{told:?}").into());
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(told.open.is_empty() && !connecting.is_pending());
    expect_nothing_left(&mut reactor, &mut told)
}

#[test]
fn the_last_of_several_refusing_addresses_is_named() -> Result {
    let addresses = [
        refuses("127.0.0.1:0")?,
        refuses("127.0.0.2:0")?,
        refuses("127.0.0.3:0")?,
    ];
    let (mut reactor, mut told) = (still()?, Told::default());
    Connection::connect(&mut reactor, addresses, &options(), Greets);
    turn_until(&mut reactor, &mut told, |told| !told.closed.is_empty())?;
    let [CloseReason::Failed(error)] = &told.closed[..] else {
        return Err(format!("{told:?}").into());
    };
    assert!(
        error.to_string().contains(&addresses[2].to_string()),
        "{error}"
    );
    expect_nothing_left(&mut reactor, &mut told)
}

#[test]
fn no_address_at_all_is_a_failure() -> Result {
    let (mut reactor, mut told) = (still()?, Told::default());
    Connection::connect(&mut reactor, [], &options(), Greets);
    turn_until_quiet(&mut reactor, &mut told)?;
    let [CloseReason::Failed(error)] = &told.closed[..] else {
        return Err(format!("{told:?}").into());
    };
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    expect_nothing_left(&mut reactor, &mut told)
}

#[test]
fn an_unreachable_address_is_passed_over_at_once() -> Result {
    let (_listener, good) = listen("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    // connect(2) itself refuses this: a TCP socket has one peer.
    Connection::connect(
        &mut reactor,
        ["255.255.255.255:9".parse()?, good],
        &options(),
        Greets,
    );
    turn_until(&mut reactor, &mut told, |told| told.open == [good])?;
    assert!(told.closed.is_empty());
    Ok(())
}

#[test]
fn after_an_address_that_refuses_the_next_is_tried_without_delay() -> Result {
    let (_listener, good) = listen("127.0.0.1:0")?;
    let addresses = [refuses("127.0.0.2:0")?, refuses("[::1]:0")?, good];
    let (mut reactor, mut told) = (still()?, Told::default());
    Connection::connect(&mut reactor, addresses, &options(), Greets);
    turn_until(&mut reactor, &mut told, |told| told.open == [good])?;
    assert_eq!((reactor.len(), reactor.timers().count()), (1, 0));
    assert!(told.closed.is_empty());
    Ok(())
}

#[test]
fn a_second_address_is_tried_after_250_ms_and_wins_over_a_silent_one() -> Result {
    let (silent, silent_address) = silent_listener("127.0.0.1:0")?;
    let (_listener, good) = listen("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    Connection::connect(&mut reactor, [silent_address, good], &options(), Greets);
    reactor.advance(&mut told, ATTEMPT_DELAY - Duration::from_millis(1))?;
    turn_until_quiet(&mut reactor, &mut told)?;
    assert_eq!((reactor.len(), told.open.len()), (1, 0));
    reactor.advance(&mut told, Duration::from_millis(1))?;
    turn_until(&mut reactor, &mut told, |told| told.open == [good])?;
    turn_until_quiet(&mut reactor, &mut told)?;
    assert_eq!(
        (reactor.len(), reactor.timers().count()),
        (1, 0),
        "what has lost is closed"
    );
    assert!(told.closed.is_empty());
    drop(silent);
    Ok(())
}

#[test]
fn address_families_alternate_in_any_order_of_the_list() -> Result {
    let (_one, v6) = silent_listener("[::1]:0")?;
    let (_other, v6_too) = silent_listener("[::1]:0")?;
    let (_listener, v4) = listen("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    Connection::connect(&mut reactor, [v6, v6_too, v4], &options(), Greets);
    reactor.advance(&mut told, ATTEMPT_DELAY)?;
    turn_until(&mut reactor, &mut told, |told| told.open == [v4])
}

#[test]
fn all_attempts_share_one_timeout() -> Result {
    let (_one, first) = silent_listener("127.0.0.1:0")?;
    let (_other, second) = silent_listener("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    let timeout = Duration::from_secs(3);
    Connection::connect(
        &mut reactor,
        [first, second],
        &options().connect_timeout(timeout),
        Greets,
    );
    reactor.advance(&mut told, timeout - Duration::from_millis(1))?;
    assert_eq!((reactor.len(), told.closed.len()), (2, 0));
    reactor.advance(&mut told, Duration::from_millis(1))?;
    assert!(
        matches!(told.closed[..], [CloseReason::TimedOut(Timeout::Connect)]),
        "{told:?}"
    );
    expect_nothing_left(&mut reactor, &mut told)
}

#[test]
fn an_attempt_is_not_idle() -> Result {
    let (_one, silent_address) = silent_listener("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    let second = Duration::from_secs(1);
    let options = options()
        .idle_timeout(second)
        .read_timeout(second)
        .write_timeout(second)
        .connect_timeout(None);
    let connecting = Connection::connect(&mut reactor, [silent_address], &options, Greets);
    reactor.advance(&mut told, Duration::from_secs(60))?;
    assert!(connecting.is_pending() && told.closed.is_empty());
    Ok(())
}

#[test]
fn a_cancelled_attempt_is_reported_to_its_handler() -> Result {
    let (_silent, silent_address) = silent_listener("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    let connecting = Connection::connect(
        &mut reactor,
        [silent_address, silent_address],
        &options(),
        Greets,
    );
    connecting.cancel(&mut reactor);
    connecting.cancel(&mut reactor);
    assert!(told.closed.is_empty(), "not from within the call");
    assert!(!connecting.is_pending());
    turn_until_quiet(&mut reactor, &mut told)?;
    assert!(matches!(told.closed[..], [CloseReason::Closed]), "{told:?}");
    expect_nothing_left(&mut reactor, &mut told)
}

#[test]
fn attempts_with_handlers_of_several_types_are_kept_in_one_list() -> Result {
    let (_silent, silent_address) = silent_listener("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    let echo = on_data(|data, _connection, _cx| Ok(data.len()));
    let attempts: [Connecting<Told>; 2] = [
        Connection::connect(&mut reactor, [silent_address], &options(), Greets),
        Connection::connect(&mut reactor, [silent_address], &options(), echo),
    ];
    assert!(attempts.iter().all(Connecting::is_pending));
    assert_eq!(
        format!("{:?}", attempts[1]),
        "Connecting { attempts: 1, .. }"
    );
    attempts
        .iter()
        .for_each(|attempt| attempt.cancel(&mut reactor));
    turn_until_quiet(&mut reactor, &mut told)?;
    assert!(matches!(told.closed[..], [CloseReason::Closed]), "{told:?}");
    expect_nothing_left(&mut reactor, &mut told)
}

#[test]
fn an_open_connection_is_not_cancelled() -> Result {
    let (_listener, good) = listen("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    let connecting = Connection::connect(&mut reactor, [good], &options(), Greets);
    turn_until(&mut reactor, &mut told, |told| told.open == [good])?;
    connecting.cancel(&mut reactor);
    drop(connecting);
    turn_until_quiet(&mut reactor, &mut told)?;
    assert_eq!((reactor.len(), told.closed.len()), (1, 0));
    Ok(())
}

#[test]
fn a_connection_is_made_also_if_the_key_of_its_attempt_is_dropped() -> Result {
    let (_listener, good) = listen("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    drop(Connection::connect(
        &mut reactor,
        [good],
        &options(),
        Greets,
    ));
    turn_until(&mut reactor, &mut told, |told| told.open == [good])
}

#[test]
fn an_attempt_whose_registration_is_removed_fails_for_its_address_alone() -> Result {
    let (_silent, silent_address) = silent_listener("127.0.0.1:0")?;
    let (_listener, good) = listen("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    Connection::connect(&mut reactor, [silent_address, good], &options(), Greets);
    let attempt = reactor.registrations().next().ok_or("no attempt")?.key;
    reactor.remove(attempt)?;
    turn_until(&mut reactor, &mut told, |told| told.open == [good])?;
    assert_eq!((reactor.len(), reactor.timers().count()), (1, 0));
    Ok(())
}

#[test]
fn a_loop_that_has_no_room_for_an_attempt_is_a_failure() -> Result {
    let (_listener, good) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::builder()
        .clock(ManualClock::new())
        .max_registrations(0)
        .build()?;
    let mut told = Told::default();
    Connection::connect(&mut reactor, [good], &options(), Greets);
    turn_until_quiet(&mut reactor, &mut told)?;
    assert!(
        matches!(told.closed[..], [CloseReason::Failed(_)]),
        "{told:?}"
    );
    expect_nothing_left(&mut reactor, &mut told)
}

#[test]
fn it_connects_from_the_local_address_of_the_family() -> Result {
    let (v4, to_v4) = listen("127.0.0.1:0")?;
    let (_v6, to_v6) = listen("[::1]:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    let options = options().local_addr("127.0.0.7:0".parse::<SocketAddr>()?);
    Connection::connect(&mut reactor, [to_v4], &options, Greets);
    turn_until(&mut reactor, &mut told, |told| told.open == [to_v4])?;
    assert_eq!(v4.accept()?.1.ip().to_string(), "127.0.0.7");
    Connection::connect(&mut reactor, [to_v6], &options, Greets);
    turn_until(&mut reactor, &mut told, |told| told.open == [to_v4, to_v6])
}

#[test]
fn a_local_address_that_is_not_ours_is_named_by_the_failure() -> Result {
    let (_listener, good) = listen("127.0.0.1:0")?;
    let (mut reactor, mut told) = (still()?, Told::default());
    let local: SocketAddr = "192.0.2.1:0".parse()?; // for documentation, RFC 5737
    Connection::connect(&mut reactor, [good], &options().local_addr(local), Greets);
    turn_until_quiet(&mut reactor, &mut told)?;
    let [CloseReason::Failed(error)] = &told.closed[..] else {
        return Err(format!("{told:?}").into());
    };
    assert!(error.to_string().contains("192.0.2.1"), "{error}");
    expect_nothing_left(&mut reactor, &mut told)
}

#[test]
fn attempts_from_one_local_port_do_not_take_it_from_each_other() -> Result {
    let (_silent, silent_address) = silent_listener("127.0.0.1:0")?;
    let (_listener, good) = listen("127.0.0.1:0")?;
    let local = refuses("127.0.0.8:0")?; // a free port
    let (mut reactor, mut told) = (still()?, Told::default());
    Connection::connect(
        &mut reactor,
        [silent_address, good],
        &options().local_addr(local),
        Greets,
    );
    reactor.advance(&mut told, ATTEMPT_DELAY)?;
    turn_until(&mut reactor, &mut told, |told| told.open == [good])
}

/// Keeps what it reads.
struct Reads;

impl ConnectionHandler<Told> for Reads {
    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, Told>,
        cx: &mut Context<'_, Told>,
    ) -> io::Result<usize> {
        cx.state.received.extend(data);
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Told>) {
        cx.state.closed.push(reason);
    }
}

#[test]
fn the_words_of_a_server_that_resets_at_once_are_read() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut reactor = still()?;
    let mut told = Told::default();
    Connection::connect(&mut reactor, [address], &ConnectionOptions::new(), Reads);
    let mut server = listener.accept()?.0; // before the loop has seen the connection
    server.write_all(b"too busy")?;
    reset(server)?;
    turn_until(&mut reactor, &mut told, |told| !told.closed.is_empty())?;
    assert_eq!(told.received, b"too busy");
    assert!(
        matches!(&told.closed[..], [CloseReason::Failed(error)] if error.kind() == ErrorKind::ConnectionReset)
    );
    expect_nothing_left(&mut reactor, &mut told)
}

#[test]
fn a_connection_made_during_a_pause_does_not_time_out() -> Result {
    let (_listener, address) = listen("127.0.0.1:0")?;
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder()
        .clock(clock.clone())
        .max_events_per_turn(1)
        .build()?;
    // An event reported first keeps the loop from seeing the connection in the same turn.
    let (near, mut far) = std::os::unix::net::UnixStream::pair()?;
    far.write_all(b"x")?;
    reactor.add(near, reactor::Interest::READABLE, |_, _| {
        Ok(reactor::Next::Remove)
    })?;
    let second = Duration::from_secs(1);
    Connection::connect(
        &mut reactor,
        [address],
        &options().connect_timeout(second),
        Greets,
    );
    clock.advance(60 * second);
    let mut told = Told::default();
    turn_until_quiet(&mut reactor, &mut told)?;
    assert!(told.closed.is_empty() && reactor.len() == 1, "{told:?}");
    reactor.advance(&mut told, 60 * second)?;
    assert!(
        told.closed.is_empty(),
        "the time to connect is over: {told:?}"
    );
    Ok(())
}

#[test]
fn a_port_that_would_connect_to_itself_refuses() -> Result {
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (mut reactor, mut told) = (still()?, Told::default());
    Connection::connect(
        &mut reactor,
        [free],
        &ConnectionOptions::new().local_addr(free),
        Greets,
    );
    turn_until(&mut reactor, &mut told, |told| !told.closed.is_empty())?;
    let [CloseReason::Failed(error)] = &told.closed[..] else {
        return Err(format!("{told:?}").into());
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(told.open.is_empty());
    TcpListener::bind(free)?; // the attempt has released the port
    expect_nothing_left(&mut reactor, &mut told)
}
