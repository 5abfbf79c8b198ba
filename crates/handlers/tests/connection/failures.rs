//! Sockets that fail: bytes that came before are delivered first, and then the error.

use std::io::{self, ErrorKind, Write};
use std::mem::take;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::Bytes;
use handlers::{Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, Flow, RateLimit};
use rustix::io::Errno;
use support::reset;

use crate::{Bench, Event, Result, World, default, ms, pattern, probe, secs, sink, tcp_pair};

/// More bytes than the buffers of the kernel hold.
const MUCH: usize = 8 << 20;
/// As many bytes as these buffers hold for certain.
const SOME: usize = 100_000;

/// Acknowledges each piece with `length` bytes, and notes it. An error of a write is passed on.
fn acknowledges(length: usize) -> impl ConnectionHandler<World> {
    probe(move |event, connection, cx| {
        if matches!(event, Event::Data(_)) {
            let consumed = default(&event, connection, cx);
            let _ = connection.write(&vec![7; length])?;
            return Ok(consumed);
        }
        Ok(default(&event, connection, cx))
    })
}

#[test]
fn an_answer_that_comes_with_a_reset_is_read_while_much_is_queued() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.with(key, |connection| {
        connection.write(&pattern(MUCH)).map(drop).unwrap()
    });
    bench.run_until_idle();
    far.write_all(b"413 too large")?;
    drop(far); // with many unread bytes: a reset right after the answer
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    assert_eq!(
        bench.world.log,
        [
            "open",
            "data 413 too large",
            "close Failed(ConnectionReset)"
        ]
    );
    Ok(())
}

#[test]
fn an_answer_of_many_turns_followed_by_a_reset_is_read_to_its_last_byte() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) =
        bench.open_tcp(&ConnectionOptions::new().max_bytes_per_turn(1000), sink())?;
    bench.with(key, |connection| {
        connection.write(&pattern(MUCH)).map(drop).unwrap()
    });
    bench.run_until_idle();
    far.write_all(&pattern(SOME))?;
    drop(far);
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    assert!(
        bench.world.received == pattern(SOME),
        "{} bytes",
        bench.world.received.len()
    );
    Ok(())
}

/// Sends `pattern(SOME)` and closes, before a handler that answers each piece reads the first one.
fn sent_and_gone(mut far: impl Write) -> Result {
    far.write_all(&pattern(SOME))?;
    Ok(())
}

#[test]
fn a_peer_that_sends_and_closes_is_read_to_its_end_despite_answers() -> Result {
    let options = ConnectionOptions::new().max_bytes_per_turn(1000);
    for length in [3, 20_000] {
        let mut bench = Bench::new()?;
        let (_, far) = bench.open_tcp(&options, acknowledges(length))?;
        sent_and_gone(far)?;
        bench.until(World::is_closed);
        assert!(
            bench.world.received == pattern(SOME),
            "TCP: {} bytes",
            bench.world.received.len()
        );
        assert!(bench.world.has("end "), "{:?}", bench.world.log.last());

        let mut bench = Bench::new()?;
        let (_, far) = bench.open_unix(&options, acknowledges(length))?;
        sent_and_gone(far)?;
        bench.until(World::is_closed);
        assert!(
            bench.world.received == pattern(SOME),
            "Unix: {} bytes",
            bench.world.received.len()
        );
        assert!(bench.world.has("end "), "{:?}", bench.world.log.last());
        assert!(
            bench.world.has("close Failed(BrokenPipe)"),
            "{:?}",
            bench.world.log.last()
        );
    }
    Ok(())
}

#[test]
fn a_greeting_to_a_peer_that_has_sent_and_gone_loses_nothing() -> Result {
    let mut bench = Bench::new()?;
    let (near, far) = UnixStream::pair()?;
    sent_and_gone(far)?;
    let greets = probe(|event, connection, cx| {
        if matches!(event, Event::Open) {
            let _ = connection.write(b"who is there")?;
        }
        Ok(default(&event, connection, cx))
    });
    Connection::open(
        &mut bench.reactor,
        near,
        &ConnectionOptions::new().max_bytes_per_turn(1000),
        greets,
    )?;
    assert_eq!(bench.until_closed(), "close Failed(BrokenPipe)");
    assert!(
        bench.world.received == pattern(SOME),
        "{} bytes",
        bench.world.received.len()
    );
    assert!(bench.world.has("end "));
    Ok(())
}

