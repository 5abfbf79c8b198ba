//! Options of sockets, read back from the kernel on connecting and on accepted sockets.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use handlers::{
    Address, CloseReason, Connection, ConnectionHandler, ConnectionOptions, ListenOptions, Peer,
    ServerKey, TcpKeepalive, errno,
};
use reactor::{Context, PanicPolicy, Reactor};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use socket2::{SockRef, Socket};
use support::{PATIENCE, Result, listen, turn_until};

/// The values of a socket's options.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Values {
    keepalive: Option<(Duration, Duration, u32)>,
    user_timeout: Option<Duration>,
    receive_buffer: usize,
    send_buffer: usize,
}

impl Values {
    fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let socket = SockRef::from(&fd);
        let probes = (
            socket.tcp_keepalive_time()?,
            socket.tcp_keepalive_interval()?,
            socket.tcp_keepalive_retries()?,
        );
        Ok(Self {
            keepalive: socket.keepalive()?.then_some(probes),
            user_timeout: socket.tcp_user_timeout()?,
            receive_buffer: socket.recv_buffer_size()?,
            send_buffer: socket.send_buffer_size()?,
        })
    }
}

/// The notes of both ends.
#[derive(Debug, Default)]
struct Seen {
    connected: Vec<Values>,
    accepted: Vec<(Peer, Values)>,
    closed: Vec<CloseReason>,
}

/// The handler of a connecting socket.
struct Connects;

impl ConnectionHandler<Seen> for Connects {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        cx.state.connected.push(Values::of(connection.as_fd())?);
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _: &mut Connection<'_, Seen>,
        _: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.closed.push(reason);
    }
}

/// The handler of an accepted socket.
struct Accepts(Peer);

impl ConnectionHandler<Seen> for Accepts {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        let values = Values::of(connection.as_fd())?;
        cx.state.accepted.push((self.0.clone(), values));
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _: &mut Connection<'_, Seen>,
        _: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }
}

fn v4() -> Address {
    "127.0.0.1:0".parse().expect("an address")
}

fn options() -> ConnectionOptions {
    ConnectionOptions::new()
}

/// Serves at a free port of `address`. Returns the address with its port.
fn serve(
    reactor: &mut Reactor<Seen>,
    address: &Address,
    options: &ConnectionOptions,
) -> Result<(SocketAddr, ServerKey<Seen>)> {
    let listener = ListenOptions::new().bind(address)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("no TCP".into());
    };
    let server = listener.serve(reactor, options, |peer, _cx| Ok(Accepts(peer.clone())))?;
    Ok((address, server))
}

/// Returns the values of both ends of a connection with these options.
fn values_with(address: &Address, options: &ConnectionOptions) -> Result<[Values; 2]> {
    let (mut reactor, mut seen) = (Reactor::new()?, Seen::default());
    let (to, _server) = serve(&mut reactor, address, options)?;
    Connection::connect(&mut reactor, [to], options, Connects);
    turn_until(&mut reactor, &mut seen, |seen| {
        !seen.connected.is_empty() && !seen.accepted.is_empty()
    })?;
    Ok([seen.connected[0], seen.accepted[0].1])
}

/// Returns why a connect to `addresses` fails.
fn failure_of(addresses: &[SocketAddr], options: &ConnectionOptions) -> Result<io::Error> {
    let (mut reactor, mut seen) = (Reactor::new()?, Seen::default());
    Connection::connect(&mut reactor, addresses.iter().copied(), options, Connects);
    turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
    match seen.closed.remove(0) {
        CloseReason::Failed(error) => Ok(error),
        other => Err(format!("{other:?}").into()),
    }
}

#[track_caller]
fn expect_error(error: &io::Error, expected: Errno, texts: &[&str]) {
    assert_eq!(errno(error), Some(expected.raw_os_error()), "{error}");
    assert_eq!(error.kind(), io::Error::from(expected).kind(), "{error}");
    let shown = error.to_string();
    for text in texts {
        assert!(shown.contains(text), "{text:?} in {shown:?}");
    }
}

/// Runs `test` on a thread without the capabilities that options of sockets need.
fn without_capabilities(test: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut sets = capabilities(None)?;
            sets.effective &= !(CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW);
            set_capabilities(None, sets)?;
            test()
        });
        thread.join().expect("no panic")
    })
}

#[test]
fn options_are_set_on_both_ends_of_a_connection() -> Result {
    let seconds = Duration::from_secs;
    let options = options()
        .keepalive(TcpKeepalive::new(seconds(61)).interval(seconds(7)).count(5))
        .user_timeout(Duration::from_millis(12_345))
        .receive_buffer(20_000)
        .send_buffer(30_000);
    let expected = Values {
        keepalive: Some((seconds(61), seconds(7), 5)),
        user_timeout: Some(Duration::from_millis(12_345)),
        receive_buffer: 40_000, // socket(7): the kernel doubles the value
        send_buffer: 60_000,
    };
    for address in [v4(), "[::1]:0".parse()?] {
        assert_eq!(values_with(&address, &options)?, [expected; 2], "{address}");
    }
    Ok(())
}

