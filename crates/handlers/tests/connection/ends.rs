//! The end of a connection: it is reported once, with any of its reasons.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;

use handlers::{
    Accepted, Address, CloseReason, Connection, ConnectionLimit, ConnectionOptions, ListenOptions,
    Listener, Timeout,
};
use reactor::PanicPolicy;
use support::reset;

use crate::{Bench, Event, Result, default, pattern, probe, secs, sink};

/// The name of an event.
fn name(event: &Event<'_>) -> &'static str {
    match event {
        Event::Open => "open",
        Event::Data(_) => "data",
        Event::Drain => "drain",
        Event::End(_) => "end",
        Event::Timeout(_) => "timeout",
        Event::Finish => "finish",
        Event::Failure(_) => "failure",
        Event::Sent(_) => "sent",
    }
}

const EVENTS: [&str; 5] = ["open", "data", "drain", "end", "timeout"];

/// Lets a connection see one event after the other until it ends. Returns how it ended.
#[track_caller]
fn end_at(
    policy: PanicPolicy,
    at: &'static str,
    mut act: impl FnMut(
        &mut Connection<'_, crate::World>,
        &mut reactor::Context<'_, crate::World>,
    ) -> std::io::Result<()>
    + 'static,
) -> Result<(String, Vec<String>)> {
    let mut bench = Bench::with_policy(policy)?;
    let options = ConnectionOptions::new()
        .idle_timeout(secs(10))
        .watermarks(1000, 5000);
    let handler = probe(move |event, connection, cx| {
        let consumed = if name(&event) == at {
            0
        } else {
            default(&event, connection, cx)
        };
        if name(&event) == at {
            act(connection, cx)?;
        } else if matches!(event, Event::Data(_)) {
            let _ = connection.write(&pattern(1 << 19))?;
        }
        Ok(consumed)
    });
    let (_, mut far) = bench.open_unix(&options, handler)?;
    bench.run_until_idle();
    if !bench.world.is_closed() {
        far.write_all(b"data")?;
        bench.run_until_idle();
    }
    if at == "timeout" {
        bench.advance(secs(10));
    } else if !bench.world.is_closed() {
        bench.receive(&mut far, 1 << 19);
        bench.run_until_idle();
        far.shutdown(Shutdown::Write)?;
    }
    let end = bench.until_closed();
    let events = bench
        .world
        .log
        .iter()
        .map(|entry| entry.split(' ').next().unwrap().to_owned())
        .collect();
    Ok((end, events))
}

#[test]
fn an_error_of_any_callback_ends_the_connection_with_that_error() -> Result {
    for at in EVENTS {
        let (end, events) = end_at(PanicPolicy::Propagate, at, |_, _| {
            Err(ErrorKind::InvalidData.into())
        })?;
        assert_eq!(
            (end.as_str(), events.iter().rev().nth(1).unwrap().as_str()),
            ("close Failed(InvalidData)", at)
        );
    }
    Ok(())
}

#[test]
fn a_panic_of_any_callback_ends_the_connection_with_its_message() -> Result {
    for at in EVENTS {
        let (end, events) = end_at(PanicPolicy::RemoveHandler, at, move |_, _| {
            panic!("in {at}")
        })?;
        assert_eq!(end, format!("close Panicked(\"in {at}\")"));
        assert_eq!(events.iter().rev().nth(1).unwrap(), at);
    }
    Ok(())
}

#[test]
fn a_connection_closed_or_aborted_by_any_callback_gets_no_other() -> Result {
    for at in EVENTS {
        let (end, events) = end_at(PanicPolicy::Propagate, at, |connection, _| {
            connection.close();
            Ok(())
        })?;
        assert_eq!(
            end,
            if at == "timeout" {
                "close TimedOut(Idle)"
            } else {
                "close Closed"
            }
        );
        assert_eq!(events.iter().rev().nth(1).unwrap(), at);
        if at != "timeout" {
            let (end, events) = end_at(PanicPolicy::Propagate, at, |connection, _| {
                connection.abort();
                Ok(())
            })?;
            assert_eq!(
                (end.as_str(), events.iter().rev().nth(1).unwrap().as_str()),
                ("close Aborted", at)
            );
        }
    }
    Ok(())
}

#[test]
fn a_connection_removed_by_any_of_its_callbacks_sees_only_its_close() -> Result {
    for at in EVENTS {
        let (end, events) = end_at(PanicPolicy::Propagate, at, |_, cx| {
            cx.registry.remove(cx.key()).map_err(Into::into)
        })?;
        assert_eq!(
            end,
            if at == "timeout" {
                "close TimedOut(Idle)"
            } else {
                "close Closed"
            },
            "{at}"
        );
        assert_eq!(events.iter().rev().nth(1).unwrap(), at);
    }
    Ok(())
}

#[test]
fn a_handler_that_has_removed_its_registration_is_given_nothing_more() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, _, cx| {
        if matches!(event, Event::Data(_)) {
            cx.registry.remove(cx.key())?;
        }
        Ok(0)
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new().idle_timeout(secs(1)), handler)?;
    bench.run_until_idle();
    far.write_all(&[0; 150_000])?; // more than one read
    assert_eq!(bench.until_closed(), "close Closed");
    assert_eq!(
        bench.world.log,
        ["open", "data 65536 bytes", "close Closed"]
    );
    assert_eq!(bench.reactor.metrics().failures, 0);
    Ok(())
}

