//! The end of a server.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionOptions, Flow, ListenOptions, ServerKey,
};
use reactor::{Context, Interest, Next, PanicPolicy, Priority, Reactor, Then};

use crate::{
    PATIENCE, Result, Seen, any_port, client, expect_echo, run_out, serve, tcp, turn_until,
    turn_until_quiet,
};

const GRACE: Duration = Duration::from_secs(5);

/// Stops `server` from a callback of the loop.
fn stop(reactor: &mut Reactor<Seen>, server: ServerKey<Seen>) {
    reactor.defer(move |cx| server.stop(cx.registry, GRACE));
}

#[test]
fn a_stopped_server_accepts_none_and_its_loop_ends_with_its_connections() -> Result {
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
    assert!(
        matches!(seen.closed[..], [CloseReason::Finished]),
        "{:?}",
        seen.closed
    );
    Ok(())
}

#[test]
fn connections_of_a_stopping_server_still_get_queued_bytes() -> Result {
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
        server.stop(cx.registry, GRACE);
    });
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).map(|_| all)
    });
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(reader.join().expect("it does not panic")?.len(), LENGTH);
    assert!(
        matches!(seen.closed[..], [CloseReason::Finished]),
        "{:?}",
        seen.closed
    );
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
#[derive(Debug, Default)]
struct Server {
    key: Option<ServerKey<Self>>,
    opened: usize,
    closed: Vec<CloseReason>,
}

/// Stops its server when data comes.
struct Stops;

impl Stops {
    fn stop(cx: &mut Context<'_, Server>) {
        if let Some(key) = cx.state.key.take() {
            key.stop(cx.registry, GRACE);
        }
    }
}

