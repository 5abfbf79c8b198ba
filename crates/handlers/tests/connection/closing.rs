//! The ways to close a connection: one direction, gracefully, at once, by a reset.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use handlers::{Connection, ConnectionOptions, Flow, RateLimit};

use crate::{Bench, Event, Result, World, default, ms, pattern, probe, secs, sink};

/// More bytes than the buffers of a socket hold.
const MUCH: usize = 1 << 22;

#[test]
fn an_answer_can_be_sent_after_the_end_of_the_peer() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| match event {
        Event::End(_) => Ok(0), // the answer comes later
        event => Ok(default(&event, connection, cx)),
    });
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    far.write_all(b"question")?;
    far.shutdown(Shutdown::Write)?;
    bench.until(|world| world.has("end "));
    bench.run_until_idle();
    assert!(!bench.world.is_closed());
    bench.with(key, |connection| {
        let _ = connection.write(&pattern(MUCH)).unwrap();
        connection.shutdown();
    });
    assert!(bench.receive_all(&mut far)? == pattern(MUCH));
    assert_eq!(bench.until_closed(), "close Finished");
    Ok(())
}

#[test]
fn a_connection_whose_write_side_is_closed_still_reads() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Open) {
            let _ = connection.write(b"that is all")?;
            connection.shutdown();
            connection.shutdown();
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    assert_eq!(bench.receive_all(&mut far)?, b"that is all");
    far.write_all(b"not here")?;
    bench.until(|world| world.has("data not here"));
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(bench.world.log[2..], ["end ", "close Finished"]);
    Ok(())
}

#[test]
fn the_end_of_both_directions_waits_for_the_queue() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Data(_)) {
            let _ = connection.write(&pattern(MUCH))?;
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    far.write_all(b"all of it, please")?;
    far.shutdown(Shutdown::Write)?;
    assert!(bench.receive_all(&mut far)? == pattern(MUCH));
    assert_eq!(bench.until_closed(), "close Finished");
    Ok(())
}

/// Answers the first data with many bytes, and closes after the flush.
fn answer_and_close(
    event: &Event<'_>,
    connection: &mut Connection<'_, World>,
) -> std::io::Result<()> {
    if matches!(event, Event::Data(_)) {
        let _ = connection.write(&pattern(MUCH))?;
        connection.close_after_flush(secs(5));
    }
    Ok(())
}

/// This holds whatever the peer itself has sent.
#[test]
fn a_peer_gets_every_byte_of_a_connection_that_is_closed_after_flush() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, _| answer_and_close(&event, connection).map(|()| 0));
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    far.write_all(&pattern(200_000))?; // the handler never reads most of it
    let received = bench.receive(&mut far, MUCH / 2);
    far.write_all(b"and more")?;
    let rest = bench.receive_all(&mut far)?;
    assert!([received, rest].concat() == pattern(MUCH));
    bench.run_until_idle();
    assert!(
        !bench.world.is_closed(),
        "the peer has not ended yet: {:?}",
        bench.world.log
    );
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(bench.world.log.len(), 3, "{:?}", bench.world.log);
    Ok(())
}

#[test]
fn a_close_in_order_that_takes_too_long_is_cut_short_and_never_early() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new()
        .idle_timeout(secs(1))
        .write_timeout(secs(1))
        .read_timeout(secs(1));
    let handler = probe(|event, connection, _| answer_and_close(&event, connection).map(|()| 0));
    let (_, mut far) = bench.open_tcp(&options, handler)?;
    far.write_all(b"x")?;
    bench.until(|world| world.has("data x"));
    bench.advance(ms(4999));
    bench.run_until_idle();
    assert!(!bench.world.is_closed());
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Close)");
    Ok(())
}

#[test]
fn a_peer_that_never_ends_is_waited_for_no_longer_than_the_deadline() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.with(key, |connection| connection.close_after_flush(secs(5)));
    bench.with(key, |connection| connection.close_after_flush(secs(500))); // too late for a change
    assert_eq!(bench.receive_all(&mut far)?, b"");
    for _ in 0..5 {
        assert!(!bench.world.is_closed());
        far.write_all(b"still here")?;
        bench.advance(secs(1));
    }
    assert_eq!(bench.until_closed(), "close TimedOut(Close)");
    assert_eq!(
        bench.world.log.len(),
        2,
        "what comes is thrown away: {:?}",
        bench.world.log
    );
    Ok(())
}

