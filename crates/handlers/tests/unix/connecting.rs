//! Connecting to a path and to an abstract name, and the errors.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use handlers::{Address, CloseReason, Connection, ListenOptions, SocketStream, errno};
use reactor::{ManualClock, PanicPolicy, Reactor};
use rustix::io::Errno;
use socket2::{Domain, SockRef};
use support::{Result, listen, turn_until, turn_until_quiet};
use tempfile::tempdir;

use crate::{Greets, Seen, at_name, at_path, expect_nothing_left, options, still};

/// Connects, and returns what the handler has seen when the attempt has failed.
fn failed(address: &Address) -> Result<Seen> {
    let (mut reactor, mut seen) = (still()?, Seen::default());
    let connecting = Connection::connect_to(&mut reactor, address, &options(), Greets);
    assert!(seen.closed.is_empty(), "not from within the call");
    turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
    assert!(!connecting.is_pending() && seen.opened == 0);
    expect_nothing_left(&mut reactor, &mut seen)?;
    Ok(seen)
}

#[test]
fn a_path_and_an_abstract_name_are_connected_to() -> Result {
    let folder = tempdir()?;
    for (listener, address) in [at_path(&folder)?, at_name("both")?] {
        let (mut reactor, mut seen) = (still()?, Seen::default());
        let connecting = Connection::connect_to(&mut reactor, &address, &options(), Greets);
        assert!(connecting.is_pending() && seen.opened == 0);
        turn_until(&mut reactor, &mut seen, |seen| seen.opened == 1)?;
        assert!(!connecting.is_pending());
        assert_eq!((reactor.len(), reactor.timers().count()), (1, 0));
        let mut peer = listener.accept()?.0;
        let mut greeting = [0; 5];
        peer.read_exact(&mut greeting)?;
        assert_eq!(&greeting, b"hello");
        peer.write_all(b"welcome")?;
        drop(peer);
        turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
        assert_eq!(seen.received, b"welcome");
        assert!(matches!(seen.closed[..], [CloseReason::Finished]));
        expect_nothing_left(&mut reactor, &mut seen)?;
    }
    Ok(())
}

#[test]
fn an_address_of_tcp_is_connected_to() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    Connection::connect_to(&mut reactor, address, &options(), Greets);
    let mut peer = listener.accept()?.0;
    peer.write_all(b"welcome")?;
    turn_until(&mut reactor, &mut seen, |seen| seen.received == b"welcome")?;
    assert_eq!(seen.opened, 0, "not on a Unix socket");
    Ok(())
}

#[test]
fn the_line_of_the_call_is_that_of_the_connection() -> Result {
    let (_listener, address) = at_name("line")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    let line = line!() + 1;
    Connection::connect_to(&mut reactor, &address, &options(), Greets);
    turn_until(&mut reactor, &mut seen, |seen| seen.opened == 1)?;
    let lines: Vec<_> = reactor
        .registrations()
        .map(|info| (info.origin.file(), info.origin.line()))
        .collect();
    assert_eq!(lines, [(file!(), line)]);
    Ok(())
}

#[test]
fn an_address_that_refuses_is_a_failure_that_names_it() -> Result {
    let folder = tempdir()?;
    let [missing, left_behind, file, datagrams] =
        ["missing", "left-behind", "file", "datagrams"].map(|name| folder.path().join(name));
    drop(UnixListener::bind(&left_behind)?);
    File::create(&file)?;
    let _datagrams = UnixDatagram::bind(&datagrams)?;
    let (_, name) = at_name("refuses")?; // its listener is closed by now
    for (address, expected) in [
        (Address::Unix(missing), Errno::NOENT),
        (Address::Unix(left_behind), Errno::CONNREFUSED),
        (Address::Unix(file), Errno::CONNREFUSED),
        (Address::Unix(datagrams), Errno::PROTOTYPE),
        (name, Errno::CONNREFUSED),
    ] {
        let seen = failed(&address)?;
        let error = seen.error()?;
        assert_eq!(errno(error), Some(expected.raw_os_error()), "{address}");
        let text = format!("connect to {address}: ");
        assert!(error.to_string().starts_with(&text), "{error}");
    }
    Ok(())
}

#[test]
fn an_address_that_no_socket_can_have_is_a_failure_with_the_reason() -> Result {
    let long = "x".repeat(108);
    let path = |path: &str| Address::Unix(PathBuf::from(path));
    for (address, reason) in [
        (path(""), "the path of a Unix socket has 0 bytes"),
        (path("a\0b"), "the path of a Unix socket has a NUL"),
        (path(&long), "the path of a Unix socket has 108 bytes"),
        (
            Address::Abstract(Vec::new()),
            "the abstract name of a Unix socket has 0 bytes",
        ),
        (
            Address::Abstract(long.into_bytes()),
            "the abstract name of a Unix socket has 108 bytes",
        ),
    ] {
        let seen = failed(&address)?;
        let error = seen.error()?;
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = format!("connect to {address}: {reason}");
        assert!(error.to_string().starts_with(&text), "{error}");
        let bound = ListenOptions::new().bind(&address).map(drop);
        let text = bound.expect_err("no socket has it").to_string();
        assert!(text.contains(reason), "{text}");
    }
    Ok(())
}

