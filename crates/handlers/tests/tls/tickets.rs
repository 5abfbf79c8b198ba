//! The tickets of sessions: when they are sent, and where they are accepted.

use std::os::unix::net::UnixStream;

use handlers::tls::TlsServerConfig;
use handlers::tls::rustls::HandshakeKind;
use handlers::{Connection, ConnectionHandler, ConnectionOptions};
use support::Result;

use crate::peer::{self, Peer};
use crate::{Bench, Seen, notes, server_config, sink};

/// Opens a connection to a client.
fn open(
    bench: &mut Bench,
    server: &TlsServerConfig,
    client: impl FnOnce(UnixStream) -> Peer<UnixStream>,
    handler: impl ConnectionHandler<Seen>,
) -> Result<Peer<UnixStream>> {
    let (near, far) = UnixStream::pair()?;
    far.set_nonblocking(true)?;
    let stream = server.accept(near)?;
    let options = ConnectionOptions::new();
    Connection::open(&mut bench.reactor, stream, &options, handler)?;
    Ok(client(far))
}

/// The tickets go with the first answer. Without an answer, they go alone.
#[test]
fn a_client_without_an_answer_resumes_its_session() -> Result {
    for request in [&b""[..], b"comes with the last flight"] {
        let mut bench = Bench::new()?;
        let (server, client) = (server_config(), peer::client_config());
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let client = |far| Peer::client_of(&client, far);
            let mut peer = open(&mut bench, &server, client, sink("server"))?;
            peer.send(request);
            bench.until(&mut peer, |_, peer| !peer.tls.is_handshaking());
            peer.step(); // the last flight
            bench.run_until_idle();
            peer.step(); // the tickets
            assert_eq!(peer.tls.handshake_kind(), Some(expected));
            bench.run_until_idle();
        }
        assert_eq!(bench.seen.received("server"), request.repeat(2));
    }
    Ok(())
}

#[test]
fn a_handler_that_closes_at_once_sends_the_tickets() -> Result {
    let mut bench = Bench::new()?;
    let (server, client) = (server_config(), peer::client_config());
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let closes = notes("server", |_, connection, _| {
            connection.close();
            Ok(())
        });
        let client = |far| Peer::client_of(&client, far);
        let mut peer = open(&mut bench, &server, client, closes)?;
        peer.send(b"request");
        bench.until(&mut peer, |_, peer| peer.end.is_some());
        assert_eq!(peer.end, Some(peer::End::Whole));
        assert_eq!(peer.tls.handshake_kind(), Some(expected));
    }
    Ok(())
}
