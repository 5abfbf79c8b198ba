//! A relay between a TLS connection and a plain one.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use allocation_counter::measure;
use handlers::{Connection, ConnectionOptions, Relay};
use reactor::Reactor;
use support::{PATIENCE, Result, tcp_pair, wait_until_readable};

use crate::peer::{End, Peer};
use crate::server_config;

const HIGH: usize = 256 << 10;
/// The most memory of a relay at any time: a full queue for each side while it grows, and the
/// buffers of the loop and of the thread.
const MEMORY_MAX: u64 = 3 << 20;
const CHUNK: u64 = 64 << 10;

/// Returns the byte at a place of the message.
const fn byte_at(place: u64) -> u8 {
    (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Sends a message of `length` bytes, and checks that it comes back. It reads only when the stream
/// takes no more, so all buffers on the way are full.
fn talk(mut peer: Peer<TcpStream>, length: u64) -> io::Result<End> {
    let (mut sent, mut checked, mut has_closed) = (0, 0, false);
    loop {
        if peer.tls.wants_write() {
            // The last chunk goes first.
        } else if sent < length {
            let end = length.min(sent + CHUNK);
            let chunk: Vec<_> = (sent..end).map(byte_at).collect();
            peer.tls.writer().write_all(&chunk)?;
            sent = end;
        } else if !has_closed {
            peer.tls.send_close_notify();
            has_closed = true;
        }
        if peer.flush() {
            continue;
        }
        let has_moved = peer.step();
        for byte in peer.received.drain(..) {
            assert_eq!(byte, byte_at(checked), "at {checked}");
            checked += 1;
        }
        if let Some(end) = peer.end {
            assert_eq!((sent, checked), (length, length), "{end:?}");
            return Ok(end);
        }
        let came = has_moved || wait_until_readable(&peer.socket, PATIENCE)?;
        assert!(came, "{checked} of {sent} bytes came back");
    }
}

/// Sends back what the plain side gets, up to its end.
fn send_back(mut server: TcpStream) -> JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        server.set_read_timeout(Some(PATIENCE))?;
        server.set_write_timeout(Some(PATIENCE))?;
        let mut buf = vec![0; 10_000];
        loop {
            match server.read(&mut buf)? {
                0 => return server.shutdown(Shutdown::Write),
                count => server.write_all(&buf[..count])?,
            }
        }
    })
}

/// Lets a message go through a relay from TLS to plain and back.
fn relay(length: u64) -> Result {
    let mut reactor = Reactor::new()?;
    let ((client_near, client), (server_near, server)) = (tcp_pair()?, tcp_pair()?);
    client.set_nonblocking(true)?;
    let (one, other) = Relay::pair();
    let options = ConnectionOptions::new().watermarks(HIGH / 4, HIGH);
    let protected = server_config().accept(client_near)?;
    Connection::open(&mut reactor, protected, &options, one)?;
    Connection::open(&mut reactor, server_near, &options, other)?;
    let server = send_back(server);
    let client = thread::spawn(move || talk(Peer::client(client), length));
    let memory = measure(|| {
        while !reactor.is_empty() {
            let began = Instant::now();
            reactor.turn(&mut (), Some(PATIENCE)).unwrap();
            assert!(began.elapsed() < PATIENCE, "it stalls: {reactor:#?}");
        }
    });
    assert_eq!(client.join().expect("it does not panic")?, End::Whole);
    server.join().expect("it does not panic")?;
    assert!(memory.bytes_max < MEMORY_MAX, "{memory:?}");
    Ok(())
}

#[test]
fn bytes_go_from_tls_to_plain_and_back_in_bounded_memory() -> Result {
    relay(16 << 20)
}

/// For `.ci/long`.
#[test]
#[ignore = "takes a minute"]
fn a_gibibyte_goes_from_tls_to_plain_and_back_in_bounded_memory() -> Result {
    relay(1 << 30)
}
