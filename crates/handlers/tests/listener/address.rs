//! The address of a listener.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::Path;

use handlers::{Address, ConnectionOptions, ListenOptions};
use reactor::Reactor;
use tempfile::tempdir;

use crate::{Echo, Result, Seen, any_port, client, expect_echo, tcp, turn_until};

fn unix(path: &Path) -> Address {
    Address::Unix(path.to_owned())
}

#[track_caller]
fn expect_refusal(address: &Address, kind: ErrorKind) {
    let error = ListenOptions::new()
        .bind(address)
        .expect_err("it is not to be had");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn a_listener_returns_the_port_chosen_by_the_kernel_in_either_family() -> Result {
    for text in ["127.0.0.1:0", "[::1]:0"] {
        let mut reactor = Reactor::new()?;
        let listener = ListenOptions::new().bind(&text.parse::<Address>()?)?;
        let address = tcp(&listener)?;
        assert_ne!(address.port(), 0);
        listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
            Ok(Echo)
        })?;
        expect_echo(&mut reactor, &mut Seen::default(), &mut client(address)?)?;
    }
    Ok(())
}

#[test]
fn the_unspecified_v6_address_is_both_families_unless_only_v6_is_set() -> Result {
    for (only_v6, v4_is_let_in) in [(false, true), (true, false)] {
        let listener = ListenOptions::new()
            .only_v6(only_v6)
            .bind(&"[::]:0".parse()?)?;
        let port = tcp(&listener)?.port();
        assert!(client(([0, 0, 0, 0, 0, 0, 0, 1], port).into()).is_ok());
        assert_eq!(client(([127, 0, 0, 1], port).into()).is_ok(), v4_is_let_in);
    }
    Ok(())
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() -> Result {
    let taken = ListenOptions::new().bind(&any_port())?;
    expect_refusal(&taken.local_addr()?, ErrorKind::AddrInUse);
    Ok(())
}

#[test]
fn several_sockets_listen_at_one_address_if_each_asks_for_that() -> Result {
    let options = ListenOptions::new().reuse_port(true);
    let mut reactor = Reactor::new()?;
    let first = options.clone().bind(&any_port())?;
    let address = first.local_addr()?;
    expect_refusal(&address, ErrorKind::AddrInUse);
    let second = options.bind(&address)?;
    let to = tcp(&first)?;
    let mut keys = Vec::new();
    for listener in [first, second] {
        keys.push(
            listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
                Ok(Echo)
            })?,
        );
    }
    let clients = (0..64).map(|_| client(to)).collect::<Result<Vec<_>>>()?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| {
        seen.opened.len() == clients.len()
    })?;
    let calls = |key| {
        reactor
            .registrations()
            .find(|registration| registration.key == key)
            .map(|it| it.calls)
    };
    assert!(
        keys.iter().all(|key| calls(key.key()) > Some(0)),
        "all 64 at one of them"
    );
    Ok(())
}

#[test]
fn a_socket_at_a_path_is_served_and_its_file_goes_with_it() -> Result {
    let folder = tempdir()?;
    let path = folder.path().join("socket");
    let mut reactor = Reactor::new()?;
    let listener = ListenOptions::new().bind(&unix(&path))?;
    assert_eq!(listener.local_addr()?, unix(&path));
    let key = listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(Echo)
    })?;
    expect_echo(
        &mut reactor,
        &mut Seen::default(),
        &mut UnixStream::connect(&path)?,
    )?;
    reactor.remove(key.key())?;
    assert!(
        !path.exists(),
        "at once, as with everything that a registration holds"
    );
    drop(ListenOptions::new().bind(&unix(&path))?);
    assert!(!path.exists(), "also without a loop");
    Ok(())
}

#[test]
fn a_socket_that_replaces_another_in_the_same_turn_keeps_its_file() -> Result {
    let folder = tempdir()?;
    let path = folder.path().join("socket");
    let mut reactor = Reactor::new()?;
    let first = ListenOptions::new().bind(&unix(&path))?;
    let first = first.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(Echo)
    })?;
    reactor.remove(first.key())?;
    // Its inode may have the number of the first one.
    let second = ListenOptions::new().bind(&unix(&path))?;
    reactor.turn(&mut Seen::default(), Some(std::time::Duration::ZERO))?;
    assert!(path.exists());
    drop(second);
    Ok(())
}

