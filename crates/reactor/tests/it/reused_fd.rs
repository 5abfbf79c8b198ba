//! Descriptor numbers that are reused, or name another file by now: no neighbour is affected.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use reactor::{Context, Interest, Key, Next, Reactor};

use crate::{Result, read_all, readable, turn_now, turn_until};

/// Opens a source without bytes to read whose fd has the number `wanted`. Returns `None` if another
/// thread has taken the number.
fn silent_with_fd(wanted: RawFd) -> io::Result<Option<(UnixStream, UnixStream)>> {
    let (near, far) = UnixStream::pair()?;
    if near.as_raw_fd() == wanted {
        return Ok(Some((near, far)));
    }
    if far.as_raw_fd() == wanted {
        return Ok(Some((far, near)));
    }
    let near = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(near, wanted)?);
    Ok((near.as_raw_fd() == wanted).then_some((near, far)))
}

#[test]
fn an_event_for_a_closed_fd_never_reaches_the_handler_of_a_reused_number() -> Result {
    #[derive(Default)]
    struct State {
        sources: Vec<(Key, RawFd)>,
        reused: bool,
        newcomer_called: bool,
        peers: Vec<UnixStream>,
    }
    let mut reused = 0;
    for _ in 0..100 {
        let mut reactor = Reactor::<State>::new()?;
        let mut state = State::default();
        for _ in 0..2 {
            let (near, far) = readable()?;
            let fd = near.as_raw_fd();
            state.peers.push(far);
            let key = reactor.add(
                near,
                Interest::READABLE,
                |_, cx: &mut Context<'_, State>| {
                    // The first handler that is called removes the other, and takes its fd number
                    // for a source without bytes to read.
                    for (key, fd) in std::mem::take(&mut cx.state.sources) {
                        if key == cx.key() {
                            continue;
                        }
                        cx.registry.remove(key)?;
                        if let Some((near, far)) = silent_with_fd(fd)? {
                            cx.state.reused = true;
                            cx.state.peers.push(far);
                            cx.registry.add(near, Interest::READABLE, |_, cx| {
                                cx.state.newcomer_called = true;
                                Ok(Next::Keep)
                            })?;
                        }
                    }
                    Ok(Next::Keep)
                },
            )?;
            state.sources.push((key, fd));
        }
        turn_now(&mut reactor, &mut state);
        assert!(!state.newcomer_called, "the event was another's");
        assert_eq!(reactor.metrics().stale_events, 1);
        reused += u32::from(state.reused);
    }
    assert!(
        reused > 0,
        "no fd number was ever reused: the test shows nothing"
    );
    Ok(())
}

#[test]
fn a_source_that_was_duplicated_elsewhere_is_silent_after_its_removal() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let duplicate = near.try_clone()?;
    let mut reactor = Reactor::<()>::new()?;
    let key = reactor.add(near, Interest::READABLE, |near, _| {
        read_all(near).map(|_| Next::Keep)
    })?;
    reactor.remove(key)?;
    far.write_all(b"x")?;
    assert_eq!(turn_now(&mut reactor, &mut ()), 0);
    assert_eq!(
        reactor.metrics().events,
        0,
        "the kernel does not know it any more"
    );
    assert_eq!(reactor.metrics().kernel_updates, 2);
    // The duplicate, which epoll takes for the same file, can be registered.
    reactor.add(duplicate, Interest::READABLE, |near, _| {
        read_all(near).map(|_| Next::Keep)
    })?;
    assert_eq!(turn_now(&mut reactor, &mut ()), 1);
    Ok(())
}

#[test]
fn a_replaced_source_does_not_deafen_the_source_that_has_its_number_now() -> Result {
    for by_key in [false, true] {
        let (near, mut far) = readable()?;
        let number = near.as_raw_fd();
        let mut reactor = Reactor::<u32>::new()?;
        let replaced = reactor.add(near, Interest::READABLE, move |near, _| {
            *near.get_mut() = UnixStream::pair()?.0; // closes the fd that is watched
            Ok(if by_key { Next::Keep } else { Next::Remove })
        })?;
        let mut calls = 0;
        turn_now(&mut reactor, &mut calls);
        let _ = far.write(b"x");
        let Some((near, mut far)) = silent_with_fd(number)? else {
            continue;
        };
        if !by_key && reactor.contains(replaced) {
            return Err("it has removed itself".into());
        }
        reactor.add(near, Interest::READABLE, |near, cx| {
            *cx.state += 1;
            read_all(near).map(|_| Next::Keep)
        })?;
        if by_key {
            reactor.remove(replaced)?;
        }
        far.write_all(b"x")?;
        assert_eq!(turn_now(&mut reactor, &mut calls), 1);
    }
    Ok(())
}

