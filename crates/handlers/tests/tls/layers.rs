//! TLS around streams that return little at once, and around streams that hold bytes themselves.

use std::cell::Cell;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use handlers::{Connection, ConnectionOptions, Stream};
use reactor::IoState;
use support::Result;

use crate::peer::Peer;
use crate::toy::{DATA, HELLO, Toy, decode, record, records};
use crate::{Bench, NAME, client_config, server_config, sink};

/// A bare stream that returns one byte of its socket at once, and counts its reads.
struct Trickle {
    socket: UnixStream,
    reads: Rc<Cell<usize>>,
}

impl AsFd for Trickle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Stream for Trickle {
    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        self.reads.set(self.reads.get() + 1);
        self.socket.try_read(io, &mut buf[..1])
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.try_write(io, bufs)
    }
}

/// A read that brings no plaintext is not input of the connection, so its limit does not count.
#[test]
fn a_turn_takes_four_reads_that_bring_no_plaintext() -> Result {
    let mut bench = Bench::new()?;
    let (socket, far) = UnixStream::pair()?;
    far.set_nonblocking(true)?;
    let reads = Rc::default();
    let trickle = Trickle {
        socket,
        reads: Rc::clone(&reads),
    };
    let stream = server_config().accept(trickle)?;
    let options = ConnectionOptions::new();
    Connection::open(&mut bench.reactor, stream, &options, sink("server"))?;
    let mut peer = Peer::client(far);
    bench.until(&mut peer, |seen, peer| {
        seen.has("server open") && !peer.tls.is_handshaking()
    });
    bench.run_until_idle();
    peer.send(b"hello");
    let mut most = 0;
    while bench.seen.received("server").is_empty() {
        let before = reads.get();
        bench.reactor.turn(&mut bench.seen, Some(support::ms(1)))?;
        most = most.max(reads.get() - before);
    }
    assert_eq!(most, 4);
    Ok(())
}

/// Both sides of a session around a [`Toy`]. The peer is played by the test.
struct AroundToy {
    bench: Bench,
    peer: Peer<UnixStream>,
    /// The rest of the records of the toy that the peer has read.
    received: Vec<u8>,
}

impl AroundToy {
    fn server(change: impl FnOnce(&mut Toy<UnixStream>)) -> Result<Self> {
        let mut bench = Bench::new()?;
        let (near, far) = UnixStream::pair()?;
        far.set_nonblocking(true)?;
        let mut toy = Toy::new(near);
        change(&mut toy);
        let stream = server_config().accept(toy)?;
        let options = ConnectionOptions::new();
        Connection::open(&mut bench.reactor, stream, &options, sink("server"))?;
        let mut peer = Peer::client(far);
        peer.send_raw(&record(HELLO, b""));
        Ok(Self {
            bench,
            peer,
            received: Vec::new(),
        })
    }

    /// Passes what the session of the peer sends, in one record of the toy.
    fn send(&mut self) {
        let bytes = records(&self.peer.ciphertext());
        self.peer.send_raw(&bytes);
        self.bench.run_until_idle();
    }

    /// Passes what the peer gets to its session.
    fn receive(&mut self) -> Result {
        let mut bytes = [0; 1 << 16];
        let count = self.peer.socket.read(&mut bytes)?;
        self.received.extend(&bytes[..count]);
        while let Some((kind, payload)) = decode(&mut self.received) {
            if kind == DATA {
                self.peer.tls.read_tls(&mut &payload[..])?;
                self.peer.tls.process_new_packets()?;
            }
        }
        Ok(())
    }
}

/// No event reports the bytes that the stream below has taken from its socket.
#[test]
fn input_that_the_stream_below_holds_is_read_without_an_event() -> Result {
    let mut pair = AroundToy::server(|toy| toy.max_read = 1)?;
    pair.send();
    pair.receive()?;
    pair.send();
    assert!(pair.bench.seen.has("server open"));
    pair.peer.tls.writer().write_all(b"hello")?;
    pair.send();
    assert_eq!(pair.bench.seen.received("server"), b"hello");
    Ok(())
}

#[test]
fn output_that_the_stream_below_holds_during_the_handshake_is_sent() -> Result {
    let mut bench = Bench::new()?;
    let (near, mut far) = UnixStream::pair()?;
    let toy = Toy::new(near);
    let stalls = Rc::clone(&toy.stalls);
    let stream = client_config().connect(toy, NAME)?;
    let options = ConnectionOptions::new();
    Connection::open(&mut bench.reactor, stream, &options, sink("client"))?;
    bench.run_until_idle();
    stalls.set(true);
    far.write_all(&record(HELLO, b""))?;
    bench.run_until_idle();
    stalls.set(false);
    far.read_exact(&mut [0; 3])?; // the hello of the toy: the kernel reports room
    bench.run_until_idle();
    far.set_nonblocking(true)?;
    let mut header = [0; 4];
    far.read_exact(&mut header)?;
    assert_eq!((header[0], header[3]), (DATA, 22), "a handshake record");
    Ok(())
}
