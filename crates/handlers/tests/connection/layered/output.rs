//! Output that the stream holds.

use std::io::{Read, Write};

use handlers::{ConnectionOptions, Flow};
use support::{Result, ms};

use super::Pair;
use super::toy::{Fault, QUESTION, RECORD_MAX, record, records};
use crate::{Event, default, pattern, probe, secs, sink};

#[test]
fn all_bytes_reach_a_slow_reader() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |_| {})?;
    let bytes = pattern(4 << 20);
    let written = bytes.clone();
    pair.bench.with(pair.key, move |connection| {
        let _ = connection.write(&written).unwrap();
    });
    pair.expect_rest();
    assert_eq!(pair.read_data(bytes.len())?, bytes);
    pair.expect_rest();
    Ok(())
}

/// The answers to questions are written by the stream itself.
#[test]
fn output_of_the_stream_is_sent_although_nothing_is_queued() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |_| {})?;
    let question = record(QUESTION, &pattern(RECORD_MAX));
    let count = (2 << 20) / question.len();
    for _ in 0..count {
        pair.send(&question);
    }
    pair.expect_rest();
    let (mut answers, mut shorter) = (0, 0);
    while answers < count {
        let (kinds, _) = pair.read()?;
        shorter += usize::from(kinds.is_empty());
        assert!(shorter < 10, "{answers} of {count} answers");
        answers += kinds.len();
    }
    assert_eq!(pair.bench.world.log, ["open"]);
    pair.expect_rest();
    Ok(())
}

/// Fills the socket, so that the stream holds output.
pub(super) fn filled(options: &ConnectionOptions) -> Result<(Pair, usize)> {
    let mut pair = Pair::open(options, sink(), |_| {})?;
    let mut written = 0;
    loop {
        let queued = pair.bench.with(pair.key, |connection| {
            let _ = connection.write(&pattern(100)).unwrap();
            let _ = connection.flush();
            connection.queued()
        });
        written += 100;
        if queued > 0 {
            return Ok((pair, written));
        }
    }
}

#[test]
fn held_output_counts_as_queued() -> Result {
    let (mut pair, written) = filled(&ConnectionOptions::new())?;
    pair.expect_rest();
    assert_eq!(pair.read_data(written)?.len(), written);
    assert_eq!(
        pair.bench.with(pair.key, |connection| connection.queued()),
        0
    );
    Ok(())
}

/// The write that fills the stream sees it, and not only the one after it.
#[test]
fn held_output_counts_for_the_watermarks() -> Result {
    let options = ConnectionOptions::new().watermarks(0, 10);
    let mut pair = Pair::open(&options, sink(), |_| {})?;
    let write = |pair: &mut Pair| {
        pair.bench.with(pair.key, |connection| {
            let _ = connection.write(&[1; 10]).unwrap();
            (connection.flush(), connection.queued())
        })
    };
    for _ in 0..2 {
        assert_eq!(write(&mut pair), (Flow::Open, 0));
    }
    pair.stalls.set(true);
    assert_eq!(write(&mut pair), (Flow::Full, 13), "a record of 10 bytes");
    for (is_stalled, log) in [(true, &["open"][..]), (false, &["open", "drain"])] {
        pair.stalls.set(is_stalled);
        pair.bench.run_until_idle();
        pair.peer.socket.read_exact(&mut [0; 13])?; // the kernel reports room
        pair.bench.run_until_idle();
        assert_eq!(pair.bench.world.log, log);
    }
    Ok(())
}

/// The output that the stream holds then is lost, and no room for it follows.
#[test]
fn output_that_is_held_at_a_failure_does_not_stop_reading() -> Result {
    let answers = probe(|event, connection, cx| {
        if let Event::Data(_) = event {
            assert_eq!(connection.write(&[1; 10])?, Flow::Full);
            assert_eq!((connection.flush(), connection.queued()), (Flow::Full, 0));
        }
        Ok(default(&event, connection, cx))
    });
    let options = ConnectionOptions::new().watermarks(0, 10);
    let mut pair = Pair::open(&options, answers, |toy| toy.max_read = 1)?;
    pair.peer.socket.write_all(&records(b"unread"))?;
    drop(pair.peer);
    assert_eq!(pair.bench.until_closed(), "close Failed(BrokenPipe)");
    assert_eq!(pair.bench.world.received, b"unread");
    Ok(())
}

#[test]
fn a_paused_stream_that_holds_output_is_read_after_a_failure() -> Result {
    let options = ConnectionOptions::new().watermarks(0, 10);
    let mut pair = Pair::open(&options, sink(), |_| {})?;
    pair.bench
        .with(pair.key, |connection| connection.pause_reading());
    pair.send(&records(b"unread"));
    drop(pair.peer);
    let after = pair.bench.with(pair.key, |connection| {
        let _ = connection.write(&[1; 10]);
        (connection.flush(), connection.queued())
    });
    assert_eq!(after, (Flow::Full, 0));
    pair.bench.until(|world| world.has("failure BrokenPipe"));
    pair.bench
        .with(pair.key, |connection| connection.resume_reading());
    assert_eq!(pair.bench.until_closed(), "close Failed(BrokenPipe)");
    assert_eq!(pair.bench.world.received, b"unread");
    Ok(())
}

