//! Descriptors that a connection sends.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::thread;

use handlers::{Connection, ConnectionHandler, ConnectionOptions, FdStream, Taken};
use reactor::Context;
use support::{Result, turn_until_quiet};

use crate::{Open, Seen, Takes, connected, descriptors, open_fds, receive};

/// Calls `access` with the connection.
fn with(
    reactor: &mut reactor::Reactor<Seen>,
    seen: &mut Seen,
    key: handlers::ConnectionKey<Seen>,
    access: impl FnOnce(&mut Connection<'_, Seen>) + 'static,
) -> Result {
    reactor.defer(move |cx| {
        key.with(cx, |connection, _cx| access(connection))
            .expect("it is open");
    });
    turn_until_quiet(reactor, seen)
}

/// The bytes before each descriptor of a long row of writes. The last number is that of all bytes.
const PLACES: [usize; 6] = [0, 1, 20_000, 20_001, 300_000, 700_000];

/// Writes up to each place, and a descriptor there.
fn write_all(connection: &mut Connection<'_, Seen>) {
    let mut written = 0;
    for place in PLACES {
        let bytes = vec![b'.'; place - written];
        let _flow = connection.write(&bytes).expect("there is room");
        let (byte, fds) = (b"F", descriptors(1).expect("there is room"));
        let _flow = connection.write_with_fds(byte, fds).expect("there is room");
        written = place + 1;
    }
    connection.shutdown();
}

/// Reads all bytes, one at a time where `is_slow` returns `true`. Returns the places at which
/// descriptors came, if each came with the byte that was written with it.
fn read_all(peer: &UnixStream) -> std::io::Result<Vec<usize>> {
    let (mut places, mut read) = (Vec::new(), 0);
    loop {
        // So that the byte of a descriptor is read alone.
        let next = PLACES.into_iter().find(|place| *place >= read);
        let most = next.map_or(1, |next| (next - read).clamp(1, 3000));
        let (bytes, fds) = receive(peer, most)?;
        if bytes.is_empty() {
            return Ok(places);
        }
        if !fds.is_empty() {
            assert_eq!((&bytes[..], fds.len()), (&b"F"[..], 1), "at {read}");
            places.push(read);
        }
        read += bytes.len();
    }
}

#[test]
fn descriptors_leave_with_their_first_byte_also_from_a_full_queue() -> Result {
    let open = Open::count()?;
    let (mut reactor, mut seen, key, far) = connected(0, Takes::default())?;
    with(&mut reactor, &mut seen, key, write_all)?;
    let peer = thread::spawn(move || read_all(&far));
    while !peer.is_finished() {
        reactor.turn(&mut seen, Some(std::time::Duration::from_millis(10)))?;
    }
    let places = peer.join().expect("no panic")?;
    assert_eq!(places, PLACES);
    drop(reactor);
    open.expect_no_leak()
}

#[test]
fn descriptors_of_bytes_that_are_not_sent_are_closed_at_the_end() -> Result {
    let open = Open::count()?;
    let (mut reactor, mut seen, key, far) = connected(0, Takes::default())?;
    let before = open_fds()?;
    with(&mut reactor, &mut seen, key, write_all)?;
    assert!(open_fds()? > before, "some wait in the queue");
    drop(far);
    support::run_out(&mut reactor, &mut seen)?;
    drop(reactor);
    open.expect_no_leak()
}

#[test]
fn a_write_that_is_refused_closes_its_descriptors() -> Result {
    let open = Open::count()?;
    let (mut reactor, mut seen, key, far) = connected(0, Takes::default())?;
    let before = open_fds()?;
    with(&mut reactor, &mut seen, key, move |connection| {
        connection.set_options(&ConnectionOptions::new().max_write_queue(10));
        let fds = descriptors(3).expect("there is room");
        let error = connection
            .write_with_fds(&[0; 11], fds)
            .expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        assert_eq!(open_fds().expect("it is counted"), before);
        let fds = descriptors(1).expect("there is room");
        let _flow = connection.write_with_fds(b"y", fds).expect("it fits");
    })?;
    let (bytes, fds) = receive(&far, 100)?;
    assert_eq!((&bytes[..], fds.len()), (&b"y"[..], 1));
    drop((reactor, far, fds));
    open.expect_no_leak()
}

#[test]
fn descriptors_that_wait_go_with_a_stream_that_is_taken() -> Result {
    let open = Open::count()?;
    let (mut reactor, mut seen, key, far) = connected(8, Takes { leaves_fds: true })?;
    crate::send(&far, b"x", &descriptors(2)?)?;
    with(&mut reactor, &mut seen, key, write_all)?;
    let (tell, told) = std::sync::mpsc::channel();
    reactor.defer(move |cx| {
        let _ = tell.send(key.take::<FdStream>(cx));
    });
    turn_until_quiet(&mut reactor, &mut seen)?;
    let taken: Taken<FdStream> = told.recv()??;
    assert!(taken.unsent() > 0);
    let key = taken.open(&mut reactor, &ConnectionOptions::new(), Takes::default())?;
    with(&mut reactor, &mut seen, key, |connection| {
        assert_eq!(std::iter::from_fn(|| connection.take_fd()).count(), 2);
    })?;
    let peer = thread::spawn(move || read_all(&far));
    while !peer.is_finished() {
        reactor.turn(&mut seen, Some(std::time::Duration::from_millis(10)))?;
    }
    assert_eq!(peer.join().expect("no panic")?, PLACES);
    drop(reactor);
    open.expect_no_leak()
}

/// A handler that writes descriptors at each call.
struct Writes(std::sync::mpsc::Sender<usize>);

impl ConnectionHandler<Seen> for Writes {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Seen>,
        _cx: &mut Context<'_, Seen>,
    ) -> std::io::Result<usize> {
        for _ in 0..3 {
            let _flow = connection.write_with_fds(&[0; 20_000], descriptors(5)?)?;
        }
        let _ = self.0.send(open_fds()?);
        Ok(data.len())
    }
}

#[test]
fn descriptors_written_to_a_failed_socket_are_closed_at_once() -> Result {
    let open = Open::count()?;
    let (tell, told) = std::sync::mpsc::channel();
    let (mut reactor, mut seen, _, far) = connected(0, Writes(tell))?;
    let before = open_fds()?;
    far.shutdown(std::net::Shutdown::Read)?;
    crate::send(&far, b"x", &[])?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(told.recv()?, before);
    drop((reactor, far));
    open.expect_no_leak()
}
