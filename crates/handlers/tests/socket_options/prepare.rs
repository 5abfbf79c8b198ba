//! `prepare`: when it runs, and what its error or its panic ends.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handlers::{
    Address, CloseReason, Connection, ConnectionOptions, ListenOptions, Peer, TcpKeepalive, errno,
};
use reactor::{PanicPolicy, Reactor};
use rustix::io::Errno;
use socket2::{SockRef, Socket};
use support::{PATIENCE, Result, listen, turn_until};

use crate::{CONNECTS, Seen, Values, expect_error, failure_of, options, serve, v4};

/// A socket that `prepare` binds has that address at the other end.
#[test]
fn prepare_runs_before_connect_and_after_the_options_by_name() -> Result {
    let local = Ipv4Addr::new(127, 0, 0, 9);
    let idle = Duration::from_secs(50);
    let found = Arc::new(Mutex::new(Vec::new()));
    let finds = Arc::clone(&found);
    let options = options()
        .keepalive(TcpKeepalive::new(idle))
        .user_timeout(idle)
        .prepare(move |fd| {
            let socket = SockRef::from(&fd);
            let values = Values::of(fd)?;
            let is_idle = values.keepalive.map(|(idle, ..)| idle);
            finds
                .lock()
                .expect("no panic")
                .push((is_idle, values.user_timeout));
            socket.set_tcp_user_timeout(Some(2 * idle))?;
            socket.bind(&SocketAddr::from((local, 0)).into())
        });
    let (mut reactor, mut seen) = (Reactor::new()?, Seen::default());
    let (to, _server) = serve(&mut reactor, &v4(), &ConnectionOptions::new())?;
    Connection::connect(&mut reactor, [to], &options, CONNECTS);
    turn_until(&mut reactor, &mut seen, |seen| {
        !seen.connected.is_empty() && !seen.accepted.is_empty()
    })?;
    assert_eq!(*found.lock().expect("no panic"), [(Some(idle), Some(idle))]);
    assert_eq!(seen.connected[0].user_timeout, Some(2 * idle));
    match &seen.accepted[0].0 {
        Peer::Tcp(peer) => assert_eq!(peer.ip(), IpAddr::V4(local)),
        other => panic!("{other}"),
    }
    Ok(())
}

/// The address is not one of this host, so `bind(2)` would fail without the option.
#[test]
fn prepare_runs_before_the_bind_to_a_local_address() -> Result {
    let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
    let to = [SocketAddr::from(([127, 0, 0, 1], 9))];
    let plain = options().local_addr(foreign);
    let error = failure_of(&to, &plain)?;
    expect_error(&error, Errno::ADDRNOTAVAIL, &["bind to 192.0.2.1:0"]);

    let prepared = plain.prepare(|fd| SockRef::from(&fd).set_freebind_v4(true));
    let (mut reactor, mut seen) = (Reactor::new()?, Seen::default());
    let connecting = Connection::connect(&mut reactor, to, &prepared, CONNECTS);
    connecting.cancel(&mut reactor);
    turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
    let bind_has_failed = matches!(
        &seen.closed[0],
        CloseReason::Failed(error) if errno(error) == Some(Errno::ADDRNOTAVAIL.raw_os_error())
    );
    assert!(!bind_has_failed, "{:?}", seen.closed);

    let foreign = Address::Tcp(foreign);
    let error = ListenOptions::new().bind(&foreign).expect_err("not here");
    expect_error(&error, Errno::ADDRNOTAVAIL, &[]);
    let listener = ListenOptions::new()
        .prepare(|fd| SockRef::from(&fd).set_freebind_v4(true))
        .bind(&foreign)?;
    assert!(matches!(listener.local_addr()?, Address::Tcp(address) if address.port() != 0));
    Ok(())
}

#[test]
fn prepare_of_a_listener_is_called_once_with_an_unbound_socket() -> Result {
    let folder = tempfile::tempdir()?;
    let path = Address::Unix(folder.path().join("socket"));
    let name = Address::Abstract(format!("handlers-prepare-{}", std::process::id()).into());
    for address in [v4(), "[::1]:0".parse()?, path, name] {
        let found = Arc::new(Mutex::new(Vec::new()));
        let finds = Arc::clone(&found);
        let is_bound = |socket: &Socket| -> io::Result<bool> {
            let address = socket.local_addr()?;
            let port = address.as_socket().map_or(0, |address| address.port());
            Ok(port != 0
                || address.as_pathname().is_some()
                || address.as_abstract_namespace().is_some())
        };
        let listener = ListenOptions::new()
            .prepare(move |fd| {
                let socket = SockRef::from(&fd);
                let facts = (is_bound(&socket)?, socket.is_listener()?);
                finds.lock().expect("no panic").push(facts);
                Ok(())
            })
            .bind(&address)?;
        assert!(is_bound(&SockRef::from(&listener))?, "{address}");
        assert_eq!(
            *found.lock().expect("no panic"),
            [(false, false)],
            "{address}"
        );
        drop(listener);
        let fails = ListenOptions::new().prepare(|_fd| Err(Errno::ACCESS.into()));
        let error = fails.bind(&address).expect_err("refused");
        let named = format!("bind to {address}: prepare of fd ");
        expect_error(&error, Errno::ACCESS, &[&named]);
    }
    assert_eq!(folder.path().read_dir()?.count(), 0, "no file is left");
    Ok(())
}

