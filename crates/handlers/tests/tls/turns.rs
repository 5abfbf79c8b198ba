//! The turns that a TLS connection takes: none without a reason.

use std::io::Write;

use handlers::{ConnectionOptions, Flow};
use support::{Result, ms};

use crate::{Bench, echo, pattern, sink};

/// More than the kernel buffers for a peer that does not read.
const LONG: usize = 4 << 20;

/// Checks that the loop rests: it sleeps, calls nothing and is called for nothing, however often it
/// takes a turn and however long it waits.
#[track_caller]
fn expect_rest(bench: &mut Bench) {
    bench.run_until_idle();
    let before = bench.reactor.metrics();
    for _ in 0..100 {
        assert_eq!(bench.turn(), 0);
    }
    bench.reactor.turn(&mut bench.seen, Some(ms(20))).unwrap();
    let after = bench.reactor.metrics();
    assert_eq!((after.calls, after.events), (before.calls, before.events));
    assert_eq!(after.sleeps, before.sleeps + 1, "it does not sleep");
    assert_eq!(after.timers, before.timers);
}

#[test]
fn an_idle_connection_takes_no_turn() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (_, mut peer) = bench.open_established(&options, echo("server"))?;
    expect_rest(&mut bench);
    peer.send(b"hello");
    bench.until(&mut peer, |_, peer| peer.received == b"hello");
    expect_rest(&mut bench);
    bench.advance(std::time::Duration::from_secs(100));
    expect_rest(&mut bench);
    assert_eq!(bench.seen.log, ["server open"]);
    Ok(())
}

#[test]
fn both_sides_of_a_session_rest_after_their_handshake() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    bench.open_pair(&options, sink("server"), sink("client"))?;
    bench.run_until_idle();
    assert!(bench.seen.has("server open") && bench.seen.has("client open"));
    expect_rest(&mut bench);
    Ok(())
}

#[test]
fn a_handshake_that_stalls_takes_no_turn() -> Result {
    let options = ConnectionOptions::new();
    let length = Bench::new()?
        .open(&options, sink("server"))?
        .1
        .ciphertext()
        .len();
    for sent in [0, 1, 5, length / 2, length - 1, length] {
        let mut bench = Bench::new()?;
        let (_, mut peer) = bench.open(&options, sink("server"))?;
        let hello = peer.ciphertext();
        peer.send_raw(&hello[..sent.min(hello.len())]);
        expect_rest(&mut bench);
        assert!(bench.seen.log.is_empty(), "{:?}", bench.seen.log);
    }
    Ok(())
}

/// The client has sent its hello, and gets no answer.
#[test]
fn a_client_whose_server_is_silent_takes_no_turn() -> Result {
    let mut bench = Bench::new()?;
    let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    let stream = crate::client_config().connect(near, crate::NAME)?;
    let options = ConnectionOptions::new();
    handlers::Connection::open(&mut bench.reactor, stream, &options, sink("client"))?;
    expect_rest(&mut bench);
    assert!(bench.seen.log.is_empty());
    Ok(())
}

#[test]
fn a_peer_that_does_not_read_takes_no_turn() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (key, mut peer) = bench.open_established(&options, sink("server"))?;
    let flow = bench.with(key, |connection, _| {
        connection.read_while_full();
        connection.write(&pattern(LONG))
    });
    assert_eq!(flow?, Flow::Full);
    expect_rest(&mut bench);
    assert!(bench.with(key, |connection, _| connection.queued()) > LONG / 2);
    // The other direction goes on.
    for round in 0..3 {
        peer.tls.writer().write_all(b"hello")?;
        peer.flush();
        bench.turn_until(|seen| seen.received("server").len() == (round + 1) * 5);
        expect_rest(&mut bench);
    }
    bench.until(&mut peer, |_, peer| peer.received.len() == LONG);
    assert!(peer.received == pattern(LONG));
    expect_rest(&mut bench);
    Ok(())
}

/// Each byte of a record that arrives alone costs one call, and none after it.
#[test]
fn half_a_record_takes_no_turn() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (_, mut peer) = bench.open_established(&options, sink("server"))?;
    peer.tls.writer().write_all(b"hello")?;
    let record = peer.ciphertext();
    for (place, byte) in record.iter().enumerate() {
        assert_eq!(bench.seen.received("server"), b"");
        let before = bench.reactor.metrics().calls;
        peer.send_raw(&[*byte]);
        bench.run_until_idle();
        let calls = bench.reactor.metrics().calls - before;
        assert!(calls == 1, "{calls} calls for byte {place}");
        expect_rest(&mut bench);
    }
    assert_eq!(bench.seen.received("server"), b"hello");
    Ok(())
}

#[test]
fn a_paused_connection_takes_no_turn_for_what_its_session_holds() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().max_bytes_per_turn(1000);
    let pauses = crate::notes("server", |_, connection, _| {
        connection.pause_reading();
        Ok(())
    });
    let (key, mut peer) = bench.open_established(&options, pauses)?;
    peer.send(&pattern(10_000)); // one record, which is decrypted at once
    let mut received = 0;
    while received < 10_000 {
        expect_rest(&mut bench);
        let now = bench.seen.received("server").len();
        assert!(now > received, "{now} bytes");
        received = now;
        bench.with(key, |connection, _| connection.resume_reading());
    }
    assert!(bench.seen.received("server") == pattern(10_000));
    Ok(())
}

/// Records without plaintext do not count as input.
#[test]
fn records_without_plaintext_leave_the_loop_at_rest() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (_, mut peer) = bench.open_established(&options, sink("server"))?;
    let updates: Vec<_> = (0..20)
        .flat_map(|_| {
            peer.tls.refresh_traffic_keys().unwrap();
            peer.ciphertext()
        })
        .collect();
    for update in updates.chunks(updates.len() / 20) {
        peer.send_raw(update);
    }
    peer.send(b"hello");
    bench.until(&mut peer, |seen, _| seen.received("server") == b"hello");
    expect_rest(&mut bench);
    Ok(())
}