#[test]
fn a_paused_connection_with_nothing_unread_ends_by_a_reset_at_once() -> Result {
    let mut bench = Bench::new()?;
    let (key, far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.with(key, |connection| connection.pause_reading());
    bench.run_until_idle();
    reset(far)?;
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    assert_eq!(bench.world.log, ["open", "close Failed(ConnectionReset)"]);
    assert!(bench.reactor.is_empty());
    Ok(())
}

#[test]
fn a_connection_with_a_full_queue_ends_by_a_reset() -> Result {
    let mut bench = Bench::new()?;
    let (key, far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.with(key, |connection| {
        connection.write(&pattern(8 << 20)).map(drop).unwrap()
    });
    bench.run_until_idle();
    assert!(!bench.world.is_closed());
    reset(far)?;
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    Ok(())
}

#[test]
fn a_paused_connection_loses_no_byte_of_a_peer_that_closed_its_write_side() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.with(key, |connection| connection.pause_reading());
    far.write_all(&pattern(100_000))?;
    far.shutdown(Shutdown::Write)?;
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open"]);
    bench.with(key, |connection| connection.resume_reading());
    assert_eq!(bench.until_closed(), "close Finished");
    assert!(bench.world.received == pattern(100_000));
    Ok(())
}

/// The peer's kernel answers writes by a reset meanwhile.
#[test]
fn a_paused_connection_loses_no_byte_of_a_peer_that_has_closed() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.with(key, |connection| connection.pause_reading());
    far.write_all(&pattern(10_000))?; // the kernel holds all of it, and the end after it
    drop(far);
    bench.run_until_idle();
    bench.with(key, |connection| {
        connection.write(b"nobody reads this").map(drop).unwrap()
    });
    bench.until(|_| true);
    bench.run_until_idle(); // the peer's kernel has answered by a reset
    assert_eq!(bench.world.log, ["open"]);
    bench.with(key, |connection| connection.resume_reading());
    assert_eq!(bench.until_closed(), "close Finished");
    assert!(bench.world.received == pattern(10_000));
    Ok(())
}

#[test]
fn a_connection_with_a_pending_answer_ends_if_its_half_closed_peer_resets() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| match event {
        Event::End(_) => Ok(0), // the answer comes later
        event => Ok(default(&event, connection, cx)),
    });
    let (_, far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    far.shutdown(Shutdown::Write)?;
    bench.until(|world| world.has("end "));
    bench.run_until_idle();
    assert!(!bench.world.is_closed());
    reset(far)?;
    assert_eq!(bench.until_closed(), "close Failed(BrokenPipe)");
    Ok(())
}

#[test]
fn a_paused_connection_loses_no_byte_of_a_unix_peer_that_hangs_up() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.with(key, |connection| connection.pause_reading());
    far.write_all(b"last words")?;
    drop(far);
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open"]);
    bench.with(key, |connection| connection.resume_reading());
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(bench.world.received, b"last words");
    // A peer that closes with unread bytes resets.
    let mut bench = Bench::new()?;
    let (key, far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.with(key, |connection| {
        connection.pause_reading();
        connection.write(b"nobody reads this").map(drop).unwrap();
    });
    bench.run_until_idle();
    drop(far);
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    Ok(())
}

#[test]
fn a_connection_removed_by_its_key_is_notified() -> Result {
    let mut bench = Bench::new()?;
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.reactor.remove(key.key())?;
    assert_eq!(bench.until_closed(), "close Closed");
    Ok(())
}

#[test]
fn a_connection_removed_during_an_access_is_notified() -> Result {
    let mut bench = Bench::new()?;
    let (key, _far) = bench.open_unix(&ConnectionOptions::new().idle_timeout(secs(1)), sink())?;
    bench.run_until_idle();
    bench.reactor.defer(move |cx| {
        key.with(cx, |_, cx| cx.registry.remove(cx.key()).unwrap())
            .unwrap()
    });
    assert_eq!(bench.until_closed(), "close Closed");
    assert_eq!(bench.reactor.metrics().failures, 0);
    Ok(())
}

#[test]
fn a_reset_by_the_peer_is_reported() -> Result {
    let mut bench = Bench::new()?;
    let (_, far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    reset(far)?;
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    Ok(())
}

#[test]
fn a_write_to_a_peer_that_has_gone_is_an_error_and_the_end() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, _| {
        if matches!(event, Event::Timeout(_)) {
            let error = connection.write(&pattern(1 << 16)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            assert_eq!(
                connection.write(b"x").unwrap_err().kind(),
                ErrorKind::BrokenPipe
            );
        }
        Ok(0) // the error is not passed on: the connection ends nevertheless
    });
    let (key, far) = bench.open_unix(&ConnectionOptions::new().idle_timeout(secs(1)), handler)?;
    bench.with(key, |connection| connection.pause_reading());
    drop(far);
    bench.advance(secs(1));
    assert_eq!(bench.until_closed(), "close Failed(BrokenPipe)");
    Ok(())
}

