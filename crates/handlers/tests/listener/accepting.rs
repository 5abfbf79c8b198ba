//! Connections between the kernel's queue and their handlers.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::mpsc::channel;

use handlers::{CloseReason, ConnectionLimit, ConnectionOptions, ListenOptions, Peer, on_data};
use reactor::{LoopPool, Reactor};
use support::reset;

use crate::{
    Echo, PATIENCE, Result, Seen, any_port, client, expect_echo, serve, tcp, turn_until,
    turn_until_quiet,
};

#[test]
fn a_turn_accepts_up_to_its_limit_and_the_next_one_goes_on() -> Result {
    let mut reactor = Reactor::new()?;
    let (address, _key) = serve(&mut reactor, ListenOptions::new().max_accepts_per_turn(3))?;
    let _clients = (0..7)
        .map(|_| client(address))
        .collect::<Result<Vec<_>>>()?;
    let mut seen = Seen::default();
    for expected in [3, 6, 7] {
        reactor.turn(&mut seen, Some(PATIENCE))?;
        assert_eq!(seen.opened.len(), expected);
    }
    Ok(())
}

#[test]
fn a_listener_and_its_connections_are_listed_with_the_line_of_serve() -> Result {
    let mut reactor = Reactor::new()?;
    let listener = ListenOptions::new()
        .limit(ConnectionLimit::new(1))
        .bind(&any_port())?;
    let address = tcp(&listener)?;
    let line = line!() + 1;
    listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(Echo)
    })?;
    let _client = client(address)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 1)?;
    let origins: Vec<_> = reactor
        .registrations()
        .map(|listed| (listed.origin.file(), listed.origin.line()))
        .collect();
    assert_eq!(
        origins,
        [(file!(), line); 3],
        "the listener, what tells it of room, and the connection"
    );
    Ok(())
}

#[test]
fn the_address_of_a_peer_is_known() -> Result {
    let mut reactor = Reactor::<Vec<Peer>>::new()?;
    let listener = ListenOptions::new().bind(&any_port())?;
    let address = tcp(&listener)?;
    listener.accept(&mut reactor, |accepted, cx| {
        cx.state.push(accepted.peer().clone());
        Ok(())
    })?;
    let client = client(address)?;
    let mut peers = Vec::new();
    turn_until(&mut reactor, &mut peers, |peers| !peers.is_empty())?;
    assert_eq!(peers[0].to_string(), client.local_addr()?.to_string());
    Ok(())
}

#[test]
fn an_error_of_the_closure_drops_that_connection_and_no_other() -> Result {
    let mut reactor = Reactor::new()?;
    let listener = ListenOptions::new().bind(&any_port())?;
    let address = tcp(&listener)?;
    let mut number = 0;
    listener.serve(
        &mut reactor,
        &ConnectionOptions::new(),
        move |_peer, _cx| {
            number += 1;
            if number % 2 == 0 {
                Err(io::ErrorKind::PermissionDenied.into())
            } else {
                Ok(Echo)
            }
        },
    )?;
    let mut clients = (0..4)
        .map(|_| client(address))
        .collect::<Result<Vec<_>>>()?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 2)?;
    for (number, client) in clients.iter_mut().enumerate() {
        if number % 2 == 0 {
            expect_echo(&mut reactor, &mut seen, client)?;
        } else {
            assert_eq!(client.read(&mut [0])?, 0);
        }
    }
    assert!(
        seen.closed.is_empty(),
        "what was refused has no handler to be told"
    );
    Ok(())
}

