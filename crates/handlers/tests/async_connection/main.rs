//! Connections whose protocol is a future.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod asking_again;
mod bytes;
mod connecting;
mod counts;
mod ends;
mod failures;
mod limits;
#[path = "../logged/mod.rs"]
mod logged;
mod pressure;
mod servers;
mod splits;
mod stops;
mod timeouts;
#[cfg(feature = "tls")]
mod tls;
mod waking;
mod websocket;

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, Read};
use std::net::TcpStream;
use std::rc::Rc;

use handlers::futures::{self, AsyncConnection};
use handlers::{Connection, ConnectionKey, ConnectionOptions};
use reactor::{PanicPolicy, Reactor};
use support::{PATIENCE, Result, tcp_pair};

/// Notes that a future leaves for its test.
type Notes<T> = Rc<RefCell<Vec<T>>>;

/// Returns a loop that goes on after a panic.
fn reactor() -> Result<Reactor<()>> {
    let builder = Reactor::builder().on_panic(PanicPolicy::RemoveHandler);
    Ok(builder.build()?)
}

/// Opens a connection whose protocol is a future. Returns its key and its peer.
fn open_with<F>(
    reactor: &mut Reactor<()>,
    options: &ConnectionOptions,
    protocol: impl FnOnce(AsyncConnection) -> F + 'static,
) -> Result<(ConnectionKey<()>, TcpStream)>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let (near, far) = tcp_pair()?;
    far.set_read_timeout(Some(PATIENCE))?;
    let handler = futures::protocol(move |stream, _connection, _cx| protocol(stream));
    let key = Connection::open(reactor, near, options, handler)?;
    Ok((key, far))
}

/// Opens a connection with the default options.
fn open<F>(
    reactor: &mut Reactor<()>,
    protocol: impl FnOnce(AsyncConnection) -> F + 'static,
) -> Result<(ConnectionKey<()>, TcpStream)>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    open_with(reactor, &ConnectionOptions::new(), protocol)
}

/// Returns all that a peer reads, and the error that comes instead of an end.
fn read_all(mut peer: &TcpStream) -> (Vec<u8>, Option<i32>) {
    let mut all = Vec::new();
    let ended = peer.read_to_end(&mut all);
    (all, ended.err().map(|error| error.raw_os_error().unwrap()))
}

const RESET: Option<i32> = Some(104); // ECONNRESET