#[test]
fn frames_after_one_whose_answer_fails_are_handled_too() -> Result {
    let mut bench = Bench::new()?;
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(&[1; 50])?;
    drop(far);
    let handler = probe(|event, connection, cx| {
        if let Event::Data(data) = event {
            for frame in data.chunks(5) {
                cx.state.received.extend_from_slice(frame);
                let _ = connection.write(&[2; 20_000])?; // written at once
            }
            return Ok(data.len());
        }
        Ok(default(&event, connection, cx))
    });
    Connection::open(&mut bench.reactor, near, &ConnectionOptions::new(), handler)?;
    assert_eq!(bench.until_closed(), "close Failed(BrokenPipe)");
    assert_eq!(bench.world.received.len(), 50);
    Ok(())
}

#[test]
fn a_producer_that_writes_until_full_ends_on_a_failed_socket() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Data(_)) {
            while connection.write(&[7; 20_000])? == Flow::Open {}
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) =
        bench.open_unix(&ConnectionOptions::new().max_bytes_per_turn(1000), handler)?;
    far.write_all(&pattern(SOME))?;
    drop(far);
    bench.until(World::is_closed);
    assert!(bench.world.received == pattern(SOME) && !bench.world.has("drain"));
    Ok(())
}

#[test]
fn the_end_after_a_reset_is_not_reported_as_an_end_of_the_stream() -> Result {
    for read_first in [false, true] {
        let mut bench = Bench::new()?;
        let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
        bench.run_until_idle();
        far.write_all(b"half of a mess")?;
        if read_first {
            bench.until(|world| !world.received.is_empty());
        }
        reset(far)?;
        // The write consumes the error of the socket. A read after it would take it for its end.
        bench.reactor.defer(move |cx| {
            let _ = key.with(cx, |connection, _cx| connection.write(&pattern(20_000)));
        });
        assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
        assert_eq!(bench.world.received, b"half of a mess");
        assert!(!bench.world.has("end "), "{:?}", bench.world.log);
    }
    Ok(())
}

/// Returns a paused connection that `SOME` bytes and then a reset have reached.
fn paused_and_reset(bench: &mut Bench) -> Result<ConnectionKey<World>> {
    let (key, mut far) =
        bench.open_tcp(&ConnectionOptions::new().idle_timeout(secs(60)), sink())?;
    bench.with(key, |connection| connection.pause_reading());
    far.write_all(&pattern(SOME))?;
    bench.run_until_idle();
    reset(far)?;
    bench.until(|world| world.has("failure ConnectionReset"));
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "failure ConnectionReset"]);
    Ok(key)
}

#[test]
fn a_paused_connection_is_notified_of_a_reset_and_keeps_earlier_bytes() -> Result {
    let mut bench = Bench::new()?;
    let key = paused_and_reset(&mut bench)?;
    let refused = bench.with(key, |connection| {
        connection
            .write(b"anybody there?")
            .map_err(|error| error.kind())
    });
    assert_eq!(refused, Err(ErrorKind::ConnectionReset));
    let sleeps = bench.reactor.metrics().turns;
    bench.run_until_idle();
    assert_eq!(bench.reactor.metrics().turns, sleeps + 1, "it rests");
    bench.with(key, |connection| connection.resume_reading());
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    assert!(bench.world.received == pattern(SOME));
    assert!(!bench.world.has("end "));
    Ok(())
}

/// A Unix peer that has closed its read side is seen by a write, and there is nothing to read.
#[test]
fn a_failed_write_leaves_a_paused_handler_its_unconsumed_bytes() -> Result {
    let mut bench = Bench::new()?;
    let mut is_first = true;
    let handler = probe(move |event, connection, cx| {
        if matches!(event, Event::Data(_)) && take(&mut is_first) {
            connection.pause_reading();
            return Ok(0);
        }
        Ok(default(&event, connection, cx))
    });
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    far.write_all(b"unconsumed")?;
    bench.until(|world| world.has("data unconsumed"));
    far.shutdown(Shutdown::Read)?;
    let _ = bench.with(key, |connection| connection.write(b"refused"))?;
    bench.until(|world| world.has("failure BrokenPipe"));
    bench.run_until_idle();
    assert!(!bench.world.is_closed());
    bench.with(key, |connection| connection.resume_reading());
    assert_eq!(bench.until_closed(), "close Failed(BrokenPipe)");
    assert_eq!(bench.world.received, b"unconsumed");
    Ok(())
}