#[test]
fn options_that_are_not_set_or_taken_back_are_left_to_the_kernel() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let plain_connected = TcpStream::connect(address)?;
    let plain_accepted = listener.accept()?.0;
    let plain = [
        Values::of(plain_connected.as_fd())?,
        Values::of(plain_accepted.as_fd())?,
    ];
    let taken_back = options()
        .keepalive(TcpKeepalive::new(Duration::from_secs(1)))
        .user_timeout(Duration::from_secs(1))
        .receive_buffer(1)
        .send_buffer(1)
        .mark(1)
        .bind_device("nowhere")
        .keepalive(None)
        .user_timeout(None)
        .receive_buffer(None)
        .send_buffer(None)
        .mark(None)
        .bind_device(None);
    for options in [options(), taken_back] {
        assert_eq!(values_with(&v4(), &options)?, plain);
    }
    Ok(())
}

#[test]
fn values_beyond_the_limits_of_the_kernel_are_clamped() -> Result {
    let with = |time: Duration, count, bytes| {
        options()
            .keepalive(TcpKeepalive::new(time).interval(time).count(count))
            .user_timeout(time)
            .receive_buffer(bytes)
            .send_buffer(bytes)
    };
    let (second, millisecond) = (Duration::from_secs(1), Duration::from_millis(1));
    let [least, of_accepted] = values_with(&v4(), &with(Duration::ZERO, 0, 0))?;
    assert_eq!(least, of_accepted);
    assert_eq!(least.keepalive, Some((second, second, 1)));
    assert_eq!(least.user_timeout, Some(millisecond));
    let [one, _] = values_with(&v4(), &with(Duration::from_nanos(1), 1, 1))?;
    assert_eq!(one, least);

    let [greatest, of_accepted] = values_with(&v4(), &with(Duration::MAX, u32::MAX, usize::MAX))?;
    assert_eq!(greatest, of_accepted);
    assert_eq!(
        greatest.keepalive,
        Some((32_767 * second, 32_767 * second, 127))
    );
    assert_eq!(greatest.user_timeout, Some(i32::MAX as u32 * millisecond));
    let [limit, _] = values_with(&v4(), &with(second, 1, i32::MAX as usize))?;
    let [no_int, _] = values_with(&v4(), &with(second, 1, 1 << 32))?; // 0 in its lower 32 bits
    for beyond in [greatest, no_int] {
        assert_eq!(
            (beyond.receive_buffer, beyond.send_buffer),
            (limit.receive_buffer, limit.send_buffer)
        );
    }
    assert!(least.receive_buffer < limit.receive_buffer);
    assert!(least.send_buffer < limit.send_buffer);
    Ok(())
}

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
    Connection::connect(&mut reactor, [to], &options, Connects);
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
    let connecting = Connection::connect(&mut reactor, to, &prepared, Connects);
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
    Connection::connect(&mut reactor, [refused, to], &options, Connects);
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
    Connection::connect(&mut reactor, [refuses; 3], &options, Connects);
    turn_until(&mut reactor, &mut seen, |seen| !seen.closed.is_empty())?;
    match &seen.closed[..] {
        [CloseReason::Panicked(message)] => assert!(message.contains("second socket"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(reactor.is_empty(), "{reactor:?}");
    assert_eq!(reactor.timers().count(), 0);

    // The first attempt is made within the call, whose caller gets the panic.
    let options = ConnectionOptions::new().prepare(|_fd| panic!("the first socket"));
    let connect = || Connection::connect(&mut reactor, [refuses], &options, Connects);
    assert!(catch_unwind(AssertUnwindSafe(connect)).is_err());
    turn_until(&mut reactor, &mut seen, |seen| seen.closed.len() == 2)?;
    assert!(matches!(seen.closed[1], CloseReason::Panicked(_)));
    Ok(())
}

#[test]
fn new_options_of_a_server_hold_for_sockets_accepted_from_then_on() -> Result {
    let (mut reactor, mut seen) = (Reactor::new()?, Seen::default());
    let (to, server) = serve(&mut reactor, &v4(), &options())?;
    let _first = TcpStream::connect(to)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.accepted.len() == 1)?;
    let timeout = Duration::from_secs(3);
    server.set_options(&mut reactor, &options().user_timeout(timeout))?;
    let _second = TcpStream::connect(to)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.accepted.len() == 2)?;
    let timeouts: Vec<_> = seen
        .accepted
        .iter()
        .map(|(_, values)| values.user_timeout)
        .collect();
    assert_eq!(timeouts, [None, Some(timeout)]);
    Ok(())
}