#[test]
fn the_write_timeout_runs_while_output_is_held() -> Result {
    let (mut pair, _) = filled(&ConnectionOptions::new().write_timeout(secs(5)))?;
    pair.bench.advance(ms(4_999));
    assert_eq!(pair.bench.world.count("timeout Write"), 0);
    pair.bench.advance(ms(1));
    assert_eq!(pair.bench.until_closed(), "close TimedOut(Write)");
    Ok(())
}

#[test]
fn the_write_timeout_starts_again_when_the_peer_takes_held_output() -> Result {
    let (mut pair, written) = filled(&ConnectionOptions::new().write_timeout(secs(5)))?;
    pair.bench.advance(secs(4));
    assert_eq!(pair.read_data(written)?.len(), written);
    pair.bench.run_until_idle();
    pair.bench.advance(secs(100));
    assert_eq!(pair.bench.world.log, ["open"]);
    Ok(())
}

#[test]
fn held_output_that_the_peer_takes_restarts_the_idle_timeout() -> Result {
    let (mut pair, written) = filled(&ConnectionOptions::new().idle_timeout(secs(5)))?;
    pair.bench.run_until_idle();
    pair.bench.advance(secs(4));
    assert_eq!(pair.read_data(written)?.len(), written);
    pair.bench.advance(ms(4_999));
    assert_eq!(pair.bench.world.log, ["open"]);
    pair.bench.advance(ms(1));
    assert_eq!(pair.bench.until_closed(), "close TimedOut(Idle)");
    Ok(())
}

/// The end is output too. Its timeout does not run from the last byte before it.
#[test]
fn the_write_timeout_runs_while_the_end_is_held() -> Result {
    let options = ConnectionOptions::new().write_timeout(secs(5));
    let mut pair = Pair::open(&options, sink(), |_| {})?;
    pair.bench.advance(secs(100));
    pair.stalls.set(true);
    pair.bench
        .with(pair.key, |connection| connection.shutdown());
    pair.expect_rest();
    pair.bench.advance(ms(4_999));
    assert_eq!(pair.bench.world.log, ["open"]);
    pair.bench.advance(ms(1));
    assert_eq!(pair.bench.until_closed(), "close TimedOut(Write)");
    Ok(())
}

#[test]
fn a_producer_at_the_watermark_is_notified_of_room() -> Result {
    let produces = probe(|event, connection, cx| {
        if let Event::Open | Event::Drain = event {
            let drains = cx.state.count("drain");
            while drains < 20 && connection.write(&pattern(1000))? == Flow::Open {}
        }
        Ok(default(&event, connection, cx))
    });
    let options = ConnectionOptions::new().watermarks(0, 1);
    let mut pair = Pair::new(&options, produces, |_| {})?;
    pair.send(&record(super::toy::HELLO, b""));
    for _ in 0..100 {
        let _ = pair.read()?;
    }
    assert_eq!(pair.bench.world.count("drain"), 20);
    pair.expect_rest();
    Ok(())
}

#[test]
fn an_echo_in_small_turns_loses_nothing() -> Result {
    let echo = probe(|event, connection, _cx| match event {
        Event::Data(data) => connection.write(data).map(|_| data.len()),
        _ => Ok(0),
    });
    let options = ConnectionOptions::new()
        .max_bytes_per_turn(777)
        .watermarks(100, 5000);
    let mut pair = Pair::open(&options, echo, |_| {})?;
    let bytes = pattern(300_000);
    let mut back = Vec::new();
    for piece in records(&bytes).chunks(10_000) {
        pair.send(piece);
        back.extend(pair.read()?.1);
    }
    while back.len() < bytes.len() {
        let (_, more) = pair.read()?;
        assert!(!more.is_empty(), "{} bytes came back", back.len());
        back.extend(more);
    }
    assert_eq!(back, bytes);
    Ok(())
}

#[test]
fn a_stream_that_wants_to_write_and_never_does_backs_off() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |toy| {
        toy.fault = Some(Fault::WantsToWrite);
    })?;
    pair.expect_rest();
    pair.send(&records(b"some"));
    pair.bench.run_until_idle();
    assert_eq!(pair.bench.world.received, b"some");
    Ok(())
}

/// The stream has taken the bytes, and the kernel has not.
#[test]
fn a_mark_waits_for_the_output_that_the_stream_holds() -> Result {
    let (mut pair, written) = filled(&ConnectionOptions::new())?;
    let mark = format!("sent {written}");
    let position = pair
        .bench
        .with(pair.key, |connection| connection.notify_sent());
    assert_eq!(position, written as u64);
    pair.expect_rest();
    let metrics = |pair: &mut Pair| pair.bench.with(pair.key, |connection| connection.metrics());
    let before = metrics(&mut pair);
    assert!(before.sent < position, "{before:?}");
    assert!(!pair.bench.world.has(&mark), "{:?}", pair.bench.world.log);
    assert_eq!(pair.read_data(written)?.len(), written);
    pair.expect_rest();
    assert_eq!(pair.bench.world.count(&mark), 1);
    let after = metrics(&mut pair);
    assert_eq!((after.sent, after.written), (position, position));
    Ok(())
}
