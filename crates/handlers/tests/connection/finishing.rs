//! Graceful closes: bytes that have come are answered, and then the connections are closed.

use std::io::Write;
use std::net::Shutdown;

use handlers::{Connection, ConnectionOptions, Flow};
use reactor::Then;

use crate::{Bench, Event, Result, World, default, ms, pattern, probe, secs, sink, tcp_pair};

/// More bytes than the buffers of a socket hold.
const MUCH: usize = 1 << 22;

#[test]
fn a_graceful_close_answers_bytes_that_have_come_and_no_later_ones() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if let Event::Data(data) = event {
            let _ = connection.write(data)?;
        }
        Ok(default(&event, connection, cx))
    });
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    far.write_all(b"the last question")?;
    // Before the loop has seen the bytes.
    bench.with(key, |connection| connection.close_gracefully(secs(5)));
    assert_eq!(bench.receive_all(&mut far)?, b"the last question");
    far.write_all(b"one more")?;
    far.shutdown(Shutdown::Write)?;
    assert_eq!(bench.until_closed(), "close Finished");
    assert!(!bench.world.has("data one more"), "{:?}", bench.world);
    Ok(())
}

/// A peer that does not end is cut off at the deadline.
#[test]
fn a_handler_may_close_its_own_connection_gracefully() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Data(_)) {
            let _ = connection.write(b"bye")?;
            connection.close_gracefully(secs(5));
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    far.write_all(b"quit")?;
    assert_eq!(bench.receive_all(&mut far)?, b"bye");
    bench.advance(secs(5) - ms(1));
    assert!(!bench.world.is_closed());
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Close)");
    Ok(())
}

/// The close is a graceful one, made as soon as the connection opens.
#[test]
fn bytes_sent_before_a_connection_opens_are_answered_also_if_it_closes() -> Result {
    for by_itself in [false, true] {
        let mut bench = Bench::new()?;
        let (near, mut far) = tcp_pair()?;
        far.set_nonblocking(true)?;
        far.write_all(b"a question that was sent with the connection")?;
        let handler = probe(move |event, connection, cx| {
            match event {
                Event::Open if by_itself => connection.close_gracefully(secs(5)),
                Event::Data(data) => drop(connection.write(data)?),
                _ => {}
            }
            Ok(default(&event, connection, cx))
        });
        // In a timer, the kernel has been polled this turn already, without this stream.
        let mut accepted = Some((near, handler));
        bench.reactor.after(ms(0), move |cx| {
            let Some((near, handler)) = accepted.take() else {
                return Ok(Then::Done);
            };
            let key = Connection::open(cx.registry, near, &ConnectionOptions::new(), handler)?;
            if !by_itself {
                key.with(cx, |connection, _cx| connection.close_gracefully(secs(5)))
                    .map_err(std::io::Error::other)?;
            }
            Ok(Then::Done)
        });
        assert_eq!(
            bench.receive_all(&mut far)?,
            b"a question that was sent with the connection",
            "{by_itself}"
        );
        drop(far);
        assert_eq!(bench.until_closed(), "close Finished");
    }
    Ok(())
}

#[test]
fn the_earliest_of_several_deadlines_of_an_end_holds() -> Result {
    for [first, second] in [[100, 5], [5, 100]] {
        for finishes in [[true, false], [true, true], [false, false], [false, true]] {
            let mut bench = Bench::new()?;
            // The queue is full, so that the close does not finish before its deadline.
            let handler = probe(|event, connection, cx| {
                if matches!(event, Event::Open) {
                    assert_eq!(connection.write(&pattern(MUCH))?, Flow::Full);
                }
                Ok(default(&event, connection, cx))
            });
            let (key, _far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
            bench.run_until_idle();
            for (finishes, deadline) in finishes.into_iter().zip([first, second]) {
                bench.with(key, move |connection| {
                    if finishes {
                        connection.close_gracefully(secs(deadline))
                    } else {
                        connection.close_after_flush(secs(deadline))
                    }
                });
                bench.run_until_idle();
            }
            bench.advance(secs(5) - ms(1));
            assert!(!bench.world.is_closed());
            bench.advance(ms(1));
            assert_eq!(
                bench.until_closed(),
                "close TimedOut(Close)",
                "{first} s, {second} s, {finishes:?}"
            );
        }
    }
    Ok(())
}

/// The deadline is over before the deferred callbacks run.
#[test]
fn on_graceful_close_is_called_also_with_a_deadline_of_zero() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Finish) {
            let _ = connection.write(b"the rest")?;
        }
        Ok(default(&event, connection, cx))
    });
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    bench.with(key, |connection| connection.close_gracefully(secs(0)));
    assert_eq!(bench.receive_all(&mut far)?, b"the rest");
    assert_eq!(bench.world.log, ["open", "finish", "close TimedOut(Close)"]);
    Ok(())
}

