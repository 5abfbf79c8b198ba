//! Servers of TLS connections: the stop, the limit, the time of a handshake.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use handlers::tls::TlsServerConfig;
use handlers::{
    Address, ConnectionHandler, ConnectionLimit, ConnectionOptions, ListenOptions, ServerKey,
    SocketStream,
};
use support::{PATIENCE, Result};

use crate::peer::{End, Peer};
use crate::{Bench, Seen, echo, notes, server_config};

const GRACE: Duration = Duration::from_secs(5);

/// Serves TLS at a free port. Returns the address and the key of the server.
fn serve<H: ConnectionHandler<Seen>>(
    bench: &mut Bench,
    limit: Option<ConnectionLimit>,
    handler: fn() -> H,
) -> Result<(SocketAddr, ServerKey<Seen>)> {
    let options = ListenOptions::new().limit(limit);
    serve_with(bench, server_config(), options, handler)
}

/// Serves TLS of this configuration at a free port, by a listener with these options.
pub(crate) fn serve_with<H: ConnectionHandler<Seen>>(
    bench: &mut Bench,
    config: TlsServerConfig,
    options: ListenOptions,
    handler: fn() -> H,
) -> Result<(SocketAddr, ServerKey<Seen>)> {
    let listener = options.bind(&"127.0.0.1:0".parse()?)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("no TCP".into());
    };
    let protect = move |stream: SocketStream| config.accept(stream.into_tcp()?);
    let options = ConnectionOptions::new();
    let key = listener.serve_as(&mut bench.reactor, &options, protect, move |_, _| {
        Ok(handler())
    })?;
    Ok((address, key))
}

fn client(address: SocketAddr) -> Result<Peer<TcpStream>> {
    Ok(Peer::client(connect(address)?))
}

/// Connects a socket that does not block.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn stop(bench: &mut Bench, server: ServerKey<Seen>, grace: Duration) {
    bench
        .reactor
        .defer(move |cx| server.stop(cx.registry, grace));
    bench.run_until_idle();
}

#[cfg(feature = "proxy-protocol")]
#[test]
fn tls_begins_with_the_first_byte_after_a_proxy_header() -> Result {
    use handlers::proxy_protocol::{Header, ProxyProtocol};

    let header = Header::internet("192.0.2.1:7".parse()?, "192.0.2.2:443".parse()?);
    for header in [header.to_v1(), header.to_v2()] {
        let mut bench = Bench::new()?;
        let behind_proxy = ListenOptions::new().proxy_protocol(ProxyProtocol::trusting(|_| true));
        let (address, _) =
            serve_with(&mut bench, server_config(), behind_proxy, || echo("server"))?;
        let mut peer = client(address)?;
        let hello = peer.ciphertext();
        // In one piece, and cut within the hello.
        peer.send_raw(&[&header[..], &hello[..hello.len() / 2]].concat());
        bench.run_until_idle();
        peer.send_raw(&hello[hello.len() / 2..]);
        peer.send(b"hello");
        bench.until(&mut peer, |_, peer| peer.received == b"hello");
    }
    Ok(())
}

#[test]
fn a_handshake_that_stalls_is_closed_by_its_timeout() -> Result {
    let mut bench = Bench::new()?;
    let (address, _) = serve(&mut bench, None, || echo("server"))?;
    let mut stalls = client(address)?;
    let hello = stalls.ciphertext();
    stalls.send_raw(&hello[..hello.len() / 2]);
    let mut goes_on = client(address)?;
    bench.until(&mut goes_on, |seen, _| seen.has("server open"));
    bench.run_until_idle();
    bench.advance(Duration::from_millis(9_999));
    assert_eq!(bench.seen.end_of("server"), None);
    bench.advance(Duration::from_millis(1));
    bench.run_until_idle();
    let end = "handshake timeout expired";
    assert_eq!(bench.seen.end_of("server"), Some(end));
    bench.until(&mut stalls, |_, peer| peer.end.is_some());
    assert_ne!(stalls.end, Some(End::Whole));
    goes_on.send(b"hello");
    bench.until(&mut goes_on, |_, peer| peer.received == b"hello");
    Ok(())
}