#[test]
fn an_error_of_prepare_fails_the_attempt_and_the_next_address_is_tried() -> Result {
    let (listener, refused) = listen("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let options = options().prepare(|fd| {
        let v4 = SockRef::from(&fd).local_addr()?.is_ipv4();
        if v4 {
            Err(Errno::ACCESS.into())
        } else {
            Ok(())
        }
    });
    let error = failure_of(&[refused], &options)?;
    let named = format!("connect to {refused}: prepare of fd ");
    expect_error(&error, Errno::ACCESS, &[&named]);
    let never_connected = listener.accept().expect_err("no client");
    assert_eq!(never_connected.kind(), ErrorKind::WouldBlock);

    let (mut reactor, mut seen) = (Reactor::new()?, Seen::default());
    let (to, _server) = serve(&mut reactor, &"[::1]:0".parse()?, &ConnectionOptions::new())?;
    Connection::connect(&mut reactor, [refused, to], &options, CONNECTS);
    turn_until(&mut reactor, &mut seen, |seen| !seen.connected.is_empty())?;
    assert!(seen.closed.is_empty());
    Ok(())
}

#[test]
fn an_error_of_prepare_drops_one_accepted_connection_and_no_other() -> Result {
    let calls = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&calls);
    let options = options().prepare(move |_fd| match counts.fetch_add(1, Ordering::Relaxed) {
        0 => Err(Errno::ACCESS.into()),
        _ => Ok(()),
    });
    let (mut reactor, mut seen) = (Reactor::new()?, Seen::default());
    let (to, _server) = serve(&mut reactor, &v4(), &options)?;
    let mut dropped = TcpStream::connect(to)?;
    dropped.set_read_timeout(Some(PATIENCE))?;
    let kept = TcpStream::connect(to)?;
    turn_until(&mut reactor, &mut seen, |seen| !seen.accepted.is_empty())?;
    assert_eq!(dropped.read(&mut [0])?, 0);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    match &seen.accepted[..] {
        [(Peer::Tcp(peer), _)] => assert_eq!(*peer, kept.local_addr()?),
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[test]
fn an_error_of_prepare_of_an_accepted_connection_is_that_of_open() -> Result {
    let mut reactor = Reactor::<Vec<String>>::new()?;
    let listener = ListenOptions::new().bind(&v4())?;
    let Address::Tcp(to) = listener.local_addr()? else {
        return Err("no TCP".into());
    };
    let options = options().prepare(|_fd| Err(Errno::ACCESS.into()));
    listener.accept(&mut reactor, move |accepted, cx| {
        let discard = handlers::on_data(|data, _, _| Ok(data.len()));
        let error = accepted
            .open(cx.registry, &options, discard)
            .map(drop)
            .expect_err("refused");
        assert_eq!(errno(&error), Some(Errno::ACCESS.raw_os_error()));
        cx.state.push(error.to_string());
        Ok(())
    })?;
    let _client = TcpStream::connect(to)?;
    let mut errors = Vec::new();
    turn_until(&mut reactor, &mut errors, |errors| !errors.is_empty())?;
    assert!(errors[0].starts_with("prepare of fd "), "{errors:?}");
    Ok(())
}

#[test]
fn a_panic_of_prepare_ends_a_connect_and_is_reported_to_its_handler() -> Result {
    let mut reactor = Reactor::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    let mut seen = Seen::default();
    let refuses = listen("127.0.0.1:0")?.1; // the listener is closed by now
    let calls = AtomicUsize::new(0);
    // The second attempt starts when the kernel reports that the first one was refused.
    let options = options().prepare(move |_fd| {
        assert_eq!(
            calls.fetch_add(1, Ordering::Relaxed),
            0,
            "the second socket"
        );
        Ok(())
    });
    Connection::connect(&mut reactor, [refuses; 3], &options, CONNECTS);
    turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
    match &seen.closed[..] {
        [CloseReason::Panicked(message)] => assert!(message.contains("second socket"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(reactor.is_empty(), "{reactor:?}");
    assert_eq!(reactor.timers().count(), 0);

    // The first attempt is made within the call, whose caller gets the panic.
    let options = ConnectionOptions::new().prepare(|_fd| panic!("the first socket"));
    let connect = || Connection::connect(&mut reactor, [refuses], &options, CONNECTS);
    assert!(catch_unwind(AssertUnwindSafe(connect)).is_err());
    turn_until(&mut reactor, &mut seen, |seen| seen.closed.len() == 2)?;
    assert!(matches!(seen.closed[1], CloseReason::Panicked(_)));
    Ok(())
}
