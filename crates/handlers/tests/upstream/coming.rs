//! Connecting, waiting and connecting again: the targets, the delays, and what resets them.

#[cfg(feature = "names")]
use std::io::ErrorKind;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
#[cfg(feature = "names")]
use std::sync::atomic::{AtomicUsize, Ordering};
#[cfg(feature = "names")]
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use handlers::{
    Address, Backoff, CloseReason, ConnectionOptions, Jitter, Proof, SocketStream, TargetOrder,
    Upstream, UpstreamMetrics, UpstreamOptions, UpstreamState, on_data,
};
#[cfg(feature = "names")]
use handlers::{Resolver, Target};
use reactor::{ManualClock, Reactor};
use support::{Result, listen, ms, silent_listener};

use super::{SECOND, Setup, notes, options, refuses};

#[test]
fn a_peer_that_accepts_and_closes_is_dialled_ever_more_rarely() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options())?;
    for expected in [1, 2, 4, 8, 8] {
        drop(setup.accept(&listener)?);
        assert_eq!(setup.ends()?, expected * SECOND);
        assert_eq!(setup.upstream().state(), UpstreamState::Waiting);
        // The delay is exact.
        setup.advance(expected * SECOND - ms(1))?;
        assert_eq!(setup.upstream().state(), UpstreamState::Waiting);
        setup.advance(ms(1))?;
        assert_ne!(setup.upstream().state(), UpstreamState::Waiting);
    }
    Ok(())
}

#[test]
fn an_uptime_resets_the_delay_and_a_shorter_one_does_not() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options().proof(Proof::Uptime(5 * SECOND)))?;
    let up = 5 * SECOND;
    for (up, expected) in [(SECOND, 1), (up - ms(1), 2), (up, 1), (up - ms(1), 2)] {
        let peer = setup.accept(&listener)?;
        setup.advance(up)?;
        drop(peer);
        assert_eq!(setup.ends()?, expected * SECOND, "after {up:?}");
        setup.retry()?;
    }
    Ok(())
}

#[test]
fn the_first_bytes_reset_the_delay_only_if_they_are_the_proof() -> Result {
    for (proof, expected) in [
        (Proof::FirstBytes, [1, 1, 1]),
        (Proof::Confirmation, [1, 2, 4]),
        (Proof::Uptime(SECOND), [1, 2, 4]),
    ] {
        let (listener, address) = listen("127.0.0.1:0")?;
        let mut setup = Setup::new([address], &options().proof(proof))?;
        let delays = (0..3).map(|round| {
            let mut peer = setup.accept(&listener)?;
            peer.write_all(b"x")?;
            setup.turn_until(|app| app.received.len() > round)?;
            drop(peer);
            let delay = setup.ends()?;
            setup.retry()?;
            Ok(delay)
        });
        let delays = delays.collect::<Result<Vec<_>>>()?;
        assert_eq!(
            delays,
            expected.map(|seconds| seconds * SECOND),
            "{proof:?}"
        );
    }
    Ok(())
}

#[test]
fn a_confirmation_resets_the_delay_of_its_own_connection() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options())?;
    setup.upstream().confirm(&mut setup.reactor); // no connection is open
    for (confirms, expected) in [(false, 1), (false, 2), (true, 1), (false, 2)] {
        let peer = setup.accept(&listener)?;
        if confirms {
            setup.upstream().confirm(&mut setup.reactor);
        }
        drop(peer);
        assert_eq!(setup.ends()?, expected * SECOND);
        setup.retry()?;
    }
    Ok(())
}

#[test]
fn targets_are_tried_in_turn_and_each_attempt_at_one() -> Result {
    let ((first, one), (second, two)) = (listen("127.0.0.1:0")?, listen("127.0.0.1:0")?);
    let mut setup = Setup::new([one, refuses()?, two], &options())?;
    for _ in 0..2 {
        drop(setup.accept(&first)?);
        setup.ends()?;
        setup.retry()?;
        setup.ends()?; // it refuses
        setup.retry()?;
        drop(setup.accept(&second)?);
        setup.ends()?;
        setup.retry()?;
    }
    drop(setup.accept(&first)?);
    let UpstreamMetrics {
        connections,
        failures,
        ..
    } = setup.upstream().metrics();
    assert_eq!((connections, failures), (5, 2));
    Ok(())
}

#[test]
fn random_targets_follow_their_seed_and_repeat_none_in_a_round() -> Result {
    let listeners = [
        listen("127.0.0.1:0")?,
        listen("127.0.0.1:0")?,
        listen("127.0.0.1:0")?,
    ];
    let order = |seed| -> Result<Vec<usize>> {
        let options = options().order(TargetOrder::Random).seed(seed);
        let mut setup = Setup::new(listeners.iter().map(|(_, address)| *address), &options)?;
        let tried = (0..9).map(|round| {
            if round > 0 {
                setup.retry()?;
            }
            setup.turn_until(|app| app.opened > round)?;
            let peer = setup.app.peers[round];
            let tried = listeners.iter().position(|(_, address)| *address == peer);
            let tried = tried.ok_or("it is one of them")?;
            drop(listeners[tried].0.accept()?);
            setup.ends()?;
            Ok(tried)
        });
        tried.collect()
    };
    let (first, second) = (order(1)?, order(2)?);
    assert_eq!(order(1)?, first);
    assert_ne!(first, second);
    for round in first.chunks(3).chain(second.chunks(3)) {
        let mut sorted = round.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2], "{first:?} {second:?}");
    }
    Ok(())
}

