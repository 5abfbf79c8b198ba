//! The handshake: before it is complete, nothing is read or written.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{Connection, ConnectionOptions, Flow};
use support::{Result, ms};

use super::Pair;
use super::toy::{DATA, END, Fault, HELLO, Toy, record, records};
use crate::{Event, default, pattern, probe, secs, sink};

#[test]
fn on_open_is_called_once_the_handshake_is_complete() -> Result {
    let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |_| {})?;
    assert_eq!(pair.read()?.0, "H");
    assert!(!pair.bench.world.has("open"));
    pair.send(&record(HELLO, b""));
    pair.bench.run_until_idle();
    assert_eq!(pair.bench.world.log, ["open"]);
    Ok(())
}

#[test]
fn a_stream_that_is_taken_and_opened_again_has_one_handshake() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |_| {})?;
    let before = pair.calls.handshakes.get();
    let key = pair.key;
    pair.bench.reactor.defer(move |cx| {
        let taken = key.take::<Toy<UnixStream>>(cx).unwrap();
        let options = ConnectionOptions::new();
        taken.open(cx.registry, &options, sink()).unwrap();
    });
    pair.bench.run_until_idle();
    pair.send(&records(b"for the second connection"));
    pair.bench.run_until_idle();
    assert_eq!(pair.bench.world.received, b"for the second connection");
    assert_eq!(pair.calls.handshakes.get(), before);
    pair.send(&record(END, b""));
    pair.bench.until(|world| world.has("close Finished"));
    Ok(())
}

#[test]
fn a_handshake_that_trickles_takes_one_call_for_each_byte() -> Result {
    let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |_| {})?;
    pair.bench.run_until_idle();
    let hello = record(HELLO, &pattern(40));
    for (count, byte) in hello.iter().enumerate() {
        assert!(!pair.bench.world.has("open"));
        assert_eq!(pair.calls.handshakes.get(), 1 + count);
        pair.send(&[*byte]);
        pair.bench.run_until_idle();
    }
    assert!(pair.bench.world.has("open"));
    pair.expect_rest();
    Ok(())
}

#[test]
fn a_handshake_that_fails_ends_the_connection_with_its_error() -> Result {
    for (bytes, kind) in [
        (record(DATA, b"early"), "InvalidData"),
        (record(HELLO, b"cut")[..4].to_vec(), "UnexpectedEof"),
        (Vec::new(), "UnexpectedEof"),
    ] {
        let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |_| {})?;
        pair.send(&bytes);
        pair.peer.socket.shutdown(std::net::Shutdown::Write)?;
        assert_eq!(pair.bench.until_closed(), format!("close Failed({kind})"));
        assert!(!pair.bench.world.has("open"));
    }
    Ok(())
}

/// The peer sends its first request together with the last step of the handshake.
#[test]
fn bytes_that_arrive_with_the_handshake_are_delivered() -> Result {
    let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |_| {})?;
    let mut bytes = record(HELLO, b"");
    bytes.extend(records(b"at once"));
    pair.send(&bytes);
    pair.bench.run_until_idle();
    assert_eq!(pair.bench.world.log, ["open", "data at once"]);
    Ok(())
}

#[test]
fn writes_through_the_key_wait_for_the_handshake() -> Result {
    let (small, large) = (pattern(10), pattern(100_000));
    for pieces in [[&small, &large, &small], [&large, &small, &large]] {
        let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |_| {})?;
        for piece in pieces {
            let bytes = piece.clone();
            pair.bench.with(pair.key, move |connection| {
                let _ = connection.write(&bytes).unwrap();
                let _ = connection.flush();
            });
        }
        assert_eq!(pair.read()?.0, "H", "no data before the handshake");
        pair.expect_rest();
        pair.send(&record(HELLO, b""));
        let expected = pieces.map(Vec::as_slice).concat();
        assert_eq!(pair.read_data(expected.len())?, expected);
    }
    Ok(())
}

#[test]
fn a_producer_that_has_filled_the_queue_early_is_notified_of_room() -> Result {
    let options = ConnectionOptions::new().watermarks(10, 10);
    let mut pair = Pair::new(&options, sink(), |_| {})?;
    let flow = pair
        .bench
        .with(pair.key, |connection| connection.write(&[0; 10]).unwrap());
    assert_eq!(flow, Flow::Full);
    let hello = record(HELLO, b"");
    pair.send(&hello[..1]);
    pair.bench.run_until_idle();
    pair.send(&hello[1..]);
    pair.bench.run_until_idle();
    assert_eq!(pair.bench.world.log, ["open", "drain"]);
    Ok(())
}

