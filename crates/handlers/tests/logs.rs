//! The log of a server whose clients misbehave: no client can fill it.

#![cfg(feature = "framing")]

mod logged;

use std::io::{self, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use handlers::{
    Address, CloseReason, Connection, ConnectionHandler, ConnectionLimit, ConnectionOptions, Lines,
    ListenOptions, Listener, WhenFull, on_data, on_frames,
};
use reactor::{Context, ManualClock, Reactor};
use support::{PATIENCE, Result, reset, turn_until};
use tracing::subscriber;

use self::logged::Log;

/// The clients of each test. Each of them would be a line.
const CLIENTS: usize = 50;

/// The counts of a test.
#[derive(Debug, Default)]
struct Seen {
    opened: usize,
    closed: usize,
    refused: usize,
}

struct Counted;

impl ConnectionHandler<Seen> for Counted {
    fn on_open(
        &mut self,
        _: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        cx.state.opened += 1;
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _: &mut Connection<'_, Seen>,
        _: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }

    fn on_close(&mut self, _: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.closed += 1;
    }
}

fn reactor() -> Result<Reactor<Seen>> {
    Ok(Reactor::builder().clock(ManualClock::new()).build()?)
}

fn bind(limit: impl Into<Option<ConnectionLimit>>) -> Result<(Listener, SocketAddr)> {
    let listener = ListenOptions::new()
        .limit(limit)
        .bind(&"127.0.0.1:0".parse()?)?;
    match listener.local_addr()? {
        Address::Tcp(address) => Ok((listener, address)),
        other => Err(format!("{other} is not TCP").into()),
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let client = TcpStream::connect_timeout(&address, PATIENCE)?;
    client.set_read_timeout(Some(PATIENCE))?;
    Ok(client)
}

#[test]
fn clients_that_come_and_go_at_the_limit_are_one_line_a_minute() -> Result {
    let log = Log::default();
    let _guard = subscriber::set_default(log.clone());
    let (mut reactor, mut seen) = (reactor()?, Seen::default());
    let (listener, address) = bind(ConnectionLimit::new(1))?;
    listener.serve(&mut reactor, &ConnectionOptions::new(), |_, _| Ok(Counted))?;
    for minute in 1..=2 {
        for _ in 0..CLIENTS {
            let client = connect(address)?;
            let opened = seen.opened;
            turn_until(&mut reactor, &mut seen, |seen| seen.opened > opened)?;
            drop(client);
            turn_until(&mut reactor, &mut seen, |seen| seen.closed > opened)?;
        }
        let shown = log.shown();
        assert_eq!(shown.len(), minute, "{shown:#?}");
        assert!(shown.iter().all(|line| line.contains("limit reached")));
        reactor.advance(&mut seen, Duration::from_secs(60))?;
    }
    let second = log.shown().pop().unwrap_or_default();
    assert!(
        second.contains(&format!("suppressed={}", CLIENTS - 1)),
        "{second}"
    );
    Ok(())
}

#[test]
fn refused_clients_are_one_line_a_minute_and_none_at_debug() -> Result {
    let log = Log::default();
    let _guard = subscriber::set_default(log.clone());
    let (mut reactor, mut seen) = (reactor()?, Seen::default());
    let listener = ListenOptions::new()
        .limit(ConnectionLimit::new(0))
        .when_full(WhenFull::Refuse(b"busy".as_slice().into()))
        .bind(&"127.0.0.1:0".parse()?)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("not TCP".into());
    };
    listener.serve(&mut reactor, &ConnectionOptions::new(), |_, _| Ok(Counted))?;
    for _ in 0..CLIENTS {
        let mut client = connect(address)?;
        while reactor.turn(&mut seen, Some(Duration::from_millis(50)))? > 0 {}
        let mut answer = Vec::new();
        client.read_to_end(&mut answer)?;
        assert_eq!(answer, b"busy");
    }
    assert_eq!(log.count("refusing clients"), 1, "{log:?}");
    assert_eq!(log.count("limit reached"), 1, "{log:?}");
    Ok(())
}

#[test]
fn clients_that_are_refused_are_one_warning_a_minute() -> Result {
    let log = Log::default();
    let _guard = subscriber::set_default(log.clone());
    let (mut reactor, mut seen) = (reactor()?, Seen::default());
    let (listener, address) = bind(None)?;
    listener.serve(&mut reactor, &ConnectionOptions::new(), |_, cx| {
        cx.state.refused += 1;
        Err::<Counted, _>(io::Error::other("not on the list"))
    })?;
    for minute in 1..=2 {
        let clients = (0..CLIENTS)
            .map(|_| connect(address))
            .collect::<Result<Vec<_>>>()?;
        turn_until(&mut reactor, &mut seen, |seen| {
            seen.refused == minute * CLIENTS
        })?;
        drop(clients);
        assert_eq!(log.shown().len(), minute, "{:#?}", log.shown());
        reactor.advance(&mut seen, Duration::from_secs(60))?;
    }
    Ok(())
}

#[test]
fn clients_that_a_full_loop_drops_are_one_warning() -> Result {
    let log = Log::default();
    let _guard = subscriber::set_default(log.clone());
    let mut reactor = Reactor::<Seen>::builder()
        .clock(ManualClock::new())
        .max_registrations(1) // for the listener
        .build()?;
    let mut seen = Seen::default();
    let (listener, address) = bind(None)?;
    listener.serve(&mut reactor, &ConnectionOptions::new(), |_, cx| {
        cx.state.refused += 1;
        Ok(Counted)
    })?;
    let clients = (0..CLIENTS)
        .map(|_| connect(address))
        .collect::<Result<Vec<_>>>()?;
    turn_until(&mut reactor, &mut seen, |seen| seen.refused == CLIENTS)?;
    for mut client in clients {
        assert_eq!(client.read(&mut [0])?, 0, "it is closed");
    }
    assert_eq!(
        (seen.opened, log.shown().len()),
        (0, 1),
        "{:#?}",
        log.shown()
    );
    Ok(())
}

#[test]
fn garbage_resets_and_half_messages_are_no_warnings() -> Result {
    let log = Log::default();
    let _guard = subscriber::set_default(log.clone());
    let (mut reactor, mut seen) = (reactor()?, Seen::default());
    let open = ConnectionLimit::new(usize::MAX);
    let (lines, lines_address) = bind(open.clone())?;
    lines.serve(&mut reactor, &ConnectionOptions::new(), |_, cx| {
        cx.state.opened += 1;
        Ok(on_frames(Lines::new(8), |_line, connection, _cx| {
            connection.write(b"pong\n").map(|_flow| ())
        }))
    })?;
    let (hoards, hoards_address) = bind(open.clone())?;
    let small = ConnectionOptions::new().max_buffered_input(8);
    hoards.serve(&mut reactor, &small, |_, cx| {
        cx.state.opened += 1;
        Ok(on_data(|_data, _connection, _cx| Ok(0)))
    })?;
    for number in 0..CLIENTS {
        let mut client = connect(if number % 5 == 0 {
            hoards_address
        } else {
            lines_address
        })?;
        match number % 5 {
            0 | 1 => client.write_all(b"\0\xff much too long for it")?,
            2 => reset(client)?,
            3 => {
                client.write_all(b"ping\nping\nping\n")?; // gone before it reads
                reset(client)?;
            }
            _ => {
                client.write_all(b"half")?;
                drop(client);
            }
        }
        turn_until(&mut reactor, &mut seen, |seen| {
            seen.opened > number && open.open() == 0
        })?;
    }
    assert_eq!(log.shown(), [""; 0]);
    assert!(
        log.count("a peer failed") >= CLIENTS / 5,
        "each is a line of DEBUG"
    );
    assert_eq!(log.count("much too long"), 0, "no line quotes a peer");
    Ok(())
}

#[cfg(feature = "proxy-protocol")]
mod behind_proxy {
    use handlers::Peer;
    use handlers::proxy_protocol::ProxyProtocol;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Serves connections that begin with a header, from proxies that `trusts` names.
    fn serve(
        reactor: &mut Reactor<Seen>,
        options: ListenOptions,
        trusts: fn(&Peer) -> bool,
    ) -> Result<SocketAddr> {
        let trusting = ProxyProtocol::trusting(trusts).timeout(TIMEOUT);
        let listener = options
            .proxy_protocol(trusting)
            .bind(&"127.0.0.1:0".parse()?)?;
        let address = listener.local_addr()?.to_string().parse()?;
        listener.serve(reactor, &ConnectionOptions::new(), |_, _| Ok(Counted))?;
        Ok(address)
    }

    fn settle(reactor: &mut Reactor<Seen>, seen: &mut Seen) -> Result {
        while reactor.turn(seen, Some(Duration::from_millis(10)))? > 0 {}
        Ok(())
    }

    #[test]
    fn peers_without_a_header_and_strangers_are_no_warnings() -> Result {
        let log = Log::default();
        let _guard = subscriber::set_default(log.clone());
        let (mut reactor, mut seen) = (reactor()?, Seen::default());
        let open_to_all = serve(&mut reactor, ListenOptions::new(), |_| true)?;
        let closed_to_all = serve(&mut reactor, ListenOptions::new(), |_| false)?;
        let (_silent, _stranger) = (connect(open_to_all)?, connect(closed_to_all)?);
        connect(open_to_all)?.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
        connect(open_to_all)?.write_all(b"PROXY ")?;
        settle(&mut reactor, &mut seen)?;
        reactor.advance(&mut seen, TIMEOUT)?;
        assert_eq!(log.shown(), [""; 0]);
        for (line, count) in [
            ("not from a trusted proxy", 1),
            ("error=peer 127.0.0.1:", 3),
            ("no PROXY header", 2),
            ("no PROXY header within 10s", 1),
            ("ended within its PROXY header", 1),
        ] {
            assert_eq!(log.count(line), count, "{line}: {log:?}");
        }
        Ok(())
    }

    #[test]
    fn a_header_that_arrives_does_not_end_the_pause_at_a_limit() -> Result {
        let log = Log::default();
        let _guard = subscriber::set_default(log.clone());
        let (mut reactor, mut seen) = (reactor()?, Seen::default());
        let limit = ConnectionLimit::new(3);
        let address = serve(&mut reactor, ListenOptions::new().limit(limit), |_| true)?;
        let mut clients = (0..4)
            .map(|_| connect(address))
            .collect::<Result<Vec<_>>>()?;
        settle(&mut reactor, &mut seen)?;
        for client in &mut clients {
            client.write_all(b"PROXY UNKNOWN\r\n")?;
            settle(&mut reactor, &mut seen)?;
        }
        assert_eq!(seen.opened, 3);
        assert_eq!(log.count("limit reached"), 1, "{log:?}");
        Ok(())
    }
}
