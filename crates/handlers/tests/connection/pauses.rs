//! Timeouts after a pause: bytes that the kernel has by then count first.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{Connection, ConnectionOptions};
use reactor::{Interest, ManualClock, Next, Reactor};
use support::{Slow, add_slow_handler};

use crate::{Bench, Result, World, ms, pattern, secs, sink};

const PAUSE: Duration = secs(100);

/// Returns a loop that gets few events per wait, and whose first handler is slow.
fn slow(max_events_per_turn: usize, refreshes: bool) -> Result<(Bench, UnixStream)> {
    let clock = ManualClock::new();
    let builder = Reactor::<World>::builder()
        .clock(clock.clone())
        .max_events_per_turn(max_events_per_turn);
    let mut reactor = builder.build()?;
    let far = add_slow_handler(
        &mut reactor,
        &clock,
        Slow {
            pause: PAUSE,
            refreshes,
        },
    )?;
    Ok((
        Bench {
            reactor,
            world: World::default(),
        },
        far,
    ))
}

#[test]
fn after_a_pause_connections_whose_bytes_wait_are_neither_idle_nor_silent() -> Result {
    for options in [
        ConnectionOptions::new().idle_timeout(secs(10)),
        ConnectionOptions::new().read_timeout(secs(10)),
    ] {
        for (batch, refreshes) in [
            (1, true),
            (3, true),
            (11, true),
            (1, false),
            (3, false),
            (11, false),
        ] {
            let (mut bench, mut slow) = slow(batch, refreshes)?;
            let mut peers = Vec::new();
            for _ in 0..10 {
                let (_, far) = bench.open_unix(&options, sink())?;
                peers.push(far);
            }
            bench.run_until_idle();
            slow.write_all(b"x")?;
            for peer in &mut peers[1..] {
                peer.write_all(b"in time")?;
            }
            bench.run_until_idle();
            assert_eq!(bench.world.count("data in time"), 9);
            let closed: Vec<_> = bench
                .world
                .log
                .iter()
                .filter(|entry| entry.starts_with("close"))
                .collect();
            assert_eq!(
                closed.len(),
                1,
                "the silent one, by batches of {batch}: {closed:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn after_a_pause_a_peer_that_has_read_the_queue_is_not_slow() -> Result {
    let (mut bench, mut slow) = slow(1, true)?;
    let (key, mut far) =
        bench.open_unix(&ConnectionOptions::new().write_timeout(secs(10)), sink())?;
    bench.run_until_idle();
    let _ = bench.with(key, |connection| connection.write(&pattern(1 << 20)))?;
    bench.run_until_idle();
    slow.write_all(b"x")?;
    let mut taken = vec![0; 1 << 20];
    let room = std::io::Read::read(&mut far, &mut taken)?;
    assert!(room > 0);
    bench.turn();
    bench.run_until_idle();
    assert!(!bench.world.has("timeout Write"), "{:?}", bench.world.log);
    Ok(())
}

#[test]
fn after_a_pause_a_peer_that_has_ended_has_kept_the_deadline_of_a_close() -> Result {
    for gracefully in [false, true] {
        let (mut bench, mut slow) = slow(1, true)?;
        let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
        bench.run_until_idle();
        bench.with(key, move |connection| {
            if gracefully {
                connection.begin_response(); // so that the close waits for what follows
                connection.close_gracefully(secs(10));
            } else {
                connection.close_after_flush(secs(10));
            }
        });
        bench.run_until_idle();
        slow.write_all(b"x")?;
        far.write_all(b"in time")?;
        far.shutdown(Shutdown::Write)?;
        bench.turn();
        if gracefully {
            bench.run_until_idle();
            assert_eq!(
                bench.world.count("data in time"),
                1,
                "{:?}",
                bench.world.log
            );
        } else {
            bench.run_until_idle();
            assert!(bench.world.has("close Finished"), "{:?}", bench.world.log);
        }
    }
    Ok(())
}

#[test]
fn bytes_that_come_while_a_timeout_is_on_its_way_put_it_off() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<World>::builder().clock(clock.clone()).build()?;
    let (near, mut far) = UnixStream::pair()?;
    Connection::open(
        &mut reactor,
        near,
        &ConnectionOptions::new().idle_timeout(secs(10)),
        sink(),
    )?;
    let mut world = World::default();
    let mut turn = |reactor: &mut Reactor<World>| reactor.turn(&mut world, Some(Duration::ZERO));
    turn(&mut reactor)?;
    clock.advance(secs(5));
    far.write_all(b"early")?;
    turn(&mut reactor)?;
    clock.advance(secs(5)); // when the loop checks again, it finds that 5 s are left
    let (time, mut peer) = (clock.clone(), far.try_clone()?);
    reactor.after_wait(move |cx| {
        time.advance(secs(20));
        peer.write_all(b"in time")?;
        cx.registry.refresh_now();
        Ok(Next::Remove)
    });
    for _ in 0..3 {
        turn(&mut reactor)?;
    }
    assert_eq!(world.log, ["open", "data early", "data in time"]);
    Ok(())
}

#[test]
fn a_silent_connection_times_out_in_time_beside_a_busy_one() -> Result {
    let (mut bench, _slow) = slow(1, true)?;
    let (_, _silent) = bench.open_unix(&ConnectionOptions::new().idle_timeout(secs(10)), sink())?;
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"x")?;
    bench
        .reactor
        .add(near, Interest::READABLE, move |near, _| {
            std::io::Read::read(near, &mut [0; 8])?;
            far.write_all(b"again").map(|()| Next::Keep)
        })?;
    for _ in 0..4 {
        bench.turn();
    }
    bench.advance(secs(10) - ms(1));
    assert!(!bench.world.is_closed());
    bench.advance(ms(1));
    for _ in 0..4 {
        bench.turn();
    }
    assert!(
        bench.world.has("close TimedOut(Idle)"),
        "{:?}",
        bench.world.log
    );
    Ok(())
}