#[test]
fn an_attempt_without_an_answer_fails_by_its_time_limit() -> Result {
    let (_silent, address) = silent_listener("127.0.0.1:0")?;
    let connection = ConnectionOptions::new().connect_timeout(3 * SECOND);
    let mut setup = Setup::new([address], &options().connection(&connection))?;
    setup.settle()?;
    assert_eq!(setup.upstream().state(), UpstreamState::Connecting);
    setup.advance(3 * SECOND)?;
    assert_eq!(
        setup.app.closed,
        [("connect timeout expired".to_owned(), Some(SECOND))]
    );
    Ok(())
}

#[test]
fn an_upstream_without_targets_fails_again_and_again() -> Result {
    let mut setup = Setup::new::<SocketAddr>([], &options())?;
    for expected in [1, 2, 4] {
        setup.turn_until(|app| !app.closed.is_empty())?;
        let (reason, delay) = setup.app.closed.remove(0);
        assert!(
            reason.contains("the list of addresses is empty"),
            "{reason}"
        );
        assert_eq!(delay, Some(expected * SECOND));
        setup.settle()?;
        setup.retry()?;
    }
    Ok(())
}

/// Attempts that fail at once must not spin the loop.
#[test]
fn a_delay_of_zero_rests_for_a_millisecond() -> Result {
    let zero = Backoff::new(Duration::ZERO, Duration::ZERO);
    let mut setup = Setup::new([refuses()?], &UpstreamOptions::new().backoff(zero))?;
    for failures in 1..10 {
        assert_eq!(setup.ends()?, ms(1));
        // While the clock stands, nothing is tried.
        setup.settle()?;
        assert_eq!(setup.upstream().metrics().failures, failures);
        setup.advance(ms(1))?;
    }
    Ok(())
}

#[test]
fn the_greatest_delay_never_ends_and_does_not_overflow() -> Result {
    let greatest = Backoff::new(Duration::MAX, Duration::MAX).jitter(Jitter::None);
    let mut setup = Setup::new([refuses()?], &UpstreamOptions::new().backoff(greatest))?;
    setup.settle()?;
    assert_eq!(
        setup.upstream().retry_in(&setup.reactor),
        Some(Duration::MAX)
    );
    setup.advance(1_000_000 * SECOND)?;
    assert_eq!(setup.upstream().metrics().failures, 1);
    Ok(())
}

/// A link whose back-off is far away does not make `run` return.
#[test]
fn an_upstream_keeps_run_alive_until_it_is_stopped() -> Result {
    let mut reactor = Reactor::<u32>::builder()
        .clock(ManualClock::jumping())
        .build()?;
    let discard = on_data(|data, _connection, _cx| Ok(data.len()));
    let upstream = Upstream::start(&mut reactor, [refuses()?], &options(), discard);
    reactor.after(100 * SECOND, move |cx| {
        *cx.state += 1;
        upstream.stop(cx.registry, SECOND);
        Ok(reactor::Then::Done)
    });
    let mut stops = 0;
    reactor.run(&mut stops)?;
    assert_eq!(stops, 1);
    Ok(())
}

#[test]
fn a_stream_that_cannot_be_made_is_tried_again() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::empty()?;
    let handler = notes(&setup);
    let made = std::cell::Cell::new(0);
    let make = move |stream: SocketStream| {
        made.set(made.get() + 1);
        match made.get() {
            1 => Err(io::Error::other("no key")),
            2 => panic!("as the test wants"),
            _ => stream.into_tcp(),
        }
    };
    let upstream = Upstream::start_as(&mut setup.reactor, [address], &options(), make, handler);
    setup.app.upstream = Some(upstream);
    for expected in ["failed: no key", "panicked: as the test wants"] {
        setup.ends()?;
        assert_eq!(setup.app.closed.last().unwrap().0, expected);
        drop(listener.accept()?);
        setup.retry()?;
    }
    let mut peer = setup.accept(&listener)?;
    let _ = setup.send("hello")?;
    setup.expect(&mut peer, "hello")
}

#[test]
fn the_attempts_and_the_delays_have_the_line_that_started_the_upstream() -> Result {
    let mut setup = Setup::empty()?;
    let handler = notes(&setup);
    let (_silent, address) = silent_listener("127.0.0.1:0")?;
    let line = line!() + 1;
    let upstream = Upstream::start(&mut setup.reactor, [address], &options(), handler);
    setup.app.upstream = Some(upstream);
    let attempts: Vec<_> = setup
        .reactor
        .registrations()
        .map(|info| info.origin.line())
        .collect();
    assert_eq!(attempts, [line]);
    setup.advance(30 * SECOND)?;
    let timers: Vec<_> = setup
        .reactor
        .timers()
        .map(|info| info.origin.line())
        .collect();
    assert_eq!(timers, [line]);
    Ok(())
}

