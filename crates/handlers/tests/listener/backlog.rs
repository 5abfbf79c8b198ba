//! The end of a server while clients wait in the kernel's queue that have connected and sent a
//! question.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{Address, ConnectionLimit, ConnectionOptions, ListenOptions, ServerKey};
use reactor::{Interest, ManualClock, Reactor, Registry};
use tempfile::tempdir;

use crate::{Echo, Result, Seen, client, run_out, serve, turn_until, turn_until_quiet};

const GRACE: Duration = Duration::from_secs(5);
/// More connections than a turn accepts.
const CLIENTS: usize = 200;

fn stop(registry: &mut Registry<Seen>, server: ServerKey<Seen>, grace: Duration) {
    registry.defer(move |cx| server.stop(cx.registry, grace));
}

/// Returns clients that have connected, sent a question, and closed their write side.
fn ask(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let ask = |_| -> Result<TcpStream> {
        let mut client = client(address)?;
        client.write_all(b"question")?;
        client.shutdown(Shutdown::Write)?;
        Ok(client)
    };
    (0..count).map(ask).collect()
}

/// Returns the number of clients that are answered.
fn answered(clients: Vec<TcpStream>) -> usize {
    let is_answered = |mut client: TcpStream| {
        let mut answer = String::new();
        client.read_to_string(&mut answer).is_ok() && answer == "question"
    };
    clients
        .into_iter()
        .filter_map(|client| is_answered(client).then_some(()))
        .count()
}

#[test]
fn clients_that_connected_before_the_stop_are_answered() -> Result {
    for accepts in [1, 64, usize::MAX] {
        let mut reactor = Reactor::new()?;
        let (address, server) = serve(
            &mut reactor,
            ListenOptions::new().max_accepts_per_turn(accepts),
        )?;
        let clients = ask(address, CLIENTS)?;
        let mut seen = Seen::default();
        stop(&mut reactor, server, GRACE);
        run_out(&mut reactor, &mut seen)?;
        assert_eq!((answered(clients), seen.closed.len()), (CLIENTS, CLIENTS));
        assert!(client(address).is_err() && reactor.is_empty());
    }
    Ok(())
}

#[test]
fn clients_that_connect_in_the_turn_of_the_stop_are_answered() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new())?;
    let mut seen = Seen::default();
    turn_until_quiet(&mut reactor, &mut seen)?;
    // The kernel is polled before they connect.
    let (send, receive) = std::sync::mpsc::channel();
    reactor.defer(move |cx| {
        let _ = send.send(ask(address, 3).expect("it listens"));
        server.stop(cx.registry, GRACE);
    });
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(answered(receive.recv()?), 3);
    Ok(())
}

#[test]
fn a_paused_listener_accepts_waiting_clients_when_its_server_stops() -> Result {
    let mut reactor = Reactor::new()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new())?;
    reactor.set_interest(server.key(), Interest::NONE)?;
    let clients = ask(address, 3)?;
    let mut seen = Seen::default();
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert!(seen.opened.is_empty());
    stop(&mut reactor, server, GRACE);
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(answered(clients), 3);
    Ok(())
}

/// This holds after the server was stopped, during its grace period.
#[test]
fn clients_that_wait_for_a_limit_are_accepted_as_connections_end() -> Result {
    let mut reactor = Reactor::new()?;
    let limit = ConnectionLimit::new(2);
    let (address, server) = serve(&mut reactor, ListenOptions::new().limit(limit.clone()))?;
    let clients = ask(address, 20)?;
    let mut seen = Seen::default();
    stop(&mut reactor, server, GRACE);
    run_out(&mut reactor, &mut seen)?;
    assert_eq!((answered(clients), limit.open()), (20, 0));
    assert!(reactor.is_empty(), "{reactor:?}");
    Ok(())
}

#[test]
fn a_client_that_still_waits_when_the_grace_is_over_is_reset() -> Result {
    for max in [0, 1] {
        let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
        let limit = ConnectionLimit::new(max);
        let held = limit.try_acquire();
        let (address, server) = serve(&mut reactor, ListenOptions::new().limit(limit))?;
        let mut waits = client(address)?;
        let mut seen = Seen::default();
        turn_until_quiet(&mut reactor, &mut seen)?;
        stop(&mut reactor, server, GRACE);
        turn_until_quiet(&mut reactor, &mut seen)?;
        reactor.advance(&mut seen, GRACE - Duration::from_millis(1))?;
        assert!(!reactor.is_empty(), "it would accept the waiting client");
        reactor.advance(&mut seen, Duration::from_millis(1))?;
        assert!(reactor.is_empty(), "{reactor:?}");
        assert_eq!(
            waits.read(&mut [0]).map_err(|error| error.kind()),
            Err(ErrorKind::ConnectionReset)
        );
        drop(held); // no listener is notified
        run_out(&mut reactor, &mut seen)?;
    }
    Ok(())
}