/// Ends a connection in one of several ways.
type End = fn(&mut Connection<'_, World>);

#[test]
fn a_paused_connection_that_was_reset_can_end_in_every_way() -> Result {
    let ways: [(End, &str); 5] = [
        (|connection| connection.close(), "close Closed"),
        (|connection| connection.abort(), "close Aborted"),
        (
            |connection| connection.close_gracefully(secs(5)),
            "close Failed(ConnectionReset)",
        ),
        (
            |connection| connection.close_after_flush(secs(5)),
            "close Failed(ConnectionReset)",
        ),
        (
            |connection| connection.abort_after_flush(secs(5)),
            "close Failed(ConnectionReset)",
        ),
    ];
    for (end, reason) in ways {
        let mut bench = Bench::new()?;
        let key = paused_and_reset(&mut bench)?;
        bench.with(key, end);
        assert_eq!(bench.until_closed(), reason);
    }
    let mut bench = Bench::new()?;
    paused_and_reset(&mut bench)?;
    bench.advance(secs(60));
    assert_eq!(
        bench.until_closed(),
        "close TimedOut(Idle)",
        "its timeouts run on"
    );
    Ok(())
}

#[test]
fn a_handler_may_resume_or_close_in_on_failure() -> Result {
    for resumes in [true, false] {
        let mut bench = Bench::new()?;
        let handler = probe(move |event, connection, cx| {
            match event {
                Event::Open => connection.pause_reading(),
                Event::Failure(_) if resumes => connection.resume_reading(),
                Event::Failure(_) => connection.close(),
                _ => {}
            }
            Ok(default(&event, connection, cx))
        });
        let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
        far.write_all(&pattern(SOME))?;
        bench.run_until_idle();
        reset(far)?;
        let end = bench.until_closed();
        assert_eq!(
            end,
            if resumes {
                "close Failed(ConnectionReset)"
            } else {
                "close Closed"
            }
        );
        assert_eq!(bench.world.received.len(), if resumes { SOME } else { 0 });
    }
    Ok(())
}

#[test]
fn bytes_that_a_paused_handler_left_are_delivered_after_a_reset() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Data(_)) && !cx.state.has("failure ConnectionReset") {
            connection.pause_reading();
            return Ok(1);
        }
        Ok(default(&event, connection, cx))
    });
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    far.write_all(b"left")?;
    bench.until(|world| world.has("data left"));
    reset(far)?;
    bench.until(|world| world.has("failure ConnectionReset"));
    bench.with(key, |connection| connection.resume_reading());
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    assert_eq!(bench.world.received, b"eft");
    Ok(())
}

#[test]
fn a_connection_that_was_full_gets_the_bytes_before_its_reset() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) =
        bench.open_tcp(&ConnectionOptions::new().max_bytes_per_turn(1000), sink())?;
    bench.with(key, |connection| {
        assert_eq!(connection.write(&pattern(MUCH)).unwrap(), Flow::Full)
    });
    far.write_all(&pattern(SOME))?;
    bench.run_until_idle();
    assert!(
        bench.world.received.is_empty(),
        "it is full, and does not read"
    );
    reset(far)?;
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    assert!(
        bench.world.received == pattern(SOME),
        "{} bytes",
        bench.world.received.len()
    );
    assert!(!bench.world.has("drain"));
    Ok(())
}

/// No byte that came before it is lost.
#[test]
fn a_reset_while_a_rate_limits_reading_is_reported_at_once() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().read_rate(RateLimit::new(1000, 1000));
    let (_, mut far) = bench.open_tcp(&options, sink())?;
    far.write_all(&pattern(SOME))?;
    bench.until(|world| world.received.len() == 1000);
    bench.run_until_idle();
    reset(far)?;
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)"); // the clock does not advance
    assert!(bench.world.received == pattern(SOME));
    Ok(())
}

#[test]
fn a_connection_may_pause_amid_the_bytes_before_a_reset() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Data(_)) && cx.state.received.is_empty() {
            connection.pause_reading();
        }
        Ok(default(&event, connection, cx))
    });
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    far.write_all(&pattern(SOME))?; // more than one read
    reset(far)?;
    bench.until(|world| world.has("failure ConnectionReset"));
    bench.run_until_idle();
    assert!(bench.world.received.len() < SOME && !bench.world.is_closed());
    bench.with(key, |connection| connection.resume_reading());
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    assert!(bench.world.received == pattern(SOME));
    Ok(())
}

