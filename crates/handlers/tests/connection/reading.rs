//! The data callbacks of a handler: their bytes and their order.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;

use handlers::{Connection, ConnectionOptions};

use crate::{Bench, Event, Result, default, pattern, probe, secs, sink};

/// More bytes than the buffers of a socket hold.
const MUCH: usize = 1 << 20;

#[test]
fn on_open_is_called_first_and_once() -> Result {
    let mut bench = Bench::new()?;
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    far.write_all(b"early")?;
    bench.run_until_idle();
    far.write_all(b"late")?;
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data early", "data late"]);
    Ok(())
}

#[test]
fn unconsumed_bytes_are_delivered_again_with_more_after_them() -> Result {
    let mut bench = Bench::new()?;
    let lines = probe(|event, _, _| match event {
        Event::Data(data) => Ok(data
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1)),
        _ => Ok(0),
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), lines)?;
    for part in ["ab", "c\nd", "e\n", "f"] {
        far.write_all(part.as_bytes())?;
        bench.run_until_idle();
    }
    assert_eq!(
        bench.world.log,
        ["open", "data ab", "data abc\\nd", "data de\\n", "data f"]
    );
    Ok(())
}

#[test]
fn would_block_from_on_data_consumes_nothing() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, _, cx| match event {
        Event::Data(_) if cx.state.log.len() < 3 => Err(ErrorKind::WouldBlock.into()),
        Event::Data(data) => Ok(data.len()),
        _ => Err(ErrorKind::Interrupted.into()),
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    far.write_all(b"a")?;
    bench.run_until_idle();
    far.write_all(b"b")?;
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data a", "data ab"]);
    Ok(())
}

#[test]
fn a_paused_connection_reads_nothing_until_it_is_resumed() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.with(key, |connection| connection.pause_reading());
    far.write_all(b"wait")?;
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open"]);
    assert!(bench.with(key, |connection| connection.is_paused()));
    bench.with(key, |connection| connection.resume_reading());
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data wait"]);
    Ok(())
}

#[test]
fn a_handler_that_pauses_is_given_no_more_in_the_same_turn() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        connection.pause_reading();
        Ok(default(&event, connection, cx))
    });
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    far.write_all(&pattern(150_000))?;
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open"]);
    for calls in 1..=3 {
        bench.with(key, |connection| connection.resume_reading());
        bench.run_until_idle();
        assert_eq!(bench.world.log.len(), 1 + calls, "{:?}", bench.world.log);
    }
    assert!(bench.world.received == pattern(150_000));
    Ok(())
}

#[test]
fn unconsumed_bytes_are_delivered_on_resuming_without_new_bytes() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| match event {
        Event::Data(_) if cx.state.log.len() == 2 => {
            connection.pause_reading();
            Ok(0)
        }
        event => Ok(default(&event, connection, cx)),
    });
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    far.write_all(b"later")?;
    bench.run_until_idle();
    bench.with(key, |connection| connection.resume_reading());
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data later", "data later"]);
    Ok(())
}

#[test]
fn unconsumed_bytes_wait_if_reading_pauses_again_before_delivery() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, _| {
        if matches!(event, Event::Data(_)) {
            connection.pause_reading();
        }
        Ok(0)
    });
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    far.write_all(b"left")?;
    bench.run_until_idle();
    bench.with(key, |connection| {
        connection.resume_reading();
        connection.pause_reading();
    });
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data left"]);
    // Resumed by one access and paused by the next, before the callback that the first one made
    // due.
    bench.reactor.defer(move |cx| {
        key.with(cx, |connection, _| connection.resume_reading())
            .unwrap();
        key.with(cx, |connection, _| connection.pause_reading())
            .unwrap();
    });
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data left"]);
    bench.with(key, |connection| connection.resume_reading());
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data left", "data left"]);
    Ok(())
}

/// Consumes no byte of the first input, and fills its queue instead.
fn fills(event: &Event<'_>, connection: &mut Connection<'_, crate::World>) -> std::io::Result<()> {
    if matches!(event, Event::Data(_)) {
        let flow = connection.write(&pattern(MUCH))?;
        assert_eq!(flow, handlers::Flow::Full);
    }
    Ok(())
}

