//! Ends that a side of a TLS connection does not intend: nothing that was cut looks whole.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use handlers::{Connection, ConnectionKey, ConnectionOptions, Timeout};
use support::{Result, reset, tcp_pair};

use crate::peer::{End, Peer};
use crate::{Bench, NAME, Seen, client_config, echo, pattern, server_config, sink};

#[test]
fn a_stream_that_ends_without_close_notify_is_truncated() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (_, mut peer) = bench.open_established(&options, sink("server"))?;
    peer.send(b"a part");
    peer.cut();
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_eq!(bench.seen.received("server"), b"a part");
    assert_eq!(bench.seen.log, ["server open", "server close Truncated"]);
    assert_eq!(peer.end, Some(End::Cut), "no close_notify answers a cut");
    Ok(())
}

#[test]
fn a_server_that_goes_without_close_notify_truncates_its_client() -> Result {
    let mut bench = Bench::new()?;
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    far.set_nonblocking(true)?;
    let stream = client_config().connect(near, NAME)?;
    let options = ConnectionOptions::new();
    Connection::open(&mut bench.reactor, stream, &options, sink("client"))?;
    let mut peer = Peer::server(far);
    bench.until(&mut peer, |seen, peer| {
        seen.has("client open") && !peer.tls.is_handshaking()
    });
    peer.send(&pattern(50_000));
    peer.cut();
    bench.until(&mut peer, |seen, _| seen.end_of("client").is_some());
    assert!(bench.seen.received("client") == pattern(50_000));
    assert_eq!(bench.seen.end_of("client"), Some("Truncated"));
    Ok(())
}

/// A record is delivered as a whole or not at all.
#[test]
fn a_cut_within_a_record_is_truncated() -> Result {
    for cut in [0, 1, 6, 20] {
        let mut bench = Bench::new()?;
        let options = ConnectionOptions::new();
        let (_, mut peer) = bench.open_established(&options, sink("server"))?;
        peer.send(b"whole");
        peer.tls.writer().write_all(b"a record")?;
        let record = peer.ciphertext();
        peer.send_raw(&record[..cut]);
        peer.cut();
        bench.turn_until(|seen| seen.end_of("server") == Some("Truncated"));
        assert_eq!(bench.seen.received("server"), b"whole");
    }
    Ok(())
}

#[test]
fn a_client_that_goes_during_the_handshake_opens_no_connection() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (_, mut peer) = bench.open(&options, sink("server"))?;
    peer.flush();
    bench.run_until_idle();
    peer.cut();
    bench.turn_until(|seen| seen.end_of("server").is_some());
    assert_eq!(bench.seen.log, ["server close HandshakeEnded"]);
    Ok(())
}

#[test]
fn bytes_that_were_changed_on_their_way_end_the_session() -> Result {
    let mut bench = Bench::new()?;
    let (_, mut peer) = bench.open_established(&ConnectionOptions::new(), echo("server"))?;
    peer.tls.writer().write_all(b"hello")?;
    let mut record = peer.ciphertext();
    record[8] ^= 1;
    peer.send_raw(&record);
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_eq!(bench.seen.log, ["server open", "server close Protocol"]);
    assert_eq!(peer.end, Some(End::Refused), "an alert tells the peer");
    Ok(())
}

/// The alert is sent although nothing else is, and before the end of the stream.
#[test]
fn a_peer_that_speaks_another_protocol_gets_an_alert() -> Result {
    let mut bench = Bench::new()?;
    let (_, mut peer) = bench.open(&ConnectionOptions::new(), echo("server"))?;
    peer.send_raw(b"GET / HTTP/1.1\r\n\r\n");
    bench.turn_until(|seen| seen.end_of("server") == Some("NotTls"));
    peer.socket.set_nonblocking(false)?;
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut peer.socket, &mut answer)?;
    assert_eq!((answer.len(), answer[0]), (7, 21), "{answer:?}");
    Ok(())
}

/// Opens the server side on a TCP socket, whose handshake is done.
fn open_tcp(
    bench: &mut Bench,
    options: &ConnectionOptions,
) -> Result<(ConnectionKey<Seen>, Peer<TcpStream>)> {
    let (near, far) = tcp_pair()?;
    far.set_nonblocking(true)?;
    let stream = server_config().accept(near)?;
    let key = Connection::open(&mut bench.reactor, stream, options, echo("server"))?;
    let mut peer = Peer::client(far);
    bench.until(&mut peer, |seen, _| seen.has("server open"));
    bench.run_until_idle();
    peer.step(); // takes the tickets, so that the reset is the only thing that arrives
    Ok((key, peer))
}