/// The options of TCP are ignored. The size of a receive buffer has no effect.
#[test]
fn an_accepted_unix_socket_gets_its_send_buffer_and_prepare() -> Result {
    let found = Arc::new(Mutex::new(Vec::new()));
    let finds = Arc::clone(&found);
    let options = options()
        .keepalive(TcpKeepalive::new(Duration::from_secs(1)))
        .user_timeout(Duration::from_secs(1))
        .receive_buffer(20_000)
        .send_buffer(30_000)
        .mark(1)
        .bind_device("nowhere")
        .prepare(move |fd| {
            let socket = SockRef::from(&fd);
            let sizes = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
            finds
                .lock()
                .expect("no panic")
                .push((sizes, socket.keepalive()?));
            Ok(())
        });
    let plain = SockRef::from(&UnixStream::pair()?.0).recv_buffer_size()?;
    let mut reactor = Reactor::<usize>::new()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let listener = ListenOptions::new().bind(&Address::Unix(path.clone()))?;
    listener.serve(&mut reactor, &options, |_peer, cx| {
        *cx.state += 1;
        Ok(handlers::on_data(|data, _, _| Ok(data.len())))
    })?;
    let _client = UnixStream::connect(path)?;
    turn_until(&mut reactor, &mut 0, |accepted| *accepted > 0)?;
    assert_eq!(*found.lock().expect("no panic"), [((plain, 60_000), false)]);
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

/// This holds for root too, since the thread gives up its capabilities.
#[test]
fn a_mark_without_its_capability_is_refused_in_words() -> Result {
    let (_listener, address) = listen("127.0.0.1:0")?;
    without_capabilities(|| {
        let error = failure_of(&[address], &options().mark(7)).expect("it fails");
        let connect = format!("connect to {address}: setsockopt(SO_MARK) on fd ");
        let advice = "Operation not permitted (os error 1): needs CAP_NET_ADMIN";
        expect_error(&error, Errno::PERM, &[&connect, advice]);
        Ok(())
    })?;
    Ok(())
}

/// Without the capability of this test, the mark is refused: see the test before.
#[test]
fn a_mark_is_set_on_both_ends_of_a_connection() -> Result {
    let needed = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
    if !capabilities(None)?.effective.intersects(needed) {
        return Ok(());
    }
    for mark in [0, 7, u32::MAX] {
        let marks = Arc::new(Mutex::new(Vec::new()));
        let finds = Arc::clone(&marks);
        let options = options().mark(mark).prepare(move |fd| {
            finds
                .lock()
                .expect("no panic")
                .push(SockRef::from(&fd).mark()?);
            Ok(())
        });
        values_with(&v4(), &options)?;
        assert_eq!(*marks.lock().expect("no panic"), [mark; 2]);
    }
    Ok(())
}

#[test]
fn a_socket_is_bound_to_the_interface_before_it_connects_or_listens() -> Result {
    let devices = Arc::new(Mutex::new(Vec::new()));
    let finds = Arc::clone(&devices);
    let find = move |fd: BorrowedFd<'_>| {
        finds
            .lock()
            .expect("no panic")
            .push(SockRef::from(&fd).device()?);
        Ok(())
    };
    let (mut reactor, mut seen) = (Reactor::new()?, Seen::default());
    let (to, _server) = serve(&mut reactor, &v4(), &options())?;
    let options = options().bind_device("lo").prepare(find.clone());
    Connection::connect(&mut reactor, [to], &options, Connects);
    turn_until(&mut reactor, &mut seen, |seen| !seen.connected.is_empty())?;
    let listener = ListenOptions::new()
        .bind_device("lo")
        .prepare(find)
        .bind(&v4())?;
    let lo = Some(b"lo".to_vec());
    assert_eq!(*devices.lock().expect("no panic"), [lo.clone(), lo.clone()]);
    assert_eq!(SockRef::from(&listener).device()?, lo);
    Ok(())
}

#[test]
fn an_interface_that_is_missing_or_impossible_is_refused_in_words() -> Result {
    let (_listener, address) = listen("127.0.0.1:0")?;
    let connect = |name: &str| failure_of(&[address], &options().bind_device(name));
    let bind = |name: &str| {
        ListenOptions::new()
            .bind_device(name)
            .bind(&v4())
            .expect_err("refused")
    };
    let longest = "no-such-device-"; // 15 bytes
    let call = format!("setsockopt(SO_BINDTODEVICE, {longest}) on fd ");
    for error in [connect(longest)?, bind(longest)] {
        expect_error(
            &error,
            Errno::NODEV,
            &[&call, "no network interface has this name"],
        );
    }
    // The kernel would ignore an empty name, and cut the others.
    for name in ["", "lo\0", "no-such-device-x"] {
        for error in [connect(name)?, bind(name)] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            let text = format!("{name:?} is not the name of a network interface");
            assert!(error.to_string().contains(&text), "{error}");
        }
    }
    let unix = Address::Abstract(b"handlers-device".to_vec());
    let error = ListenOptions::new()
        .bind_device("lo")
        .bind(&unix)
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error.to_string().contains("bind_device is only for TCP"),
        "{error}"
    );
    Ok(())
}
