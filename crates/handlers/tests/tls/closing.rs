//! Ends that both sides of a TLS connection intend: by close_notify.

use std::time::Duration;

use handlers::ConnectionOptions;
use support::Result;

use crate::peer::End;
use crate::{Bench, echo, notes, pattern, sink};

/// More than the kernel buffers for a peer that does not read.
const LONG: usize = 4 << 20;
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn the_end_of_the_peer_is_answered_by_close_notify() -> Result {
    let mut bench = Bench::new()?;
    let (_, mut peer) = bench.open_established(&ConnectionOptions::new(), echo("server"))?;
    peer.send(b"hello");
    peer.close();
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_eq!(
        (peer.received.as_slice(), peer.end),
        (&b"hello"[..], Some(End::Whole))
    );
    bench.run_until_idle();
    assert_eq!(
        bench.seen.log,
        ["server open", "server end", "server close finished"]
    );
    assert!(bench.reactor.is_empty());
    Ok(())
}

/// The peer has sent close_notify and not ended its stream. Bytes after that are ignored.
#[test]
fn our_direction_goes_on_after_the_end_of_the_peer() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (key, mut peer) = bench.open_established(&options, sink("server"))?;
    bench.with(key, |connection, _| connection.begin_response());
    peer.tls.send_close_notify();
    peer.flush();
    bench.until(&mut peer, |seen, _| seen.has("server end"));
    peer.send_raw(b"\x17\x03\x03\x00\x05wrong");
    bench.run_until_idle();
    assert_eq!((peer.step(), peer.end), (false, None));
    let long = pattern(LONG);
    bench.with(key, move |connection, _| {
        let _ = connection.write(&long).unwrap();
        connection.end_response();
    });
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert!(peer.received == pattern(LONG));
    assert_eq!(peer.end, Some(End::Whole));
    bench.run_until_idle();
    assert_eq!(bench.seen.end_of("server"), Some("finished"));
    Ok(())
}

/// The last bytes and close_notify come with one read, and no event follows.
#[test]
fn an_end_that_comes_with_the_last_bytes_is_reported_after_them() -> Result {
    let mut bench = Bench::new()?;
    let (_, mut peer) = bench.open_established(&ConnectionOptions::new(), echo("server"))?;
    std::io::Write::write_all(&mut peer.tls.writer(), b"last")?;
    peer.tls.send_close_notify();
    let bytes = peer.ciphertext();
    peer.send_raw(&bytes);
    bench.until(&mut peer, |_, peer| peer.end == Some(End::Whole));
    assert_eq!(bench.seen.received("server"), b"last");
    assert!(bench.seen.has("server end"), "{:?}", bench.seen.log);
    Ok(())
}

#[test]
fn the_peer_can_go_on_after_our_end() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (key, mut peer) = bench.open_established(&options, sink("server"))?;
    bench.with(key, |connection, _| {
        let _ = connection.write(b"all").unwrap();
        connection.shutdown();
    });
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_eq!(
        (peer.received.as_slice(), peer.end),
        (&b"all"[..], Some(End::Whole))
    );
    peer.end = None; // it still sends
    peer.send(b"more");
    bench.turn_until(|seen| seen.received("server") == b"more");
    assert_eq!(bench.seen.end_of("server"), None);
    peer.close();
    bench.turn_until(|seen| seen.end_of("server") == Some("finished"));
    Ok(())
}

#[test]
fn a_close_by_the_handler_sends_close_notify() -> Result {
    let mut bench = Bench::new()?;
    let closes = notes("server", |_, connection, _| {
        let _ = connection.write(b"bye")?;
        connection.close();
        Ok(())
    });
    let (_, mut peer) = bench.open_established(&ConnectionOptions::new(), closes)?;
    peer.send(b"hello");
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_eq!(
        (peer.received.as_slice(), peer.end),
        (&b"bye"[..], Some(End::Whole))
    );
    assert_eq!(bench.seen.end_of("server"), Some("closed"));
    Ok(())
}

#[test]
fn no_close_notify_follows_what_was_cut() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (key, mut peer) = bench.open_established(&options, sink("server"))?;
    bench.with(key, |connection, _| {
        let _ = connection.write(&pattern(LONG)).unwrap();
        connection.close();
    });
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert!(peer.received.len() < LONG && pattern(LONG).starts_with(&peer.received));
    assert_eq!(peer.end, Some(End::Cut));

    let (key, mut peer) = bench.open_established(&options, sink("aborted"))?;
    bench.with(key, |connection, _| connection.abort());
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_eq!(peer.end, Some(End::Cut));
    Ok(())
}

#[test]
fn a_close_after_flush_sends_all_and_then_close_notify() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (key, mut peer) = bench.open_established(&options, sink("server"))?;
    bench.with(key, |connection, _| {
        let _ = connection.write(&pattern(LONG)).unwrap();
        connection.close_after_flush(DEADLINE);
    });
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert!(peer.received == pattern(LONG));
    assert_eq!(peer.end, Some(End::Whole));
    assert_eq!(
        bench.seen.end_of("server"),
        None,
        "it awaits the end of the peer"
    );
    peer.close();
    bench.turn_until(|seen| seen.end_of("server") == Some("finished"));
    Ok(())
}

/// The handshake of a client that goes away is not a connection that was closed.
#[test]
fn a_close_during_the_handshake_sends_nothing_that_looks_whole() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (key, mut peer) = bench.open(&options, sink("server"))?;
    bench.run_until_idle();
    bench.with(key, |connection, _| connection.close());
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_ne!(peer.end, Some(End::Whole));
    assert_eq!(bench.seen.log, ["server close closed"]);
    Ok(())
}
