//! Commands through a key, also from within the callback of the same connection.

use std::cell::RefCell;
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use handlers::{Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, Flow};
use reactor::{Context, Error, PanicPolicy};

use crate::{Bench, Event, Result, World, default, probe, secs, sink};

type Act = fn(ConnectionKey<World>, &mut Connection<'_, World>, &mut Context<'_, World>);

/// A handler that calls `act` when data comes, and reads on.
fn acts(act: Act) -> impl ConnectionHandler<World> {
    probe(move |event, connection, cx| {
        if matches!(event, Event::Data(_)) {
            act(connection.key(), connection, cx);
        }
        Ok(default(&event, connection, cx))
    })
}

#[test]
fn a_write_through_the_own_key_comes_after_writes_of_the_callback() -> Result {
    let mut bench = Bench::new()?;
    let handler = acts(|key, connection, cx| {
        let _ = connection.write(b"own 1, ").unwrap();
        assert_eq!(key.write(cx, b"by key 1, ").unwrap(), Flow::Open);
        assert_eq!(
            key.write_bytes(cx, Bytes::from_static(b"by key 2"))
                .unwrap(),
            Flow::Open
        );
        let _ = connection.write(b"own 2, ").unwrap();
    });
    let (_, mut far, writes) = bench.open_recorded(&ConnectionOptions::new(), handler)?;
    far.write_all(b"x")?;
    assert_eq!(
        bench.receive(&mut far, 32),
        b"own 1, own 2, by key 1, by key 2"
    );
    assert_eq!(writes.borrow().len(), 1, "one system call");
    Ok(())
}

#[test]
fn a_write_through_the_own_key_comes_before_the_next_callback() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        let _ = match event {
            Event::Open => {
                let _ = connection.key().write(cx, b"message, ")?;
                connection.write(b"greeting, ")?
            }
            _ => connection.write(b"answer")?,
        };
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    far.write_all(b"x")?;
    assert_eq!(bench.receive(&mut far, 25), b"greeting, message, answer");
    Ok(())
}

#[test]
fn a_message_to_all_reaches_each_subscriber_in_the_order_of_publishing() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new();
    let (one, mut far_one) =
        bench.open_unix(&options, acts(|_, _, cx| publish(b"from 1, ", cx)))?;
    let (two, mut far_two) =
        bench.open_unix(&options, acts(|_, _, cx| publish(b"from 2, ", cx)))?;
    SUBSCRIBERS.set(vec![one, two]);
    bench.run_until_idle();
    far_one.write_all(b"x")?;
    far_two.write_all(b"x")?; // both are ready in the same turn
    let (at_one, at_two) = (
        bench.receive(&mut far_one, 16),
        bench.receive(&mut far_two, 16),
    );
    assert_eq!(
        at_one.escape_ascii().to_string(),
        at_two.escape_ascii().to_string()
    );
    Ok(())
}

thread_local! {
    static SUBSCRIBERS: RefCell<Vec<ConnectionKey<World>>> = const { RefCell::new(Vec::new()) };
}

fn publish(message: &[u8], cx: &mut Context<'_, World>) {
    let subscribers = SUBSCRIBERS.with_borrow(Vec::clone);
    for subscriber in subscribers {
        let _ = subscriber.write(cx, message).unwrap();
    }
}

#[test]
fn a_connection_closed_through_its_own_key_gets_no_other_callback() -> Result {
    let acts_and_ends: [(Act, &str); 3] = [
        (|key, _, cx| key.close(cx).unwrap(), "close Closed"),
        (|key, _, cx| key.abort(cx).unwrap(), "close Aborted"),
        (
            |key, _, cx| key.close_after_flush(cx, secs(5)).unwrap(),
            "close Finished",
        ),
    ];
    for (act, end) in acts_and_ends {
        let mut bench = Bench::new()?;
        let options = ConnectionOptions::new();
        let (_, mut far) = bench.open_tcp(&options, acts(act))?;
        bench.send(&mut far, &[7; 100_000]); // more than one callback gets at once
        let _ = far.shutdown(Shutdown::Write);
        assert_eq!(bench.until_closed(), end);
        assert_eq!(bench.world.log.len(), 3, "{:?}", bench.world.log);
    }
    Ok(())
}

#[test]
fn a_connection_closed_through_its_own_key_sends_earlier_writes() -> Result {
    let mut bench = Bench::new()?;
    let handler = acts(|key, connection, cx| {
        key.write(cx, b"and message").map(drop).unwrap();
        key.close_after_flush(cx, secs(5)).unwrap();
        key.write(cx, b"too late").map(drop).unwrap();
        let _ = connection.write(b"answer ").unwrap();
    });
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    far.write_all(b"x")?;
    assert_eq!(bench.receive_all(&mut far)?, b"answer and message");
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    Ok(())
}

/// The bytes were accepted before.
#[test]
fn a_write_through_the_own_key_is_sent_although_the_callback_closes() -> Result {
    let closes: [Act; 3] = [
        |_, connection, _| connection.shutdown(),
        |_, connection, _| connection.close_after_flush(secs(5)),
        |_, connection, _| connection.close(),
    ];
    for close in closes {
        let mut bench = Bench::new()?;
        let handler = probe(move |event, connection, cx| {
            if matches!(event, Event::Data(_)) {
                let _ = connection.key().write(cx, b"message")?;
                let _ = connection.key().write(cx, b"")?;
                let _ = connection.write(b"answer ")?;
                close(connection.key(), connection, cx);
            }
            Ok(default(&event, connection, cx))
        });
        let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
        far.write_all(b"x")?;
        assert_eq!(bench.receive_all(&mut far)?, b"answer message");
    }
    Ok(())
}

