//! Marks in the written bytes, and the final numbers of bytes.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bytes::Bytes;
use handlers::{
    BoxedHandler, CloseReason, Connection, ConnectionHandler, ConnectionMetrics, ConnectionOptions,
    RateLimit,
};
use reactor::{Context, PanicPolicy};
use support::reset;

use crate::{Bench, Event, Result, World, default, pattern, probe, secs, sink};

/// More bytes than the buffers of a socket hold.
const MUCH: usize = 1 << 20;

#[test]
fn a_mark_is_reported_once_after_the_callback_that_has_set_it() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if let Event::Data(data) = &event {
            let _ = connection.write(data)?;
            let position = connection.notify_sent();
            cx.state.log.push(format!("mark {position}"));
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    for message in [b"one".as_slice(), b"three"] {
        far.write_all(message)?;
        bench.run_until_idle();
        assert_eq!(bench.receive(&mut far, message.len()), message);
    }
    let expected = [
        "open",
        "data one",
        "mark 3",
        "sent 3",
        "data three",
        "mark 8",
        "sent 8",
    ];
    assert_eq!(bench.world.log, expected);
    Ok(())
}

#[test]
fn a_mark_waits_until_the_kernel_has_taken_the_last_byte_before_it() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    let first = bench.with(key, |connection| {
        let _ = connection.write(&pattern(MUCH)).unwrap();
        let first = connection.notify_sent();
        let _ = connection.write(&pattern(MUCH)).unwrap();
        first
    });
    assert_eq!(first, MUCH as u64);
    let (mut received, mut buf) = (0, vec![0; 4096]);
    loop {
        bench.run_until_idle();
        let written = bench.with(key, |connection| connection.metrics().written);
        assert_eq!(
            bench.world.has("sent 1048576"),
            written >= first,
            "{written}"
        );
        if received == 2 * MUCH {
            break;
        }
        match far.read(&mut buf) {
            Ok(count) => received += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert_eq!(bench.world.count("sent 1048576"), 1);
    let marks = bench
        .world
        .log
        .iter()
        .filter(|entry| entry.starts_with("sent"));
    assert_eq!(marks.count(), 1, "no mark was set after the rest");
    Ok(())
}

#[test]
fn marks_reached_together_are_reported_by_the_last() -> Result {
    let mut bench = Bench::new()?;
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    let marks = bench.with(key, |connection| {
        [b"a".as_slice(), b"", b"bc"].map(|piece| {
            let _ = connection.write(piece).unwrap();
            connection.notify_sent()
        })
    });
    assert_eq!(marks, [1, 1, 3]);
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "sent 3"]);
    Ok(())
}

#[test]
fn a_mark_before_the_first_byte_is_reported_and_never_within_the_call() -> Result {
    let mut bench = Bench::new()?;
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    let reactor = &mut bench.reactor;
    reactor.defer(move |cx| {
        key.with(cx, |connection, cx| {
            assert_eq!(connection.notify_sent(), 0);
            cx.state.log.push("marked".to_owned());
        })
        .unwrap();
        assert_eq!(cx.state.log, ["open", "marked"]);
    });
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "marked", "sent 0"]);
    Ok(())
}

/// A handler that sends for ever: others must have their turn.
#[test]
fn a_mark_set_in_on_sent_is_reported_in_a_later_turn() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Open | Event::Sent(_)) {
            let _ = connection.write(b"x")?;
            connection.notify_sent();
        }
        Ok(default(&event, connection, cx))
    });
    let (_, _far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    for turn in 0..20 {
        let before = bench.world.log.len();
        bench.turn();
        let calls = bench.world.log.len() - before;
        assert!(calls <= 2, "{calls} calls in turn {turn}");
    }
    let sent = bench
        .world
        .log
        .iter()
        .filter(|entry| entry.starts_with("sent"));
    assert!(sent.count() >= 10, "{:?}", bench.world.log);
    Ok(())
}

#[test]
fn a_mark_waits_for_bytes_held_back_by_a_rate() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().write_rate(RateLimit::new(10, 10));
    let (key, _far) = bench.open_unix(&options, sink())?;
    bench.run_until_idle();
    bench.with(key, |connection| {
        let _ = connection.write(&[0; 30]).unwrap();
        connection.notify_sent();
    });
    bench.run_until_idle();
    bench.advance(secs(1));
    assert_eq!(bench.world.log, ["open"]);
    bench.advance(secs(1));
    assert_eq!(bench.world.log, ["open", "sent 30"]);
    Ok(())
}

#[test]
fn an_error_of_on_sent_ends_the_connection() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| match event {
        Event::Sent(_) => Err(ErrorKind::InvalidData.into()),
        event => Ok(default(&event, connection, cx)),
    });
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    bench.with(key, |connection| connection.notify_sent());
    assert_eq!(bench.until_closed(), "close Failed(InvalidData)");
    assert_eq!(bench.world.count("sent 0"), 1);
    Ok(())
}

#[test]
fn a_panic_in_on_sent_ends_that_connection_alone() -> Result {
    let mut bench = Bench::with_policy(PanicPolicy::RemoveHandler)?;
    let handler = probe(|event, connection, cx| match event {
        Event::Sent(_) => panic!("as the test wants"),
        event => Ok(default(&event, connection, cx)),
    });
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    bench.with(key, |connection| connection.notify_sent());
    let end = bench.until_closed();
    assert_eq!(end, "close Panicked(\"as the test wants\")");
    Ok(())
}

