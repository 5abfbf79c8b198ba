//! Streams that are cut off: the peer must not take one for the complete stream.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use handlers::{Connection, ConnectionHandler, ConnectionKey, ConnectionOptions};
use reactor::{Context, PanicPolicy};

use crate::{Bench, Event, Result, World, default, pattern, probe, secs, sink};

/// More bytes than the buffers of the kernel hold.
const MUCH: usize = 8 << 20;

/// Ends a connection, from outside of its callbacks.
type Cut = fn(&mut Bench, ConnectionKey<World>) -> Result;

fn access(
    bench: &mut Bench,
    key: ConnectionKey<World>,
    access: fn(&mut Connection<'_, World>),
) -> Result {
    bench.with(key, access);
    Ok(())
}

/// Every way in which a connection may end before it has sent everything.
const CUTS: [(&str, Cut); 8] = [
    ("close", |bench, key| {
        access(bench, key, |connection| connection.close())
    }),
    ("close after flush", |bench, key| {
        access(bench, key, |connection| {
            connection.close_after_flush(secs(5))
        })?;
        bench.advance(secs(5));
        Ok(())
    }),
    ("finish", |bench, key| {
        access(bench, key, |connection| {
            connection.close_gracefully(secs(5))
        })?;
        bench.advance(secs(5));
        Ok(())
    }),
    ("finish at once", |bench, key| {
        access(bench, key, |connection| {
            connection.close_gracefully(Duration::ZERO)
        })?;
        bench.run_until_idle();
        Ok(())
    }),
    ("idle timeout", |bench, _| {
        bench.advance(secs(60));
        Ok(())
    }),
    ("write timeout", |bench, key| {
        access(bench, key, |connection| {
            connection.set_options(&ConnectionOptions::new().write_timeout(secs(1)));
        })?;
        bench.advance(secs(2)); // the first second ends with the last byte that was sent
        Ok(())
    }),
    ("removal", |bench, key| {
        Ok(bench.reactor.remove(key.key())?)
    }),
    ("shutdown and idle timeout", |bench, key| {
        access(bench, key, |connection| connection.shutdown())?;
        bench.advance(secs(60));
        Ok(())
    }),
];

/// Returns the end of the stream as the peer reads it: `None`, or an error.
fn end_of(far: TcpStream) -> Result<Option<ErrorKind>> {
    Ok(read_all(far)?.1)
}

/// Returns the number of bytes that the peer reads, and the end of the stream.
fn read_all(mut far: TcpStream) -> io::Result<(usize, Option<ErrorKind>)> {
    far.set_nonblocking(false)?;
    far.set_read_timeout(Some(crate::PATIENCE))?;
    let mut bytes = Vec::new();
    let end = far.read_to_end(&mut bytes).err();
    Ok((bytes.len(), end.map(|error| error.kind())))
}

fn options() -> ConnectionOptions {
    ConnectionOptions::new().idle_timeout(secs(60))
}

#[test]
fn a_connection_that_ends_with_something_queued_is_reset() -> Result {
    for (name, cut) in CUTS {
        let mut bench = Bench::new()?;
        let (key, far) = bench.open_tcp(&options(), sink())?;
        bench.with(key, |connection| connection.write(&pattern(MUCH)).map(drop))?;
        bench.run_until_idle();
        cut(&mut bench, key)?;
        bench.until_closed();
        assert_eq!(end_of(far)?, Some(ErrorKind::ConnectionReset), "{name}");
    }
    Ok(())
}

#[test]
fn a_connection_that_ends_with_a_pending_response_is_reset() -> Result {
    for (name, cut) in CUTS
        .into_iter()
        .filter(|(name, _)| !name.contains("write") && !name.contains("flush"))
    {
        let mut bench = Bench::new()?;
        let (key, far) = bench.open_tcp(&options(), sink())?;
        bench.with(key, |connection| {
            connection.begin_response();
            connection.write(b"the beginning of it").map(drop)
        })?;
        bench.run_until_idle();
        if name.starts_with("shutdown") {
            continue; // a stream that was closed on purpose has nothing pending
        }
        cut(&mut bench, key)?;
        bench.until_closed();
        assert_eq!(end_of(far)?, Some(ErrorKind::ConnectionReset), "{name}");
    }
    Ok(())
}

#[test]
fn a_connection_without_pending_bytes_ends_cleanly_in_every_way() -> Result {
    for (name, cut) in CUTS
        .into_iter()
        .filter(|(name, _)| !name.contains("write timeout"))
    {
        let mut bench = Bench::new()?;
        let (key, far) = bench.open_tcp(&options(), sink())?;
        bench.with(key, |connection| {
            connection.begin_response();
            connection.end_response();
            connection.write(b"all of it").map(drop)
        })?;
        bench.run_until_idle();
        cut(&mut bench, key)?;
        bench.until(World::is_closed);
        assert_eq!(end_of(far)?, None, "{name}");
    }
    Ok(())
}

/// Writes many bytes when it opens, and then calls `act` when data comes.
fn writes_and(
    act: fn(&mut Connection<'_, World>, &mut Context<'_, World>) -> io::Result<()>,
) -> impl ConnectionHandler<World> {
    probe(move |event, connection, cx| {
        match event {
            Event::Open => {
                connection.read_while_full();
                let _ = connection.write(&pattern(MUCH))?;
            }
            Event::Data(_) => act(connection, cx)?,
            _ => {}
        }
        Ok(default(&event, connection, cx))
    })
}

#[test]
fn a_connection_whose_handler_fails_with_something_queued_is_reset() -> Result {
    for panics in [false, true] {
        let mut bench = Bench::with_policy(PanicPolicy::RemoveHandler)?;
        let handler = if panics {
            writes_and(|_, _| panic!("of the handler"))
        } else {
            writes_and(|_, _| Err(ErrorKind::InvalidData.into()))
        };
        let (_, mut far) = bench.open_tcp(&options(), handler)?;
        bench.run_until_idle();
        far.write_all(b"bad")?;
        bench.until_closed();
        assert_eq!(
            end_of(far)?,
            Some(ErrorKind::ConnectionReset),
            "panics: {panics}"
        );
    }
    Ok(())
}

#[test]
fn bytes_written_before_a_panic_do_not_look_complete() -> Result {
    let mut bench = Bench::with_policy(PanicPolicy::RemoveHandler)?;
    let handler = probe(|event, connection, _| {
        if matches!(event, Event::Data(_)) {
            let _ = connection.write(b"the first half")?;
            panic!("before the second");
        }
        Ok(0)
    });
    let (_, mut far) = bench.open_tcp(&options(), handler)?;
    bench.run_until_idle();
    far.write_all(b"question")?;
    bench.until_closed();
    assert_eq!(end_of(far)?, Some(ErrorKind::ConnectionReset));
    Ok(())
}

#[test]
fn a_reset_after_the_flush_comes_after_the_queued_bytes() -> Result {
    let mut bench = Bench::new()?;
    let (key, far) = bench.open_tcp(&options(), sink())?;
    far.set_nonblocking(false)?;
    bench.with(key, |connection| {
        connection.write(b"what there is").map(drop)?;
        connection.abort_after_flush(secs(5));
        io::Result::Ok(())
    })?;
    assert_eq!(bench.until_closed(), "close Aborted");
    let (mut far, mut heard) = (far, vec![0; 13]);
    far.read_exact(&mut heard)?;
    assert_eq!(heard, b"what there is");
    assert_eq!(
        far.read(&mut [0]).map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    Ok(())
}

#[test]
fn a_reset_after_the_flush_waits_for_a_reader_until_its_deadline() -> Result {
    for reads in [true, false] {
        let mut bench = Bench::new()?;
        let (key, far) = bench.open_tcp(&options(), sink())?;
        bench.with(key, |connection| {
            connection.write(&pattern(MUCH)).map(drop)?;
            connection.abort_after_flush(secs(5));
            io::Result::Ok(())
        })?;
        bench.run_until_idle();
        assert!(!bench.world.is_closed());
        if reads {
            let reader = thread::spawn(move || read_all(far));
            assert_eq!(bench.until_closed(), "close Aborted");
            assert_eq!(
                reader.join().unwrap()?,
                (MUCH, Some(ErrorKind::ConnectionReset))
            );
        } else {
            bench.advance(secs(5));
            assert_eq!(bench.until_closed(), "close TimedOut(Close)");
            assert_eq!(end_of(far)?, Some(ErrorKind::ConnectionReset));
        }
    }
    Ok(())
}

#[test]
fn a_call_meanwhile_does_not_bring_a_reset_after_the_flush_forward() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_tcp(&options(), sink())?;
    far.set_nonblocking(false)?;
    bench.with(key, |connection| {
        connection.write(&pattern(MUCH)).map(drop)?;
        connection.abort_after_flush(secs(5));
        io::Result::Ok(())
    })?;
    let (mut piece, mut count) = (vec![0; 1 << 16], 0);
    while bench.with(key, |connection| connection.metrics().written) < MUCH as u64 {
        count += far.read(&mut piece)?;
        bench.run_until_idle();
    }
    bench.with(key, |connection| connection.pause_reading());
    let reader = thread::spawn(move || read_all(far));
    assert_eq!(bench.until_closed(), "close Aborted");
    assert_eq!(count + reader.join().unwrap()?.0, MUCH);
    Ok(())
}

#[test]
fn a_connection_that_has_sent_everything_is_not_reset_at_its_deadline() -> Result {
    let mut bench = Bench::new()?;
    let (key, far) = bench.open_tcp(&options(), sink())?;
    bench.with(key, |connection| {
        connection.begin_response(); // never ended: the close was requested nevertheless
        connection.write(b"all of it").map(drop)?;
        connection.close_after_flush(secs(5));
        io::Result::Ok(())
    })?;
    bench.run_until_idle();
    bench.advance(secs(5));
    assert_eq!(bench.until_closed(), "close TimedOut(Close)");
    assert_eq!(end_of(far)?, None);
    Ok(())
}

#[test]
fn a_connection_whose_panic_or_loop_ends_with_something_queued_is_reset() -> Result {
    for panics in [true, false] {
        let mut bench = Bench::new()?;
        let (_, mut far) =
            bench.open_tcp(&options(), writes_and(|_, _| panic!("through the loop")))?;
        bench.run_until_idle();
        far.write_all(b"x")?;
        if panics {
            let turn = || while bench.turn() > 0 {};
            assert!(catch_unwind(AssertUnwindSafe(turn)).is_err());
        } else {
            drop(bench);
        }
        assert_eq!(
            end_of(far)?,
            Some(ErrorKind::ConnectionReset),
            "panics: {panics}"
        );
    }
    Ok(())
}
