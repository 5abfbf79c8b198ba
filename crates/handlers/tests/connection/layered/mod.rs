//! Streams that keep something between two calls: a handshake, input, output, an end of their own.

mod ends;
mod handshakes;
mod input;
mod limits;
mod output;
mod taking;
mod timeouts;
mod toy;

use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use handlers::{Connection, ConnectionHandler, ConnectionKey, ConnectionOptions};
use support::Result;

use self::toy::{Calls, HELLO, Peer, Toy, record};
use super::{Bench, World};

/// A connection on a [`Toy`], and its peer.
struct Pair {
    bench: Bench,
    key: ConnectionKey<World>,
    peer: Peer<UnixStream>,
    calls: Rc<Calls>,
    /// With `true`, the socket takes nothing.
    stalls: Rc<Cell<bool>>,
}

impl Pair {
    /// Opens the connection. The peer has said nothing yet.
    fn new(
        options: &ConnectionOptions,
        handler: impl ConnectionHandler<World>,
        change: impl FnOnce(&mut Toy<UnixStream>),
    ) -> Result<Self> {
        let mut bench = Bench::new()?;
        let (near, far) = UnixStream::pair()?;
        far.set_nonblocking(true)?;
        let mut toy = Toy::new(near);
        change(&mut toy);
        let (calls, stalls) = (Rc::clone(&toy.calls), Rc::clone(&toy.stalls));
        let key = Connection::open(&mut bench.reactor, toy, options, handler)?;
        let peer = Peer::new(far);
        Ok(Self {
            bench,
            key,
            peer,
            calls,
            stalls,
        })
    }

    /// Opens the connection, and completes the handshake.
    fn open(
        options: &ConnectionOptions,
        handler: impl ConnectionHandler<World>,
        change: impl FnOnce(&mut Toy<UnixStream>),
    ) -> Result<Self> {
        let mut pair = Self::new(options, handler, change)?;
        pair.send(&record(HELLO, b""));
        pair.bench.run_until_idle();
        assert_eq!(pair.read()?, ("H".to_owned(), Vec::new()));
        assert!(pair.bench.world.has("open"));
        Ok(pair)
    }

    #[track_caller]
    fn send(&mut self, bytes: &[u8]) {
        self.bench.send(&mut self.peer.socket, bytes);
    }

    /// Lets the loop turn, and returns what the peer reads then.
    #[track_caller]
    fn read(&mut self) -> Result<(String, Vec<u8>)> {
        self.bench.run_until_idle();
        Ok(self.peer.read()?)
    }

    /// Reads until the peer has read `length` bytes of data.
    #[track_caller]
    fn read_data(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        while data.len() < length {
            let (_, more) = self.read()?;
            assert!(
                !more.is_empty(),
                "{} of {length} bytes, then nothing",
                data.len()
            );
            data.extend(more);
        }
        Ok(data)
    }

    /// Asserts that the loop rests: a hundred turns call nothing.
    #[track_caller]
    fn expect_rest(&mut self) {
        self.bench.run_until_idle();
        let before = self.bench.reactor.metrics().calls;
        for _ in 0..100 {
            self.bench.turn();
        }
        assert_eq!(self.bench.reactor.metrics().calls, before, "it spins");
    }
}
