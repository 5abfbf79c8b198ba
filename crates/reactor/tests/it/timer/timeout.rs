//! Timeouts of sources, which are reported to their handlers.

use std::io::Write;
use std::os::unix::net::UnixStream;

use reactor::{Context, Error, Interest, ManualClock, Missed, Next, Reactor};

use super::{Log, manual, ms};
use crate::{Result, read_all, turn_now};

#[test]
fn a_timeout_is_reported_once_to_a_silent_source_and_never_to_a_busy_one() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    let mut peers = Vec::new();
    for name in ["talking", "silent"] {
        let (near, far) = UnixStream::pair()?;
        peers.push(far);
        let key = reactor.add(
            near,
            Interest::READABLE,
            move |near, cx: &mut Context<'_, Log>| {
                if cx.readiness().is_timeout() {
                    cx.state.push((name, cx.now() - began));
                }
                read_all(near)?;
                Ok(Next::Keep)
            },
        )?;
        reactor.set_timeout(key, Some(ms(50)))?;
        if name == "silent" {
            reactor.set_interest(key, Interest::NONE)?; // a timeout is reported for any interest
        } else {
            reactor.every(ms(40), Missed::Skip, move |cx| {
                cx.registry
                    .set_timeout(key, Some(ms(50)))
                    .map(|()| Next::Keep)
                    .map_err(Into::into)
            });
        }
    }
    let mut log = Log::new();
    reactor.advance(&mut log, ms(1000))?;
    assert_eq!(log, [("silent", ms(50))]);
    Ok(())
}

#[test]
fn a_timeout_can_be_removed_and_set_again_and_ends_with_its_source() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    let (near, _far) = UnixStream::pair()?;
    let key = reactor.add(
        near,
        Interest::READABLE,
        move |_, cx: &mut Context<'_, Log>| {
            cx.state.push(("timeout", cx.now() - began));
            cx.registry.set_timeout(cx.key(), Some(ms(30)))?;
            Ok(Next::Keep)
        },
    )?;
    let mut log = Log::new();
    reactor.set_timeout(key, Some(ms(10)))?;
    reactor.set_timeout(key, None)?;
    reactor.advance(&mut log, ms(100))?;
    assert_eq!(log, []);
    reactor.set_timeout(key, Some(ms(10)))?;
    reactor.advance(&mut log, ms(40))?;
    assert_eq!(log, [("timeout", ms(110)), ("timeout", ms(140))]);
    reactor.remove(key)?;
    reactor.advance(&mut log, ms(100))?;
    assert_eq!(log.len(), 2);
    assert!(
        matches!(reactor.set_timeout(key, Some(ms(1))), Err(Error::StaleKey(stale)) if stale == key)
    );
    reactor.run(&mut log)?;
    Ok(())
}

#[test]
fn a_timeout_that_comes_with_data_is_reported_after_the_data() -> Result {
    let clock = ManualClock::new();
    let (near, mut far) = UnixStream::pair()?;
    let mut reactor = Reactor::<Vec<String>>::builder()
        .clock(clock.clone())
        .build()?;
    let key = reactor.add(near, Interest::READABLE, |_, cx| {
        cx.state.push(cx.readiness().to_string());
        Ok(Next::Keep) // reads nothing: the source stays ready and queued
    })?;
    reactor.set_timeout(key, Some(ms(10)))?;
    far.write_all(b"x")?;
    let mut calls = Vec::new();
    turn_now(&mut reactor, &mut calls);
    clock.advance(ms(10));
    turn_now(&mut reactor, &mut calls); // due while it is queued for the next turn
    assert_eq!(calls, ["readable"; 2]);
    turn_now(&mut reactor, &mut calls);
    turn_now(&mut reactor, &mut calls);
    assert_eq!(
        calls,
        ["readable", "readable", "readable", "readable+timeout"]
    );
    turn_now(&mut reactor, &mut calls);
    assert_eq!(calls.len(), 5);
    assert_eq!(calls[4], "readable", "it is told once");
    Ok(())
}

#[test]
fn a_timeout_set_again_before_it_was_reported_is_not_reported() -> Result {
    for renewed in [None, Some(ms(3_600_000))] {
        let (near, mut far) = UnixStream::pair()?;
        let clock = ManualClock::new();
        let mut reactor = Reactor::<Vec<bool>>::builder()
            .clock(clock.clone())
            .build()?;
        let source = reactor.add(near, Interest::READABLE, |_, cx| {
            let timed_out = cx.readiness().is_timeout();
            cx.state.push(timed_out);
            Ok(Next::Keep) // unread, so it is called each turn
        })?;
        reactor.set_timeout(source, Some(ms(10)))?;
        far.write_all(b"x")?;
        let mut calls = Vec::new();
        turn_now(&mut reactor, &mut calls);
        clock.advance(ms(10));
        for _ in 0..2 {
            let ran = turn_now(&mut reactor, &mut calls);
            assert_eq!(
                ran, 1,
                "a timeout that waits for its source's next call is no call"
            );
        }
        reactor.set_timeout(source, renewed)?;
        turn_now(&mut reactor, &mut calls);
        assert_eq!(calls, [false; 4]);
    }
    Ok(())
}
