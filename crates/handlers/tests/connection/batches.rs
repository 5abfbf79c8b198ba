//! Events that the kernel reports a few at a time: a connection that ends waits for events that are
//! still to be reported.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{Connection, ConnectionKey, ConnectionOptions, on_data};
use reactor::{ManualClock, Reactor};

use crate::{Bench, Result, World, secs, sink};

const CONNECTIONS: usize = 50;

/// Returns a loop that gets at most `events` events per wait, with connections that echo or keep
/// their input.
fn opened(
    events: usize,
    echo: bool,
) -> Result<(Bench, Vec<ConnectionKey<World>>, Vec<UnixStream>)> {
    let reactor = Reactor::builder()
        .clock(ManualClock::new())
        .max_events_per_turn(events)
        .build()?;
    let mut bench = Bench {
        reactor,
        world: World::default(),
    };
    let (mut keys, mut fars) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let (near, far) = UnixStream::pair()?;
        let options = ConnectionOptions::new();
        let key = if echo {
            let echo =
                on_data(|data, connection, _cx| connection.write(data).map(|_flow| data.len()));
            Connection::open(&mut bench.reactor, near, &options, echo)?
        } else {
            Connection::open(&mut bench.reactor, near, &options, sink())?
        };
        keys.push(key);
        fars.push(far);
    }
    bench.run_until_idle();
    Ok((bench, keys, fars))
}

/// Takes turns until everything has been reported, with any number of events per turn.
fn turn_on(bench: &mut Bench) {
    for _ in 0..20 * CONNECTIONS {
        bench.turn();
    }
}

#[test]
fn connections_that_close_gracefully_answer_bytes_reported_late() -> Result {
    for events in [1, 4, 1024] {
        let (mut bench, keys, mut fars) = opened(events, true)?;
        fars.iter_mut().try_for_each(|far| far.write_all(b"?"))?;
        bench.reactor.defer(move |cx| {
            keys.iter().for_each(|key| {
                key.with(cx, |connection, _cx| connection.close_gracefully(secs(5)))
                    .unwrap()
            });
        });
        turn_on(&mut bench);
        let is_answered = |mut far: UnixStream| matches!(far.read(&mut [0; 8]), Ok(1));
        fars.iter()
            .try_for_each(|far| far.set_read_timeout(Some(Duration::from_secs(5))))?;
        assert_eq!(
            fars.into_iter()
                .filter_map(|far| is_answered(far).then_some(()))
                .count(),
            CONNECTIONS,
            "{events}"
        );
    }
    Ok(())
}

#[test]
fn last_words_that_are_reported_late_outlive_a_failed_write() -> Result {
    for events in [1, 4, 1024] {
        let (mut bench, keys, mut fars) = opened(events, false)?;
        bench.reactor.defer(move |cx| {
            fars.iter_mut()
                .for_each(|far| far.write_all(b"last words").unwrap());
            drop(fars);
            for key in keys {
                let _ = key.with(cx, |connection, _cx| {
                    connection.write(b"to one that has gone").is_ok()
                });
            }
        });
        turn_on(&mut bench);
        assert_eq!(bench.world.received.len(), 10 * CONNECTIONS, "{events}");
        assert_eq!(bench.world.count("end "), CONNECTIONS, "{events}");
    }
    Ok(())
}

#[test]
fn shutdown_after_responses_ends_the_direction_whenever_it_is_called() -> Result {
    for case in 0..3 {
        let mut bench = Bench::new()?;
        let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
        bench.run_until_idle();
        if case == 0 {
            bench.with(key, |connection| connection.shutdown_after_responses());
        } else {
            bench.with(key, |connection| {
                connection.begin_response();
                connection.shutdown_after_responses();
            });
            bench.run_until_idle();
            assert_eq!(
                far.read(&mut [0]).map_err(|error| error.kind()),
                Err(ErrorKind::WouldBlock)
            );
            bench.with(key, move |connection| {
                connection.end_response();
                connection
                    .write(&vec![7; if case == 1 { 1 } else { 20_000 }])
                    .map(drop)
            })?;
        }
        let heard = bench.receive_all(&mut far)?;
        assert_eq!(heard.len(), [0, 1, 20_000][case]);
    }
    Ok(())
}

#[test]
fn a_handler_ends_its_direction_in_the_callback_that_has_written_all() -> Result {
    let mut bench = Bench::new()?;
    let ends = on_data(
        |data: &[u8], connection: &mut Connection<'_, World>, _cx: &mut _| {
            connection.write(b"bye").map(drop)?;
            connection.shutdown_after_responses();
            Ok(data.len())
        },
    );
    let (_, mut far) = bench.open_tcp(&ConnectionOptions::new(), ends)?;
    bench.run_until_idle();
    far.write_all(b"quit")?;
    assert_eq!(bench.receive_all(&mut far)?, b"bye");
    Ok(())
}

#[test]
fn a_read_only_stream_does_not_linger_at_a_graceful_close() -> Result {
    let mut bench = Bench::new()?;
    let (reader, mut writer) = std::io::pipe()?;
    let key = Connection::open(
        &mut bench.reactor,
        reader,
        &ConnectionOptions::new(),
        sink(),
    )?;
    writer.write_all(b"so far")?;
    bench.with(key, |connection| connection.close_gracefully(secs(5)));
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(bench.world.received, b"so far");
    Ok(())
}
