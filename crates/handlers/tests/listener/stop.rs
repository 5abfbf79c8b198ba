//! The end of a server.

use std::io::{self, Read};
use std::net::Shutdown;
use std::time::Duration;

use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, ListenOptions, ServerKey};
use reactor::{Context, Reactor, Then};

use crate::{PATIENCE, Result, Seen, any_port, client, expect_echo, run_out, serve, tcp, turn_until, turn_until_quiet};

const GRACE: Duration = Duration::from_secs(5);

/// Stops `server` from a callback of the loop.
fn stop(reactor: &mut Reactor<Seen>, server: ServerKey<Seen>) {
    reactor.defer(move |cx| server.stop(cx, GRACE));
}

#[test]
fn a_server_that_stops_lets_nobody_in_and_its_loop_ends_with_its_connections() -> Result {
    let mut reactor = Reactor::new()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new())?;
    let mut client = client(address)?;
    let mut seen = Seen::default();
    expect_echo(&mut reactor, &mut seen, &mut client)?;
    stop(&mut reactor, server);
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert!(crate::client(address).is_err());
    assert_eq!(client.read(&mut [0])?, 0);
    assert!(seen.closed.is_empty(), "it waits for the end of the peer");
    client.shutdown(Shutdown::Write)?;
    run_out(&mut reactor, &mut seen)?;
    assert!(matches!(seen.closed[..], [CloseReason::Finished]), "{:?}", seen.closed);
    Ok(())
}

#[test]
fn connections_of_a_server_that_stops_still_get_what_is_queued() -> Result {
    const LENGTH: usize = 8 << 20;
    let mut reactor = Reactor::new()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new())?;
    let mut client = client(address)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 1)?;
    let connection = seen.opened[0];
    reactor.defer(move |cx| {
        let written = connection.with(cx, |connection, _cx| connection.write(&vec![7; LENGTH]));
        let _ = written.expect("it is open").expect("there is room");
        server.stop(cx, GRACE);
    });
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).map(|_| all)
    });
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(reader.join().expect("it does not panic")?.len(), LENGTH);
    assert!(matches!(seen.closed[..], [CloseReason::Finished]), "{:?}", seen.closed);
    Ok(())
}

#[test]
fn connections_of_another_server_are_left_alone() -> Result {
    let mut reactor = Reactor::new()?;
    let (stopped, server) = serve(&mut reactor, ListenOptions::new())?;
    let (other, _key) = serve(&mut reactor, ListenOptions::new())?;
    let (_stopped, mut client) = (client(stopped)?, client(other)?);
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 2)?;
    stop(&mut reactor, server);
    turn_until_quiet(&mut reactor, &mut seen)?;
    expect_echo(&mut reactor, &mut seen, &mut client)
}

/// A server that may be stopped by its connections.
#[derive(Default)]
struct Server {
    key: Option<ServerKey<Self>>,
    opened: usize,
    closed: Vec<CloseReason>,
}

/// Stops its server when something comes.
struct Stops;

impl Stops {
    fn stop(cx: &mut Context<'_, Server>) {
        if let Some(key) = cx.state.key.take() {
            key.stop(cx, GRACE);
        }
    }
}

impl ConnectionHandler<Server> for Stops {
    fn on_open(&mut self, _connection: &mut Connection<'_, Server>, cx: &mut Context<'_, Server>) -> io::Result<()> {
        cx.state.opened += 1;
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Server>,
        cx: &mut Context<'_, Server>,
    ) -> io::Result<usize> {
        Self::stop(cx);
        let _ = connection.write(data)?;
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Server>) {
        cx.state.closed.push(reason);
    }
}

