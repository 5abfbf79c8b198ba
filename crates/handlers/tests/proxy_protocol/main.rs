//! Listeners that expect a PROXY header, with real sockets and a clock that stands still.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod ends;
mod haproxy;
mod headers;
mod stops;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use handlers::proxy_protocol::{Header, ProxyProtocol};
use handlers::{
    Accepted, Address, Connection, ConnectionHandler, ConnectionOptions, ListenOptions, ServerKey,
};
use reactor::{Context, ManualClock, Reactor};
use support::{PATIENCE, Result};

/// The time for a header, which is not the default.
const TIMEOUT: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);
const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
const CLIENT: &str = "192.0.2.1:56324";

/// The notes of a server.
#[derive(Debug, Default)]
struct Seen {
    /// The peer of each connection, and the peer of its socket.
    peers: Vec<[String; 2]>,
    open: usize,
}

/// Echoes its input.
struct Echo;

impl ConnectionHandler<Seen> for Echo {
    fn on_open(
        &mut self,
        _: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        cx.state.open += 1;
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Seen>,
        _cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        let _flow = connection.write(data)?;
        Ok(data.len())
    }

    fn on_close(&mut self, _reason: handlers::CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.open -= 1;
    }
}

fn reactor() -> Result<Reactor<Seen>> {
    Ok(Reactor::builder().clock(ManualClock::new()).build()?)
}

/// Returns options of a listener that trusts everybody.
fn behind_proxy() -> ListenOptions {
    ListenOptions::new().proxy_protocol(ProxyProtocol::trusting(|_| true).timeout(TIMEOUT))
}

fn note_and_open(accepted: Accepted, cx: &mut Context<'_, Seen>) -> io::Result<()> {
    let peers = [accepted.peer(), accepted.socket_peer()].map(ToString::to_string);
    cx.state.peers.push(peers);
    accepted.open(cx.registry, &ConnectionOptions::new(), Echo)?;
    Ok(())
}

/// Returns the address of an echo server with these options, and its key.
fn serve(
    reactor: &mut Reactor<Seen>,
    options: ListenOptions,
) -> Result<(SocketAddr, ServerKey<Seen>)> {
    let listener = options.bind(&"127.0.0.1:0".parse()?)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("not TCP".into());
    };
    Ok((address, listener.accept(reactor, note_and_open)?))
}

/// Returns a client whose reads end after [`PATIENCE`].
fn client(address: SocketAddr) -> Result<TcpStream> {
    let client = TcpStream::connect(address)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(PATIENCE))?;
    Ok(client)
}

/// Takes turns until nothing has happened for 10 ms.
fn settle(reactor: &mut Reactor<Seen>, seen: &mut Seen) -> Result {
    while reactor.turn(seen, Some(Duration::from_millis(10)))? > 0 {}
    Ok(())
}

/// Checks that a message comes back, while the loop turns.
fn expect_echo(
    reactor: &mut Reactor<Seen>,
    seen: &mut Seen,
    client: &mut (impl Read + Write),
) -> Result {
    client.write_all(b"hello")?;
    settle(reactor, seen)?;
    expect_bytes(client, b"hello")
}

fn expect_bytes(client: &mut impl Read, bytes: &[u8]) -> Result {
    let mut answer = vec![0; bytes.len()];
    client.read_exact(&mut answer)?;
    assert_eq!(answer, bytes);
    Ok(())
}

#[track_caller]
fn assert_reset(client: &mut impl Read) {
    let end = client.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}

/// Returns headers of both versions, which name [`CLIENT`].
fn both_versions() -> Result<[Vec<u8>; 2]> {
    let header = Header::internet(CLIENT.parse()?, "192.0.2.2:443".parse()?);
    assert_eq!(header.to_v1(), LINE);
    Ok([header.to_v1(), header.to_v2()])
}
