//! Listeners with real sockets. Cases that concern a whole process run in a process of their own.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod accepting;
mod address;
mod backlog;
mod ends;
mod full;
mod limit;
mod opening;
mod process;
mod server;
mod stop;
mod unix;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use handlers::{
    Address, CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions,
    ListenOptions, Listener, ServerKey,
};
use reactor::{Context, Reactor};
use support::{PATIENCE, Result, run_out, turn_until, turn_until_quiet};

/// The notes of the connections of a test.
#[derive(Debug, Default)]
struct Seen {
    opened: Vec<ConnectionKey<Self>>,
    finishing: usize,
    closed: Vec<CloseReason>,
}

/// Echoes its input.
struct Echo;

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

fn any_port() -> Address {
    "127.0.0.1:0".parse().expect("an address")
}

fn tcp(listener: &Listener) -> Result<SocketAddr> {
    match listener.local_addr()? {
        Address::Tcp(address) => Ok(address),
        other => Err(format!("{other} is no TCP").into()),
    }
}

/// Returns the address of a listener at a free port whose connections echo, and its key.
fn serve(
    reactor: &mut Reactor<Seen>,
    options: ListenOptions,
) -> Result<(SocketAddr, ServerKey<Seen>)> {
    let listener = options.bind(&any_port())?;
    let address = tcp(&listener)?;
    Ok((
        address,
        listener.serve(reactor, &ConnectionOptions::new(), |_peer, _cx| Ok(Echo))?,
    ))
}

/// Returns a client whose reads end after [`PATIENCE`].
fn client(address: SocketAddr) -> Result<TcpStream> {
    let client = TcpStream::connect_timeout(&address, PATIENCE)?;
    client.set_read_timeout(Some(PATIENCE))?;
    Ok(client)
}

/// Checks that a message comes back, while the loop turns.
fn expect_echo(
    reactor: &mut Reactor<Seen>,
    seen: &mut Seen,
    client: &mut (impl Read + Write),
) -> Result {
    client.write_all(b"hello")?;
    turn_until_quiet(reactor, seen)?;
    let mut answer = [0; 5];
    client.read_exact(&mut answer)?;
    assert_eq!(&answer, b"hello");
    Ok(())
}
