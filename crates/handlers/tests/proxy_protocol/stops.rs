//! The end of a server whose connections wait for their header.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use reactor::{Interest, ManualClock, Reactor};
use support::{Result, run_out};

use crate::{
    GRACE, LINE, Seen, any_port, assert_reset, behind_proxy, client, expect_bytes, note_and_open,
    reactor, serve, settle, tcp,
};

#[test]
fn a_stop_resets_connections_without_header_and_ends_the_listener() -> Result {
    for grace in [Duration::ZERO, GRACE, Duration::MAX] {
        let mut reactor = reactor()?;
        let (address, server) = serve(&mut reactor, behind_proxy())?;
        let (mut silent, mut half) = (client(address)?, client(address)?);
        half.write_all(&LINE[..20])?;
        let mut seen = Seen::default();
        settle(&mut reactor, &mut seen)?;
        // A listener that pauses accepts it only when it stops.
        reactor.set_interest(server.key(), Interest::NONE)?;
        let mut queued = client(address)?;
        server.stop(&mut reactor, grace);
        settle(&mut reactor, &mut seen)?;
        assert!(reactor.is_empty(), "{grace:?}: {reactor:?}");
        for client in [&mut silent, &mut half, &mut queued] {
            assert_reset(client);
        }
    }
    Ok(())
}

#[test]
fn a_stop_answers_a_client_whose_header_and_request_have_arrived() -> Result {
    let mut reactor = reactor()?;
    let (address, server) = serve(&mut reactor, behind_proxy())?;
    let mut seen = Seen::default();
    // The loop knows nothing of either: one was accepted, one waits in the queue of the kernel.
    let mut accepted = client(address)?;
    settle(&mut reactor, &mut seen)?;
    let mut queued = client(address)?;
    for client in [&mut accepted, &mut queued] {
        client.write_all(LINE)?;
        client.write_all(b"request")?;
    }
    server.stop(&mut reactor, GRACE);
    settle(&mut reactor, &mut seen)?;
    for client in [&mut accepted, &mut queued] {
        expect_bytes(client, b"request")?;
        assert_eq!(client.read(&mut [0])?, 0);
        client.shutdown(Shutdown::Write)?;
    }
    settle(&mut reactor, &mut seen)?;
    assert!(reactor.is_empty(), "{reactor:?}");
    assert_eq!((seen.peers.len(), seen.open()), (2, 0));
    Ok(())
}

#[test]
fn a_stop_without_reading_resets_what_has_not_been_passed_on() -> Result {
    let mut reactor = reactor()?;
    let (address, server) = serve(&mut reactor, behind_proxy())?;
    let (mut client, mut seen) = (client(address)?, Seen::default());
    settle(&mut reactor, &mut seen)?;
    client.write_all(LINE)?;
    reactor.enter(&mut seen, |cx| server.stop_without_reading(cx, GRACE));
    settle(&mut reactor, &mut seen)?;
    assert!(reactor.is_empty(), "{reactor:?}");
    assert_reset(&mut client);
    Ok(())
}

#[test]
fn a_listener_that_is_removed_by_its_own_callback_resets_the_others() -> Result {
    let mut reactor = reactor()?;
    let listener = behind_proxy().bind(&any_port())?;
    let address = tcp(&listener)?;
    listener.accept(&mut reactor, |accepted, cx| {
        cx.registry.remove(cx.key())?;
        note_and_open(accepted, cx)
    })?;
    let mut seen = Seen::default();
    let mut clients = [client(address)?, client(address)?, client(address)?];
    settle(&mut reactor, &mut seen)?;
    for client in &mut clients[..2] {
        client.write_all(LINE)?;
        client.write_all(b"hello")?;
    }
    settle(&mut reactor, &mut seen)?;
    assert_eq!((seen.open(), reactor.registrations().count()), (1, 1));
    let served = |client: &mut TcpStream| client.read_exact(&mut [0; 5]).is_ok();
    let count = clients.iter_mut().map(served).filter(|is| *is).count();
    assert_eq!(count, 1, "the others are reset");
    Ok(())
}

#[test]
fn the_end_of_the_loop_resets_connections_without_header() -> Result {
    let mut reactor = reactor()?;
    let (address, _server) = serve(&mut reactor, behind_proxy())?;
    let mut silent = client(address)?;
    settle(&mut reactor, &mut Seen::default())?;
    drop(reactor);
    assert_reset(&mut silent);
    Ok(())
}

#[test]
fn more_headers_than_a_turn_accepts_are_all_passed_on() -> Result {
    const COUNT: usize = 20;
    let mut reactor = Reactor::<Seen>::builder()
        .clock(ManualClock::jumping())
        .build()?;
    let (address, server) = serve(&mut reactor, behind_proxy().max_accepts_per_turn(1))?;
    let mut seen = Seen::default();
    let mut clients = Vec::new();
    for _ in 0..COUNT {
        clients.push(client(address)?);
    }
    settle(&mut reactor, &mut seen)?;
    for client in &mut clients {
        client.write_all(LINE)?;
        client.shutdown(Shutdown::Write)?;
    }
    server.stop(&mut reactor, Duration::MAX);
    run_out(&mut reactor, &mut seen)?;
    assert_eq!((seen.peers.len(), seen.open()), (COUNT, 0));
    Ok(())
}