#[test]
fn a_file_that_has_taken_the_place_of_ours_is_not_removed() -> Result {
    let folder = tempdir()?;
    let path = folder.path().join("socket");
    let listener = ListenOptions::new().bind(&unix(&path))?;
    fs::remove_file(&path)?;
    let other = UnixListener::bind(&path)?;
    drop(listener);
    assert!(path.exists());
    drop(other);
    Ok(())
}

#[test]
fn a_socket_file_without_a_listener_is_replaced() -> Result {
    let folder = tempdir()?;
    let path = folder.path().join("socket");
    drop(UnixListener::bind(&path)?); // leaves its file
    let listener = ListenOptions::new().bind(&unix(&path))?;
    UnixStream::connect(&path)?;
    drop(listener);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn neither_a_socket_with_a_listener_nor_an_ordinary_file_is_replaced() -> Result {
    let folder = tempdir()?;
    let (socket, file) = (folder.path().join("socket"), folder.path().join("file"));
    let live = UnixListener::bind(&socket)?;
    expect_refusal(&unix(&socket), ErrorKind::AddrInUse);
    fs::write(&file, "precious")?;
    expect_refusal(&unix(&file), ErrorKind::AddrInUse);
    assert_eq!(fs::read(&file)?, b"precious");
    UnixStream::connect(&socket)?;
    drop(live);
    expect_refusal(
        &unix(&folder.path().join("missing/socket")),
        ErrorKind::NotFound,
    );
    Ok(())
}

#[test]
fn a_socket_with_a_full_queue_is_not_replaced_nor_waited_for() -> Result {
    let folder = tempdir()?;
    let path = folder.path().join("socket");
    let busy = UnixListener::bind(&path)?;
    rustix::net::listen(&busy, 0)?;
    // The kernel accepts one connection beyond a backlog of 0, and a third would wait.
    let _waiting = UnixStream::connect(&path)?;
    let (refused, is_refused) = std::sync::mpsc::channel();
    let address = unix(&path);
    std::thread::spawn(move || {
        refused.send(
            ListenOptions::new()
                .bind(&address)
                .map(drop)
                .map_err(|error| error.kind()),
        )
    });
    assert_eq!(
        is_refused.recv_timeout(crate::PATIENCE),
        Ok(Err(ErrorKind::AddrInUse))
    );
    drop(busy);
    Ok(())
}

#[test]
fn an_abstract_name_is_served_without_a_file() -> Result {
    let name = format!("listener-{}", std::process::id());
    let address: Address = format!("unix:@{name}").parse()?;
    let mut reactor = Reactor::new()?;
    let listener = ListenOptions::new().bind(&address)?;
    assert_eq!(listener.local_addr()?, address);
    expect_refusal(&address, ErrorKind::AddrInUse);
    listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(Echo)
    })?;
    let mut client = UnixStream::connect_addr(&UnixAddr::from_abstract_name(&name)?)?;
    expect_echo(&mut reactor, &mut Seen::default(), &mut client)
}

#[test]
fn a_listening_socket_of_any_family_can_be_adopted() -> Result {
    let folder = tempdir()?;
    let path = folder.path().join("socket");
    let (inet, local) = (
        TcpListener::bind("127.0.0.1:0")?,
        UnixListener::bind(&path)?,
    );
    let address = inet.local_addr()?;
    let mut reactor = Reactor::new()?;
    let mut seen = Seen::default();
    let (inet, local) = (
        ListenOptions::new().adopt(inet)?,
        ListenOptions::new().adopt(local)?,
    );
    assert_eq!((tcp(&inet)?, local.local_addr()?), (address, unix(&path)));
    for listener in [inet, local] {
        listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
            Ok(Echo)
        })?;
    }
    expect_echo(&mut reactor, &mut seen, &mut client(address)?)?;
    expect_echo(&mut reactor, &mut seen, &mut UnixStream::connect(&path)?)?;
    drop(reactor);
    assert!(path.exists(), "it is not ours to remove");
    Ok(())
}