impl ConnectionHandler<Server> for Stops {
    fn on_open(
        &mut self,
        _connection: &mut Connection<'_, Server>,
        cx: &mut Context<'_, Server>,
    ) -> io::Result<()> {
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

/// Returns a server of [`Stops`], its address, and a loop with it. It may stop itself at its first
/// connection.
fn serve_stops(
    at_once: bool,
    options: ListenOptions,
) -> Result<(Reactor<Server>, Server, std::net::SocketAddr)> {
    let mut reactor = Reactor::new()?;
    let listener = options.bind(&any_port())?;
    let address = tcp(&listener)?;
    let key = listener.serve(&mut reactor, &ConnectionOptions::new(), move |_peer, cx| {
        if at_once {
            Stops::stop(cx);
        }
        Ok(Stops)
    })?;
    Ok((
        reactor,
        Server {
            key: Some(key),
            ..Server::default()
        },
        address,
    ))
}

#[test]
fn a_connection_that_stops_its_own_server_gets_its_written_bytes() -> Result {
    let (mut reactor, mut server, address) = serve_stops(false, ListenOptions::new())?;
    let (mut speaks, mut silent) = (client(address)?, client(address)?);
    turn_until(&mut reactor, &mut server, |server| server.opened == 2)?;
    speaks.write_all(b"stop")?;
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
fn a_server_stopped_while_it_accepts_answers_all_connected_clients() -> Result {
    for limit in [None, Some(handlers::ConnectionLimit::new(2))] {
        let (mut reactor, mut server, address) =
            serve_stops(true, ListenOptions::new().limit(limit))?;
        let clients = (0..3)
            .map(|_| client(address))
            .collect::<Result<Vec<_>>>()?;
        turn_until_quiet(&mut reactor, &mut server)?;
        drop(clients);
        run_out(&mut reactor, &mut server)?;
        assert_eq!((server.opened, server.closed.len()), (3, 3));
        assert!(client(address).is_err());
    }
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
        server.stop(cx.registry, GRACE);
        times += 1;
        Ok(if times == 2 {
            Then::Done
        } else {
            Then::After(Duration::ZERO)
        })
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
    assert!(
        matches!(
            seen.closed[..],
            [CloseReason::TimedOut(handlers::Timeout::Close)]
        ),
        "{:?}",
        seen.closed
    );
    assert!(reactor.is_empty());
    Ok(())
}

/// Has a pending response for each byte that comes. The test writes it.
struct AnswersLater;

impl ConnectionHandler<Seen> for AnswersLater {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        cx.state.opened.push(connection.key());
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Seen>,
        _cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        for _byte in data {
            connection.begin_response();
        }
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.closed.push(reason);
    }
}

/// Returns a server of [`AnswersLater`] that is stopped when a client has asked it twice.
fn stopped_with_two_questions(
    reactor: &mut Reactor<Seen>,
    seen: &mut Seen,
) -> Result<std::net::TcpStream> {
    let listener = ListenOptions::new().bind(&any_port())?;
    let address = tcp(&listener)?;
    let server = listener.serve(reactor, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(AnswersLater)
    })?;
    let mut client = client(address)?;
    client.write_all(b"??")?;
    turn_until(reactor, seen, |seen| seen.opened.len() == 1)?;
    turn_until_quiet(reactor, seen)?;
    stop(reactor, server);
    turn_until_quiet(reactor, seen)?;
    Ok(client)
}

#[test]
fn a_server_that_stops_waits_for_the_answers_that_are_made_elsewhere() -> Result {
    let mut reactor = Reactor::new()?;
    let mut seen = Seen::default();
    let mut client = stopped_with_two_questions(&mut reactor, &mut seen)?;
    let connection = seen.opened[0];
    for answer in ["one ", "two"] {
        reactor.defer(move |cx| {
            let answered = connection.with(cx, |connection, _cx| {
                connection.end_response();
                connection.write(answer.as_bytes())
            });
            let _ = answered.expect("it waits").expect("it can be written to");
        });
        turn_until_quiet(&mut reactor, &mut seen)?;
    }
    let mut answers = String::new();
    client.read_to_string(&mut answers)?;
    assert_eq!(answers, "one two");
    drop(client);
    run_out(&mut reactor, &mut seen)?;
    assert!(
        matches!(seen.closed[..], [CloseReason::Finished]),
        "{:?}",
        seen.closed
    );
    Ok(())
}

#[test]
fn a_pending_response_is_waited_for_until_the_grace_is_over() -> Result {
    let mut reactor = Reactor::builder()
        .clock(reactor::ManualClock::new())
        .build()?;
    let mut seen = Seen::default();
    let mut client = stopped_with_two_questions(&mut reactor, &mut seen)?;
    client.set_nonblocking(true)?;
    reactor.advance(&mut seen, GRACE - Duration::from_millis(1))?;
    assert!(
        client
            .read(&mut [0])
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock),
        "ended too early"
    );
    assert!(seen.closed.is_empty());
    reactor.advance(&mut seen, Duration::from_millis(1))?;
    assert!(
        matches!(
            seen.closed[..],
            [CloseReason::TimedOut(handlers::Timeout::Close)]
        ),
        "{:?}",
        seen.closed
    );
    Ok(())
}

#[test]
fn connections_of_a_removed_listener_go_on_until_they_are_stopped() -> Result {
    let mut reactor = Reactor::new()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new())?;
    let mut client = client(address)?;
    let mut seen = Seen::default();
    expect_echo(&mut reactor, &mut seen, &mut client)?;
    reactor.remove(server.key())?;
    assert!(crate::client(address).is_err());
    expect_echo(&mut reactor, &mut seen, &mut client)?;
    stop(&mut reactor, server);
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(client.read(&mut [0])?, 0);
    Ok(())
}

