//! The options of a running server, its key, and the socket of a listener.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::time::Duration;

use handlers::{CloseReason, ConnectionOptions, ListenOptions, Timeout};
use reactor::{Error, ManualClock, Reactor};
use rustix::net::sockopt;
use tempfile::tempdir;

use crate::{
    Echo, Result, Seen, any_port, client, expect_echo, serve, tcp, turn_until, turn_until_quiet,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn new_options_hold_for_connections_accepted_from_then_on() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new())?;
    let (_other_address, other) = serve(&mut reactor, ListenOptions::new())?;
    let mut seen = Seen::default();
    let mut before = client(address)?;
    expect_echo(&mut reactor, &mut seen, &mut before)?;
    let _waits_in_the_queue = client(address)?;
    server.set_options(&mut reactor, &ConnectionOptions::new().idle_timeout(SECOND))?;
    other.set_options(
        &mut reactor,
        &ConnectionOptions::new().idle_timeout(SECOND / 2),
    )?;
    let _after = client(address)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 3)?;
    reactor.advance(&mut seen, SECOND - Duration::from_nanos(1))?;
    assert_eq!(
        seen.closed.len(),
        0,
        "they have the options of their own server"
    );
    reactor.advance(&mut seen, Duration::from_nanos(1))?;
    turn_until(&mut reactor, &mut seen, |seen| seen.closed.len() == 2)?;
    assert!(
        seen.closed
            .iter()
            .all(|reason| matches!(reason, CloseReason::TimedOut(Timeout::Idle)))
    );
    expect_echo(&mut reactor, &mut seen, &mut before)
}

#[test]
fn options_can_be_set_while_a_server_makes_a_handler() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let listener = ListenOptions::new().bind(&any_port())?;
    let address = tcp(&listener)?;
    let own = std::rc::Rc::new(std::cell::Cell::new(None));
    let key = std::rc::Rc::clone(&own);
    let server = listener.serve(&mut reactor, &ConnectionOptions::new(), move |_peer, cx| {
        let server: handlers::ServerKey<Seen> = key.get().ok_or(std::io::ErrorKind::NotFound)?;
        server.set_options(cx.registry, &ConnectionOptions::new().idle_timeout(SECOND))?;
        Ok(Echo)
    })?;
    own.set(Some(server));
    let _client = client(address)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 1)?;
    reactor.advance(&mut seen, SECOND)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.closed.len() == 1)
}

#[test]
fn options_of_a_server_that_has_ended_are_refused_as_stale() -> Result {
    let mut reactor = Reactor::new()?;
    let (_address, server) = serve(&mut reactor, ListenOptions::new())?;
    reactor.remove(server.key())?;
    let refused = server.set_options(&mut reactor, &ConnectionOptions::new());
    assert!(matches!(refused, Err(Error::StaleKey(key)) if key == server.key()));
    turn_until_quiet(&mut reactor, &mut Seen::default())?;
    let (_address, next) = serve(&mut reactor, ListenOptions::new())?; // in the slot of the first
    assert!(
        server
            .set_options(&mut reactor, &ConnectionOptions::new())
            .is_err()
    );
    next.set_options(&mut reactor, &ConnectionOptions::new())?;
    Ok(())
}

#[test]
fn the_key_of_a_server_is_one_thing_wherever_it_is_kept() -> Result {
    let mut reactor = Reactor::new()?;
    let (_address, one) = serve(&mut reactor, ListenOptions::new())?;
    let (_address, other) = serve(&mut reactor, ListenOptions::new())?;
    let copy = one;
    assert_eq!(HashSet::from([one, other, copy]).len(), 2);
    assert_eq!(one.to_string(), one.key().to_string());
    Ok(())
}

#[test]
fn the_options_of_the_socket_of_a_listener_can_be_read() -> Result {
    let listener = ListenOptions::new().bind(&any_port())?;
    assert!(sockopt::socket_acceptconn(listener.as_fd())?);
    let folder = tempdir()?;
    let listener =
        ListenOptions::new().bind(&handlers::Address::Unix(folder.path().join("socket")))?;
    assert!(sockopt::socket_acceptconn(&listener)?);
    Ok(())
}