#[test]
fn a_connection_closed_in_on_sent_gets_no_further_mark() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if let Event::Sent(_) = event {
            connection.notify_sent();
            connection.close();
        }
        Ok(default(&event, connection, cx))
    });
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    bench.with(key, |connection| connection.notify_sent());
    assert_eq!(bench.until_closed(), "close Closed");
    assert_eq!(bench.world.log, ["open", "sent 0", "close Closed"]);
    Ok(())
}

#[test]
fn no_mark_is_reported_after_the_socket_has_failed() -> Result {
    let mut bench = Bench::new()?;
    let (key, far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    let end = bench.with(key, |connection| {
        let _ = connection.write(&pattern(8 * MUCH)).unwrap();
        connection.notify_sent()
    });
    bench.run_until_idle();
    reset(far)?;
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    let marks = bench
        .world
        .log
        .iter()
        .filter(|entry| entry.starts_with("sent"));
    assert_eq!(marks.count(), 0);
    let metrics = bench.world.metrics.unwrap();
    assert!(0 < metrics.sent && metrics.sent < end, "{metrics:?}");
    assert_eq!(metrics.sent, metrics.written);
    Ok(())
}

/// The write after the failure is dropped, so its mark must not say that it was sent.
#[test]
fn no_mark_that_is_set_after_the_socket_has_failed_is_reported() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Data(_) | Event::Failure(_)) {
            let _ = connection.write(b"dropped");
            let _ = connection.flush();
            connection.notify_sent();
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    far.write_all(b"question")?;
    drop(far);
    assert_eq!(bench.until_closed(), "close Failed(BrokenPipe)");
    let sent = bench
        .world
        .log
        .iter()
        .filter(|entry| entry.starts_with("sent"));
    assert_eq!(sent.count(), 0, "{:?}", bench.world.log);
    assert_eq!(bench.world.metrics.unwrap().sent, 0);
    Ok(())
}

#[test]
fn a_new_handler_gets_no_marks_of_the_old_one() -> Result {
    let mut bench = Bench::new()?;
    let old: BoxedHandler<_> = Box::new(sink());
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), old)?;
    bench.with(key, |connection| {
        let _ = connection.write(b"old").unwrap();
        connection.notify_sent();
        connection.replace_handler(Box::new(sink())).unwrap();
    });
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "open"]);
    Ok(())
}

#[test]
fn the_final_metrics_count_what_the_kernel_has_taken_and_no_more() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    far.write_all(b"question")?;
    bench.run_until_idle();
    let position = bench.with(key, |connection| {
        assert_eq!(connection.write_position(), 0);
        let _ = connection.write(&pattern(MUCH)).unwrap();
        connection.write_position()
    });
    assert_eq!(position, MUCH as u64);
    bench.with(key, |connection| connection.close());
    assert_eq!(bench.until_closed(), "close Closed");
    let mut taken = Vec::new();
    far.set_nonblocking(false)?;
    far.read_to_end(&mut taken)?;
    let ConnectionMetrics {
        read,
        written,
        sent,
        ..
    } = bench.world.metrics.unwrap();
    let taken = taken.len() as u64;
    assert!(0 < taken && taken < MUCH as u64);
    assert_eq!((read, written, sent), (8, taken, taken));
    Ok(())
}

/// The destructor of a shared piece is user code, and the bytes were sent before it.
#[test]
fn bytes_are_counted_although_dropping_their_owner_panics() -> Result {
    struct Owner(Vec<u8>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            panic!("as the test wants");
        }
    }
    let mut bench = Bench::with_policy(PanicPolicy::RemoveHandler)?;
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    let _ = bench.with(key, |connection| {
        let _ = connection.write(b"queued, ").unwrap();
        connection.write_bytes(Bytes::from_owner(Owner(vec![0; 2000])))
    });
    bench.run_until_idle();
    bench.reactor.defer(move |cx| drop(key.close(cx)));
    bench.run_until_idle();
    assert_eq!(bench.world.metrics.unwrap().written, 2008);
    Ok(())
}

/// Panics in `on_final_metrics`, and counts the calls of `on_close`.
struct PanicsAtTheEnd(Rc<Cell<usize>>);

impl ConnectionHandler<World> for PanicsAtTheEnd {
    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, World>,
        _cx: &mut Context<'_, World>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }

    fn on_final_metrics(&mut self, _metrics: ConnectionMetrics, _cx: &mut Context<'_, World>) {
        panic!("at the end");
    }

    fn on_close(&mut self, reason: CloseReason, _cx: &mut Context<'_, World>) {
        assert!(!matches!(reason, CloseReason::Panicked(_)), "{reason}");
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_panic_in_on_final_metrics_does_not_hide_the_end() -> Result {
    for policy in [PanicPolicy::RemoveHandler, PanicPolicy::Propagate] {
        let mut bench = Bench::with_policy(policy)?;
        let closes = Rc::default();
        let handler = PanicsAtTheEnd(Rc::clone(&closes));
        let (_, far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
        bench.run_until_idle();
        drop(far);
        let turn = catch_unwind(AssertUnwindSafe(|| bench.run_until_idle()));
        assert_eq!(turn.is_err(), policy == PanicPolicy::Propagate);
        bench.run_until_idle();
        assert_eq!(closes.get(), 1);
    }
    Ok(())
}
