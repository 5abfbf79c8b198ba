//! Relays of a server that stops.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use handlers::{Address, Connection, ListenOptions, Relay};
use reactor::{ManualClock, Reactor};

use crate::{Result, options, pair, patient, read_out, run_out, turn_until_quiet};

#[test]
fn a_relay_whose_server_stops_goes_on_for_its_grace_and_is_reset_then() -> Result {
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

#[test]
fn a_server_that_stops_while_its_relay_connects_gives_that_up_at_the_end_of_its_grace() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let (near, client) = pair()?;
    let silent = silent_listener()?;
    let (client_side, server_side) = Relay::pair();
    let attempt = Connection::connect(&mut reactor, [silent.0], &options(), server_side);
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

/// An address that does not answer: the queue of its listener is full.
fn silent_listener() -> Result<(SocketAddr, TcpListener, Vec<TcpStream>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    socket2::SockRef::from(&listener).listen(0)?;
    let address = listener.local_addr()?;
    let first = TcpStream::connect(address)?;
    Ok((address, listener, vec![first]))
}
