//! Unix sockets that a connection is made to.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod connecting;
mod credentials;
mod full_queues;

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use handlers::{Address, CloseReason, Connection, ConnectionHandler, ConnectionOptions};
use reactor::{Context, ManualClock, Reactor};
use support::Result;
use tempfile::TempDir;

/// The calls that a handler got.
#[derive(Debug, Default)]
struct Seen {
    /// The number of connections on a `UnixStream`.
    opened: usize,
    received: Vec<u8>,
    closed: Vec<CloseReason>,
    peer: Option<handlers::PeerCredentials>,
    no_peer: Option<io::Error>,
}

impl Seen {
    /// Returns the error that a connect has failed with.
    fn error(&self) -> Result<&io::Error> {
        let [CloseReason::Failed(error)] = &self.closed[..] else {
            return Err(format!("{self:?}").into());
        };
        Ok(error)
    }
}

/// Greets the peer, and notes its calls.
struct Greets;

impl ConnectionHandler<Seen> for Greets {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        cx.state.opened += usize::from(connection.stream::<UnixStream>().is_some());
        match connection.peer_credentials() {
            Ok(peer) => cx.state.peer = Some(peer),
            Err(error) => cx.state.no_peer = Some(error),
        }
        let _flow = connection.write(b"hello")?;
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        cx.state.received.extend(data);
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.closed.push(reason);
    }
}

/// Returns a loop on a clock that does not advance by itself.
fn still() -> Result<Reactor<Seen>> {
    Ok(Reactor::builder().clock(ManualClock::new()).build()?)
}

fn options() -> ConnectionOptions {
    ConnectionOptions::new()
}

/// Returns a listener at a path in `folder`.
fn at_path(folder: &TempDir) -> io::Result<(UnixListener, Address)> {
    let path = folder.path().join("socket");
    Ok((UnixListener::bind(&path)?, Address::Unix(path)))
}

/// Returns a listener at an abstract name that no other test of this process has.
fn at_name(test: &str) -> io::Result<(UnixListener, Address)> {
    let name = format!("handlers-{}-{test}", std::process::id()).into_bytes();
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    Ok((listener, Address::Abstract(name)))
}

/// Checks that an attempt has left nothing behind: no registration, no timer, no deferred callback.
#[track_caller]
fn expect_nothing_left(reactor: &mut Reactor<Seen>, seen: &mut Seen) -> Result {
    assert!(reactor.is_empty(), "{reactor:?}");
    assert_eq!(reactor.timers().count(), 0);
    reactor.run(seen)?; // would wait for ever otherwise
    Ok(())
}