/// No new bytes have to arrive for that.
#[test]
fn unconsumed_bytes_are_delivered_again_once_the_queue_has_drained() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if cx.state.has("drain") {
            return Ok(default(&event, connection, cx));
        }
        fills(&event, connection).map(|()| 0)
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    far.write_all(b"twice")?;
    bench.run_until_idle();
    assert!(bench.receive(&mut far, MUCH) == pattern(MUCH));
    bench.run_until_idle();
    assert_eq!(
        bench.world.log,
        ["open", "data twice", "drain", "data twice"]
    );
    Ok(())
}

#[test]
fn a_handler_that_has_paused_is_given_nothing_when_its_queue_drains() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if cx.state.has("drain") {
            return Ok(default(&event, connection, cx));
        }
        fills(&event, connection)?;
        connection.pause_reading();
        Ok(0)
    });
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    bench.turn();
    bench.with(key, |connection| connection.resume_reading());
    far.write_all(b"left")?;
    bench.run_until_idle();
    bench.receive(&mut far, MUCH);
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data left", "drain"]);
    bench.with(key, |connection| connection.resume_reading());
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data left", "drain", "data left"]);
    Ok(())
}

#[test]
fn a_handler_that_pauses_or_closes_when_its_queue_drains_is_given_nothing() -> Result {
    for closes in [false, true] {
        let mut bench = Bench::new()?;
        let handler = probe(move |event, connection, _| {
            if matches!(event, Event::Drain) {
                if closes {
                    connection.close()
                } else {
                    connection.pause_reading()
                }
            }
            fills(&event, connection).map(|()| 0)
        });
        let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
        far.write_all(b"left")?;
        bench.run_until_idle();
        bench.receive(&mut far, MUCH);
        bench.run_until_idle();
        let expected = ["open", "data left", "drain", "close Closed"];
        assert_eq!(bench.world.log, expected[..3 + usize::from(closes)]);
    }
    Ok(())
}

#[test]
fn a_connection_with_a_full_queue_reads_nothing_until_it_has_drained() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if !cx.state.has("drain") {
            fills(&event, connection)?;
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    far.write_all(b"one")?;
    bench.run_until_idle();
    far.write_all(b"two")?;
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data one"]);
    bench.receive(&mut far, MUCH);
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data one", "drain", "data two"]);
    Ok(())
}

#[test]
fn a_handler_that_leaves_more_than_allowed_ends_its_connection() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().max_buffered_input(10);
    let (_, mut far) = bench.open_unix(&options, probe(|_, _, _| Ok(0)))?;
    far.write_all(b"0123456789")?;
    bench.run_until_idle();
    assert!(!bench.world.is_closed());
    far.write_all(b"x")?;
    assert_eq!(bench.until_closed(), "close Failed(QuotaExceeded)");
    Ok(())
}

#[test]
fn a_handler_that_answers_and_closes_may_leave_as_much_as_it_likes() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().max_buffered_input(10);
    let handler = probe(|event, connection, _| {
        if matches!(event, Event::Data(_)) {
            let _ = connection.write(b"too long")?;
            connection.close_after_flush(secs(5));
        }
        Ok(0)
    });
    let (_, mut far) = bench.open_unix(&options, handler)?;
    far.write_all(&[b'x'; 100])?;
    assert_eq!(bench.receive_all(&mut far)?, b"too long");
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    Ok(())
}

#[test]
fn a_fast_connection_does_not_hold_up_its_neighbours() -> Result {
    let mut bench = Bench::new()?;
    let fast = probe(|event, _, cx| match event {
        Event::Data(data) => {
            cx.state.received.extend_from_slice(data);
            Ok(data.len())
        }
        _ => Ok(0),
    });
    let options = ConnectionOptions::new().max_bytes_per_turn(1000);
    let (_, mut far) = bench.open_unix(&options, fast)?;
    let (_, mut neighbour) = bench.open_unix(&options, sink())?;
    bench.run_until_idle();
    far.write_all(&[0; 10_000])?;
    neighbour.write_all(b"hello")?;
    for turn in 1..=3 {
        bench.turn();
        assert_eq!(
            (bench.world.received.len(), bench.world.count("data hello")),
            (1000 * turn + 5, 1)
        );
    }
    bench.run_until_idle();
    assert_eq!(bench.world.received.len(), 10_005);
    Ok(())
}