#[test]
fn new_options_do_not_extend_the_deadline_of_a_close() -> Result {
    let mut bench = Bench::new()?;
    let (key, _far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.with(key, |connection| connection.close_after_flush(secs(5)));
    bench.advance(secs(3));
    bench.with(key, |connection| {
        connection.set_options(&ConnectionOptions::new().idle_timeout(secs(1)))
    });
    bench.advance(secs(2));
    assert_eq!(bench.until_closed(), "close TimedOut(Close)");
    Ok(())
}

#[test]
fn an_endless_deadline_never_passes() -> Result {
    let mut bench = Bench::new()?;
    let (key, far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.with(key, |connection| {
        connection.close_after_flush(Duration::MAX)
    });
    bench.advance(secs(1_000_000));
    assert!(!bench.world.is_closed());
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    Ok(())
}

#[test]
fn a_paused_connection_is_still_closed_after_flush() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.with(key, |connection| connection.pause_reading());
    far.write_all(b"unread")?;
    bench.run_until_idle();
    bench.with(key, |connection| {
        let _ = connection.write(b"bye").unwrap();
        connection.close_after_flush(secs(5));
    });
    assert_eq!(bench.receive_all(&mut far)?, b"bye");
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(bench.world.log, ["open", "close Finished"]);
    Ok(())
}

#[test]
fn a_producer_is_not_resumed_once_nothing_can_be_written_any_more() -> Result {
    for closes in [false, true] {
        let mut bench = Bench::new()?;
        let produce = probe(move |event, connection, cx| {
            if matches!(event, Event::Open | Event::Drain) {
                assert_eq!(connection.write(&pattern(MUCH))?, Flow::Full);
            }
            Ok(default(&event, connection, cx))
        });
        let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), produce)?;
        bench.run_until_idle();
        bench.with(key, move |connection| {
            if closes {
                connection.close_after_flush(secs(5))
            } else {
                connection.shutdown()
            }
        });
        far.write_all(b"meanwhile")?;
        assert!(bench.receive_all(&mut far)? == pattern(MUCH));
        drop(far);
        assert_eq!(bench.until_closed(), "close Finished");
        let expected: &[&str] = if closes {
            &[]
        } else {
            &["data meanwhile", "end "]
        };
        assert_eq!(bench.world.log[1..bench.world.log.len() - 1], *expected);
    }
    Ok(())
}

#[test]
fn close_tries_bytes_just_written_and_drops_queued_ones() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, _| {
        if matches!(event, Event::Open) {
            let _ = connection.write(b"go away")?;
            connection.close();
            assert_eq!(
                connection.write(b"lost").unwrap_err().kind(),
                ErrorKind::BrokenPipe
            );
            connection.close();
        }
        Ok(0)
    });
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    assert_eq!(bench.receive_all(&mut far)?, b"go away");
    assert_eq!(bench.until_closed(), "close Closed");

    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.with(key, |connection| {
        let _ = connection.write(b"says an access").unwrap();
        connection.close();
    });
    assert_eq!(bench.until_closed(), "close Closed");
    assert_eq!(bench.receive_all(&mut far)?, b"says an access");

    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.with(key, |connection| {
        let _ = connection.write(&pattern(MUCH)).unwrap();
        connection.close();
    });
    assert_eq!(bench.until_closed(), "close Closed");
    let received = bench.receive_all(&mut far)?;
    assert!(!received.is_empty() && received.len() < MUCH);
    Ok(())
}

/// No `on_drain` comes between it and `on_close`.
#[test]
fn a_closing_timeout_is_the_last_callback_of_a_connection_with_full_queue() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Open) {
            assert_eq!(connection.write(b"11 bytes of")?, Flow::Full);
        }
        Ok(default(&event, connection, cx))
    });
    // The rest may leave when the timeout elapses, and would make room for more.
    let options = ConnectionOptions::new()
        .watermarks(0, 10)
        .idle_timeout(secs(1))
        .write_rate(RateLimit::new(1, 10));
    let (_, _far) = bench.open_unix(&options, handler)?;
    bench.run_until_idle();
    bench.advance(secs(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Idle)");
    assert_eq!(
        bench.world.log,
        ["open", "timeout Idle", "close TimedOut(Idle)"]
    );
    Ok(())
}

#[test]
fn the_peer_of_an_aborted_connection_gets_a_reset() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.with(key, |connection| {
        let _ = connection.write(b"dropped").unwrap();
        connection.abort();
    });
    assert_eq!(bench.until_closed(), "close Aborted");
    assert_eq!(
        far.read(&mut [0; 10]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    Ok(())
}

#[test]
fn a_connection_that_no_tcp_carries_is_only_closed_by_an_abort() -> Result {
    let mut bench = Bench::new()?;
    let (reader, writer) = std::io::pipe()?;
    let key = Connection::open(
        &mut bench.reactor,
        reader,
        &ConnectionOptions::new(),
        sink(),
    )?;
    bench.run_until_idle();
    bench.with(key, |connection| connection.abort());
    assert_eq!(bench.until_closed(), "close Aborted");
    assert_eq!(
        (&writer).write(b"x").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    Ok(())
}

#[test]
fn the_first_word_on_the_end_holds() -> Result {
    let mut bench = Bench::new()?;
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.with(key, |connection| {
        connection.close();
        connection.abort();
        connection.shutdown();
        connection.close_after_flush(secs(1));
        connection.resume_reading();
    });
    assert_eq!(bench.until_closed(), "close Closed");
    Ok(())
}

/// The connection is closed once its queue is flushed.
#[test]
fn a_peer_that_sends_all_before_it_reads_gets_the_answer_of_a_close() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        answer_and_close(&event, connection)?;
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    bench.send(&mut far, &pattern(4 * MUCH));
    assert!(bench.receive_all(&mut far)? == pattern(MUCH));
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    Ok(())
}

#[test]
fn the_last_words_of_a_handler_that_fails_are_sent() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Data(_)) {
            let _ = connection.write(b"I give up")?;
            return Err(std::io::Error::other("for a reason"));
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    far.write_all(b"do the impossible")?;
    assert_eq!(bench.receive_all(&mut far)?, b"I give up");
    Ok(())
}
