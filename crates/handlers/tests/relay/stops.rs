//! Relays of a server that stops.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{Address, Connection, ListenOptions, Relay, ServerKey};
use reactor::{Key, ManualClock, Reactor};
use support::silent_listener;

use crate::{Result, fill, options, pair, patient, read_out, run_out, turn_until_quiet};

#[test]
fn a_relay_of_a_stopping_server_goes_on_for_the_grace_and_is_reset_then() -> Result {
    const GRACE: Duration = Duration::from_secs(5);
    for ends_in_time in [true, false] {
        let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
        let upstream = TcpListener::bind("127.0.0.1:0")?;
        let to = upstream.local_addr()?;
        let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
        let Address::Tcp(address) = listener.local_addr()? else {
            return Err("an address of TCP".into());
        };
        let server = listener.serve(&mut reactor, &options(), move |_peer, cx| {
            let (client_side, server_side) = Relay::pair();
            client_side.gives_up(Connection::connect(
                cx.registry,
                [to],
                &options(),
                server_side,
            ));
            Ok(client_side)
        })?;
        let client = TcpStream::connect(address)?;
        patient(&client)?;
        turn_until_quiet(&mut reactor, &mut ())?;
        let mut answers = upstream.accept()?.0;
        answers.write_all(b"half an answer")?;
        turn_until_quiet(&mut reactor, &mut ())?;
        reactor.defer(move |cx| server.stop(cx.registry, GRACE));
        turn_until_quiet(&mut reactor, &mut ())?;
        reactor.advance(&mut (), GRACE - Duration::from_millis(1))?;
        answers.write_all(b", and the other")?;
        turn_until_quiet(&mut reactor, &mut ())?;
        if ends_in_time {
            drop(answers);
            turn_until_quiet(&mut reactor, &mut ())?;
            assert_eq!(read_out(&client), (29, None));
            drop(client);
            run_out(&mut reactor, &mut ())?;
        } else {
            reactor.advance(&mut (), Duration::from_millis(1))?;
            turn_until_quiet(&mut reactor, &mut ())?;
            assert!(reactor.is_empty(), "{reactor:?}");
            assert_eq!(read_out(&client), (29, Some(ErrorKind::ConnectionReset)));
            assert_eq!(read_out(&answers).1, Some(ErrorKind::ConnectionReset));
        }
    }
    Ok(())
}

/// Returns the key of the only connection that a server has accepted: it is listed with the line of
/// its server.
fn key_of_accepted(reactor: &Reactor<()>, server: ServerKey<()>) -> Option<Key> {
    let served = reactor
        .registrations()
        .find(|one| one.key == server.key())?;
    let mut others = reactor.registrations().filter(|one| one.key != served.key);
    others
        .find(|other| other.origin == served.origin)
        .map(|accepted| accepted.key)
}

/// The client is gone before the server stops, and its bytes are still queued.
#[test]
fn the_grace_of_a_server_holds_for_the_side_that_is_left_of_a_relay() -> Result {
    const GRACE: Duration = Duration::from_secs(5);
    for unix in [false, true] {
        let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
        let upstream = TcpListener::bind("127.0.0.1:0")?;
        let to = upstream.local_addr()?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("socket");
        let bound = if unix {
            Address::Unix(path.clone())
        } else {
            "127.0.0.1:0".parse()?
        };
        let listener = ListenOptions::new().bind(&bound)?;
        let address = listener.local_addr()?;
        let server = listener.serve(&mut reactor, &options(), move |_peer, cx| {
            let (client_side, server_side) = Relay::pair();
            client_side.gives_up(Connection::connect(
                cx.registry,
                [to],
                &options(),
                server_side,
            ));
            Ok(client_side)
        })?;
        let mut client: Box<dyn Write> = if let Address::Tcp(address) = address {
            let client = TcpStream::connect(address)?;
            client.set_nonblocking(true)?;
            Box::new(client)
        } else {
            let client = UnixStream::connect(&path)?;
            client.set_nonblocking(true)?;
            Box::new(client)
        };
        turn_until_quiet(&mut reactor, &mut ())?;
        let answers = upstream.accept()?.0;
        // Until nothing on the way takes any more. What the relay has read is left to send.
        while client.write(&[7; 1 << 16]).is_ok() {
            turn_until_quiet(&mut reactor, &mut ())?;
        }
        let accepted = key_of_accepted(&reactor, server).ok_or("none is accepted")?;
        reactor.remove(accepted)?;
        turn_until_quiet(&mut reactor, &mut ())?;
        reactor.defer(move |cx| server.stop(cx.registry, GRACE));
        turn_until_quiet(&mut reactor, &mut ())?;
        reactor.advance(&mut (), GRACE - Duration::from_millis(1))?;
        assert_eq!(reactor.len(), 1, "the side of the upstream, {reactor:?}");
        reactor.advance(&mut (), Duration::from_millis(1))?;
        turn_until_quiet(&mut reactor, &mut ())?;
        assert!(reactor.is_empty(), "{reactor:?}");
        patient(&answers)?;
        assert_eq!(read_out(&answers).1, Some(ErrorKind::ConnectionReset));
    }
    Ok(())
}

/// A deadline of one side holds for the other, whose peer reads nothing.
#[test]
fn a_relay_ends_with_its_grace_although_an_upstream_reads_nothing() -> Result {
    const GRACE: Duration = Duration::from_secs(5);
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let ((client_near, client), (server_near, server)) = (pair()?, pair()?);
    let (one, other) = Relay::pair();
    let side = Connection::open(&mut reactor, client_near, &options(), one)?;
    Connection::open(&mut reactor, server_near, &options(), other)?;
    fill(&mut reactor, side, &client)?;
    reactor
        .defer(move |cx| drop(side.with(cx, |connection, _cx| connection.close_gracefully(GRACE))));
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.advance(&mut (), GRACE - Duration::from_millis(1))?;
    assert_eq!(reactor.len(), 2);
    reactor.advance(&mut (), Duration::from_millis(1))?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert!(reactor.is_empty(), "{reactor:?}");
    for far in [client, server] {
        assert_eq!(read_out(&far).1, Some(ErrorKind::ConnectionReset));
    }
    Ok(())
}

#[test]
fn a_relay_gives_up_connecting_when_the_grace_of_its_server_is_over() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let (near, client) = pair()?;
    let (_silent, address) = silent_listener("127.0.0.1:0")?;
    let (client_side, server_side) = Relay::pair();
    let attempt = Connection::connect(&mut reactor, [address], &options(), server_side);
    client_side.gives_up(attempt);
    let side = Connection::open(&mut reactor, near, &options(), client_side)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.defer(move |cx| {
        drop(side.with(cx, |connection, _cx| {
            connection.close_gracefully(Duration::from_secs(5))
        }))
    });
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.advance(&mut (), Duration::from_secs(5))?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert!(reactor.is_empty(), "{reactor:?}");
    assert_eq!(read_out(&client), (0, Some(ErrorKind::ConnectionReset)));
    Ok(())
}
