//! Timeouts of layered streams: that of the handshake, and those after it. None expires while the
//! answer lies in the kernel.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{CloseReason, Connection, ConnectionOptions, Timeout};
use reactor::{ManualClock, Reactor};
use support::{Result, ms};

use super::Pair;
use super::toy::{HELLO, Toy, record, records};
use crate::{Bench, Event, World, default, pattern, probe, secs, sink};

#[test]
fn a_handshake_that_stalls_takes_no_turn_until_its_timeout() -> Result {
    let options = ConnectionOptions::new()
        .idle_timeout(secs(1))
        .read_timeout(secs(1))
        .write_timeout(secs(1));
    let mut pair = Pair::new(&options, sink(), |_| {})?;
    pair.send(&record(HELLO, b"")[..2]);
    pair.expect_rest();
    let before = pair.bench.reactor.metrics().calls;
    pair.bench.advance(ms(9_999));
    assert_eq!(pair.bench.world.log, Vec::<String>::new());
    assert_eq!(pair.bench.reactor.metrics().calls, before);
    pair.expect_rest();
    pair.bench.advance(ms(1));
    let expected = CloseReason::TimedOut(Timeout::Handshake);
    assert_eq!(pair.bench.until_closed(), format!("close {expected:?}"));
    Ok(())
}

#[test]
fn the_handshake_timeout_holds_for_0_for_1_and_for_none() -> Result {
    for timeout in [Duration::ZERO, ms(1)] {
        let options = ConnectionOptions::new().handshake_timeout(timeout);
        let mut pair = Pair::new(&options, sink(), |_| {})?;
        pair.bench.run_until_idle();
        pair.bench.advance(timeout);
        assert_eq!(pair.bench.until_closed(), "close TimedOut(Handshake)");
    }
    for timeout in [None, Some(Duration::MAX)] {
        let options = ConnectionOptions::new().handshake_timeout(timeout);
        let mut pair = Pair::new(&options, sink(), |_| {})?;
        pair.bench.run_until_idle();
        pair.bench.advance(secs(100_000));
        assert!(!pair.bench.world.is_closed());
    }
    Ok(())
}

/// The time of the handshake is not that of the connection.
#[test]
fn timeouts_run_from_the_end_of_the_handshake() -> Result {
    let options = ConnectionOptions::new().idle_timeout(secs(3));
    let mut pair = Pair::new(&options, sink(), |_| {})?;
    pair.bench.run_until_idle();
    pair.bench.advance(secs(9));
    pair.send(&record(HELLO, b""));
    pair.bench.run_until_idle();
    pair.bench.advance(ms(2_999));
    assert_eq!(pair.bench.world.log, ["open"]);
    pair.bench.advance(ms(1));
    assert_eq!(pair.bench.until_closed(), "close TimedOut(Idle)");
    Ok(())
}

#[test]
fn no_timer_is_left_after_a_handshake() -> Result {
    let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |_| {})?;
    pair.bench.run_until_idle(); // the timer of the handshake is armed
    pair.send(&record(HELLO, b""));
    pair.bench.run_until_idle();
    let before = pair.bench.reactor.metrics().calls;
    pair.bench.advance(secs(100));
    assert_eq!(pair.bench.reactor.metrics().calls, before);
    Ok(())
}

#[test]
fn options_that_are_replaced_keep_the_deadline_of_the_handshake() -> Result {
    let mut pair = Pair::new(&ConnectionOptions::new(), sink(), |_| {})?;
    pair.bench.run_until_idle();
    pair.bench.advance(secs(9));
    pair.bench.with(pair.key, |connection| {
        connection.set_options(&ConnectionOptions::new().idle_timeout(secs(60)));
    });
    pair.bench.advance(secs(1));
    assert_eq!(pair.bench.until_closed(), "close TimedOut(Handshake)");
    Ok(())
}

/// The peers have answered while the process stood still, and a turn takes only one step.
#[test]
fn no_handshake_times_out_while_it_waits_for_its_turn() -> Result {
    let clock = ManualClock::new();
    let mut bench = Bench {
        reactor: Reactor::builder().clock(clock.clone()).build()?,
        world: World::default(),
    };
    let options = ConnectionOptions::new().max_handshakes_per_turn(1);
    let mut peers = Vec::new();
    for _ in 0..3 {
        let (near, far) = UnixStream::pair()?;
        Connection::open(&mut bench.reactor, Toy::new(near), &options, sink())?;
        peers.push(far);
    }
    bench.run_until_idle(); // each has taken its first step
    for peer in &mut peers[..2] {
        bench.send(peer, &record(HELLO, b""));
    }
    clock.advance(secs(10));
    bench.run_until_idle();
    let silent = "close TimedOut(Handshake)";
    assert_eq!(bench.world.count("open"), 2, "{:?}", bench.world);
    assert_eq!(bench.world.count(silent), 1, "{:?}", bench.world);
    Ok(())
}

/// The stream waits for room first, so the answer lies in the kernel before it is watched.
#[test]
fn a_handshake_timeout_of_0_comes_after_an_answer_in_the_kernel() -> Result {
    let mut pair = {
        let options = ConnectionOptions::new().handshake_timeout(Duration::ZERO);
        Pair::new(&options, sink(), |toy| toy.stalls.set(true))?
    };
    pair.send(&record(HELLO, b""));
    let stalls = std::rc::Rc::clone(&pair.stalls);
    pair.bench.reactor.defer(move |_cx| stalls.set(false));
    pair.bench.run_until_idle();
    assert_eq!(pair.bench.world.log, ["open"]);
    Ok(())
}

#[test]
fn a_read_timeout_of_0_comes_after_bytes_in_the_kernel() -> Result {
    let pauses = probe(|event, connection, cx| {
        if let Event::Open = event {
            connection.pause_reading();
        }
        Ok(default(&event, connection, cx))
    });
    let options = ConnectionOptions::new().read_timeout(Duration::ZERO);
    let mut pair = Pair::open(&options, pauses, |_| {})?;
    pair.send(&records(b"some"));
    pair.bench
        .with(pair.key, |connection| connection.resume_reading());
    assert_eq!(pair.bench.until_closed(), "close TimedOut(Read)");
    assert_eq!(pair.bench.world.log[1..3], ["data some", "timeout Read"]);
    Ok(())
}

#[test]
fn a_write_timeout_of_0_comes_after_room_in_the_kernel() -> Result {
    let options = ConnectionOptions::new().write_timeout(Duration::ZERO);
    let mut pair = Pair::open(&options, sink(), |_| {})?;
    let (bytes, key) = (pattern(300_000), pair.key);
    let written = bytes.clone();
    pair.bench.with(key, move |connection| {
        let _ = connection.write(&written).unwrap();
    });
    let mut data = pair.peer.read()?.1; // the direction is watched from this turn on
    while data.len() < bytes.len() {
        pair.bench.turn();
        assert_eq!(pair.bench.world.count("timeout Write"), 0);
        let (_, more) = pair.peer.read()?;
        assert!(!more.is_empty(), "{} bytes came", data.len());
        data.extend(more);
    }
    assert_eq!(data, bytes);
    Ok(())
}