#[test]
fn the_shortest_and_the_longest_address_are_connected_to() -> Result {
    let folder = tempdir()?;
    let room = 107 - folder.path().as_os_str().len() - 1;
    let longest = Address::Unix(folder.path().join("x".repeat(room)));
    let byte = std::process::id().to_ne_bytes()[0]; // names are those of the whole machine
    for address in [
        longest,
        Address::Abstract(vec![byte]),
        Address::Abstract(format!("{:0107}", std::process::id()).into_bytes()),
    ] {
        let _listener = ListenOptions::new().bind(&address)?;
        let (mut reactor, mut seen) = (still()?, Seen::default());
        Connection::connect_to(&mut reactor, &address, &options(), Greets);
        turn_until(&mut reactor, &mut seen, |seen| seen.opened == 1)?;
    }
    Ok(())
}

#[test]
fn a_listener_that_is_closed_before_it_accepts_is_a_failure() -> Result {
    let (listener, address) = at_name("closed")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    Connection::connect_to(&mut reactor, &address, &options(), Greets);
    drop(listener);
    turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
    assert_eq!(seen.error()?.kind(), ErrorKind::ConnectionReset);
    assert!(seen.error()?.to_string().contains(&address.to_string()));
    expect_nothing_left(&mut reactor, &mut seen)
}

#[test]
fn the_words_of_a_server_that_closes_at_once_are_read() -> Result {
    let (listener, address) = at_name("words")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    Connection::connect_to(&mut reactor, &address, &options(), Greets);
    listener.accept()?.0.write_all(b"too busy")?; // before the loop has seen the connection
    turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
    assert_eq!((seen.opened, &seen.received[..]), (1, &b"too busy"[..]));
    expect_nothing_left(&mut reactor, &mut seen)
}

#[test]
fn a_loop_that_has_no_room_for_the_socket_is_a_failure() -> Result {
    let (_listener, address) = at_name("no-room")?;
    let mut reactor = Reactor::builder()
        .clock(ManualClock::new())
        .max_registrations(0)
        .build()?;
    let mut seen = Seen::default();
    Connection::connect_to(&mut reactor, &address, &options(), Greets);
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert!(seen.error()?.to_string().contains(&address.to_string()));
    expect_nothing_left(&mut reactor, &mut seen)
}

#[test]
fn the_options_of_a_unix_socket_are_set_before_it_is_connected() -> Result {
    let (_listener, address) = at_name("options")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    let prepared = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&prepared);
    let options = options()
        .send_buffer(20_000)
        .receive_buffer(20_000) // these two have no effect
        .bind_device("nowhere")
        .prepare(move |fd| {
            let socket = SockRef::from(&fd);
            assert_eq!(socket.domain()?, Domain::UNIX);
            assert_eq!(socket.send_buffer_size()?, 40_000); // socket(7): the kernel doubles it
            assert!(socket.peer_addr().is_err());
            counts.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
    Connection::connect_to(&mut reactor, &address, &options, Greets);
    turn_until(&mut reactor, &mut seen, |seen| seen.opened == 1)?;
    assert_eq!(prepared.load(Ordering::Relaxed), 1);
    Ok(())
}

#[test]
fn a_panic_of_prepare_is_reported_to_the_handler() -> Result {
    let (_listener, address) = at_name("panic")?;
    let mut reactor = Reactor::builder()
        .clock(ManualClock::new())
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    let mut seen = Seen::default();
    let panics = options().prepare(|_fd| panic!("on purpose"));
    reactor.defer(move |cx| {
        Connection::connect_to(cx.registry, &address, &panics, Greets);
    });
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert!(
        matches!(&seen.closed[..], [CloseReason::Panicked(text)] if text == "on purpose"),
        "{seen:?}"
    );
    expect_nothing_left(&mut reactor, &mut seen)
}

#[test]
fn the_function_of_connect_to_as_gets_the_socket_of_its_family() -> Result {
    let (unix, at) = at_name("as")?;
    let (tcp, to) = listen("127.0.0.1:0")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    for address in [at, to.into()] {
        let make = |stream: SocketStream| {
            Ok(File::from(match stream {
                SocketStream::Tcp(stream) => std::os::fd::OwnedFd::from(stream),
                SocketStream::Unix(stream) => stream.into(),
                _ => return Err(ErrorKind::Unsupported.into()),
            }))
        };
        Connection::connect_to_as(&mut reactor, &address, &options(), make, Greets);
    }
    let (mut over_unix, mut over_tcp) = (unix.accept()?.0, tcp.accept()?.0);
    over_unix.write_all(b"yes")?;
    turn_until(&mut reactor, &mut seen, |seen| seen.received == b"yes")?;
    over_tcp.write_all(b"no")?;
    turn_until(&mut reactor, &mut seen, |seen| seen.received == b"yesno")
}

#[test]
fn a_socket_of_the_other_family_is_refused_by_name() -> Result {
    let (_unix, at) = at_name("family")?;
    let (_tcp, to) = listen("127.0.0.1:0")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    Connection::connect_to_as(&mut reactor, &at, &options(), |s| s.into_tcp(), Greets);
    turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
    let unix = "the connection is a Unix socket, and a TCP socket is wanted";
    assert_eq!(seen.error()?.to_string(), unix);
    seen.closed.clear();
    Connection::connect_to_as(&mut reactor, to, &options(), |s| s.into_unix(), Greets);
    turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
    let tcp = "the connection is a TCP socket, and a Unix socket is wanted";
    assert_eq!(seen.error()?.to_string(), tcp);
    assert_eq!(seen.error()?.kind(), ErrorKind::InvalidInput);
    expect_nothing_left(&mut reactor, &mut seen)
}
