//! Layered streams that are taken from their connections. The bytes that they hold go with them.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use handlers::{Connection, ConnectionKey, ConnectionOptions, Stream, Taken};
use support::{Result, ms, tcp_pair};

use super::Pair;
use super::toy::{DATA, HELLO, Peer, QUESTION, Toy, record, records};
use crate::{Bench, Event, World, default, pattern, probe, secs, sink};

type UnixToy = Toy<UnixStream>;

/// Takes the stream of a connection in a deferred callback.
fn take<T: Stream>(bench: &mut Bench, key: ConnectionKey<World>) -> Taken<T> {
    let place = Rc::new(RefCell::new(None));
    let taken = Rc::clone(&place);
    bench
        .reactor
        .defer(move |cx| *taken.borrow_mut() = Some(key.take(cx).unwrap()));
    bench.turn();
    place.take().unwrap()
}

impl Pair {
    /// Opens the stream again, after `change`. It must not be its connection's any more.
    fn open_again(&mut self, taken: Taken<UnixToy>, options: &ConnectionOptions) -> Result {
        self.key = taken.open(&mut self.bench.reactor, options, sink())?;
        Ok(())
    }
}

/// A connection that consumes one byte and pauses: bytes wait in it, in the stream and in the
/// kernel.
fn with_input() -> Result<Pair> {
    let pauses = probe(|event, connection, cx| {
        if let Event::Data(data) = event {
            connection.pause_reading();
            cx.state.received.extend_from_slice(&data[..1]);
            return Ok(1);
        }
        Ok(default(&event, connection, cx))
    });
    let options = ConnectionOptions::new().max_bytes_per_turn(5);
    let mut pair = Pair::open(&options, pauses, |_| {})?;
    pair.send(&records(b"0123456789"));
    pair.bench.run_until_idle();
    pair.send(&records(b"abcde"));
    pair.bench.run_until_idle();
    assert_eq!(pair.bench.world.received, b"0");
    Ok(pair)
}

#[test]
fn input_that_is_held_anywhere_reaches_the_next_handler_in_order() -> Result {
    let mut pair = with_input()?;
    let taken = take(&mut pair.bench, pair.key);
    assert_eq!(taken.unread(), b"1234");
    pair.open_again(taken, &ConnectionOptions::new())?;
    pair.bench.run_until_idle();
    assert_eq!(pair.bench.world.received, b"0123456789abcde");
    pair.expect_rest();
    Ok(())
}

#[test]
fn the_parts_of_a_layered_stream_hold_its_input_and_output() -> Result {
    let mut pair = with_input()?;
    pair.stalls.set(true);
    pair.bench.with(pair.key, |connection| {
        let _ = connection.write(b"held.").unwrap();
        let _ = connection.flush();
        let _ = connection.write(b"queued").unwrap();
    });
    let taken = take::<UnixToy>(&mut pair.bench, pair.key);
    assert_eq!(taken.unsent(), 6, "without what the stream holds");
    let parts = taken.into_parts();
    assert_eq!(parts.unread, b"1234");
    assert_eq!(parts.unsent, b"queued");
    assert!(parts.stream.has_buffered_input());
    assert_eq!(parts.stream.buffered_output(), record(DATA, b"held.").len());
    Ok(())
}

#[test]
fn output_that_is_held_is_sent_before_what_is_queued() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |_| {})?;
    let bytes = pattern(1 << 20);
    let written = bytes.clone();
    pair.bench.with(pair.key, move |connection| {
        let _ = connection.write(&written).unwrap();
    });
    pair.bench.run_until_idle();
    let taken = take(&mut pair.bench, pair.key);
    assert!(taken.unsent() > 0);
    pair.open_again(taken, &ConnectionOptions::new())?;
    pair.bench.with(pair.key, |connection| {
        let _ = connection.write(b"after").unwrap();
    });
    assert_eq!(
        pair.read_data(bytes.len() + 5)?,
        [&bytes[..], b"after"].concat()
    );
    pair.expect_rest();
    Ok(())
}

/// The handshake of a stream that goes on is not one of those that the loop limits, and has no
/// timeout.
#[test]
fn a_handshake_that_is_complete_is_not_taken_again() -> Result {
    let options = ConnectionOptions::new().max_handshakes(1);
    let mut pair = Pair::open(&options, sink(), |_| {})?;
    let steps = pair.calls.handshakes.get();
    let taken = take(&mut pair.bench, pair.key);
    let (stalls, _peer) = UnixStream::pair()?;
    Connection::open(
        &mut pair.bench.reactor,
        Toy::new(stalls),
        &options.clone().handshake_timeout(None),
        sink(),
    )?;
    pair.bench.run_until_idle();
    pair.open_again(taken, &options)?;
    pair.bench.run_until_idle();
    pair.bench.advance(secs(100));
    pair.send(&records(b"still"));
    pair.bench.run_until_idle();
    assert_eq!(
        pair.bench.world.log[1..],
        ["close Taken", "open", "data still"]
    );
    assert_eq!(pair.calls.handshakes.get(), steps);
    Ok(())
}

