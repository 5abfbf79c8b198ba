//! Listeners that expect a PROXY header, with real sockets and a clock that stands still.

#![allow(clippy::expect_used, reason = "helpers of tests")]

#[path = "../listener/echoing.rs"]
mod echoing;
mod ends;
mod haproxy;
mod headers;
mod panics;
mod sending;
mod stops;

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::time::Duration;

use handlers::proxy_protocol::{Header, ProxyProtocol};
use handlers::{Accepted, ConnectionOptions, ListenOptions, ServerKey};
use reactor::{Context, ManualClock, Reactor};
use support::Result;

use self::echoing::{Echo, Inverted, Seen, any_port, client, expect_bytes, expect_echo, tcp};

/// The time for a header, which is not the default.
const TIMEOUT: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);
const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
const CLIENT: &str = "192.0.2.1:56324";

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
    let listener = options.bind(&any_port())?;
    Ok((tcp(&listener)?, listener.accept(reactor, note_and_open)?))
}

/// Takes turns until nothing has happened for 10 ms.
fn settle(reactor: &mut Reactor<Seen>, seen: &mut Seen) -> Result {
    while reactor.turn(seen, Some(Duration::from_millis(10)))? > 0 {}
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