#[test]
fn an_accepted_connection_is_opened_on_another_loop() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (told, is_told) = channel();
    let pool = LoopPool::spawn(2, "loop", |_number, _registry| Ok(Seen::default()))?;
    let listener = ListenOptions::new().bind(&any_port())?;
    let address = tcp(&listener)?;
    listener.accept(&mut reactor, move |accepted, _cx| {
        let (to, told) = (
            pool.round_robin().ok_or(io::ErrorKind::NotFound)?,
            told.clone(),
        );
        let posted = to.post(move |cx| {
            accepted
                .open(cx.registry, &ConnectionOptions::new(), Echo)
                .expect("there is room");
            let name = std::thread::current().name().map(str::to_owned);
            told.send(name).expect("the test waits");
        });
        posted.map_err(io::Error::other)
    })?;
    let mut clients = [client(address)?, client(address)?];
    turn_until_quiet(&mut reactor, &mut ())?;
    let mut opened = [
        is_told.recv_timeout(PATIENCE)?,
        is_told.recv_timeout(PATIENCE)?,
    ];
    opened.sort();
    assert_eq!(opened, [Some("loop0".to_owned()), Some("loop1".to_owned())]);
    for client in &mut clients {
        client.write_all(b"hello")?;
        client.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        assert_eq!(answer, "hello");
    }
    Ok(())
}

#[test]
fn a_connection_that_was_reset_while_it_waited_harms_no_other() -> Result {
    let mut reactor = Reactor::new()?;
    let (address, _key) = serve(&mut reactor, ListenOptions::new())?;
    let gone = client(address)?;
    reset(gone)?;
    let mut client = client(address)?;
    let mut seen = Seen::default();
    expect_echo(&mut reactor, &mut seen, &mut client)?;
    assert!(
        seen.closed
            .iter()
            .all(|reason| matches!(reason, CloseReason::Failed(_))),
        "{:?}",
        seen.closed
    );
    Ok(())
}

#[test]
fn a_socket_that_listens_no_more_ends_the_listener_which_does_not_spin() -> Result {
    let mut reactor = Reactor::new()?;
    let inherited = std::net::TcpListener::bind("127.0.0.1:0")?;
    let listener = ListenOptions::new().adopt(inherited.try_clone()?)?;
    listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(Echo)
    })?;
    // As another process that shares the socket may do.
    rustix::net::shutdown(&inherited, rustix::net::Shutdown::Both)?;
    crate::run_out(&mut reactor, &mut Seen::default())?;
    assert!(reactor.is_empty());
    Ok(())
}

#[test]
fn a_listener_paused_through_its_key_accepts_none() -> Result {
    let mut reactor = Reactor::<usize>::new()?;
    let listener = ListenOptions::new().bind(&any_port())?;
    let address = tcp(&listener)?;
    let server = listener.accept(&mut reactor, |_accepted, cx| {
        *cx.state += 1;
        Ok(cx
            .registry
            .set_interest(cx.key(), reactor::Interest::NONE)?)
    })?;
    let _clients = [client(address)?, client(address)?];
    let mut accepted = 0;
    turn_until_quiet(&mut reactor, &mut accepted)?;
    assert_eq!(accepted, 1);
    reactor.set_interest(server.key(), reactor::Interest::READABLE)?;
    turn_until_quiet(&mut reactor, &mut accepted)?;
    assert_eq!(accepted, 2);
    Ok(())
}

#[test]
fn listeners_of_all_families_and_handlers_share_a_loop() -> Result {
    let mut reactor = Reactor::new()?;
    let mut seen = Seen::default();
    let listener = ListenOptions::new().bind(&any_port())?;
    let shout = tcp(&listener)?;
    listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(on_data(|data, connection, _cx| {
            let _ = connection.write(&data.to_ascii_uppercase())?;
            Ok(data.len())
        }))
    })?;
    let (echo, _key) = serve(&mut reactor, ListenOptions::new())?;
    expect_echo(&mut reactor, &mut seen, &mut client(echo)?)?;
    let mut client = client(shout)?;
    client.write_all(b"hello")?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    let mut answer = [0; 5];
    client.read_exact(&mut answer)?;
    assert_eq!(&answer, b"HELLO");
    Ok(())
}