/// Panics in one of its callbacks.
struct Panics(&'static str);

impl Panics {
    fn at(&self, callback: &str) {
        assert!(self.0 != callback, "in {callback}");
    }
}

impl ConnectionHandler<Seen> for Panics {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        cx.state.opened.push(connection.key());
        self.at("on_open");
        let full = connection.write(&vec![7; if self.0 == "on_drain" { 8 << 20 } else { 0 }])?;
        assert_eq!(full == Flow::Full, self.0 == "on_drain");
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, Seen>,
        _cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        self.at("on_data");
        Ok(data.len())
    }

    fn on_drain(
        &mut self,
        _connection: &mut Connection<'_, Seen>,
        _cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        self.at("on_drain");
        Ok(())
    }

    fn on_end(
        &mut self,
        _rest: &[u8],
        connection: &mut Connection<'_, Seen>,
        _cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        self.at("on_end");
        connection.shutdown();
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.closed.push(reason);
        self.at("on_close");
    }
}

#[test]
fn a_server_stops_completely_if_any_callback_of_a_connection_panics() -> Result {
    for panics_in in ["on_open", "on_data", "on_drain", "on_end", "on_close"] {
        let limit = handlers::ConnectionLimit::new(3);
        let mut reactor = Reactor::builder()
            .on_panic(PanicPolicy::RemoveHandler)
            .build()?;
        let listener = ListenOptions::new()
            .limit(limit.clone())
            .bind(&any_port())?;
        let address = tcp(&listener)?;
        let mut number = 0;
        let server = listener.serve(
            &mut reactor,
            &ConnectionOptions::new(),
            move |_peer, _cx| {
                number += 1;
                Ok(Panics(if number == 2 { panics_in } else { "" }))
            },
        )?;
        let mut clients = (0..3)
            .map(|_| client(address))
            .collect::<Result<Vec<_>>>()?;
        let mut seen = Seen::default();
        turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 3)?;
        for client in &mut clients {
            let _ = client.write_all(b"a last question"); // one may be closed
            let _ = client.shutdown(Shutdown::Write);
        }
        stop(&mut reactor, server);
        let readers = clients.into_iter().map(|mut client| {
            // Also the queued bytes.
            std::thread::spawn(move || io::copy(&mut client, &mut io::sink()))
        });
        let readers: Vec<_> = readers.collect();
        run_out(&mut reactor, &mut seen)?;
        for reader in readers {
            let _ = reader.join().expect("it does not panic"); // one is reset
        }
        let panicked = seen
            .closed
            .iter()
            .filter(|reason| matches!(reason, CloseReason::Panicked(_)))
            .count();
        assert_eq!(
            (seen.closed.len(), panicked),
            (3, usize::from(panics_in != "on_close")),
            "{panics_in}"
        );
        assert_eq!(limit.open(), 0, "{panics_in}");
        assert!(reactor.is_empty(), "{panics_in}: {reactor:?}");
    }
    Ok(())
}

#[test]
fn a_panic_in_on_open_during_a_stop_spares_the_other_connections() -> Result {
    let limit = handlers::ConnectionLimit::new(3);
    let mut reactor = Reactor::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    let listener = ListenOptions::new()
        .limit(limit.clone())
        .bind(&any_port())?;
    let address = tcp(&listener)?;
    let mut number = 0;
    let server = listener.serve(
        &mut reactor,
        &ConnectionOptions::new(),
        move |_peer, _cx| {
            number += 1;
            Ok(Panics(if number == 1 { "on_open" } else { "" }))
        },
    )?;
    // The handler that stops the server runs after the three are accepted, and before they are
    // opened.
    let (mut asks, asked) = UnixStream::pair()?;
    let stops = reactor.add(asked, Interest::READABLE, move |_, cx| {
        server.stop(cx.registry, GRACE);
        Ok(cx
            .registry
            .set_interest(cx.key(), Interest::NONE)
            .map(|()| Next::Keep)?)
    })?;
    reactor.set_priority(stops, Priority::Low)?;
    let clients = (0..3)
        .map(|_| client(address))
        .collect::<Result<Vec<_>>>()?;
    asks.write_all(b"stop")?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 3)?;
    assert!(reactor.contains(stops), "the handler that stopped it stays");
    reactor.remove(stops)?;
    drop(clients);
    run_out(&mut reactor, &mut seen)?;
    assert_eq!((seen.closed.len(), limit.open()), (3, 0));
    Ok(())
}
