//! Deadlines that a handler sets, on a manual clock.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{
    BoxedHandler, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, RateLimit,
    Timeout,
};

use crate::{Bench, Event, Result, World, default, ms, pattern, probe, secs, sink};

const PASSED: &str = "timeout Deadline";

/// Sets a deadline of ten seconds when it opens, and ignores that it has passed.
fn patient() -> impl ConnectionHandler<World> {
    probe(|event, connection, cx| match event {
        Event::Timeout(_) => Ok(0),
        event => {
            if matches!(event, Event::Open) {
                connection.set_deadline(secs(10));
            }
            Ok(default(&event, connection, cx))
        }
    })
}

/// Opens a connection with a deadline of ten seconds.
fn open(
    options: &ConnectionOptions,
    handler: impl ConnectionHandler<World>,
) -> Result<(Bench, ConnectionKey<World>, UnixStream)> {
    let mut bench = Bench::new()?;
    let (key, far) = bench.open_unix(options, handler)?;
    bench.run_until_idle();
    bench.with(key, |connection| connection.set_deadline(secs(10)));
    Ok((bench, key, far))
}

#[test]
fn a_deadline_closes_the_connection_at_its_time_and_never_before() -> Result {
    let (mut bench, _, _far) = open(&ConnectionOptions::new(), sink())?;
    bench.advance(secs(10) - Duration::from_nanos(1));
    assert_eq!(bench.world.log, ["open"]);
    bench.advance(Duration::from_nanos(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Deadline)");
    assert_eq!(
        bench.world.log,
        ["open", PASSED, "close TimedOut(Deadline)"]
    );
    Ok(())
}

#[test]
fn bytes_do_not_extend_a_deadline() -> Result {
    let idle = ConnectionOptions::new().idle_timeout(secs(5));
    let (mut bench, key, mut far) = open(&idle, sink())?;
    for _ in 0..9 {
        bench.advance(secs(1));
        far.write_all(b"x")?;
        let _ = bench.with(key, |connection| connection.write(b"y"))?;
        bench.run_until_idle();
    }
    assert_eq!(bench.world.received, b"xxxxxxxxx");
    bench.advance(secs(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Deadline)");
    Ok(())
}

#[test]
fn a_deadline_that_has_passed_is_reported_once() -> Result {
    let (mut bench, key, _far) = open(&ConnectionOptions::new(), patient())?;
    assert!(bench.with(key, |connection| connection.has_deadline()));
    bench.advance(secs(1000));
    assert_eq!(bench.world.log, ["open", PASSED]);
    assert!(!bench.with(key, |connection| connection.has_deadline()));
    Ok(())
}

#[test]
fn a_deadline_can_be_moved_and_cleared_by_every_request() -> Result {
    let handler = probe(|event, connection, cx| {
        if let Event::Data(data) = event {
            let ends = data.ends_with(b".");
            connection.set_deadline((!ends).then(|| secs(10)));
        }
        Ok(default(&event, connection, cx))
    });
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    for _ in 0..5 {
        far.write_all(b"half a request")?;
        bench.run_until_idle();
        bench.advance(ms(9999));
    }
    far.write_all(b"the rest.")?;
    bench.run_until_idle();
    bench.advance(secs(1000));
    assert!(!bench.world.has(PASSED), "{:?}", bench.world.log);
    assert!(!bench.with(key, |connection| connection.has_deadline()));
    far.write_all(b"half a request")?;
    bench.run_until_idle();
    bench.advance(ms(9999));
    assert!(!bench.world.is_closed());
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Deadline)");
    Ok(())
}

#[test]
fn a_deadline_that_is_moved_earlier_holds() -> Result {
    let (mut bench, key, _far) = open(&ConnectionOptions::new(), sink())?;
    bench.with(key, |connection| connection.set_deadline(ms(20)));
    bench.advance(ms(19));
    assert!(!bench.world.is_closed());
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Deadline)");
    Ok(())
}

#[test]
fn the_callback_of_a_deadline_can_set_the_next_one() -> Result {
    let handler = probe(|event, connection, cx| match event {
        Event::Timeout(Timeout::Deadline) if cx.state.count(PASSED) < 3 => {
            connection.set_deadline(secs(1));
            Ok(0)
        }
        event => Ok(default(&event, connection, cx)),
    });
    let (mut bench, _, _far) = open(&ConnectionOptions::new(), handler)?;
    bench.advance(ms(11_999));
    assert_eq!(bench.world.log, ["open", PASSED, PASSED]);
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Deadline)");
    Ok(())
}

/// Law 2: the peer must not take a response that is missing for an empty one.
#[test]
fn a_deadline_with_a_response_pending_resets_the_connection() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.with(key, |connection| {
        connection.begin_response();
        connection.set_deadline(secs(10));
    });
    bench.advance(secs(10));
    assert_eq!(bench.until_closed(), "close TimedOut(Deadline)");
    let end = bench.receive_all(&mut far);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    Ok(())
}

#[test]
fn a_deadline_runs_while_nothing_is_read_or_written() -> Result {
    let slow = RateLimit::new(1, 1);
    let options = ConnectionOptions::new()
        .read_rate(slow.clone())
        .write_rate(slow);
    let (mut bench, key, mut far) = open(&options, sink())?;
    far.write_all(&[0; 100])?;
    let _ = bench.with(key, |connection| {
        connection.pause_reading();
        connection.write(&pattern(1 << 20))
    })?;
    bench.advance(ms(9999));
    assert!(!bench.world.is_closed());
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Deadline)");
    Ok(())
}

