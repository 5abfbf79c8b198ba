//! The promises of the reactor, on real sources.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod counted;
mod destructors;
mod ends;
mod entered;
mod errors;
mod essential;
mod event;
mod eventfd;
mod facts;
mod fd_set;
mod interest;
mod keys;
mod level;
mod limits;
mod nested;
mod notify;
mod outcome;
mod panic;
mod priority;
mod reasons;
mod removal;
mod request;
mod reused_fd;
mod said;
mod send_sync;
mod short_io;
mod sleeps;
mod spin;
mod spinning;
mod take;
mod take_source;
mod threads;
mod timer;
mod turn;
mod with_handler;

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Context, Event, Interest, Io, Key, Next, Reactor, SetOutcome};
use support::{PATIENCE, Result, tcp_pair};

/// The notes of handlers, to be compared.
type Log = Rc<RefCell<Vec<String>>>;

/// Takes turns until `done`. Each may wait. Fails if a turn runs no callback.
#[track_caller]
fn turn_until<S>(reactor: &mut Reactor<S>, state: &mut S, mut done: impl FnMut(&S) -> bool) {
    while !done(state) {
        let calls = reactor.metrics().calls;
        reactor.turn(state, Some(PATIENCE)).unwrap();
        assert!(
            reactor.metrics().calls > calls,
            "nothing happened: {reactor:#?}"
        );
    }
}

/// Takes one turn that does not wait. Returns the number of callbacks that ran.
#[track_caller]
fn turn_now<S>(reactor: &mut Reactor<S>, state: &mut S) -> usize {
    reactor.turn(state, Some(Duration::ZERO)).unwrap()
}

/// Registers one end of a pair, with a handler that reads everything and counts its calls in the
/// state.
#[track_caller]
fn add_counting_reader(reactor: &mut Reactor<Vec<u32>>, place: usize) -> Result<(Key, UnixStream)> {
    let (near, far) = UnixStream::pair()?;
    let key = reactor.add(near, Interest::READABLE, move |near, cx| {
        cx.state[place] += 1;
        read_all(near)?;
        Ok(Next::Keep)
    })?;
    Ok((key, far))
}

/// Reads until there is no more. `WouldBlock` is not an error here.
fn read_all<T: Read + AsFd>(source: &mut Io<T>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match source.read_to_end(&mut bytes) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(bytes),
    }
}

/// A handler that notes its name, and does not read.
fn note<T: 'static>(
    name: &'static str,
) -> impl FnMut(&mut Io<T>, &mut Context<'_, Vec<&'static str>>) -> io::Result<Next> {
    move |_, cx| {
        cx.state.push(name);
        Ok(Next::Keep)
    }
}

/// Returns an auto-reset event that is set.
fn set_event() -> Event {
    let event = Event::auto_reset();
    event.set();
    event
}

/// Sets an event. Returns `true` if that has changed it.
fn sets(event: &Event) -> bool {
    event.set() == SetOutcome::Set
}

/// Returns a source with bytes to read, and the peer that wrote them.
fn readable() -> io::Result<(UnixStream, UnixStream)> {
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"x")?;
    Ok((near, far))
}
