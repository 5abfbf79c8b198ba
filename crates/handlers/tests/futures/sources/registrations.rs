//! The registrations that futures make: their lines, and the end of `run`.

use std::panic::Location;

use futures_lite::future;
use handlers::futures;
use reactor::{Capacity, Event, Reactor, notification_queue};

use super::Result;
use crate::reactor;

/// Returns the line of the registration that was made last.
fn last_origin(reactor: &Reactor<()>) -> Option<&'static Location<'static>> {
    reactor.registrations().last().map(|info| info.origin)
}

#[test]
fn a_wait_for_events_is_registered_for_its_line_in_the_background() -> Result {
    for all in [false, true] {
        let mut reactor = reactor::<()>();
        let event = Event::auto_reset();
        let line = line!() + 2;
        let mut wait = match all {
            true => futures::wait_all(&[&event]),
            false => futures::wait_any(&[&event]),
        };
        let line = line + u32::from(!all);
        let (waits, wait) = futures::block_on(&mut reactor, &mut (), async move {
            (future::poll_once(&mut wait).await.is_none(), wait)
        })?;
        assert!(waits);
        let origin = last_origin(&reactor).ok_or("a registration")?;
        assert_eq!((origin.file(), origin.line()), (file!(), line));
        reactor.run(&mut ())?; // it ends, although the loop waits for the event
        assert_eq!(reactor.len(), 2);
        drop(wait);
    }
    Ok(())
}

#[test]
fn a_stream_of_a_queue_is_registered_for_its_line_in_the_background() -> Result {
    let mut reactor = reactor::<()>();
    let (sender, receiver) = notification_queue::<u8>(Capacity::Bounded(1));
    let line = line!() + 1;
    let stream = futures::receive(&mut reactor, receiver)?;
    let origin = last_origin(&reactor).ok_or("a registration")?;
    assert_eq!((origin.file(), origin.line()), (file!(), line));
    reactor.run(&mut ())?; // it ends, although there is a sender
    drop((stream, sender));
    Ok(())
}

#[cfg(feature = "signal")]
#[test]
fn a_stream_of_signals_is_registered_for_its_line_in_the_background() -> Result {
    let mut reactor = reactor::<()>();
    let signal = handlers::signal::Signal::real_time(7).ok_or("no signal")?;
    let line = line!() + 1;
    let stream = futures::signals(&mut reactor, [signal])?;
    let origin = last_origin(&reactor).ok_or("a registration")?;
    assert_eq!((origin.file(), origin.line()), (file!(), line));
    reactor.run(&mut ())?; // it ends, although a signal may come
    drop(stream);
    Ok(())
}