#[test]
fn a_stream_that_waits_for_something_else_is_asked_after_an_access() -> Result {
    let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |toy| {
        toy.is_held_back = true;
    })?;
    pair.send(&record(HELLO, b""));
    pair.expect_rest();
    assert_eq!(pair.read()?.0, "", "the stream has said nothing");
    pair.bench.with(pair.key, |connection| {
        let toy = connection.stream_mut::<Toy<UnixStream>>();
        toy.unwrap().is_held_back = false;
    });
    pair.bench.with(pair.key, |_| {});
    assert_eq!(pair.read()?.0, "H");
    assert!(pair.bench.world.has("open"));
    Ok(())
}

#[test]
fn a_peer_that_goes_while_the_stream_waits_ends_the_connection() -> Result {
    let mut bench = crate::Bench::new()?;
    let (near, far) = support::tcp_pair()?;
    let mut toy = Toy::new(near);
    toy.is_held_back = true;
    Connection::open(&mut bench.reactor, toy, &ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO))?;
    drop(far);
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    Ok(())
}

#[test]
fn a_close_during_the_handshake_ends_it_at_once() -> Result {
    let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |_| {})?;
    pair.bench.run_until_idle();
    pair.bench.with(pair.key, |connection| connection.close());
    assert_eq!(pair.bench.until_closed(), "close Closed");
    assert_eq!(pair.peer.read()?.0, "H.", "no end of the stream");
    assert_eq!(pair.calls.shutdowns.get(), 0);
    Ok(())
}

#[test]
fn a_close_after_flush_completes_the_handshake_and_sends_what_was_written() -> Result {
    let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |_| {})?;
    pair.bench.with(pair.key, |connection| {
        let _ = connection.write(b"bye").unwrap();
        connection.close_after_flush(secs(5));
    });
    assert_eq!(pair.read()?.0, "H");
    pair.expect_rest();
    let hello = record(HELLO, b"");
    pair.send(&hello[..1]); // it is not read as data
    pair.expect_rest();
    pair.send(&hello[1..]);
    assert_eq!(pair.read()?, ("DE.".to_owned(), b"bye".to_vec()));
    pair.peer.socket.shutdown(std::net::Shutdown::Both)?;
    assert_eq!(pair.bench.until_closed(), "close Finished");
    Ok(())
}

#[test]
fn a_graceful_close_lets_a_handshake_end_and_answers_its_first_request() -> Result {
    let answer = probe(|event, connection, cx| {
        if let Event::Data(data) = event {
            let _ = connection.write(data)?;
        }
        Ok(default(&event, connection, cx))
    });
    let mut pair = Pair::new(&ConnectionOptions::new(), answer, |_| {})?;
    pair.bench.run_until_idle();
    pair.bench
        .with(pair.key, |connection| connection.close_gracefully(secs(5)));
    let mut bytes = record(HELLO, b"");
    bytes.extend(records(b"ping"));
    pair.send(&bytes);
    assert_eq!(pair.read()?, ("HDE.".to_owned(), b"ping".to_vec()));
    pair.peer.socket.write_all(&record(END, b""))?;
    assert_eq!(pair.bench.until_closed(), "close Finished");
    Ok(())
}

#[test]
fn the_deadline_of_a_graceful_close_ends_a_handshake() -> Result {
    let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |_| {})?;
    pair.bench.run_until_idle();
    pair.bench
        .with(pair.key, |connection| connection.close_gracefully(secs(5)));
    pair.bench.advance(ms(4_999));
    assert!(!pair.bench.world.is_closed());
    pair.bench.advance(ms(1));
    assert_eq!(pair.bench.until_closed(), "close TimedOut(Close)");
    Ok(())
}

#[test]
fn a_handshake_that_ignores_its_input_does_not_spin() -> Result {
    let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |toy| {
        toy.fault = Some(Fault::Dozes);
    })?;
    pair.send(&record(HELLO, b""));
    pair.expect_rest();
    Ok(())
}

#[test]
fn a_connect_can_be_cancelled_until_the_handshake_is_complete() -> Result {
    for is_complete in [false, true] {
        let mut bench = crate::Bench::new()?;
        let (listener, address) = support::listen("127.0.0.1:0")?;
        let options = ConnectionOptions::new();
        let make = |stream| Ok(Toy::new(stream));
        let connecting =
            Connection::connect_as(&mut bench.reactor, [address], &options, make, sink());
        let (mut far, _) = listener.accept()?;
        far.set_nonblocking(true)?;
        let hello = record(HELLO, b"");
        assert_eq!(bench.receive(&mut far, hello.len()), hello);
        if is_complete {
            far.write_all(&hello)?;
            bench.until(|world| world.has("open"));
        }
        for _ in 0..2 {
            connecting.cancel(&mut bench.reactor);
            bench.run_until_idle();
        }
        let expected: &[_] = if is_complete {
            &["open"]
        } else {
            &["close Closed"]
        };
        assert_eq!(bench.world.log, expected);
    }
    Ok(())
}