#[test]
fn a_socket_that_is_not_a_listening_stream_is_not_adopted() -> Result {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let packets = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let name = format!("packets-{}", std::process::id());
    rustix::net::bind(
        &packets,
        &SocketAddrUnix::new_abstract_name(name.as_bytes())?,
    )?;
    rustix::net::listen(&packets, 1)?;
    let (connected, _peer) = UnixStream::pair()?;
    for socket in [connected.into(), packets] {
        let error = ListenOptions::new()
            .adopt(socket)
            .map(drop)
            .map_err(|error| error.kind());
        assert_eq!(error, Err(ErrorKind::InvalidInput));
    }
    assert!(
        ListenOptions::new()
            .adopt(fs::File::open("/dev/null")?)
            .is_err()
    );
    Ok(())
}

#[test]
fn an_adopted_socket_is_as_expected_or_is_refused_with_its_fd() -> Result {
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::net::UnixDatagram;
    let folder = tempdir()?;
    let tcp = || TcpListener::bind("127.0.0.1:0");
    let stream = || TcpStream::connect(tcp()?.local_addr()?);
    let udp = || std::net::UdpSocket::bind("127.0.0.1:0");
    let all: [(OwnedFd, &str); 6] = [
        (tcp()?.into(), "a listening stream socket"),
        (
            UnixListener::bind(folder.path().join("adopted"))?.into(),
            "a listening stream socket of the Unix family",
        ),
        (stream()?.into(), "a stream socket"),
        (udp()?.into(), "a datagram socket"),
        (
            UnixDatagram::unbound()?.into(),
            "a datagram socket of the Unix family",
        ),
        (std::io::pipe()?.0.into(), "not a socket"),
    ];
    let mut reactor = Reactor::<()>::new()?;
    for (fd, is) in all {
        let number = fd.as_raw_fd();
        let told = |wanted: &str| format!("fd {number} is {is}, not {wanted}");
        let as_listener = ListenOptions::new()
            .adopt(fd.try_clone()?)
            .map(drop)
            .map_err(|error| error.to_string());
        let listens = is.starts_with("a listening");
        // A duplicate has another number.
        assert_eq!(as_listener.is_ok(), listens, "{is}: {as_listener:?}");
        let as_datagrams = handlers::udp::UdpSocket::adopt(fd.try_clone()?).map(drop);
        assert_eq!(
            as_datagrams.is_ok(),
            is == "a datagram socket",
            "{is}: {as_datagrams:?}"
        );
        let handler = handlers::on_data(|data, _, _| Ok(data.len()));
        let as_stream = UnixStream::from(fd);
        match handlers::Connection::open(
            &mut reactor,
            as_stream,
            &ConnectionOptions::new(),
            handler,
        ) {
            Ok(_) => assert!(["a stream socket", "not a socket"].contains(&is)),
            Err(refused) => {
                assert!(!["a stream socket", "not a socket"].contains(&is));
                assert_eq!(
                    refused.error.to_string(),
                    format!("open on fd {number}: {}", told("a stream of bytes"))
                );
                let again = ListenOptions::new()
                    .adopt(refused.inner)
                    .map(drop)
                    .map_err(|error| error.to_string());
                assert_eq!(
                    again,
                    if listens {
                        Ok(())
                    } else {
                        Err(told("a listening stream socket"))
                    }
                );
            }
        }
    }
    Ok(())
}

#[test]
fn an_ipv4_peer_of_an_ipv6_listener_has_an_ipv4_address() -> Result {
    type Addresses = Vec<std::net::SocketAddr>;
    let (mut reactor, mut seen) = (Reactor::<Addresses>::new()?, Vec::new());
    let listener = ListenOptions::new().bind(&"[::]:0".parse()?)?;
    let port = tcp(&listener)?.port();
    let peers = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let shown = peers.clone();
    listener.serve(&mut reactor, &ConnectionOptions::new(), move |peer, _cx| {
        shown.borrow_mut().push(peer.to_string());
        Ok(handlers::on_data(
            |data, connection, cx: &mut reactor::Context<'_, Addresses>| {
                cx.state.push(connection.peer_addr()?);
                Ok(data.len())
            },
        ))
    })?;
    for ip in ["127.0.0.1", "::1"] {
        let mut client = client(std::net::SocketAddr::new(ip.parse()?, port))?;
        std::io::Write::write_all(&mut client, b"hello")?;
        turn_until(&mut reactor, &mut seen, |seen| !seen.is_empty())?;
        assert_eq!(seen.pop(), Some(client.local_addr()?));
        assert_eq!(
            peers.borrow_mut().pop(),
            Some(client.local_addr()?.to_string())
        );
    }
    Ok(())
}