#[test]
fn a_stop_lets_a_handshake_end_and_answers_its_request() -> Result {
    let mut bench = Bench::new()?;
    let (address, server) = serve(&mut bench, None, || echo("server"))?;
    let mut peer = client(address)?;
    let hello = peer.ciphertext();
    peer.send_raw(&hello[..hello.len() / 2]);
    bench.turn_until(|_| true);
    bench.run_until_idle();
    stop(&mut bench, server, GRACE);
    assert_eq!(bench.seen.end_of("server"), None);
    peer.send_raw(&hello[hello.len() / 2..]);
    peer.send(b"hello");
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_eq!(
        (peer.received.as_slice(), peer.end),
        (&b"hello"[..], Some(End::Whole))
    );
    peer.close();
    bench.turn_until(|seen| seen.end_of("server") == Some("finished"));
    assert!(bench.reactor.is_empty());
    Ok(())
}

#[test]
fn the_grace_of_a_stop_ends_a_handshake_that_stalls() -> Result {
    let mut bench = Bench::new()?;
    let (address, server) = serve(&mut bench, None, || echo("server"))?;
    let mut peer = client(address)?;
    let hello = peer.ciphertext();
    peer.send_raw(&hello[..1]);
    bench.run_until_idle();
    stop(&mut bench, server, GRACE);
    bench.advance(GRACE);
    bench.run_until_idle();
    assert_eq!(bench.seen.end_of("server"), Some("close deadline expired"));
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_ne!(peer.end, Some(End::Whole));
    assert!(bench.reactor.is_empty());
    Ok(())
}

/// The request lies in the kernel when the server is stopped, and the answer is made later.
#[test]
fn a_stop_answers_what_was_asked_before_it() -> Result {
    let mut bench = Bench::new()?;
    let answers = || {
        notes("server", |data, connection, cx| {
            connection.begin_response();
            let (key, data) = (connection.key(), data.to_vec());
            cx.registry.after(Duration::from_secs(1), move |cx| {
                let answered = key.with(cx, |connection, _| {
                    connection.end_response();
                    connection.write(&data).map(drop)
                });
                answered.unwrap()?;
                Ok(reactor::Then::Done)
            });
            Ok(())
        })
    };
    let (address, server) = serve(&mut bench, None, answers)?;
    let mut peer = client(address)?;
    bench.until(&mut peer, |seen, peer| {
        seen.has("server open") && !peer.tls.is_handshaking()
    });
    bench.run_until_idle();
    peer.send(b"hello");
    stop(&mut bench, server, GRACE);
    bench.turn_until(|seen| seen.received("server") == b"hello");
    bench.run_until_idle();
    assert!(
        !peer.step() || peer.end.is_none(),
        "it waits for the answer"
    );
    bench.advance(Duration::from_secs(1));
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_eq!(
        (peer.received.as_slice(), peer.end),
        (&b"hello"[..], Some(End::Whole))
    );
    peer.close();
    bench.turn_until(|seen| seen.end_of("server") == Some("finished"));
    assert!(bench.seen.has("server graceful close") && bench.reactor.is_empty());
    Ok(())
}

/// Half of a request has arrived: it is in the session, and no answer to it can be made.
#[test]
fn a_stop_does_not_wait_for_the_rest_of_a_record() -> Result {
    let mut bench = Bench::new()?;
    let (address, server) = serve(&mut bench, None, || echo("server"))?;
    let mut peer = client(address)?;
    bench.until(&mut peer, |seen, peer| {
        seen.has("server open") && !peer.tls.is_handshaking()
    });
    std::io::Write::write_all(&mut peer.tls.writer(), b"hello")?;
    let record = peer.ciphertext();
    peer.send_raw(&record[..10]);
    bench.run_until_idle();
    stop(&mut bench, server, GRACE);
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_eq!(peer.end, Some(End::Whole), "nothing was asked");
    peer.socket.shutdown(std::net::Shutdown::Both)?;
    bench.turn_until(|seen| seen.end_of("server") == Some("finished"));
    Ok(())
}

#[test]
fn a_limit_counts_connections_whose_handshake_is_not_done() -> Result {
    let mut bench = Bench::new()?;
    let limit = ConnectionLimit::new(1);
    let (address, _) = serve(&mut bench, Some(limit.clone()), || echo("server"))?;
    let stalls = client(address)?;
    bench.turn_until(|_| limit.open() == 1);
    let mut waits = client(address)?;
    for _ in 0..10 {
        waits.step();
        bench.run_until_idle();
    }
    assert!(bench.seen.log.is_empty() && limit.open() == 1);
    drop(stalls);
    bench.until(&mut waits, |seen, _| seen.has("server open"));
    assert_eq!(limit.open(), 1);
    assert_eq!(bench.seen.end_of("server"), Some("HandshakeEnded"));
    Ok(())
}