#[test]
fn bytes_between_a_failed_write_and_the_next_wait_are_read() -> Result {
    // The peer reads no more, and still sends: the kernel refuses our writes, and reports nothing
    // else.
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    far.shutdown(Shutdown::Read)?;
    bench.run_until_idle();
    bench.reactor.defer(move |cx| {
        let _ = key.with(cx, |connection, _cx| connection.write(&pattern(20_000)));
    });
    bench
        .reactor
        .defer(move |_| far.write_all(b"what I still had to say").unwrap());
    assert_eq!(bench.until_closed(), "close Failed(BrokenPipe)");
    assert_eq!(bench.world.received, b"what I still had to say");
    Ok(())
}

/// A write by key is queued, and a queue that is full is sent at once.
#[test]
fn a_write_by_key_that_finds_the_failure_reports_it() -> Result {
    type Write = fn(&mut Connection<'_, World>) -> io::Result<Flow>;
    let writes: [Write; 2] = [
        |connection| connection.write(&[1; 6]),
        |connection| connection.write_bytes(Bytes::from_static(&[1; 6])),
    ];
    for write in writes {
        for (high, max, is_paused) in [
            (10, 100, false),
            (10, 100, true),
            (100, 10, false),
            (100, 10, true),
        ] {
            let mut bench = Bench::new()?;
            let options = ConnectionOptions::new()
                .watermarks(0, high)
                .max_write_queue(max);
            let (key, far) = bench.open_unix(&options, sink())?;
            let written = bench.with(key, move |connection| {
                if is_paused {
                    connection.pause_reading();
                }
                drop(far);
                [write(connection), write(connection)]
            });
            let failed = if is_paused {
                Err(Some(Errno::PIPE.raw_os_error()))
            } else {
                Ok(Flow::Full)
            };
            let written = written.map(|flow| flow.map_err(|error| handlers::errno(&error)));
            assert_eq!(written, [Ok(Flow::Open), failed]);
            assert_eq!(bench.until_closed(), "close Failed(BrokenPipe)");
        }
    }
    Ok(())
}

/// It ends at once.
#[test]
fn a_half_closed_connection_with_a_pending_response_ends_at_a_failure() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::End(_)) {
            connection.begin_response();
        }
        Ok(default(&event, connection, cx))
    });
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    far.write_all(b"question")?;
    drop(far);
    bench.until(|world| world.has("end "));
    bench.run_until_idle();
    assert!(!bench.world.is_closed(), "it waits for its answer");
    bench.with(key, |connection| drop(connection.write(&pattern(20_000))));
    assert_eq!(bench.until_closed(), "close Failed(BrokenPipe)");
    Ok(())
}

#[test]
fn a_peer_that_ends_its_direction_gets_the_answers_that_were_announced() -> Result {
    let mut bench = Bench::new()?;
    let (near, mut far) = tcp_pair()?;
    far.set_nonblocking(true)?;
    let handler = probe(|event, connection, cx| {
        if let Event::Data(data) = event {
            data.iter().for_each(|_| connection.begin_response());
        }
        Ok(default(&event, connection, cx))
    });
    let key = Connection::open(&mut bench.reactor, near, &ConnectionOptions::new(), handler)?;
    far.write_all(b"??")?;
    far.shutdown(Shutdown::Write)?;
    bench.until(|world| world.has("end "));
    for answer in [b"one ", b"two "] {
        bench.run_until_idle();
        bench.advance(ms(100));
        assert!(!bench.world.is_closed());
        bench.with(key, move |connection| {
            connection.end_response();
            connection.write(answer).map(drop)
        })?;
    }
    assert_eq!(bench.receive_all(&mut far)?, b"one two ");
    assert_eq!(bench.until_closed(), "close Finished");
    Ok(())
}

#[test]
fn a_handler_may_close_gracefully_in_on_failure() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        match event {
            Event::Open => connection.pause_reading(),
            Event::Failure(_) => connection.close_gracefully(Duration::MAX),
            _ => {}
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    far.write_all(b"unread")?;
    reset(far)?;
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    assert_eq!(bench.world.count("finish"), 1);
    Ok(())
}