#[test]
fn a_handler_may_lower_its_bytes_per_turn_while_it_reads() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| match event {
        Event::Data(data) => {
            connection.set_options(&ConnectionOptions::new().max_bytes_per_turn(100));
            cx.state.received.extend_from_slice(data);
            Ok(data.len())
        }
        _ => Ok(0),
    });
    let (_, mut far) =
        bench.open_unix(&ConnectionOptions::new().max_bytes_per_turn(1000), handler)?;
    bench.run_until_idle();
    far.write_all(&[0; 2000])?;
    for received in [1000, 1100, 1200] {
        bench.turn();
        assert_eq!(bench.world.received.len(), received);
    }
    Ok(())
}

#[test]
fn the_end_of_the_peer_comes_with_the_unconsumed_bytes() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        let _ = default(&event, connection, cx);
        Ok(0)
    });
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    far.write_all(b"rest")?;
    bench.until(|world| world.has("data rest"));
    far.shutdown(Shutdown::Write)?;
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(
        bench.world.log,
        ["open", "data rest", "end rest", "close Finished"]
    );
    Ok(())
}

#[test]
fn the_end_of_the_peer_waits_until_a_paused_handler_has_read_all_before() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| match event {
        Event::Data(_) if cx.state.log.len() == 2 => {
            connection.pause_reading();
            Ok(0)
        }
        Event::Data(_) => Ok(2),
        event => Ok(default(&event, connection, cx)),
    });
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    far.write_all(b"abcd")?;
    drop(far);
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data abcd"]);
    bench.with(key, |connection| connection.resume_reading());
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(
        bench.world.log[2..],
        ["data abcd", "end cd", "close Finished"]
    );
    Ok(())
}

#[test]
fn a_connection_reads_no_more_in_the_turn_in_which_it_opens() -> Result {
    for turns_before in [false, true] {
        let mut bench = Bench::new()?;
        let (near, mut far) = std::os::unix::net::UnixStream::pair()?;
        far.write_all(&[7; 5000])?;
        let options = ConnectionOptions::new().max_bytes_per_turn(1000);
        if turns_before {
            let mut opens = Some(near);
            bench.reactor.defer(move |cx| {
                let near = opens.take().unwrap();
                Connection::open(cx.registry, near, &options, sink()).unwrap();
            });
        } else {
            Connection::open(&mut bench.reactor, near, &options, sink())?;
        }
        let mut before = 0;
        while before < 5000 {
            bench.turn();
            let read = bench.world.received.len();
            assert!(read - before <= 1000, "{} bytes in one turn", read - before);
            before = read;
        }
    }
    Ok(())
}

#[test]
fn bytes_that_are_left_are_no_flow_control_and_pausing_is() -> Result {
    const BODY: usize = 3_000_000;
    for pauses in [false, true] {
        let mut bench = Bench::new()?;
        let mut has_room = false;
        let handler = probe(move |event, connection, cx| match event {
            Event::Data(data) if has_room || data.is_empty() => {
                has_room = false;
                Ok(data.len())
            }
            Event::Data(_) => {
                has_room = pauses; // by the time that it resumes
                if pauses {
                    connection.pause_reading();
                }
                Ok(0)
            }
            event => Ok(default(&event, connection, cx)),
        });
        let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
        let body = vec![b'x'; BODY];
        let mut sent = 0;
        while sent < BODY && !bench.world.is_closed() {
            sent += far.write(&body[sent..]).unwrap_or(0);
            bench.run_until_idle();
            if pauses {
                bench.with(key, |connection| connection.resume_reading());
            }
        }
        assert_eq!(
            bench.world.is_closed(),
            !pauses,
            "{sent} of {BODY} bytes were sent"
        );
    }
    Ok(())
}