#[test]
fn a_connection_dropped_with_its_reactor_is_closed_without_a_callback() -> Result {
    let mut bench = Bench::new()?;
    let alive = Rc::new(());
    let held = Rc::clone(&alive);
    let handler = probe(move |event, connection, cx| {
        let _ = &held;
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    let Bench { reactor, world } = bench;
    drop(reactor);
    assert_eq!(
        (Rc::strong_count(&alive), world.log),
        (1, vec!["open".to_owned()])
    );
    assert_eq!(std::io::Read::read(&mut far, &mut [0; 1])?, 0);
    Ok(())
}

#[test]
fn a_stream_that_cannot_be_registered_is_returned_without_a_callback() -> Result {
    let mut reactor = reactor::Reactor::builder().max_registrations(0).build()?;
    let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    let error =
        Connection::open(&mut reactor, near, &ConnectionOptions::new(), sink()).unwrap_err();
    assert!(matches!(error.error, reactor::Error::Full { .. }));
    let mut world = crate::World::default();
    reactor.run(&mut world)?;
    assert!(world.log.is_empty());
    Ok(())
}

/// Returns a listener on a free port, its address, and its limit.
fn listener(room: usize) -> Result<(Listener, std::net::SocketAddr, ConnectionLimit)> {
    let limit = ConnectionLimit::new(room);
    let listener = ListenOptions::new()
        .limit(limit.clone())
        .bind(&"127.0.0.1:0".parse().unwrap())?;
    let Address::Tcp(address) = listener.local_addr()? else {
        panic!("an address of another family")
    };
    Ok((listener, address, limit))
}

#[test]
fn a_permit_is_released_at_the_end_of_the_connection() -> Result {
    let mut bench = Bench::new()?;
    let (listener, address, limit) = listener(1)?;
    listener.serve(&mut bench.reactor, &ConnectionOptions::new(), |_, _| {
        Ok(sink())
    })?;
    let first = TcpStream::connect(address)?;
    bench.until(|world| world.count("open") == 1);
    let _second = TcpStream::connect(address)?;
    bench.run_until_idle();
    assert_eq!((limit.open(), bench.world.count("open")), (1, 1));
    drop(first);
    bench.until(|world| world.count("open") == 2);
    assert_eq!((limit.open(), bench.world.count("close Finished")), (1, 1));
    drop(bench);
    assert_eq!(limit.open(), 0);
    Ok(())
}

#[test]
fn a_panic_in_on_open_ends_the_connection_and_not_its_listener() -> Result {
    let mut bench = Bench::with_policy(PanicPolicy::RemoveHandler)?;
    let (listener, address, limit) = listener(2)?;
    listener.serve(&mut bench.reactor, &ConnectionOptions::new(), |_, cx| {
        let first = cx.state.log.is_empty();
        Ok(probe(move |event, connection, cx| {
            assert!(!first, "the first");
            Ok(default(&event, connection, cx))
        }))
    })?;
    let _first = TcpStream::connect(address)?;
    assert_eq!(bench.until_closed(), "close Panicked(\"the first\")");
    assert_eq!(limit.open(), 0);
    let _second = TcpStream::connect(address)?;
    bench.until(|world| world.count("open") == 2);
    assert_eq!(limit.open(), 1);
    Ok(())
}

#[test]
fn a_panic_of_a_handler_that_opens_what_was_accepted_is_its_own() -> Result {
    let mut bench = Bench::with_policy(PanicPolicy::RemoveHandler)?;
    let (listener, address, _) = listener(2)?;
    listener.accept(&mut bench.reactor, |accepted: Accepted, cx| {
        accepted
            .open(
                cx.registry,
                &ConnectionOptions::new(),
                probe(|_, _, _| panic!("on opening")),
            )
            .map(drop)
    })?;
    for ends in 1..=2 {
        let _far = TcpStream::connect(address)?;
        bench.until(|world| world.count("close Panicked(\"on opening\")") == ends);
    }
    Ok(())
}

#[test]
fn a_reason_reads_as_the_end_of_a_sentence() {
    let refused = std::io::Error::new(ErrorKind::ConnectionRefused, "connect to [::1]:7: refused");
    assert_eq!(
        CloseReason::Failed(refused).to_string(),
        "failed: connect to [::1]:7: refused"
    );
    assert_eq!(
        CloseReason::TimedOut(Timeout::Idle).to_string(),
        "idle timeout expired"
    );
    assert_eq!(
        CloseReason::TimedOut(Timeout::Close).to_string(),
        "close deadline expired"
    );
    assert_eq!(
        CloseReason::Panicked("in on_data".into()).to_string(),
        "panicked: in on_data"
    );
    assert_eq!(CloseReason::Finished.to_string(), "finished");
    assert_eq!(
        reactor::CloseReason::ByKey.to_string(),
        "removed by its key"
    );
}
