//! TLS connections whose stream is taken: what the session holds goes with it.

use std::cell::RefCell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use handlers::tls::Tls;
use handlers::{ConnectionKey, ConnectionOptions, Stream, Taken};
use support::Result;

use crate::peer::{End, Peer};
use crate::{Bench, Seen, notes, pattern, sink};

/// More than the kernel buffers for a peer that does not read.
const LONG: usize = 4 << 20;

type Place = Rc<RefCell<Option<Taken<Tls<UnixStream>>>>>;

/// Takes the stream in a deferred callback.
fn take(bench: &mut Bench, key: ConnectionKey<Seen>) -> Taken<Tls<UnixStream>> {
    let place: Place = Rc::default();
    let taken = Rc::clone(&place);
    bench
        .reactor
        .defer(move |cx| *taken.borrow_mut() = Some(key.take(cx).unwrap()));
    bench.turn();
    place.take().unwrap()
}

/// A connection of which bytes wait everywhere: decrypted and not, in the kernel, and in the
/// queue. The handler has got the first 1000 bytes of a pattern of 10,000.
fn with_bytes() -> Result<(Bench, ConnectionKey<Seen>, Peer<UnixStream>)> {
    let mut bench = Bench::new()?;
    let pauses = notes("old", |_, connection, _| {
        connection.pause_reading();
        Ok(())
    });
    let options = ConnectionOptions::new().max_bytes_per_turn(1000);
    let (key, mut peer) = bench.open_established(&options, pauses)?;
    let sent = pattern(10_000);
    peer.send(&sent[..9000]);
    std::io::Write::write_all(&mut peer.tls.writer(), &sent[9000..])?;
    let record = peer.ciphertext();
    let (first, second) = record.split_at(500);
    peer.send_raw(first);
    bench.run_until_idle();
    peer.send_raw(second);
    bench.with(key, |connection, _| {
        connection.write(&pattern(LONG)).map(drop)
    })?;
    bench.run_until_idle();
    assert_eq!(bench.seen.received("old").len(), 1000);
    Ok((bench, key, peer))
}

#[test]
fn a_session_that_is_taken_goes_on_with_all_that_it_holds() -> Result {
    let (mut bench, key, mut peer) = with_bytes()?;
    let taken = take(&mut bench, key);
    assert!(taken.unsent() > 0);
    let options = ConnectionOptions::new();
    taken.open(&mut bench.reactor, &options, sink("new"))?;
    bench.until(&mut peer, |_, peer| peer.received.len() == LONG);
    assert!(peer.received == pattern(LONG));
    assert!(bench.seen.received("new") == &pattern(10_000)[1000..]);
    peer.close();
    bench.until(&mut peer, |_, peer| peer.end == Some(End::Whole));
    assert_eq!(bench.seen.end_of("old"), Some("taken"));
    bench.turn_until(|seen| seen.end_of("new") == Some("finished"));
    Ok(())
}

#[test]
fn the_parts_of_a_session_hold_its_bytes() -> Result {
    let (mut bench, key, _peer) = with_bytes()?;
    let taken = take(&mut bench, key);
    let unsent = taken.unsent();
    let parts = taken.into_parts();
    assert_eq!(
        parts.unread, b"",
        "the handler has consumed all that it got"
    );
    assert_eq!(parts.unsent.len(), unsent);
    assert!(pattern(LONG).ends_with(&parts.unsent));
    assert!(parts.stream.has_buffered_input() && parts.stream.buffered_output() > 0);
    assert_eq!(parts.stream.info().server_name(), Some(crate::NAME));
    Ok(())
}

/// The answer is in the session and not in the kernel, so it is not sent.
#[test]
fn a_take_after_flush_waits_for_the_output_of_the_session() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (key, mut peer) = bench.open_established(&options, sink("old"))?;
    let mut written = 0;
    while bench.with(key, |connection, _| {
        let _ = connection.write(&pattern(1000)).unwrap();
        let _ = connection.flush();
        connection.queued() == 0
    }) {
        written += 1000;
    }
    let place: Place = Rc::default();
    let taken = Rc::clone(&place);
    bench.with(key, move |connection, cx| {
        connection.take_after_flush(cx, Duration::from_secs(60), move |stream, _cx| {
            *taken.borrow_mut() = Some(stream.unwrap());
        })
    })?;
    bench.run_until_idle();
    assert!(place.borrow().is_none());
    bench.until(&mut peer, |_, peer| peer.received.len() == written + 1000);
    bench.run_until_idle();
    let stream = place.take().unwrap().upgrade(Ok)?; // refuses a stream that holds bytes
    stream.open(&mut bench.reactor, &options, sink("new"))?;
    peer.send(b"hello");
    bench.until(&mut peer, |seen, _| seen.received("new") == b"hello");
    Ok(())
}