/// A server of [`Stops`], where it is, and a loop with it. It may stop itself as soon as somebody comes.
fn serve_stops(at_once: bool, options: ListenOptions) -> Result<(Reactor<Server>, Server, std::net::SocketAddr)> {
    let mut reactor = Reactor::new()?;
    let listener = options.bind(&any_port())?;
    let address = tcp(&listener)?;
    let key = listener.serve(&mut reactor, &ConnectionOptions::new(), move |_peer, cx| {
        if at_once {
            Stops::stop(cx);
        }
        Ok(Stops)
    })?;
    Ok((reactor, Server { key: Some(key), ..Server::default() }, address))
}

#[test]
fn a_connection_stops_its_own_server_and_gets_what_it_has_written() -> Result {
    let (mut reactor, mut server, address) = serve_stops(false, ListenOptions::new())?;
    let (mut speaks, mut silent) = (client(address)?, client(address)?);
    turn_until(&mut reactor, &mut server, |server| server.opened == 2)?;
    io::Write::write_all(&mut speaks, b"stop")?;
    turn_until_quiet(&mut reactor, &mut server)?;
    let mut answer = String::new();
    speaks.read_to_string(&mut answer)?;
    assert_eq!(answer, "stop");
    assert_eq!(silent.read(&mut [0])?, 0);
    drop((speaks, silent));
    run_out(&mut reactor, &mut server)?;
    assert_eq!(server.closed.len(), 2);
    Ok(())
}

#[test]
fn a_server_that_is_stopped_while_it_accepts_lets_nobody_in_any_more() -> Result {
    for limit in [None, Some(handlers::ConnectionLimit::new(2))] {
        let (mut reactor, mut server, address) = serve_stops(true, ListenOptions::new().limit(limit))?;
        let clients = (0..3).map(|_| client(address)).collect::<Result<Vec<_>>>()?;
        turn_until_quiet(&mut reactor, &mut server)?;
        drop(clients);
        run_out(&mut reactor, &mut server)?;
        assert_eq!((server.opened, server.closed.len()), (0, 0));
    }
    Ok(())
}

#[test]
fn a_server_that_is_stopped_while_it_rests_keeps_no_loop_alive() -> Result {
    let limit = handlers::ConnectionLimit::new(1);
    let held = limit.try_acquire();
    let mut reactor = Reactor::new()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new().limit(limit))?;
    let _waits = client(address)?;
    let mut seen = Seen::default();
    turn_until_quiet(&mut reactor, &mut seen)?;
    stop(&mut reactor, server);
    run_out(&mut reactor, &mut seen)?;
    drop(held); // which is told to nobody
    run_out(&mut reactor, &mut seen)?;
    assert!(reactor.is_empty(), "{reactor:?}");
    Ok(())
}

#[test]
fn a_server_stops_twice_from_a_timer_without_harm() -> Result {
    let mut reactor = Reactor::new()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new())?;
    let client = client(address)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 1)?;
    let mut times = 0;
    reactor.after(Duration::ZERO, move |cx| {
        server.stop(cx, GRACE);
        times += 1;
        Ok(if times == 2 { Then::Done } else { Then::After(Duration::ZERO) })
    });
    turn_until_quiet(&mut reactor, &mut seen)?;
    drop(client);
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(seen.closed.len(), 1);
    assert!(GRACE < PATIENCE, "none of this waited for its grace to end");
    Ok(())
}

#[test]
fn a_connection_whose_peer_stays_is_closed_when_the_grace_is_over() -> Result {
    let clock = reactor::ManualClock::new();
    let mut reactor = Reactor::builder().clock(clock).build()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new())?;
    let _stays = client(address)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 1)?;
    stop(&mut reactor, server);
    turn_until_quiet(&mut reactor, &mut seen)?;
    reactor.advance(&mut seen, GRACE - Duration::from_millis(1))?;
    assert!(seen.closed.is_empty());
    reactor.advance(&mut seen, Duration::from_millis(1))?;
    assert!(matches!(seen.closed[..], [CloseReason::TimedOut(handlers::Timeout::Close)]), "{:?}", seen.closed);
    assert!(reactor.is_empty());
    Ok(())
}
