//! Alerts: a peer reads why its session has failed, however much it sends meanwhile.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use handlers::{Connection, ConnectionLimit, ConnectionOptions, ListenOptions, ServerKey};
use support::{Result, tcp_pair};

use crate::peer::Peer;
use crate::servers::{connect, serve_with};
use crate::{Bench, Seen, notes, server_config, sink};

const GARBAGE: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// The content type of an alert: RFC 8446 section 5.1. One that is encrypted looks like data.
const ALERT: u8 = 21;
const DATA: u8 = 23;

/// A server with a connection limit, whose connections have a pending response.
struct Server {
    bench: Bench,
    address: SocketAddr,
    key: ServerKey<Seen>,
    limit: ConnectionLimit,
}

impl Server {
    fn start() -> Result<Self> {
        let mut bench = Bench::new()?;
        let limit = ConnectionLimit::new(2);
        let options = ListenOptions::new().limit(limit.clone());
        let (address, key) = serve_with(&mut bench, server_config(), options, || {
            notes("server", |_, connection, _| {
                connection.begin_response();
                Ok(())
            })
        })?;
        Ok(Self {
            bench,
            address,
            key,
            limit,
        })
    }

    /// Returns a client whose handshake is done, and whose request has no answer.
    fn established(&mut self) -> Result<Peer<TcpStream>> {
        let mut peer = Peer::client(connect(self.address)?);
        peer.send(b"a request");
        let has_asked = |seen: &Seen| !seen.received("server").is_empty();
        self.bench.until(&mut peer, |seen, _| has_asked(seen));
        self.bench.run_until_idle();
        peer.step(); // takes the tickets
        Ok(peer)
    }

    fn until_failed(&mut self) {
        self.bench
            .turn_until(|seen| seen.end_of("server").is_some());
    }

    /// Sends `length` bytes and reads to the end, while the loop turns. Returns what was read.
    fn send_and_read(&mut self, socket: &mut TcpStream, length: usize) -> io::Result<Vec<u8>> {
        let (mut sent, mut received) = (0, Vec::new());
        loop {
            let more = &[b'x'; 10_000][..(length - sent).min(10_000)];
            match socket.write(more) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => sent += written?,
            }
            self.bench.turn();
            if sent < length {
                continue;
            }
            match socket.read_to_end(&mut received) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read.map(|_| received),
            }
        }
    }
}

#[test]
fn a_peer_that_goes_on_sending_reads_the_alert_and_then_the_end() -> Result {
    for much in [0, 1, 100_000] {
        let mut server = Server::start()?;
        let mut socket = connect(server.address)?;
        socket.write_all(GARBAGE)?;
        server.until_failed();
        let answer = server.send_and_read(&mut socket, much)?;
        assert_eq!((answer.len(), answer[0]), (7, ALERT), "in the handshake");

        let mut server = Server::start()?;
        let mut socket = server.established()?.socket;
        socket.write_all(&[0; 100])?;
        server.until_failed();
        let answer = server.send_and_read(&mut socket, much)?;
        assert_eq!(answer.first(), Some(&DATA), "after the handshake");
        assert_eq!(server.bench.seen.end_of("server"), Some("Protocol"));
    }
    Ok(())
}

#[test]
fn a_peer_that_reads_its_alert_counts_for_the_limit_for_5_seconds() -> Result {
    for closes in [false, true] {
        let mut server = Server::start()?;
        let mut socket = connect(server.address)?;
        socket.write_all(GARBAGE)?;
        server.until_failed();
        server.bench.advance(Duration::from_millis(4999));
        server.bench.run_until_idle();
        assert_eq!(server.limit.open(), 1);
        if closes {
            drop(socket);
            let limit = server.limit.clone();
            server.bench.turn_until(|_| limit.open() == 0);
        } else {
            server.bench.advance(Duration::from_millis(1));
            server.bench.run_until_idle();
        }
        assert_eq!(server.limit.open(), 0, "closes: {closes}");
    }
    Ok(())
}

#[test]
fn a_peer_that_sends_without_end_is_reset_after_6_mib() -> Result {
    let mut server = Server::start()?;
    let mut socket = connect(server.address)?;
    socket.write_all(GARBAGE)?;
    server.until_failed();
    let (limit, mut sent) = (server.limit.clone(), 0);
    while limit.open() == 1 {
        match socket.write(&[0; 10_000]) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                server.bench.advance(Duration::from_millis(100));
            }
            Err(error) => return Err(error.into()),
        }
        server.bench.turn();
    }
    // The buffers of the kernel hold up to 10 MiB more.
    assert!((1 << 20..16 << 20).contains(&sent), "{sent}");
    let error = server.send_and_read(&mut socket, 1).unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    ));
    Ok(())
}

#[test]
fn the_grace_of_a_stop_ends_the_wait_for_a_peer_that_reads_its_alert() -> Result {
    let mut server = Server::start()?;
    let mut socket = connect(server.address)?;
    socket.write_all(GARBAGE)?;
    server.until_failed();
    let grace = Duration::from_secs(1);
    server.key.stop(&mut server.bench.reactor, grace);
    server.bench.run_until_idle();
    assert_eq!(server.limit.open(), 1);
    server.bench.advance(grace);
    server.bench.run_until_idle();
    assert_eq!(server.limit.open(), 0);
    Ok(())
}

/// Such a handshake goes on in a deferred callback, and not at an event.
#[test]
fn the_alert_of_a_handshake_that_waited_for_its_turn_is_read_too() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().max_handshakes_per_turn(1);
    let mut peers = Vec::new();
    for name in ["first", "second", "third"] {
        let (near, mut far) = tcp_pair()?;
        far.write_all(GARBAGE)?;
        let stream = server_config().accept(near)?;
        Connection::open(&mut bench.reactor, stream, &options, sink(name))?;
        peers.push((name, far));
    }
    for (name, mut peer) in peers {
        bench.turn_until(|seen| seen.end_of(name).is_some());
        for _ in 0..2 {
            peer.write_all(GARBAGE)?; // the second one would fail after a reset
            bench.run_until_idle();
        }
        let mut alert = Vec::new();
        peer.read_to_end(&mut alert)?;
        assert_eq!((alert.len(), alert[0]), (7, ALERT), "{name}");
    }
    Ok(())
}

/// No alert was sent, so there is nothing to wait for.
#[test]
fn a_peer_that_was_sent_no_alert_is_closed_at_once() -> Result {
    const HANDSHAKE_FAILURE: [u8; 7] = [ALERT, 3, 3, 0, 2, 2, 40];
    for sends_alert in [false, true] {
        let mut server = Server::start()?;
        if sends_alert {
            let mut socket = connect(server.address)?;
            socket.write_all(&HANDSHAKE_FAILURE)?;
            server.until_failed();
            assert_eq!(server.bench.seen.end_of("server"), Some("Alert"));
            server.bench.run_until_idle();
            assert_eq!(server.limit.open(), 0);
            assert_eq!(server.send_and_read(&mut socket, 0)?, b"");
        } else {
            let mut peer = server.established()?;
            peer.cut();
            server.until_failed();
            assert_eq!(server.bench.seen.end_of("server"), Some("Truncated"));
            server.bench.run_until_idle();
            assert_eq!(server.limit.open(), 0);
        }
    }
    Ok(())
}