#[test]
fn a_churn_of_adds_and_removes_while_events_come_reaches_only_the_living() -> Result {
    // Every handler that is called removes a random other one and adds a new one. All are readable
    // all the time.
    struct Churn {
        living: Vec<(Key, u64)>,
        calls: u32,
        seed: u64,
    }
    fn add(reactor: &mut reactor::Registry<Churn>, id: u64) -> io::Result<Key> {
        let (near, far) = readable()?;
        let key = reactor.add(
            near,
            Interest::READABLE,
            move |_, cx: &mut Context<'_, Churn>| {
                let _open = &far;
                assert!(
                    cx.state.living.contains(&(cx.key(), id)),
                    "a dead handler was called"
                );
                cx.state.calls += 1;
                cx.state.seed = cx
                    .state
                    .seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let victim = (cx.state.seed >> 33) as usize % cx.state.living.len();
                let (key, _) = cx.state.living.swap_remove(victim);
                cx.registry.remove(key)?;
                let id = u64::from(cx.state.calls) + 1000;
                let key = add(cx.registry, id)?;
                cx.state.living.push((key, id));
                Ok(Next::Keep)
            },
        )?;
        Ok(key)
    }
    let mut reactor = Reactor::<Churn>::new()?;
    let mut churn = Churn {
        living: Vec::new(),
        calls: 0,
        seed: 42,
    };
    for id in 0..40 {
        let key = add(&mut reactor, id)?;
        churn.living.push((key, id));
    }
    turn_until(&mut reactor, &mut churn, |churn| churn.calls >= 5000);
    assert_eq!(reactor.len(), 40);
    Ok(())
}

/// The next step of a source that has lost its fd.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Blunder {
    WouldBlock,
    Interest,
    RemovesItself,
    Fails,
    IsRemoved,
    IsWanted,
}

#[test]
fn nothing_that_a_replaced_source_does_touches_its_neighbour() -> Result {
    use Blunder::{Fails, Interest as Wants, IsRemoved, IsWanted, RemovesItself, WouldBlock};
    for blunder in [WouldBlock, Wants, RemovesItself, Fails, IsRemoved, IsWanted] {
        let (near, _far) = readable()?;
        let number = near.as_raw_fd();
        let mut reactor = Reactor::<u32>::new()?;
        let mut is_replaced = false;
        let replaced = reactor.add(near, Interest::READABLE, move |near, cx| {
            if !std::mem::replace(&mut is_replaced, true) {
                *near.get_mut() = UnixStream::pair()?.0; // closes the fd that is watched
                return Ok(Next::Keep); // still readable, as far as the loop knows
            }
            match blunder {
                WouldBlock => return Err(io::ErrorKind::WouldBlock.into()),
                Wants => drop(cx.registry.set_interest(cx.key(), Interest::WRITABLE)),
                RemovesItself => cx.registry.remove(cx.key())?,
                Fails => return Err(io::Error::other("as the test wants")),
                IsRemoved | IsWanted => {}
            }
            Ok(Next::Keep)
        })?;
        let mut calls = 0;
        turn_now(&mut reactor, &mut calls);
        let Some((near, mut far)) = silent_with_fd(number)? else {
            continue;
        };
        reactor.add(near, Interest::READABLE, |near, cx| {
            *cx.state += 1;
            assert!(!cx.readiness().is_writable(), "this was not requested");
            read_all(near).map(|_| Next::Keep)
        })?;
        turn_now(&mut reactor, &mut calls);
        match blunder {
            IsRemoved => reactor.remove(replaced)?,
            IsWanted => assert!(reactor.set_interest(replaced, Interest::WRITABLE).is_err()),
            _ => {}
        }
        for expected in 1..=2 {
            far.write_all(b"x")?;
            turn_now(&mut reactor, &mut calls);
            assert_eq!(
                (calls, reactor.metrics().stale_events),
                (expected, 0),
                "{blunder:?}"
            );
        }
    }
    Ok(())
}