#[test]
fn a_reset_ends_with_its_error() -> Result {
    let mut bench = Bench::new()?;
    let (_, peer) = open_tcp(&mut bench, &ConnectionOptions::new())?;
    reset(peer.socket)?;
    bench.turn_until(|seen| seen.end_of("server").is_some());
    assert_eq!(bench.seen.end_of("server"), Some("ConnectionReset"));
    Ok(())
}

#[test]
fn a_cut_by_tcp_is_truncated() -> Result {
    let mut bench = Bench::new()?;
    let (_, mut peer) = open_tcp(&mut bench, &ConnectionOptions::new())?;
    peer.send(b"hello");
    peer.cut();
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_eq!(bench.seen.received("server"), b"hello");
    assert_eq!(bench.seen.end_of("server"), Some("Truncated"));
    assert_ne!(peer.end, Some(End::Whole));
    Ok(())
}

/// Many peers do not answer close_notify. Everything was sent, so nothing is missing.
#[test]
fn a_cut_after_our_graceful_end_is_as_intended() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut peer) = bench.open_established(&ConnectionOptions::new(), echo("server"))?;
    bench.with(key, |connection, _| {
        let _ = connection.write(b"bye").unwrap();
        connection.close_after_flush(Duration::from_secs(5));
    });
    bench.until(&mut peer, |_, peer| peer.end == Some(End::Whole));
    peer.socket.shutdown(std::net::Shutdown::Both)?;
    bench.turn_until(|seen| seen.end_of("server").is_some());
    assert_eq!(bench.seen.end_of("server"), Some("finished"));
    Ok(())
}

#[test]
fn a_peer_that_takes_nothing_is_closed_by_the_write_timeout() -> Result {
    let mut bench = Bench::new()?;
    let time = Duration::from_secs(30);
    let options = ConnectionOptions::new().write_timeout(time);
    let (key, mut peer) = bench.open_established(&options, sink("server"))?;
    let _ = bench.with(key, |connection, _| connection.write(&pattern(4 << 20)))?;
    bench.run_until_idle();
    bench.advance(time - Duration::from_millis(1));
    bench.run_until_idle();
    assert_eq!(bench.seen.end_of("server"), None);
    bench.advance(Duration::from_millis(1));
    bench.run_until_idle();
    let timeout = Timeout::Write.to_string();
    assert!(
        bench.seen.has(&format!("server {timeout}")),
        "{:?}",
        bench.seen.log
    );
    assert_eq!(
        bench.seen.end_of("server"),
        Some(format!("{timeout} expired").as_str())
    );
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_ne!(peer.end, Some(End::Whole));
    Ok(())
}

/// No event follows the last bytes of the socket.
#[test]
fn an_error_that_comes_with_the_last_bytes_is_reported_after_them() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().max_bytes_per_turn(5);
    let (_, mut peer) = bench.open_established(&options, sink("server"))?;
    peer.tls.writer().write_all(b"hello")?;
    let mut records = peer.ciphertext();
    let first = records.len();
    peer.tls.writer().write_all(b"changed")?;
    records.extend(peer.ciphertext());
    records[first + 8] ^= 1;
    peer.send_raw(&records);
    bench.turn_until(|seen| seen.end_of("server").is_some());
    assert_eq!(bench.seen.received("server"), b"hello");
    assert_eq!(bench.seen.end_of("server"), Some("Protocol"));
    Ok(())
}

/// A part of a record is not input that the handler could still get.
#[test]
fn a_reset_within_a_record_ends_a_paused_connection() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut peer) = open_tcp(&mut bench, &ConnectionOptions::new())?;
    peer.tls.writer().write_all(b"hello")?;
    let record = peer.ciphertext();
    peer.send_raw(&record[..10]);
    bench.run_until_idle();
    bench.with(key, |connection, _| connection.pause_reading());
    reset(peer.socket)?;
    bench.turn_until(|seen| seen.end_of("server").is_some());
    assert_eq!(bench.seen.end_of("server"), Some("ConnectionReset"));
    Ok(())
}