#[test]
fn a_handshake_that_is_not_complete_goes_on_within_a_new_timeout() -> Result {
    let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |_| {})?;
    let hello = record(HELLO, b"");
    pair.send(&hello[..1]);
    pair.bench.run_until_idle();
    pair.bench.advance(secs(9));
    let taken = take(&mut pair.bench, pair.key);
    pair.open_again(taken, &ConnectionOptions::new())?;
    pair.bench.run_until_idle();
    pair.bench.advance(ms(9_999));
    assert_eq!(pair.bench.world.log, ["close Taken"]);
    pair.send(&hello[1..]);
    pair.bench.run_until_idle();
    assert_eq!(pair.bench.world.log, ["close Taken", "open"]);
    assert_eq!(pair.read()?.0, "H", "it has greeted once");
    Ok(())
}

#[test]
fn a_take_after_flush_waits_for_output_that_is_held() -> Result {
    let (mut pair, written) = super::output::filled(&ConnectionOptions::new())?;
    let place = Rc::new(RefCell::new(None));
    let taken = Rc::clone(&place);
    let key = pair.key;
    pair.bench.reactor.defer(move |cx| {
        let asked = key.with(cx, |connection, cx| {
            connection.take_after_flush(cx, secs(60), move |stream, _cx| {
                *taken.borrow_mut() = Some(stream.unwrap());
            })
        });
        asked.unwrap().unwrap();
    });
    pair.bench.run_until_idle();
    assert!(place.borrow().is_none(), "the stream holds output");
    assert_eq!(pair.read_data(written)?.len(), written);
    pair.bench.run_until_idle();
    let taken: Taken<UnixToy> = place.take().unwrap();
    let upgraded = taken.upgrade(|toy| Ok(Toy::new(toy)))?;
    upgraded.open(&mut pair.bench.reactor, &ConnectionOptions::new(), sink())?;
    // The new stream has a handshake of its own.
    assert_eq!(pair.read()?, ("D".to_owned(), record(HELLO, b"")));
    pair.send(&record(DATA, &record(HELLO, b"")));
    pair.send(&record(DATA, &records(b"inner")));
    pair.bench.run_until_idle();
    assert_eq!(
        pair.bench.world.log,
        ["open", "close Taken", "open", "data inner"]
    );
    Ok(())
}

#[test]
fn a_stream_that_holds_bytes_is_not_upgraded() -> Result {
    let mut input = with_input()?;
    let taken = take::<UnixToy>(&mut input.bench, input.key);
    let refused = taken.upgrade(Ok).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidData);
    assert!(refused.to_string().contains("4 bytes"), "{refused}");

    let options = ConnectionOptions::new().max_bytes_per_turn(4);
    let pauses = probe(|event, connection, cx| {
        if let Event::Data(_) = event {
            connection.pause_reading();
        }
        Ok(default(&event, connection, cx))
    });
    let mut input = Pair::open(&options, pauses, |_| {})?;
    input.send(&records(b"0123456789"));
    input.bench.run_until_idle();
    let mut output = Pair::open(&options, sink(), |_| {})?;
    output.stalls.set(true);
    output.send(&record(QUESTION, b"?"));
    output.bench.run_until_idle();
    for mut pair in [input, output] {
        let taken = take::<UnixToy>(&mut pair.bench, pair.key);
        assert_eq!((taken.unread().len(), taken.unsent()), (0, 0));
        let refused = taken.upgrade(Ok).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidData);
        assert!(refused.to_string().contains("holds bytes"), "{refused}");
    }
    Ok(())
}

/// The output that the stream holds is missing, so the stream does not look whole.
#[test]
fn a_stream_that_ends_before_its_held_output_is_sent_is_reset() -> Result {
    for is_opened in [false, true] {
        let mut bench = Bench::new()?;
        let (near, mut far) = tcp_pair()?;
        far.set_nonblocking(true)?;
        let toy = Toy::new(near);
        let stalls = Rc::clone(&toy.stalls);
        let options = ConnectionOptions::new();
        let key = Connection::open(&mut bench.reactor, toy, &options, sink())?;
        bench.send(&mut far, &record(HELLO, b""));
        bench.until(|world| world.has("open"));
        stalls.set(true);
        bench.with(key, |connection| {
            let _ = connection.write(b"held").unwrap();
            let _ = connection.flush();
        });
        let taken = take::<Toy<std::net::TcpStream>>(&mut bench, key);
        if is_opened {
            let key = taken.open(&mut bench.reactor, &options, sink())?;
            bench.reactor.remove(key.key())?;
        } else {
            drop(taken);
        }
        let mut peer = Peer::new(far);
        let end = (0..1000).find_map(|_| peer.read().err());
        assert_eq!(
            end.map(|error| error.kind()),
            Some(ErrorKind::ConnectionReset)
        );
    }
    Ok(())
}
