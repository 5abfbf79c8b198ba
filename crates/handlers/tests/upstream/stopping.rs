//! The orderly stop, in every state.

use std::io::{Read, Write};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use handlers::{UpstreamRefusal, UpstreamState};
use support::{Result, listen, silent_listener};

use super::{SECOND, Setup, options, refuses};

const GRACE: Duration = Duration::from_secs(5);

impl Setup {
    fn stop(&mut self, grace: Duration) {
        let upstream = self.upstream();
        upstream.on_end(&mut self.reactor, |cx| cx.state.ends += 1);
        upstream.stop(&mut self.reactor, grace);
    }
}

#[test]
fn an_open_link_sends_everything_and_closes() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options())?;
    let mut peer = setup.accept(&listener)?;
    let _ = setup
        .upstream()
        .send(&mut setup.reactor, vec![1; 8_000_000])?;
    let _ = setup.send("last")?;
    setup.stop(GRACE);
    assert_eq!(setup.send("late"), Err(UpstreamRefusal::Stopped));
    let reads = thread::spawn(move || {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).map(|_| received)
    });
    setup.turn_until(|app| app.ends == 1)?;
    let received = reads.join().map_err(|_| "it panicked")??;
    assert_eq!(
        (received.len(), &received[8_000_000..]),
        (8_000_004, &b"last"[..])
    );
    assert_eq!(setup.app.closed.len(), 1);
    assert_eq!(setup.upstream().state(), UpstreamState::Ended);
    setup.expect_end()
}

#[test]
fn a_link_that_is_away_without_messages_ends_at_once() -> Result {
    let (_silent, silent) = silent_listener("127.0.0.1:0")?;
    for (target, state) in [
        (refuses()?, UpstreamState::Waiting),
        (silent, UpstreamState::Connecting),
    ] {
        for grace in [Duration::ZERO, GRACE, Duration::MAX] {
            let mut setup = Setup::new([target], &options())?;
            setup.settle()?;
            assert_eq!(setup.upstream().state(), state);
            setup.stop(grace);
            setup.settle()?;
            assert_eq!(setup.app.ends, 1, "{state:?} {grace:?}");
            setup.expect_end()?;
        }
    }
    Ok(())
}

#[test]
fn a_link_that_is_away_connects_again_for_its_messages() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options())?;
    drop(setup.accept(&listener)?);
    setup.ends()?;
    let _ = setup.send("message")?;
    setup.stop(GRACE);
    setup.settle()?;
    assert_eq!(setup.app.ends, 0);
    setup.retry()?;
    let mut peer = setup.accept(&listener)?;
    setup.expect(&mut peer, "message")?;
    drop(peer);
    setup.turn_until(|app| app.ends == 1)?;
    setup.expect_end()
}

#[test]
fn the_messages_that_are_left_after_the_grace_are_returned() -> Result {
    let (_silent, silent) = silent_listener("127.0.0.1:0")?;
    for target in [refuses()?, silent] {
        for grace in [Duration::ZERO, SECOND / 2, 20 * SECOND] {
            let mut setup = Setup::new([target], &options())?;
            setup.settle()?;
            let _ = setup.send("message")?;
            setup.stop(grace);
            setup.advance(grace.saturating_sub(Duration::from_millis(1)))?;
            assert_eq!(setup.app.ends, usize::from(grace.is_zero()), "{grace:?}");
            setup.advance(Duration::from_millis(1))?;
            setup.settle()?;
            assert_eq!(setup.app.ends, 1, "{grace:?}");
            let left = setup.upstream().take_waiting(&mut setup.reactor);
            assert_eq!(left, ["message"]);
            setup.expect_end()?;
        }
    }
    Ok(())
}

#[test]
fn a_peer_that_takes_nothing_is_reset_after_the_grace() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options())?;
    let mut peer = setup.accept(&listener)?;
    let _ = setup
        .upstream()
        .send(&mut setup.reactor, vec![1; 8_000_000])?;
    let _ = setup.send("untouched")?;
    setup.settle()?;
    setup.stop(GRACE);
    setup.advance(GRACE)?;
    setup.settle()?;
    assert_eq!(setup.app.ends, 1);
    assert_eq!(setup.upstream().metrics().lost, 1);
    assert_eq!(
        setup.upstream().take_waiting(&mut setup.reactor),
        ["untouched"]
    );
    // A stream that was cut never looks whole.
    assert!(peer.read_to_end(&mut Vec::new()).is_err());
    setup.expect_end()
}