#[test]
fn without_a_grace_no_further_client_is_accepted() -> Result {
    let mut reactor = Reactor::new()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new())?;
    reactor.set_interest(server.key(), Interest::NONE)?;
    let mut waits = client(address)?;
    let mut seen = Seen::default();
    stop(&mut reactor, server, Duration::ZERO);
    run_out(&mut reactor, &mut seen)?;
    assert!(seen.opened.is_empty());
    assert_eq!(
        waits.read(&mut [0]).map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    Ok(())
}

#[test]
fn an_endless_grace_waits_for_the_clients_in_the_backlog() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new())?;
    let clients = ask(address, 2)?;
    let mut seen = Seen::default();
    stop(&mut reactor, server, Duration::MAX);
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(answered(clients), 2);
    Ok(())
}

#[test]
fn a_second_stop_counts_by_the_earlier_of_the_two_graces() -> Result {
    for graces in [[5, 100], [100, 5]] {
        let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
        let (address, server) = serve(
            &mut reactor,
            ListenOptions::new().limit(ConnectionLimit::new(0)),
        )?;
        let _waits = client(address)?;
        let mut seen = Seen::default();
        for grace in graces {
            stop(&mut reactor, server, Duration::from_secs(grace));
            turn_until_quiet(&mut reactor, &mut seen)?;
        }
        reactor.advance(&mut seen, Duration::from_secs(4))?;
        assert!(!reactor.is_empty());
        reactor.advance(&mut seen, Duration::from_secs(1))?;
        assert!(reactor.is_empty(), "{graces:?}");
    }
    Ok(())
}

#[test]
fn a_unix_server_answers_the_clients_in_its_backlog_too() -> Result {
    let folder = tempdir()?;
    let path = folder.path().join("socket");
    let mut reactor = Reactor::new()?;
    let listener = ListenOptions::new().bind(&Address::Unix(path.clone()))?;
    let server = listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(Echo)
    })?;
    let mut clients = (0..100)
        .map(|_| UnixStream::connect(&path))
        .collect::<std::io::Result<Vec<_>>>()?;
    for client in &mut clients {
        client.write_all(b"question")?;
        client.shutdown(Shutdown::Write)?;
    }
    let mut seen = Seen::default();
    stop(&mut reactor, server, GRACE);
    run_out(&mut reactor, &mut seen)?;
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        assert_eq!(answer, "question");
    }
    assert!(!path.exists());
    Ok(())
}

#[test]
fn a_stopping_server_sends_what_it_has_and_accepts_no_request() -> Result {
    let mut reactor = Reactor::new()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new())?;
    let mut client = client(address)?;
    client.write_all(b"taken on")?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 1)?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    let connection = seen.opened[0];
    let mut late = client.try_clone()?;
    reactor.defer(move |cx| {
        late.write_all(b"too late").expect("it is connected");
        let written = connection.with(cx, |connection, _cx| connection.write(b" and a last word"));
        let _ = written.expect("it is open").expect("there is room");
        server.stop_without_reading(cx, GRACE);
    });
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert!(crate::client(address).is_err());
    let mut heard = String::new();
    client.read_to_string(&mut heard)?;
    assert_eq!(heard, "taken on and a last word");
    assert_eq!(seen.finishing, 1);
    drop(client);
    run_out(&mut reactor, &mut seen)
}

#[test]
fn bytes_reported_late_are_answered_by_a_stopping_server() -> Result {
    for events in [1, 8] {
        let mut reactor = Reactor::builder().max_events_per_turn(events).build()?;
        let (address, server) = serve(&mut reactor, ListenOptions::new())?;
        let mut clients = (0..60)
            .map(|_| client(address))
            .collect::<Result<Vec<_>>>()?;
        let mut seen = Seen::default();
        turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 60)?;
        turn_until_quiet(&mut reactor, &mut seen)?;
        for client in &mut clients {
            client.write_all(b"question")?;
            client.shutdown(Shutdown::Write)?;
        }
        stop(&mut reactor, server, GRACE);
        run_out(&mut reactor, &mut seen)?;
        assert_eq!(answered(clients), 60, "{events}");
    }
    Ok(())
}

#[test]
fn a_full_server_that_stops_ends_with_its_last_connection() -> Result {
    for lowered in [false, true] {
        let mut reactor = Reactor::new()?;
        let limit = ConnectionLimit::new(1);
        let (address, server) = serve(&mut reactor, ListenOptions::new().limit(limit.clone()))?;
        let (_, other) = serve(&mut reactor, ListenOptions::new().limit(limit.clone()))?;
        let mut seen = Seen::default();
        let mut one = client(address)?;
        crate::expect_echo(&mut reactor, &mut seen, &mut one)?;
        if lowered {
            limit.set_max(0);
        }
        stop(&mut reactor, server, Duration::MAX);
        stop(&mut reactor, other, Duration::MAX);
        turn_until_quiet(&mut reactor, &mut seen)?;
        assert_eq!(one.read(&mut [0])?, 0);
        drop(one);
        run_out(&mut reactor, &mut seen)?;
        assert!(reactor.is_empty(), "{lowered}: {reactor:?}");
    }
    Ok(())
}
