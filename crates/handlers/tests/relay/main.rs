//! Relays, between sockets on the loopback device.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod passing;
mod resets;
mod stops;

use std::cell::Cell;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use handlers::{Connection, ConnectionKey, ConnectionOptions, Relay};
use reactor::Reactor;
use support::{PATIENCE, Result, run_out, turn_until_quiet};

/// More bytes than all the kernel buffers on the way hold.
const LENGTH: usize = 24 << 20;
const LOW: usize = 16 * 1024;
const HIGH: usize = 64 * 1024;

/// Returns two ends of a connection. Reads and writes of the second give up after [`PATIENCE`].
fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let far = listener.accept()?.0;
    patient(&far)?;
    Ok((near, far))
}

fn patient(stream: &TcpStream) -> Result {
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream.set_write_timeout(Some(PATIENCE))?)
}

fn options() -> ConnectionOptions {
    ConnectionOptions::new().watermarks(LOW, HIGH)
}

/// A loop with a relay: the keys of its sides, and their far ends.
struct Piped {
    reactor: Reactor<()>,
    sides: [ConnectionKey<()>; 2],
    client: TcpStream,
    server: TcpStream,
}

fn pipe(options: &ConnectionOptions) -> Result<Piped> {
    let mut reactor = Reactor::new()?;
    let ((client_near, client), (server_near, server)) = (pair()?, pair()?);
    let (one, other) = Relay::pair();
    let sides = [
        Connection::open(&mut reactor, client_near, options, one)?,
        Connection::open(&mut reactor, server_near, options, other)?,
    ];
    Ok(Piped {
        reactor,
        sides,
        client,
        server,
    })
}

/// Sends bytes whose sum differs when any of them is missing, doubled or misplaced.
fn send_many(mut to: &TcpStream, seed: u64) -> io::Result<u64> {
    let (mut random, mut sum) = (seed, DefaultHasher::new());
    let mut chunk = vec![0; 1 << 16];
    for _ in 0..LENGTH / chunk.len() {
        for byte in &mut chunk {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (random >> 56) as u8;
        }
        to.write_all(&chunk)?;
        chunk.iter().for_each(|byte| sum.write_u8(*byte));
    }
    to.shutdown(Shutdown::Write)?;
    Ok(sum.finish())
}

/// Returns the sum of all received bytes.
fn receive_many(mut from: &TcpStream) -> io::Result<u64> {
    let mut sum = DefaultHasher::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(sum.finish()),
            length => chunk[..length].iter().for_each(|byte| sum.write_u8(*byte)),
        }
    }
}

/// Returns the number of bytes until the end or an error, and the error.
fn read_out(mut from: &TcpStream) -> (usize, Option<ErrorKind>) {
    let (mut bytes, mut chunk) = (0, vec![0; 1 << 16]);
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return (bytes, None),
            Ok(more) => bytes += more,
            Err(error) => return (bytes, Some(error.kind())),
        }
    }
}

/// Sends until `side` is held up, since the other side does not read. Returns the number of bytes.
fn fill(reactor: &mut Reactor<()>, side: ConnectionKey<()>, mut from: &TcpStream) -> Result<usize> {
    let (chunk, held_up) = ([7; 1 << 14], Rc::new(Cell::new(false)));
    let mut sent = 0;
    while !held_up.get() {
        from.write_all(&chunk)?;
        sent += chunk.len();
        let told = Rc::clone(&held_up);
        reactor.defer(move |cx| {
            told.set(
                side.with(cx, |connection, _cx| connection.is_paused())
                    .expect("it is open"),
            )
        });
        while reactor.turn(&mut (), Some(Duration::ZERO))? > 0 {}
    }
    Ok(sent)
}

/// Returns a client whose server is still to be connected to.
fn begin(server: SocketAddr) -> Result<(Reactor<()>, TcpStream)> {
    let mut reactor = Reactor::new()?;
    let (near, client) = pair()?;
    let (client_side, server_side) = Relay::pair();
    Connection::open(&mut reactor, near, &options(), client_side)?;
    Connection::connect(&mut reactor, [server], &options(), server_side);
    Ok((reactor, client))
}
