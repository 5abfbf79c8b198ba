//! Descriptors that a peer sends.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, on_data};
use reactor::{Context, Reactor};
use rustix::io::{FdFlags, fcntl_getfd};
use support::{Result, run_out, turn_until, turn_until_quiet};

use crate::{Open, Seen, Takes, connected, descriptors, inode, open_fds, send};

const COUNT: u64 = 10_000;

/// The number of different files that are sent.
const FILES: u64 = 7;

/// Checks that each message comes with its own descriptor: a message is a number of 8 bytes.
struct Checks {
    inodes: Vec<u64>,
    next: u64,
}

impl ConnectionHandler<Seen> for Checks {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Seen>,
        _cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        let (numbers, _rest) = data.as_chunks::<8>();
        for number in numbers {
            assert_eq!(u64::from_be_bytes(*number), self.next);
            let fd = connection.take_fd().expect("it came with the number");
            assert_eq!(inode(fd)?, self.inodes[(self.next % FILES) as usize]);
            self.next += 1;
        }
        Ok(8 * numbers.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.received.extend(self.next.to_be_bytes());
        cx.state.closed = Some(reason);
    }
}

/// Returns the next number of a fixed sequence, below `end`.
fn random(state: &mut u64, end: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    (*state >> 33) % end
}

/// Sends all messages, cut at random bytes. A descriptor leaves with the first byte of its message.
fn send_all(peer: &UnixStream, files: &[std::os::fd::OwnedFd]) -> io::Result<()> {
    let mut state = 1;
    for number in 0..COUNT {
        let bytes = number.to_be_bytes();
        let file = (number % FILES) as usize;
        let mut sent = send(
            peer,
            &bytes[..1 + random(&mut state, 8) as usize],
            &files[file..=file],
        )?;
        while sent < 8 {
            let end = sent + 1 + random(&mut state, 8 - sent as u64) as usize;
            sent += send(peer, &bytes[sent..end], &[])?;
        }
    }
    Ok(())
}

#[test]
fn ten_thousand_descriptors_arrive_with_bytes_that_are_cut_anywhere() -> Result {
    let open = Open::count()?;
    let folder = tempfile::tempdir()?;
    let files: Vec<std::os::fd::OwnedFd> = (0..FILES)
        .map(|name| Ok(std::fs::File::create(folder.path().join(name.to_string()))?.into()))
        .collect::<io::Result<_>>()?;
    let inodes = files.iter().map(inode).collect::<io::Result<_>>()?;
    // Two wait at most: that of a message that is not complete, and that of the message behind it.
    let (mut reactor, mut seen, _, far) = connected(2, Checks { inodes, next: 0 })?;
    let peer = thread::spawn(move || send_all(&far, &files));
    turn_until(&mut reactor, &mut seen, |seen| seen.closed.is_some())?;
    peer.join().expect("no panic")?;
    assert_eq!(seen.received, COUNT.to_be_bytes());
    assert!(
        matches!(seen.closed, Some(CloseReason::Finished)),
        "{seen:?}"
    );
    drop((reactor, folder));
    open.expect_no_leak()
}

#[test]
fn a_received_descriptor_is_close_on_exec_and_works() -> Result {
    let open = Open::count()?;
    let (mut reactor, mut seen, _, far) = connected(1, Takes::default())?;
    let (mut reader, writer) = io::pipe()?;
    send(&far, b"x", &[writer.into()])?;
    turn_until(&mut reactor, &mut seen, |seen| seen.fds.len() == 1)?;
    let fd = seen.fds.pop().ok_or("it was just there")?;
    assert!(fcntl_getfd(&fd)?.contains(FdFlags::CLOEXEC));
    std::fs::File::from(fd).write_all(b"through it")?;
    let mut text = String::new();
    io::Read::read_to_string(&mut reader, &mut text)?;
    assert_eq!(text, "through it");
    drop((reactor, far, reader));
    open.expect_no_leak()
}

#[test]
fn descriptors_that_nobody_takes_are_closed_with_the_connection() -> Result {
    let open = Open::count()?;
    let (mut reactor, mut seen, _, far) = connected(8, Takes { leaves_fds: true })?;
    for _ in 0..4 {
        send(&far, b"x", &descriptors(2)?)?;
    }
    turn_until(&mut reactor, &mut seen, |seen| seen.received.len() == 4)?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    let here = open_fds()?;
    drop(far); // it has sent, and goes
    turn_until(&mut reactor, &mut seen, |seen| seen.ended)?;
    drop(reactor);
    assert!(here - open_fds()? >= 8, "eight of them waited");
    open.expect_no_leak()
}

#[test]
fn a_peer_that_sends_and_goes_is_served_first() -> Result {
    let open = Open::count()?;
    let (mut reactor, mut seen, _, far) = connected(8, Takes::default())?;
    send(&far, b"one", &descriptors(3)?)?;
    send(&far, b"two", &descriptors(2)?)?;
    drop(far);
    turn_until(&mut reactor, &mut seen, |seen| seen.ended)?;
    assert_eq!((&seen.received[..], seen.fds.len()), (&b"onetwo"[..], 5));
    drop((reactor, seen));
    open.expect_no_leak()
}

#[test]
fn a_bare_stream_closes_the_descriptors_of_its_peer() -> Result {
    let open = Open::count()?;
    let mut reactor = Reactor::<Seen>::new()?;
    let (near, far) = UnixStream::pair()?;
    let notes = on_data(|data, connection: &mut Connection<'_, Seen>, cx| {
        assert!(connection.take_fd().is_none());
        cx.state.received.extend(data);
        Ok(data.len())
    });
    Connection::open(&mut reactor, near, &ConnectionOptions::new(), notes)?;
    let mut seen = Seen::default();
    send(&far, b"x", &descriptors(4)?)?;
    drop(far);
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(seen.received, b"x");
    drop(reactor);
    open.expect_no_leak()
}
