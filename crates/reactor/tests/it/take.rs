//! `Registry::take` ends a registration, and returns source and handler as they are.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use reactor::{
    CloseReason, Context, Error, Handler, Interest, Io, Key, ManualClock, Next, Priority, Reactor,
};

use crate::{Result, turn_now};

const IDLE: Duration = Duration::from_secs(1);

/// Counts the bytes that it reads, and fails the test if it is told of an end.
#[derive(Debug, Default)]
struct Count(usize);

impl<S> Handler<S, UnixStream> for Count {
    fn ready(&mut self, io: &mut Io<UnixStream>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        assert!(!cx.readiness().is_timeout());
        self.0 += io.read(&mut [0; 3])?;
        Ok(Next::Keep)
    }

    fn closing(&mut self, _: &mut Io<UnixStream>) {
        panic!("the source is not closed by the loop");
    }

    fn closed(&mut self, reason: CloseReason, _: &mut Context<'_, S>) {
        panic!("the registration was taken, not closed: {reason:?}");
    }
}

fn take<S>(reactor: &mut Reactor<S>, key: Key) -> std::result::Result<(UnixStream, Count), Error> {
    reactor.take(key)
}

/// Three of five bytes are read, the source is ready with the other two.
#[test]
fn what_a_taken_source_holds_is_read_by_its_next_registration() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<()>::builder().clock(clock.clone()).build()?;
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"hello")?;
    let key = reactor.add_handler(near, Interest::READABLE, Count(0))?;
    reactor.set_timeout(key, Some(IDLE))?;
    turn_now(&mut reactor, &mut ());
    let (near, count) = take(&mut reactor, key)?;
    assert_eq!(
        (count.0, reactor.len(), reactor.contains(key)),
        (3, 0, false)
    );
    assert!(matches!(take(&mut reactor, key), Err(Error::StaleKey(stale)) if stale == key));
    clock.advance(2 * IDLE);
    assert_eq!(
        turn_now(&mut reactor, &mut ()),
        0,
        "its timeout is cancelled"
    );
    let key = reactor.add_handler(near, Interest::READABLE, count)?;
    turn_now(&mut reactor, &mut ());
    let (_near, count) = take(&mut reactor, key)?;
    assert_eq!(count.0, 5);
    Ok(())
}

/// All three sources are ready in the same turn, and the first one called takes the second one.
#[test]
fn an_event_of_this_turn_does_not_reach_a_taken_source() -> Result {
    let mut reactor = Reactor::<Vec<(UnixStream, Count)>>::new()?;
    let (near, mut far) = UnixStream::pair()?;
    let counted = Rc::new(Cell::new(Key::NULL));
    let mut peers = Vec::new();
    for priority in [Priority::High, Priority::Low] {
        let (trigger, mut peer) = UnixStream::pair()?;
        let counted = Rc::clone(&counted);
        peer.write_all(b"x")?;
        peers.push(peer);
        let key = reactor.add(trigger, Interest::READABLE, move |_, cx| {
            cx.state.extend(cx.registry.take(counted.get()));
            Ok(Next::Remove)
        })?;
        reactor.set_priority(key, priority)?;
    }
    far.write_all(b"abc")?;
    counted.set(reactor.add_handler(near, Interest::READABLE, Count(0))?);
    let mut taken = Vec::new();
    turn_now(&mut reactor, &mut taken);
    let (mut stream, count) = taken.pop().expect("the first trigger has taken it");
    assert_eq!((count.0, taken.len()), (0, 0));
    assert_eq!(stream.read(&mut [0; 8])?, 3, "no byte is lost");
    assert!(reactor.is_empty());
    Ok(())
}

/// Takes itself while it runs, and by a wrong type.
struct TakesItself;

impl Handler<Vec<String>, UnixStream> for TakesItself {
    fn ready(
        &mut self,
        io: &mut Io<UnixStream>,
        cx: &mut Context<'_, Vec<String>>,
    ) -> io::Result<Next> {
        io.read_exact(&mut [0])?;
        let tried = cx.registry.take::<UnixStream, Self>(cx.key());
        cx.state.push(
            tried
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default(),
        );
        Ok(Next::Keep)
    }
}

#[test]
fn a_source_in_use_or_of_other_types_is_not_taken_and_stays() -> Result {
    let mut reactor = Reactor::<Vec<String>>::new()?;
    let (near, mut far) = UnixStream::pair()?;
    let key = reactor.add_handler(near, Interest::READABLE, TakesItself)?;
    let mut log = Vec::new();
    for calls in 1..=2 {
        assert!(matches!(take(&mut reactor, key), Err(Error::OtherType(other)) if other == key));
        far.write_all(b"x")?;
        turn_now(&mut reactor, &mut log);
        assert_eq!(log.len(), calls);
    }
    assert_eq!(log[0], Error::Running(key).to_string());
    let (near, closure) = UnixStream::pair()?;
    let key = reactor.add(near, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    assert!(
        matches!(take(&mut reactor, key), Err(Error::OtherType(_))),
        "{closure:?}"
    );
    assert!(matches!(
        take(&mut reactor, Key::NULL),
        Err(Error::StaleKey(_))
    ));
    Ok(())
}

#[test]
fn taking_a_source_updates_the_kernel_once() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (near, _far) = UnixStream::pair()?;
    let key = reactor.add_handler(near, Interest::READABLE, Count(0))?;
    let before = reactor.metrics().kernel_updates;
    let (_near, _count) = take(&mut reactor, key)?;
    assert_eq!(reactor.metrics().kernel_updates, before + 1);
    Ok(())
}
