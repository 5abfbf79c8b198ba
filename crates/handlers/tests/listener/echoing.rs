//! The echo server of the tests of listeners, its notes, and its clients.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use handlers::{
    Address, CloseReason, Connection, ConnectionHandler, ConnectionKey, Listener, Stream,
};
use reactor::{Context, IoState, Reactor};
use support::{PATIENCE, Result, turn_until, wait_until_readable};

/// The notes of the connections of a test.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) opened: Vec<ConnectionKey<Self>>,
    pub(crate) finishing: usize,
    pub(crate) closed: Vec<CloseReason>,
    /// The peer of each connection behind a proxy, and the peer of its socket.
    pub(crate) peers: Vec<[String; 2]>,
}

impl Seen {
    /// Returns the number of open connections.
    pub(crate) fn open(&self) -> usize {
        self.opened.len() - self.closed.len()
    }
}

/// Echoes its input.
pub(crate) struct Echo;

impl ConnectionHandler<Seen> for Echo {
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
        let _ = connection.write(data)?;
        Ok(data.len())
    }

    fn on_graceful_close(
        &mut self,
        _: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        cx.state.finishing += 1;
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.closed.push(reason);
    }
}

pub(crate) fn any_port() -> Address {
    "127.0.0.1:0".parse().expect("an address")
}

pub(crate) fn tcp(listener: &Listener) -> Result<SocketAddr> {
    match listener.local_addr()? {
        Address::Tcp(address) => Ok(address),
        other => Err(format!("{other} is no TCP").into()),
    }
}

/// Returns a client whose reads end after [`PATIENCE`].
pub(crate) fn client(address: SocketAddr) -> Result<TcpStream> {
    let client = TcpStream::connect_timeout(&address, PATIENCE)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(PATIENCE))?;
    Ok(client)
}

/// Checks that a message comes back, while the loop turns.
pub(crate) fn expect_echo(
    reactor: &mut Reactor<Seen>,
    seen: &mut Seen,
    client: &mut (impl Read + Write + AsFd),
) -> Result {
    client.write_all(b"hello")?;
    turn_until(reactor, seen, |_seen| {
        wait_until_readable(&*client, Duration::ZERO).unwrap_or(true)
    })?;
    expect_bytes(client, b"hello")
}

pub(crate) fn expect_bytes(client: &mut impl Read, bytes: &[u8]) -> Result {
    let mut answer = vec![0; bytes.len()];
    client.read_exact(&mut answer)?;
    assert_eq!(answer, bytes);
    Ok(())
}

/// A stream whose bytes are all inverted.
pub(crate) struct Inverted(pub(crate) TcpStream);

impl AsFd for Inverted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream for Inverted {
    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.0.try_read(io, buf)?;
        buf[..count].iter_mut().for_each(|byte| *byte = !*byte);
        Ok(count)
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = bufs.iter().flat_map(|buf| buf.iter());
        let inverted: Vec<u8> = bytes.map(|byte| !byte).collect();
        self.0.try_write(io, &[IoSlice::new(&inverted)])
    }
}