/// The handler owns a handle, so a cycle would keep both for ever.
#[test]
fn a_loop_that_is_dropped_drops_the_handler_in_every_state() -> Result {
    let (listener, open) = listen("127.0.0.1:0")?;
    let (_silent, silent) = silent_listener("127.0.0.1:0")?;
    for (target, state) in [
        (open, UpstreamState::Up),
        (silent, UpstreamState::Connecting),
        (refuses()?, UpstreamState::Waiting),
    ] {
        let mut setup = Setup::new([target], &options())?;
        if state == UpstreamState::Up {
            let _ = setup.accept(&listener)?;
        } else {
            setup.settle()?;
        }
        let upstream = setup.upstream();
        assert_eq!(upstream.state(), state);
        let kept = upstream.clone();
        upstream.on_end(&mut setup.reactor, move |_cx| drop(kept));
        let kept = upstream.clone();
        let _ = upstream.send(&mut setup.reactor, vec![1; 4_000_000])?;
        let _ = upstream.send(&mut setup.reactor, vec![1; 4_000_000])?;
        upstream.on_room(&mut setup.reactor, move |_cx| drop(kept));
        let Setup {
            reactor,
            app,
            alive,
            ..
        } = setup;
        drop((reactor, app));
        assert_eq!(Rc::strong_count(&alive), 1, "{state:?}");
        assert_eq!(upstream.state(), UpstreamState::Ended);
    }
    Ok(())
}

#[test]
fn a_stream_that_the_handler_gives_away_is_followed_by_another() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options())?;
    let _first = setup.accept(&listener)?;
    let key = setup.upstream().key().ok_or("it is up")?;
    setup
        .reactor
        .defer(move |cx| drop(key.take::<TcpStream>(cx)));
    setup.ends()?;
    let taken = CloseReason::Taken.to_string();
    assert_eq!(setup.app.closed, [(taken, Some(SECOND))]);
    setup.retry()?;
    setup.accept(&listener).map(drop)
}

#[test]
fn a_unix_socket_and_a_tcp_socket_are_targets_of_one_link() -> Result {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let unix = UnixListener::bind(&path)?;
    let (tcp, address) = listen("127.0.0.1:0")?;
    let targets = [Address::Unix(path), Address::Tcp(address)];
    let mut setup = Setup::new(targets, &options())?;
    let _ = setup.send("one")?;
    setup.turn_until(|app| app.opened == 1)?;
    let (mut peer, _) = unix.accept()?;
    let mut received = [0; 3];
    setup.settle()?;
    peer.read_exact(&mut received)?;
    assert_eq!(&received, b"one");
    drop(peer);
    setup.ends()?;
    setup.retry()?;
    setup.accepted = 1;
    let _ = setup.send("two")?;
    let mut peer = setup.accept(&tcp)?;
    setup.expect(&mut peer, "two")
}

#[cfg(feature = "names")]
#[test]
fn a_name_is_looked_up_again_for_each_attempt() -> Result {
    let ((first, one), (second, two)) = (listen("127.0.0.1:0")?, listen("127.0.0.1:0")?);
    let count = AtomicUsize::new(0);
    let resolver = Resolver::builder()
        .lookup(
            move |_host, _service| match count.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(vec![one]),
                1 => Err(ErrorKind::NotFound.into()),
                _ => Ok(vec![two]),
            },
        )
        .build();
    let connection = ConnectionOptions::new().resolver(resolver);
    let target: Target = "upstream.example:7777".parse()?;
    let mut setup = Setup::new([target], &options().connection(&connection))?;
    drop(setup.accept(&first)?);
    assert_eq!(setup.ends()?, SECOND);
    setup.retry()?;
    assert_eq!(setup.ends()?, 2 * SECOND); // the lookup has failed
    let _ = setup.send("message")?;
    setup.retry()?;
    let mut peer = setup.accept(&second)?;
    setup.expect(&mut peer, "message")
}

#[cfg(feature = "names")]
#[test]
fn a_stop_ends_an_attempt_whose_lookup_hangs() -> Result {
    let (hangs, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let resolver = Resolver::builder()
        .lookup(move |_host, _service| {
            let _ = released.lock().map(|released| released.recv());
            Ok(vec![])
        })
        .build();
    let connection = ConnectionOptions::new().resolver(resolver);
    let target: Target = "upstream.example:7777".parse()?;
    let mut setup = Setup::new([target], &options().connection(&connection))?;
    let _ = setup.send("message")?;
    setup.upstream().stop(&mut setup.reactor, SECOND);
    setup.settle()?;
    assert_eq!(setup.upstream().state(), UpstreamState::Connecting);
    setup.advance(SECOND)?;
    setup.settle()?;
    assert_eq!(setup.upstream().state(), UpstreamState::Ended);
    drop(hangs);
    setup.expect_end()
}
