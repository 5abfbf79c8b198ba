//! Streams that are taken from their connections, and go on elsewhere.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod bytes;
mod connecting;
mod flushing;
mod journey;
mod loops;
mod refusals;
mod servers;

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, Taken,
};
use reactor::{Context, Reactor};
use support::{Result, tcp_pair, turn_until_quiet};

/// The calls that handlers got, and what a test keeps.
#[derive(Debug, Default)]
struct Seen {
    log: Vec<String>,
    received: Vec<u8>,
    taken: Option<io::Result<Taken<TcpStream>>>,
}

impl Seen {
    /// Returns the stream that was taken.
    fn taken(&mut self) -> Result<Taken<TcpStream>> {
        Ok(self.taken.take().ok_or("nothing was taken")??)
    }
}

/// A handler that notes its calls, and leaves the end of the connection to the test.
#[derive(Debug)]
struct Notes {
    /// The name of the handler in the log.
    name: &'static str,
    /// The most bytes that it consumes of its input.
    consumes: usize,
}

const fn notes(name: &'static str) -> Notes {
    Notes {
        name,
        consumes: usize::MAX,
    }
}

impl Notes {
    fn note(&self, cx: &mut Context<'_, Seen>, event: &str) {
        cx.state.log.push(format!("{} {event}", self.name));
    }
}

impl ConnectionHandler<Seen> for Notes {
    fn on_open(
        &mut self,
        _: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        self.note(cx, "open");
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        let consumed = data.len().min(self.consumes);
        self.consumes -= consumed;
        cx.state.received.extend_from_slice(&data[..consumed]);
        Ok(consumed)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        _: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        self.note(cx, &format!("end {}", rest.escape_ascii()));
        Ok(())
    }

    fn on_graceful_close(
        &mut self,
        _: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        self.note(cx, "graceful close");
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        self.note(cx, &format!("close {reason}"));
    }
}

/// Returns a loop with an open connection, its key and its peer.
fn connected<H: ConnectionHandler<Seen>>(
    handler: H,
) -> Result<(Reactor<Seen>, Seen, ConnectionKey<Seen>, TcpStream)> {
    let mut reactor = Reactor::new()?;
    let (near, far) = tcp_pair()?;
    far.set_read_timeout(Some(support::PATIENCE))?;
    let options = ConnectionOptions::new();
    let key = Connection::open(&mut reactor, near, &options, handler)?;
    let mut seen = Seen::default();
    turn_until_quiet(&mut reactor, &mut seen)?;
    Ok((reactor, seen, key, far))
}

/// Takes the stream from a callback of the loop.
fn take(
    reactor: &mut Reactor<Seen>,
    seen: &mut Seen,
    key: ConnectionKey<Seen>,
) -> Result<Taken<TcpStream>> {
    reactor.defer(move |cx| cx.state.taken = Some(key.take(cx)));
    turn_until_quiet(reactor, seen)?;
    seen.taken()
}

/// Calls `access` with the connection, from a callback of the loop.
fn with(
    reactor: &mut Reactor<Seen>,
    seen: &mut Seen,
    key: ConnectionKey<Seen>,
    access: impl FnOnce(&mut Connection<'_, Seen>) + 'static,
) -> Result {
    reactor.defer(move |cx| {
        key.with(cx, |connection, _cx| access(connection))
            .expect("it is open");
    });
    turn_until_quiet(reactor, seen)
}

/// Makes a stream of another type, which reads and writes the same bytes.
fn as_file(stream: TcpStream) -> io::Result<File> {
    Ok(File::from(OwnedFd::from(stream)))
}