/// They were accepted, so the stream is not whole.
#[test]
fn a_close_resets_if_bytes_written_through_the_own_key_do_not_fit() -> Result {
    let mut bench = Bench::new()?;
    let handler = acts(|key, connection, cx| {
        let _ = key.write(cx, &[7; 16_000_000]).unwrap();
        connection.close();
    });
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), handler)?;
    far.write_all(b"x")?;
    assert_eq!(bench.until_closed(), "close Closed");
    let end = bench.receive_all(&mut far).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    Ok(())
}

#[test]
fn a_direction_is_shut_down_by_ones_own_key() -> Result {
    let mut bench = Bench::new()?;
    let handler = acts(|key, connection, cx| {
        key.shutdown(cx).unwrap();
        let _ = connection.write(b"last").unwrap();
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    far.write_all(b"x")?;
    assert_eq!(bench.receive_all(&mut far)?, b"last");
    assert!(!bench.world.is_closed());
    Ok(())
}

#[test]
fn commands_within_an_access_through_the_key_run_when_it_returns() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.reactor.defer(move |cx| {
        let accessed = key.with(cx, |connection, cx| {
            key.write(cx, b"second").map(drop).unwrap();
            key.shutdown(cx).unwrap();
            let _ = connection.write(b"first, ").unwrap();
        });
        accessed.unwrap();
    });
    assert_eq!(bench.receive_all(&mut far)?, b"first, second");
    Ok(())
}

#[test]
fn commands_from_elsewhere_are_obeyed_at_once() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().watermarks(1, 4);
    let (key, mut far) = bench.open_unix(&options, sink())?;
    bench.run_until_idle();
    bench.reactor.defer(move |cx| {
        assert_eq!(key.write(cx, b"abc").unwrap(), Flow::Open);
        assert_eq!(
            key.with(cx, |connection, _| connection.queued()).unwrap(),
            3
        );
        key.shutdown(cx).unwrap();
        assert_eq!(
            key.write(cx, b"d").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        key.close_after_flush(cx, secs(5)).unwrap();
    });
    assert_eq!(bench.receive_all(&mut far)?, b"abc");
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    bench.reactor.defer(move |cx| {
        assert!(matches!(key.close(cx), Err(Error::StaleKey(_))));
        assert_eq!(key.write(cx, b"e").unwrap_err().kind(), ErrorKind::NotFound);
        cx.state.log.push("asked".to_owned());
    });
    bench.run_until_idle();
    assert!(bench.world.has("asked"));
    Ok(())
}

#[test]
fn a_write_by_ones_own_key_beyond_the_bound_ends_the_connection() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().max_write_queue(8);
    let handler = acts(|key, _, cx| key.write(cx, b"more than that").map(drop).unwrap());
    let (_, mut far) = bench.open_unix(&options, handler)?;
    far.write_all(b"x")?;
    assert_eq!(bench.until_closed(), "close Failed(QuotaExceeded)");
    Ok(())
}

/// Bytes with a countable owner.
struct Owner {
    _token: Arc<()>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        b"never"
    }
}

#[test]
fn commands_to_a_connection_whose_callback_panics_are_dropped() -> Result {
    let mut bench = Bench::with_policy(PanicPolicy::RemoveHandler)?;
    let owners = Arc::new(());
    let bytes = Bytes::from_owner(Owner {
        _token: Arc::clone(&owners),
    });
    let handler = probe(move |event, connection, cx| {
        if matches!(event, Event::Data(_)) {
            let _ = connection.key().write_bytes(cx, bytes.clone())?;
            panic!("as the test wants");
        }
        Ok(0)
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    far.write_all(b"x")?;
    assert_eq!(
        bench.until_closed(),
        "close Panicked(\"as the test wants\")"
    );
    assert_eq!(bench.receive_all(&mut far)?, b"");
    assert_eq!(Arc::strong_count(&owners), 1);
    Ok(())
}

#[test]
fn commands_to_a_connection_whose_panic_unwound_through_the_loop_go_too() -> Result {
    let mut bench = Bench::new()?;
    let owners = Arc::new(());
    let bytes = Bytes::from_owner(Owner {
        _token: Arc::clone(&owners),
    });
    let handler = probe(move |event, connection, cx| {
        if matches!(event, Event::Data(_)) {
            let _ = connection.key().write_bytes(cx, bytes.clone())?;
            panic!("as the test wants");
        }
        Ok(0)
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    far.write_all(b"x")?;
    catch_unwind(AssertUnwindSafe(|| bench.turn())).expect_err("the panic");
    bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    assert_eq!(Arc::strong_count(&owners), 1);
    Ok(())
}

#[test]
fn commands_within_an_access_that_panics_still_run() -> Result {
    let mut bench = Bench::with_policy(PanicPolicy::RemoveHandler)?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.reactor.defer(move |cx| {
        let _ = key.with(cx, |_, cx| {
            key.write(cx, b"by key").map(drop).unwrap();
            panic!("as the test wants");
        });
    });
    assert_eq!(bench.receive(&mut far, 6), b"by key");
    Ok(())
}