/// The peer has received everything and does not close its side.
#[test]
fn a_later_deadline_holds_also_while_only_the_peer_is_waited_for() -> Result {
    let mut bench = Bench::new()?;
    let (key, _far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.with(key, |connection| connection.close_after_flush(secs(100)));
    bench.run_until_idle();
    bench.with(key, |connection| connection.close_gracefully(secs(5)));
    bench.run_until_idle();
    bench.advance(secs(5) - ms(1));
    assert!(!bench.world.is_closed());
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Close)");
    Ok(())
}

/// The queue may become full, and reading be paused, after the first close.
#[test]
fn closing_gracefully_twice_ends_a_connection_once() -> Result {
    for pauses in [false, true] {
        let mut bench = Bench::new()?;
        let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
        bench.run_until_idle();
        bench.with(key, move |connection| {
            connection.close_gracefully(secs(5));
            if pauses {
                connection.pause_reading();
            }
            connection.write(&pattern(MUCH)).map(drop)
        })?;
        bench.with(key, |connection| connection.close_gracefully(secs(5)));
        assert!(bench.receive_all(&mut far)? == pattern(MUCH));
        drop(far);
        assert_eq!(bench.until_closed(), "close Finished");
    }
    Ok(())
}

/// A handler with a queue of its own before that of the connection: it writes a piece each time
/// that there is room.
fn session(pieces: usize) -> impl handlers::ConnectionHandler<World> {
    let mut left = pieces;
    probe(move |event, connection, cx| {
        if matches!(event, Event::Finish) {
            connection.begin_response();
        }
        if matches!(event, Event::Finish | Event::Drain) && left > 0 {
            while left > 0 && connection.write(&pattern(MUCH / 16))? == Flow::Open {
                left -= 1;
            }
            left = left.saturating_sub(1); // the piece that filled the queue
            if left == 0 {
                connection.end_response();
            }
        }
        Ok(default(&event, connection, cx))
    })
}

#[test]
fn a_handler_sends_what_it_has_kept_in_on_graceful_close() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), session(32))?;
    bench.run_until_idle();
    bench.with(key, |connection| connection.close_gracefully(secs(5)));
    let heard = bench.receive_all(&mut far)?;
    assert_eq!(heard.len(), 2 * MUCH);
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(
        (bench.world.count("finish"), bench.world.log[1].as_str()),
        (1, "finish")
    );
    Ok(())
}

#[test]
fn on_graceful_close_is_called_once_and_never_within_an_access() -> Result {
    let mut bench = Bench::new()?;
    let (key, far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.reactor.defer(move |cx| {
        let finished = key.with(cx, |connection, _cx| {
            connection.close_gracefully(secs(5));
            connection.close_gracefully(secs(4));
        });
        finished.unwrap();
        assert!(
            !cx.state.has("finish"),
            "called from within the call of an access"
        );
    });
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "finish"]);
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(bench.world.count("finish"), 1);
    Ok(())
}

#[test]
fn a_handler_that_closes_itself_gracefully_gets_on_graceful_close_too() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        match event {
            Event::Data(_) => connection.close_gracefully(secs(5)),
            Event::Finish => drop(connection.write(b"the rest")?),
            _ => {}
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    far.write_all(b"quit")?;
    assert_eq!(bench.receive_all(&mut far)?, b"the rest");
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(
        bench.world.log,
        ["open", "data quit", "finish", "close Finished"]
    );
    Ok(())
}

#[test]
fn a_handler_may_close_its_connection_in_on_graceful_close() -> Result {
    for closes in [true, false] {
        let mut bench = Bench::new()?;
        let handler = probe(move |event, connection, cx| {
            match event {
                Event::Finish if closes => connection.close(),
                Event::Finish => return Err(std::io::ErrorKind::InvalidData.into()),
                _ => {}
            }
            Ok(default(&event, connection, cx))
        });
        let (key, _far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
        bench.run_until_idle();
        bench.with(key, |connection| connection.close_gracefully(secs(5)));
        assert_eq!(
            bench.until_closed(),
            if closes {
                "close Closed"
            } else {
                "close Failed(InvalidData)"
            }
        );
    }
    Ok(())
}

#[test]
fn a_paused_connection_that_closes_gracefully_sends_all_and_reads_nothing() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), session(3))?;
    bench.with(key, |connection| connection.pause_reading());
    far.write_all(b"not read any more")?;
    bench.with(key, |connection| connection.close_gracefully(secs(5)));
    assert_eq!(bench.receive_all(&mut far)?.len(), 3 * MUCH / 16);
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    assert!(bench.world.received.is_empty());
    Ok(())
}
