//! Options of sockets, read back from the kernel on connecting and on accepted sockets.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod by_name;
mod prepare;

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use handlers::{
    Address, CloseReason, Connection, ConnectionHandler, ConnectionOptions, ListenOptions, Peer,
    ServerKey, errno,
};
use reactor::{Context, Reactor};
use rustix::io::Errno;
use socket2::SockRef;
use support::{Result, turn_until};

/// The values of a socket's options.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Values {
    keepalive: Option<(Duration, Duration, u32)>,
    user_timeout: Option<Duration>,
    receive_buffer: usize,
    send_buffer: usize,
}

impl Values {
    fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let socket = SockRef::from(&fd);
        let probes = (
            socket.tcp_keepalive_time()?,
            socket.tcp_keepalive_interval()?,
            socket.tcp_keepalive_retries()?,
        );
        Ok(Self {
            keepalive: socket.keepalive()?.then_some(probes),
            user_timeout: socket.tcp_user_timeout()?,
            receive_buffer: socket.recv_buffer_size()?,
            send_buffer: socket.send_buffer_size()?,
        })
    }
}

/// The notes of both ends.
#[derive(Debug, Default)]
struct Seen {
    connected: Vec<Values>,
    accepted: Vec<(Peer, Values)>,
    closed: Vec<CloseReason>,
}

/// The handler of both ends. Notes the options of its socket.
struct Notes {
    /// The peer of an accepted socket.
    peer: Option<Peer>,
}

/// The handler of a connecting socket.
const CONNECTS: Notes = Notes { peer: None };

impl ConnectionHandler<Seen> for Notes {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        let values = Values::of(connection.as_fd())?;
        match self.peer.take() {
            Some(peer) => cx.state.accepted.push((peer, values)),
            None => cx.state.connected.push(values),
        }
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

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.closed.push(reason);
    }
}

fn v4() -> Address {
    "127.0.0.1:0".parse().expect("an address")
}

fn options() -> ConnectionOptions {
    ConnectionOptions::new()
}

/// Serves at a free port of `address`. Returns the address with its port.
fn serve(
    reactor: &mut Reactor<Seen>,
    address: &Address,
    options: &ConnectionOptions,
) -> Result<(SocketAddr, ServerKey<Seen>)> {
    let listener = ListenOptions::new().bind(address)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("no TCP".into());
    };
    let server = listener.serve(reactor, options, |peer, _cx| {
        Ok(Notes {
            peer: Some(peer.clone()),
        })
    })?;
    Ok((address, server))
}

/// Returns the values of both ends of a connection with these options.
fn values_with(address: &Address, options: &ConnectionOptions) -> Result<[Values; 2]> {
    let (mut reactor, mut seen) = (Reactor::new()?, Seen::default());
    let (to, _server) = serve(&mut reactor, address, options)?;
    Connection::connect(&mut reactor, [to], options, CONNECTS);
    turn_until(&mut reactor, &mut seen, |seen| {
        !seen.connected.is_empty() && !seen.accepted.is_empty()
    })?;
    Ok([seen.connected[0], seen.accepted[0].1])
}

/// Returns why a connect to `addresses` fails.
fn failure_of(addresses: &[SocketAddr], options: &ConnectionOptions) -> Result<io::Error> {
    let (mut reactor, mut seen) = (Reactor::new()?, Seen::default());
    Connection::connect(&mut reactor, addresses.iter().copied(), options, CONNECTS);
    turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
    match seen.closed.remove(0) {
        CloseReason::Failed(error) => Ok(error),
        other => Err(format!("{other:?}").into()),
    }
}

#[track_caller]
fn expect_error(error: &io::Error, expected: Errno, texts: &[&str]) {
    assert_eq!(errno(error), Some(expected.raw_os_error()), "{error}");
    assert_eq!(error.kind(), io::Error::from(expected).kind(), "{error}");
    let shown = error.to_string();
    for text in texts {
        assert!(shown.contains(text), "{text:?} in {shown:?}");
    }
}
