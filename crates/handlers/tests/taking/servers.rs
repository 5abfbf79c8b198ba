//! A taken stream still belongs to its server.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use handlers::{Address, ConnectionLimit, ConnectionOptions, ListenOptions, ServerKey, Taken};
use reactor::Reactor;
use support::{PATIENCE, run_out, turn_until, turn_until_quiet};

use crate::{Result, Seen, as_file, notes};

const GRACE: Duration = Duration::from_secs(5);

/// The parts of a test: a loop, a server on it, a stream that was taken from a connection of the
/// server, and its peer.
struct Case {
    reactor: Reactor<Seen>,
    seen: Seen,
    server: ServerKey<Seen>,
    taken: Taken<TcpStream>,
    peer: TcpStream,
}

fn taken_from_server(limit: &ConnectionLimit) -> Result<Case> {
    let mut reactor = Reactor::new()?;
    let listener = ListenOptions::new()
        .limit(limit.clone())
        .bind(&"127.0.0.1:0".parse()?)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("it is TCP".into());
    };
    let options = ConnectionOptions::new();
    let server = listener.accept(&mut reactor, move |accepted, cx| {
        let key = accepted.open(cx.registry, &options, notes("old"))?;
        cx.registry
            .defer(move |cx: &mut reactor::Context<'_, Seen>| {
                cx.state.taken = Some(key.take(cx));
            });
        Ok(())
    })?;
    let peer = TcpStream::connect(address)?;
    peer.set_read_timeout(Some(PATIENCE))?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.taken.is_some())?;
    let taken = seen.taken()?;
    Ok(Case {
        reactor,
        seen,
        server,
        taken,
        peer,
    })
}

#[test]
fn a_taken_stream_counts_for_the_limit_until_its_last_connection_ends() -> Result {
    let limit = ConnectionLimit::new(1);
    let mut case = taken_from_server(&limit)?;
    assert_eq!(limit.open(), 1);
    let upgraded = case.taken.upgrade(as_file)?;
    upgraded.open(&mut case.reactor, &ConnectionOptions::new(), notes("new"))?;
    turn_until_quiet(&mut case.reactor, &mut case.seen)?;
    assert_eq!(limit.open(), 1);
    case.server.stop(&mut case.reactor, GRACE);
    drop(case.peer);
    run_out(&mut case.reactor, &mut case.seen)?;
    assert_eq!(limit.open(), 0);
    let case = taken_from_server(&limit)?;
    drop(case.taken);
    assert_eq!(limit.open(), 0);
    let case = taken_from_server(&limit)?;
    let parts = case.taken.into_parts();
    assert!(parts.permit.is_some());
    drop(parts);
    assert_eq!(limit.open(), 0);
    Ok(())
}

#[test]
fn a_stop_reaches_a_taken_stream_that_was_opened_again() -> Result {
    let mut case = taken_from_server(&ConnectionLimit::new(1))?;
    let upgraded = case.taken.upgrade(as_file)?;
    upgraded.open(&mut case.reactor, &ConnectionOptions::new(), notes("new"))?;
    turn_until_quiet(&mut case.reactor, &mut case.seen)?;
    case.server.stop(&mut case.reactor, GRACE);
    turn_until_quiet(&mut case.reactor, &mut case.seen)?;
    assert_eq!(case.peer.read(&mut [0])?, 0);
    drop(case.peer);
    run_out(&mut case.reactor, &mut case.seen)?;
    let log = &case.seen.log;
    assert!(
        log.iter().any(|call| call == "new graceful close"),
        "{log:?}"
    );
    assert_eq!(log.last().map(String::as_str), Some("new close finished"));
    Ok(())
}

#[test]
fn a_stream_that_is_opened_again_after_the_stop_is_closed() -> Result {
    let mut case = taken_from_server(&ConnectionLimit::new(1))?;
    case.server.stop(&mut case.reactor, GRACE);
    turn_until_quiet(&mut case.reactor, &mut case.seen)?;
    let mut other = Reactor::<Seen>::new()?;
    case.taken
        .open(&mut other, &ConnectionOptions::new(), notes("new"))?;
    turn_until_quiet(&mut other, &mut case.seen)?;
    assert_eq!(case.peer.read(&mut [0])?, 0);
    drop(case.peer);
    run_out(&mut other, &mut case.seen)
}

/// The pending response holds the close up.
#[test]
fn a_stream_is_taken_while_its_server_closes_its_connection() -> Result {
    let mut case = taken_from_server(&ConnectionLimit::new(1))?;
    let options = ConnectionOptions::new();
    let key = case
        .taken
        .open(&mut case.reactor, &options, notes("second"))?;
    crate::with(&mut case.reactor, &mut case.seen, key, |connection| {
        connection.begin_response();
    })?;
    case.server.stop(&mut case.reactor, GRACE);
    turn_until_quiet(&mut case.reactor, &mut case.seen)?;
    let taken = crate::take(&mut case.reactor, &mut case.seen, key)?;
    taken.open(&mut case.reactor, &options, notes("third"))?;
    turn_until_quiet(&mut case.reactor, &mut case.seen)?;
    assert_eq!(case.peer.read(&mut [0])?, 0, "the new one owes no response");
    drop(case.peer);
    run_out(&mut case.reactor, &mut case.seen)?;
    for handler in ["second", "third"] {
        let call = format!("{handler} graceful close");
        assert!(case.seen.log.contains(&call), "{:?}", case.seen.log);
    }
    Ok(())
}