/// Law 4: the loop asks the kernel before it calls the deadline passed.
#[test]
fn a_request_that_came_in_time_is_served_before_its_deadline_passes() -> Result {
    let handler = probe(|event, connection, cx| {
        if let Event::Data(_) = event {
            connection.set_deadline(None);
        }
        Ok(default(&event, connection, cx))
    });
    let (mut bench, _, mut far) = open(&ConnectionOptions::new(), handler)?;
    far.write_all(b"in time")?;
    bench.advance(secs(1000));
    assert_eq!(bench.world.log, ["open", "data in time"]);
    Ok(())
}

#[test]
fn deadlines_of_any_length_hold() -> Result {
    for length in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let (mut bench, key, _far) = open(&ConnectionOptions::new(), sink())?;
        bench.with(key, move |connection| connection.set_deadline(length));
        bench.run_until_idle();
        assert_eq!(bench.world.has(PASSED), length.is_zero(), "{length:?}");
        bench.advance(secs(100 * 365 * 24 * 3600));
        assert_eq!(
            bench.world.has(PASSED),
            length < Duration::MAX,
            "{length:?}"
        );
    }
    Ok(())
}

#[test]
fn new_options_and_a_new_handler_keep_the_deadline() -> Result {
    let boxed: BoxedHandler<World> = Box::new(sink());
    let (mut bench, key, _far) = open(&ConnectionOptions::new(), boxed)?;
    bench.advance(secs(4));
    bench.with(key, |connection| {
        connection.set_options(&ConnectionOptions::new().read_timeout(secs(60)));
        connection.set_options(&ConnectionOptions::new());
    });
    bench.advance(secs(4));
    bench.with(key, |connection: &mut Connection<'_, World>| {
        connection.replace_handler(Box::new(sink())).unwrap();
    });
    bench.advance(ms(1999));
    assert!(!bench.world.has(PASSED), "{:?}", bench.world.log);
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Deadline)");
    Ok(())
}

#[test]
fn a_closing_connection_has_only_the_deadline_of_its_close() -> Result {
    let (mut bench, key, mut far) = open(&ConnectionOptions::new(), sink())?;
    bench.with(key, |connection| connection.close_after_flush(secs(20)));
    bench.advance(ms(19_999));
    assert_eq!(far.read(&mut [0])?, 0);
    assert_eq!(bench.world.log, ["open"]);
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Close)");
    Ok(())
}

#[test]
fn clearing_a_deadline_that_was_never_set_changes_nothing() -> Result {
    let mut bench = Bench::new()?;
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.with(key, |connection| connection.set_deadline(None));
    bench.advance(secs(1000));
    assert_eq!(bench.world.log, ["open"]);
    Ok(())
}

/// As the other timeouts: see `turn/now.rs` of the reactor.
#[test]
fn a_deadline_moved_by_a_slow_callback_counts_from_the_end_of_its_turn() -> Result {
    let clock = reactor::ManualClock::new();
    let mut bench = Bench {
        reactor: reactor::Reactor::builder().clock(clock.clone()).build()?,
        world: World::default(),
    };
    let handler = probe(move |event, connection, cx| {
        if matches!(event, Event::Open | Event::Data(_)) {
            connection.set_deadline(secs(10));
        }
        if matches!(event, Event::Data(_)) {
            clock.advance(secs(30));
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    bench.advance(secs(5));
    far.write_all(b"slow")?;
    bench.run_until_idle();
    bench.advance(ms(9999));
    assert!(!bench.world.has(PASSED), "{:?}", bench.world.log);
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Deadline)");
    Ok(())
}

/// The first bytes of a connection are read in the call that opens it.
#[test]
fn a_first_deadline_holds_although_bytes_follow_in_the_same_call() -> Result {
    const MANY: usize = 200_000;
    for sets_at_open in [true, false] {
        let mut is_set = false;
        let handler = probe(move |event, connection, cx| {
            let sets = matches!(event, Event::Open) == sets_at_open;
            if sets && !std::mem::replace(&mut is_set, true) {
                connection.set_deadline(secs(10));
            }
            Ok(default(&event, connection, cx))
        });
        let mut bench = Bench::new()?;
        let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
        far.write_all(&pattern(MANY))?;
        bench.run_until_idle();
        assert_eq!(bench.world.received.len(), MANY);
        bench.advance(ms(9999));
        assert!(!bench.world.has(PASSED), "{:?}", bench.world.log);
        bench.advance(ms(1));
        assert!(bench.world.has(PASSED), "{:?}", bench.world.log);
    }
    Ok(())
}

/// Replaces itself once in its first callback, `left` times in all.
fn renewed(left: usize) -> BoxedHandler<World> {
    let mut is_new = left > 0;
    Box::new(probe(move |event, connection, cx| {
        if !matches!(event, Event::Timeout(_)) && std::mem::take(&mut is_new) {
            connection.replace_handler(renewed(left - 1)).unwrap();
        }
        Ok(default(&event, connection, cx))
    }))
}

#[test]
fn a_deadline_that_passes_while_handlers_are_replaced_is_reported() -> Result {
    for options in [
        ConnectionOptions::new(),
        ConnectionOptions::new().idle_timeout(secs(10)),
    ] {
        for left in 0..5 {
            let handler: BoxedHandler<World> = Box::new(probe(move |event, connection, cx| {
                if let Event::Data(_) = event {
                    connection.replace_handler(renewed(left)).unwrap();
                }
                Ok(default(&event, connection, cx))
            }));
            let (mut bench, _, mut far) = open(&options, handler)?;
            far.write_all(b"x")?;
            bench.advance(secs(10));
            let end = bench.until_closed();
            assert_eq!(end, "close TimedOut(Deadline)", "{left}");
            assert_eq!(bench.world.count("open"), left + 2);
        }
    }
    Ok(())
}