#[test]
fn a_stop_waits_for_acknowledgements_within_its_grace() -> Result {
    for acknowledges in [true, false] {
        let (listener, address) = listen("127.0.0.1:0")?;
        let mut setup = Setup::new([address], &options().acknowledged(true))?;
        setup.app.on_data = Some(Rc::new(|upstream, cx| {
            let count = std::mem::take(&mut cx.state.received).len();
            upstream.acknowledge(cx.registry, count);
        }));
        let mut peer = setup.accept(&listener)?;
        let _ = setup.send("message")?;
        setup.expect(&mut peer, "message")?;
        setup.stop(GRACE);
        setup.settle()?;
        assert_eq!(setup.app.ends, 0);
        if acknowledges {
            peer.write_all(b"+")?;
            setup.turn_until(|app| app.upstream().is_empty())?;
        } else {
            setup.advance(GRACE)?;
        }
        setup.settle()?;
        drop(peer);
        setup.turn_until(|app| app.ends == 1)?;
        let left = setup.upstream().take_unacknowledged(&mut setup.reactor);
        assert_eq!(left.len(), usize::from(!acknowledges));
        setup.expect_end()?;
    }
    Ok(())
}

#[test]
fn the_earliest_of_several_stops_holds() -> Result {
    for graces in [
        [GRACE, SECOND],
        [SECOND, GRACE],
        [Duration::MAX, SECOND],
        [SECOND, Duration::MAX],
    ] {
        let mut setup = Setup::new([refuses()?], &options())?;
        setup.settle()?;
        let _ = setup.send("message")?;
        setup.stop(graces[0]);
        setup.upstream().stop(&mut setup.reactor, graces[1]);
        setup.advance(SECOND - Duration::from_millis(1))?;
        assert_eq!(setup.app.ends, 0, "{graces:?}");
        setup.advance(Duration::from_millis(1))?;
        assert_eq!(setup.app.ends, 1, "{graces:?}");
        setup.upstream().stop(&mut setup.reactor, SECOND); // has no effect
        setup.expect_end()?;
    }
    Ok(())
}

#[test]
fn a_stop_in_a_callback_of_the_handler_ends_the_link() -> Result {
    let stop = |upstream: &handlers::Upstream<super::App>,
                cx: &mut reactor::Context<'_, super::App>| {
        upstream.on_end(cx.registry, |cx| cx.state.ends += 1);
        upstream.stop(cx.registry, GRACE);
    };
    for place in 0..3 {
        let (listener, address) = listen("127.0.0.1:0")?;
        let mut setup = Setup::new([address], &options())?;
        let action: super::Action = Rc::new(stop);
        match place {
            0 => setup.app.on_open = Some(action),
            1 => setup.app.on_data = Some(action),
            _ => setup.app.on_close = Some(action),
        }
        let mut peer = setup.accept(&listener)?;
        peer.write_all(b"x")?;
        drop(peer);
        setup.turn_until(|app| app.ends > 0)?;
        assert_eq!(
            (setup.app.opened, setup.app.closed.len()),
            (1, 1),
            "place {place}"
        );
        setup.expect_end()?;
    }
    Ok(())
}

#[test]
fn callbacks_after_the_end_run_at_once() -> Result {
    let mut setup = Setup::new([refuses()?], &options().max_messages(1))?;
    setup.settle()?;
    let _ = setup.send("message")?;
    setup
        .upstream()
        .on_room(&mut setup.reactor, |cx| cx.state.rooms += 1);
    setup.stop(Duration::ZERO);
    setup.settle()?;
    assert_eq!((setup.app.rooms, setup.app.ends), (1, 1));
    setup
        .upstream()
        .on_room(&mut setup.reactor, |cx| cx.state.rooms += 1);
    setup
        .upstream()
        .on_end(&mut setup.reactor, |cx| cx.state.ends += 1);
    assert_eq!(setup.upstream().retry_in(&setup.reactor), None);
    assert!(setup.upstream().key().is_none());
    setup.settle()?;
    assert_eq!((setup.app.rooms, setup.app.ends), (2, 2));
    setup.expect_end()
}
