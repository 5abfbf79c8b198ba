//! Input that the stream holds.

use handlers::{Connection, ConnectionOptions};
use support::{Result, tcp_pair};

use super::Pair;
use super::toy::{END, Fault, HELLO, QUESTION, Toy, record, records};
use crate::{Bench, Event, default, pattern, probe, sink};

#[test]
fn bytes_in_the_stream_are_read_without_an_event() -> Result {
    let options = ConnectionOptions::new().max_bytes_per_turn(1000);
    let mut pair = Pair::open(&options, sink(), |_| {})?;
    let bytes = pattern(4096);
    pair.send(&records(&bytes));
    pair.bench.run_until_idle();
    assert_eq!(pair.bench.world.received, bytes);
    pair.expect_rest();
    Ok(())
}

#[test]
fn a_turn_reads_no_more_than_its_share() -> Result {
    for most in [1, 1000, 1 << 20] {
        let options = ConnectionOptions::new().max_bytes_per_turn(most);
        let mut pair = Pair::open(&options, sink(), |_| {})?;
        pair.send(&records(&pattern(4096)));
        let mut received = 0;
        while received < 4096.min(most * 100) {
            pair.bench.turn();
            let now = pair.bench.world.received.len();
            assert!(now - received <= most, "{} bytes in a turn", now - received);
            assert!(now > received, "a turn without bytes");
            received = now;
        }
    }
    Ok(())
}

#[test]
fn a_pause_holds_back_bytes_in_the_stream() -> Result {
    let pauses = probe(|event, connection, cx| {
        if let Event::Data(_) = event {
            connection.pause_reading();
        }
        Ok(default(&event, connection, cx))
    });
    let options = ConnectionOptions::new().max_bytes_per_turn(10);
    let mut pair = Pair::open(&options, pauses, |_| {})?;
    pair.send(&records(b"0123456789abcdefghij"));
    for expected in [&b"0123456789"[..], b"0123456789abcdefghij"] {
        pair.expect_rest();
        assert_eq!(pair.bench.world.received, expected);
        pair.bench
            .with(pair.key, |connection| connection.resume_reading());
    }
    pair.expect_rest();
    Ok(())
}

/// The handler gets all that has arrived, although the kernel holds none of it.
#[test]
fn bytes_in_the_stream_outlive_a_reset_during_a_pause() -> Result {
    let mut bench = Bench::new()?;
    let (near, mut far) = tcp_pair()?;
    far.set_nonblocking(true)?;
    let pauses = probe(|event, connection, cx| {
        if let Event::Data(_) = event {
            connection.pause_reading();
        }
        Ok(default(&event, connection, cx))
    });
    let options = ConnectionOptions::new().max_bytes_per_turn(10);
    let key = Connection::open(&mut bench.reactor, Toy::new(near), &options, pauses)?;
    bench.send(&mut far, &record(HELLO, b""));
    bench.send(&mut far, &records(b"0123456789abcdefghij"));
    bench.until(|world| world.received.len() == 10);
    socket2::SockRef::from(&far).set_linger(Some(std::time::Duration::ZERO))?;
    drop(far);
    bench.until(|world| world.has("failure ConnectionReset"));
    bench.with(key, |connection| connection.resume_reading());
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    assert_eq!(bench.world.received, b"0123456789abcdefghij");
    Ok(())
}

#[test]
fn a_stream_that_gives_its_input_piece_by_piece_takes_one_turn() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |toy| {
        toy.max_read = 100;
    })?;
    pair.send(&records(&pattern(4000)));
    pair.bench.turn();
    assert_eq!(pair.bench.world.received.len(), 4000);
    Ok(())
}

#[test]
fn an_end_in_the_stream_is_reported_after_its_bytes() -> Result {
    let options = ConnectionOptions::new().max_bytes_per_turn(3);
    let mut pair = Pair::open(&options, sink(), |_| {})?;
    let mut bytes = records(b"seven..");
    bytes.extend(record(END, b""));
    pair.send(&bytes);
    assert_eq!(pair.read()?.0, "E.");
    assert_eq!(
        pair.bench.world.log,
        [
            "open",
            "data sev",
            "data en.",
            "data .",
            "end ",
            "close Finished"
        ]
    );
    Ok(())
}

#[test]
fn a_stream_that_is_cut_ends_with_an_error_after_its_bytes() -> Result {
    let options = ConnectionOptions::new().max_bytes_per_turn(3);
    let mut pair = Pair::open(&options, sink(), |_| {})?;
    pair.send(&records(b"seven.."));
    pair.send(&records(b"lost")[..5]);
    pair.peer.socket.shutdown(std::net::Shutdown::Write)?;
    assert_eq!(pair.bench.until_closed(), "close Failed(UnexpectedEof)");
    assert_eq!(pair.bench.world.received, b"seven..");
    Ok(())
}

#[test]
fn a_record_that_is_no_data_takes_no_callback() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |_| {})?;
    for _ in 0..3 {
        pair.send(&record(QUESTION, b"?"));
        assert_eq!(pair.read()?.0, "A");
    }
    assert_eq!(pair.bench.world.log, ["open"]);
    pair.expect_rest();
    Ok(())
}

#[test]
fn a_stream_that_claims_input_and_has_none_does_not_spin() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |toy| {
        toy.fault = Some(Fault::ClaimsInput);
    })?;
    pair.send(&records(b"some"));
    pair.expect_rest();
    assert_eq!(pair.bench.world.received, b"some");
    Ok(())
}
