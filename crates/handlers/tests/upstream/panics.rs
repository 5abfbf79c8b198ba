//! Panics of the handler and of values of the user: the link goes on with consistent books.

use std::cell::Cell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bytes::Bytes;
use handlers::{ConnectionOptions, Upstream, UpstreamState};
use reactor::{PanicPolicy, Reactor};
use support::{Result, listen};

use super::{App, Notes, SECOND, Setup, options, refuses};

/// Returns an action that panics once.
fn panics_once() -> super::Action {
    let is_due = Cell::new(true);
    Rc::new(move |_, _| {
        if is_due.take() {
            panic!("as the test wants");
        }
    })
}

#[test]
fn a_panic_of_the_handler_costs_a_connection_and_no_message() -> Result {
    for place in 0..3 {
        let (listener, address) = listen("127.0.0.1:0")?;
        let mut setup = Setup::new([address], &options())?;
        match place {
            0 => setup.app.on_open = Some(panics_once()),
            1 => setup.app.on_data = Some(panics_once()),
            _ => setup.app.on_close = Some(panics_once()),
        }
        let mut peer = setup.accept(&listener)?;
        if place > 0 {
            peer.write_all(b"x")?;
        }
        if place != 1 {
            drop(peer);
        }
        assert_eq!(setup.ends()?, SECOND, "place {place}");
        let _ = setup.send("message")?;
        setup.retry()?;
        let mut peer = setup.accept(&listener)?;
        setup.expect(&mut peer, "message")?;
    }
    Ok(())
}

#[test]
fn a_panic_that_unwinds_ends_the_link_and_keeps_its_messages() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::empty()?;
    setup.reactor = Reactor::builder()
        .on_panic(PanicPolicy::Propagate)
        .clock(setup.clock.clone())
        .build()?;
    let options = options().acknowledged(true);
    let upstream = Upstream::start(&mut setup.reactor, [address], &options, Notes::default());
    setup.app.upstream = Some(upstream.clone());
    let mut peer = setup.accept(&listener)?;
    let _ = setup.send("message")?;
    setup.expect(&mut peer, "message")?;
    setup.app.on_data = Some(panics_once());
    peer.write_all(b"x")?;
    let unwinds = AssertUnwindSafe(|| setup.turn_until(|_| false));
    assert!(catch_unwind(unwinds).is_err());
    assert_eq!(upstream.state(), UpstreamState::Ended);
    assert!(upstream.send(&mut setup.reactor, "late").is_err());
    let left = upstream.take_unacknowledged(&mut setup.reactor);
    assert_eq!(left, ["message"]);
    Ok(())
}

#[test]
fn a_panic_of_prepare_fails_the_attempt() -> Result {
    let is_due = std::sync::atomic::AtomicBool::new(false);
    let prepare = move |_: std::os::fd::BorrowedFd<'_>| {
        if is_due.swap(true, std::sync::atomic::Ordering::Relaxed) {
            panic!("as the test wants");
        }
        Ok(())
    };
    let connection = ConnectionOptions::new().prepare(prepare);
    let mut setup = Setup::new([refuses()?], &options().connection(&connection))?;
    setup.ends()?;
    setup.retry()?;
    setup.turn_until(|app: &App| app.closed.len() == 2)?;
    assert_eq!(setup.app.closed[1].0, "panicked: as the test wants");
    assert_eq!(setup.app.closed[1].1, Some(2 * SECOND));
    Ok(())
}

/// A message whose destructor panics.
struct Panics(Vec<u8>);

impl AsRef<[u8]> for Panics {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        panic!("as the test wants");
    }
}

#[test]
fn messages_after_one_whose_destructor_panics_are_sent() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options())?;
    let mut peer = setup.accept(&listener)?;
    for message in ["one ", "two "] {
        let message = Bytes::from_owner(Panics(message.as_bytes().to_vec()));
        let _ = setup.upstream().send(&mut setup.reactor, message)?;
    }
    let _ = setup.send("three")?;
    setup.expect(&mut peer, "one two three")?;
    setup.settle()?;
    assert!(setup.upstream().is_empty());
    Ok(())
}

#[test]
fn a_lost_message_whose_destructor_panics_does_not_end_the_link() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options())?;
    let peer = setup.accept(&listener)?;
    let message = Bytes::from_owner(Panics(vec![1; 8_000_000]));
    let _ = setup.upstream().send(&mut setup.reactor, message)?;
    setup.settle()?;
    drop(peer);
    assert_eq!(setup.ends()?, SECOND);
    assert_eq!(setup.upstream().metrics().lost, 1);
    let _ = setup.send("message")?;
    setup.retry()?;
    let mut peer = setup.accept(&listener)?;
    setup.expect(&mut peer, "message")
}
