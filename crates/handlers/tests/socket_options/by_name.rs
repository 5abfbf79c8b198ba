//! Options by name: their values at both ends, their limits, and what is refused.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use handlers::{Address, Connection, ListenOptions, TcpKeepalive};
use reactor::Reactor;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use socket2::SockRef;
use support::{Result, listen, or_skipped, turn_until};

use crate::{CONNECTS, Seen, Values, expect_error, failure_of, options, serve, v4, values_with};

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
    let is_possible = capabilities(None)?.effective.intersects(needed);
    if !or_skipped(is_possible, "neither CAP_NET_ADMIN nor CAP_NET_RAW") {
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
    Connection::connect(&mut reactor, [to], &options, CONNECTS);
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
