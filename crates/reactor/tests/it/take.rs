//! `Registry::take` ends a registration, and returns source and handler as they are.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use reactor::{
    CloseReason, Context, Error, Exit, Handler, Interest, Io, Key, ManualClock, Next, Priority,
    Reactor,
};

use crate::{Result, readable, turn_now};

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

/// A source that was taken, and the number of calls of the source that got its slot.
#[derive(Default)]
struct Swap {
    taken: Option<(UnixStream, Count)>,
    calls: u32,
}

/// Takes the source `key`, unless it is taken. Gives its slot to a source that is always ready.
fn swap(key: Key, cx: &mut Context<'_, Swap>) -> io::Result<Next> {
    if let Ok(taken) = cx.registry.take(key) {
        cx.state.taken = Some(taken);
        let next = File::open("/dev/null")?;
        cx.registry.add(next, Interest::READABLE, |_, cx| {
            cx.state.calls += 1;
            Ok(Next::Keep)
        })?;
    }
    Ok(Next::Remove)
}

/// All three sources are ready in the same turn, and the first one called takes the second one. A
/// source that is added by a handler is not called before the next turn.
#[test]
fn an_event_of_a_taken_source_does_not_reach_the_next_in_its_slot() -> Result {
    // Events are delivered as they are read, or through the ready queue.
    for (priorities, stale_events) in [
        ([Priority::Normal, Priority::Normal], 1),
        ([Priority::High, Priority::Low], 0),
    ] {
        let mut reactor = Reactor::<Swap>::new()?;
        let (near, mut far) = UnixStream::pair()?;
        let counted = Rc::new(Cell::new(Key::NULL));
        let mut peers = Vec::new();
        for priority in priorities {
            let (trigger, peer) = readable()?;
            let counted = Rc::clone(&counted);
            peers.push(peer);
            let key = reactor.add(trigger, Interest::READABLE, move |_, cx| {
                swap(counted.get(), cx)
            })?;
            reactor.set_priority(key, priority)?;
        }
        far.write_all(b"abc")?;
        counted.set(reactor.add_handler(near, Interest::READABLE, Count(0))?);
        let mut state = Swap::default();
        turn_now(&mut reactor, &mut state);
        assert_eq!((reactor.len(), state.calls), (1, 0));
        assert_eq!(reactor.metrics().stale_events, stale_events);
        let (mut stream, count) = state.taken.take().expect("the first trigger has taken it");
        assert_eq!(count.0, 0);
        assert_eq!(stream.read(&mut [0; 8])?, 3, "no byte is lost");
        turn_now(&mut reactor, &mut state);
        assert_eq!(state.calls, 1);
    }
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

/// Waits for more than there is, and so stays ready without a result.
struct Waits;

impl<T: AsFd> Handler<u32, T> for Waits {
    fn ready(&mut self, _: &mut Io<T>, cx: &mut Context<'_, u32>) -> io::Result<Next> {
        *cx.state += 1;
        Err(ErrorKind::WouldBlock.into())
    }

    fn closed(&mut self, reason: CloseReason, _: &mut Context<'_, u32>) {
        panic!("the registration was taken, not closed: {reason:?}");
    }
}

/// Returns a loop that has room for one registration, on a clock that stands still.
fn small() -> Result<Reactor<u32>> {
    let builder = Reactor::builder().clock(ManualClock::new());
    Ok(builder.max_registrations(1).build()?)
}

/// Takes the only source of a loop, and registers it again: nothing is left in between, and the
/// second registration is like that of a new source. `updates` is the number of calls that end the
/// kernel's watch.
#[track_caller]
fn expect_right_books<T: AsFd + 'static>(
    reactor: &mut Reactor<u32>,
    key: Key,
    updates: u64,
) -> Result {
    let before = reactor.metrics().kernel_updates;
    let (source, handler) = reactor.take::<T, Waits>(key)?;
    assert_eq!(reactor.metrics().kernel_updates, before + updates);
    assert_eq!((reactor.len(), reactor.registrations().count()), (0, 0));
    assert!(!reactor.has_work(), "{reactor:#?}");
    let mut calls = 0;
    assert_eq!(reactor.run(&mut calls)?, Exit::NothingLeft);
    let key = reactor.add_handler(source, Interest::READABLE, handler)?;
    assert!(reactor.has_work() && reactor.contains(key));
    turn_now(reactor, &mut calls);
    assert_eq!(calls, 1, "only the second registration is called");
    let _taken = reactor.take::<T, Waits>(key)?;
    assert!(reactor.is_empty() && !reactor.has_work());
    Ok(())
}

#[test]
fn a_paused_source_is_taken_with_its_reduced_watch() -> Result {
    let mut reactor = small()?;
    let (near, mut far) = UnixStream::pair()?;
    let key = reactor.add_handler(near, Interest::NONE, Waits)?;
    let mut calls = 0;
    for _ in 0..20 {
        far.write_all(b"x")?;
        turn_now(&mut reactor, &mut calls);
    }
    let unwanted_events = reactor.metrics().unwanted_events;
    assert_eq!((calls, unwanted_events), (0, 8), "the watch is reduced");
    expect_right_books::<UnixStream>(&mut reactor, key, 1)
}

#[test]
fn a_source_that_backs_off_is_taken_without_its_pause() -> Result {
    let mut reactor = small()?;
    let (near, _far) = readable()?;
    let key = reactor.add_handler(near, Interest::READABLE, Waits)?;
    let mut calls = 0;
    for _ in 0..20 {
        turn_now(&mut reactor, &mut calls);
    }
    assert!(calls < 20, "it is paused");
    expect_right_books::<UnixStream>(&mut reactor, key, 1)
}

#[test]
fn an_always_ready_source_is_taken_without_a_system_call() -> Result {
    let mut reactor = small()?;
    let file = File::open(env!("CARGO_MANIFEST_PATH"))?;
    let key = reactor.add_handler(file, Interest::READABLE, Waits)?;
    assert!(reactor.registrations().all(|file| file.always_ready));
    expect_right_books::<File>(&mut reactor, key, 0)
}

#[test]
fn a_background_source_is_taken_and_comes_back_to_the_foreground() -> Result {
    let mut reactor = small()?;
    let (near, _far) = readable()?;
    let key = reactor.add_handler(near, Interest::READABLE, Waits)?;
    reactor.set_background(key)?;
    expect_right_books::<UnixStream>(&mut reactor, key, 1)
}
