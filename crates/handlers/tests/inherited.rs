//! Sockets that a service manager passes. A shell passes them to this program, started once more,
//! as the service manager does.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket as StdUdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};

use handlers::udp::{self, UdpSocket};
use handlers::{
    Address, Connection, ConnectionOptions, InheritedSockets, ListenOptions, Listener, SocketKind,
    on_data,
};
use reactor::{Next, Reactor};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use socket2::{Domain, SockAddr, Socket, Type};
use support::{Result, turn_until};
use tempfile::tempdir;

const CASE: &str = "HANDLERS_INHERITED_CASE";
const ALL_NAMES: &str = "web:dns:web:log:packets:client:route:fifo";

/// Runs the case `name` with `fds` as the descriptors from 3 on, after a shell has set `variables`.
/// In them, `$$` is the id of the process.
#[track_caller]
fn run(name: &str, variables: &str, fds: &[OwnedFd]) -> Result {
    let mut redirections = String::new();
    let mut passed = Vec::new();
    for (place, fd) in fds.iter().enumerate() {
        // A high number, so that no redirection overwrites a descriptor that another one needs.
        let fd = rustix::io::fcntl_dupfd_cloexec(fd, 100)?;
        fcntl_setfd(&fd, FdFlags::empty())?;
        write!(
            redirections,
            " {}<&{number} {number}<&-",
            place + 3,
            number = fd.as_raw_fd()
        )?;
        passed.push(fd);
    }
    let script = format!(r#"{variables} exec "$0" "$@"{redirections}"#);
    let mut shell = Command::new("bash"); // sh has no redirections of such numbers
    shell.args(["-c", &script]).arg(std::env::current_exe()?);
    shell
        .args(["--exact", "case", "--nocapture"])
        .env(CASE, name)
        .stdout(Stdio::null());
    assert!(shell.status()?.success(), "{name} with {variables}");
    Ok(())
}

#[test]
fn case() -> Result {
    match std::env::var(CASE).as_deref() {
        Ok("all kinds") => takes_all_kinds(),
        Ok("serves") => serves_what_was_passed(),
        Ok("none") => expect_none(),
        Ok("refused") => expect_refused(),
        _ => Ok(()), // started among the other tests, it does nothing
    }
}

/// Returns one descriptor of each kind.
fn one_of_each() -> Result<Vec<OwnedFd>> {
    let folder = tempdir()?;
    let packets = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    packets.bind(&SockAddr::unix(folder.path().join("packets"))?)?;
    packets.listen(1)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let netlink = Socket::new(Domain::from(16), Type::RAW, None)?;
    Ok(vec![
        listener.into(),
        StdUdpSocket::bind("[::1]:0")?.into(),
        UnixListener::bind(folder.path().join("web"))?.into(),
        UnixDatagram::bind(folder.path().join("log"))?.into(),
        packets.into(),
        client.into(),
        netlink.into(),
        std::io::pipe()?.0.into(),
    ])
}

#[test]
fn sockets_of_every_kind_are_taken_by_name_and_by_kind() -> Result {
    let variables = format!("LISTEN_FDS=8 LISTEN_PID=$$ LISTEN_FDNAMES={ALL_NAMES}");
    run("all kinds", &variables, &one_of_each()?)
}

fn takes_all_kinds() -> Result {
    let mut sockets = InheritedSockets::from_env()?;
    expect_no_variables();
    assert!(InheritedSockets::from_env()?.is_empty(), "taken once");
    let all: Vec<_> = sockets
        .iter()
        .map(|socket| (socket.as_fd().as_raw_fd(), socket.name(), socket.kind()))
        .collect();
    assert_eq!(
        all,
        [
            (3, "web", SocketKind::TcpListener),
            (4, "dns", SocketKind::Udp),
            (5, "web", SocketKind::UnixListener),
            (6, "log", SocketKind::UnixDatagram),
            (7, "packets", SocketKind::SeqpacketListener),
            (8, "client", SocketKind::TcpStream),
            (9, "route", SocketKind::Other),
        ]
    );
    assert_eq!(sockets.no_sockets().collect::<Vec<_>>(), [(10, "fifo")]);
    for socket in sockets.iter() {
        assert_eq!(fcntl_getfd(socket)?, FdFlags::CLOEXEC, "{socket:?}");
    }
    expect_closed_in_a_child(10)?;

    // What is not taken stays.
    assert_eq!(sockets.take_kind(SocketKind::Udp).len(), 1);
    assert_eq!(sockets.take_kind(SocketKind::Udp).len(), 0);
    assert_eq!(sockets.take_named("dns").len(), 0, "it is taken");
    let web = sockets.take_named("web");
    assert_eq!(
        web.iter().map(|socket| socket.kind()).collect::<Vec<_>>(),
        [SocketKind::TcpListener, SocketKind::UnixListener]
    );
    assert!(sockets.take_listeners(&ListenOptions::new())?.is_empty());
    assert_eq!(sockets.len(), 4);
    let rest: Vec<_> = sockets.into_iter().map(|socket| socket.kind()).collect();
    assert_eq!(
        rest,
        [
            SocketKind::UnixDatagram,
            SocketKind::SeqpacketListener,
            SocketKind::TcpStream,
            SocketKind::Other
        ]
    );
    Ok(())
}

#[track_caller]
fn expect_closed_in_a_child(fd: i32) -> Result {
    let script = format!("! test -e /proc/self/fd/{fd}");
    assert!(Command::new("sh").args(["-c", &script]).status()?.success());
    Ok(())
}

/// The kinds that cannot listen are not in the way.
#[test]
fn listeners_and_udp_sockets_of_one_unit_are_served() -> Result {
    let folder = tempdir()?;
    let fds = [
        StdUdpSocket::bind("127.0.0.1:0")?.into(),
        TcpListener::bind("127.0.0.1:0")?.into(),
        UnixListener::bind(folder.path().join("socket"))?.into(),
    ];
    run("serves", "LISTEN_FDS=3 LISTEN_PID=$$", &fds)?;
    assert!(
        folder.path().join("socket").exists(),
        "it belongs to the service manager"
    );
    Ok(())
}

fn serves_what_was_passed() -> Result {
    let mut sockets = InheritedSockets::from_env()?;
    assert!(sockets.iter().all(|socket| socket.name() == "unknown"));
    let mut reactor = Reactor::<u32>::new()?;
    let listeners = sockets.take_listeners(&ListenOptions::new())?;
    let [Address::Tcp(tcp), Address::Unix(path)] = &addresses(&listeners)?[..] else {
        return Err("not one listener of each family, in their order".into());
    };
    let (mut tcp, mut unix) = (TcpStream::connect(tcp)?, UnixStream::connect(path)?);
    for listener in listeners {
        serve_echo(listener, &mut reactor)?;
    }
    let udp = StdUdpSocket::bind("127.0.0.1:0")?;
    for socket in sockets.take_kind(SocketKind::Udp) {
        let socket = UdpSocket::adopt(socket)?;
        udp.connect(socket.local_addr()?)?;
        udp::add(&mut reactor, socket, |datagram, socket, cx| {
            let _ = socket.reply(datagram, datagram.bytes);
            *cx.state += 1;
            Ok(Next::Keep)
        })?;
    }
    assert!(sockets.is_empty());

    tcp.write_all(b"tcp")?;
    unix.write_all(b"unix")?;
    udp.send(b"udp")?;
    let mut echoed = 0;
    turn_until(&mut reactor, &mut echoed, |echoed| *echoed == 3)?;
    let mut data = [0; 64];
    assert_eq!(tcp.read(&mut data)?, 3);
    assert_eq!(unix.read(&mut data)?, 4);
    assert_eq!(udp.recv(&mut data)?, 3);
    Ok(())
}

fn addresses(listeners: &[Listener]) -> Result<Vec<Address>> {
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?))
        .collect()
}

fn serve_echo(listener: Listener, reactor: &mut Reactor<u32>) -> Result {
    listener.serve(reactor, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(on_data(
            |data: &[u8], connection: &mut Connection<'_, u32>, cx| {
                let _flow = connection.write(data)?;
                *cx.state += 1;
                Ok(data.len())
            },
        ))
    })?;
    Ok(())
}

#[test]
fn sockets_for_another_process_are_not_taken() -> Result {
    for variables in [
        "LISTEN_FDS=1 LISTEN_PID=1 LISTEN_FDNAMES=a",
        "LISTEN_FDS=1 LISTEN_FDNAMES=a",
        "LISTEN_PID=$$",
        "",
    ] {
        run(
            "none",
            variables,
            &[TcpListener::bind("127.0.0.1:0")?.into()],
        )?;
    }
    Ok(())
}

fn expect_none() -> Result {
    let sockets = InheritedSockets::from_env()?;
    assert!(sockets.is_empty());
    assert_eq!(sockets.no_sockets().len(), 0);
    expect_no_variables();
    Ok(())
}

/// A descriptor that is not open, too.
#[test]
fn variables_of_a_service_manager_that_make_no_sense_are_refused() -> Result {
    for variables in [
        "LISTEN_FDS=0 LISTEN_PID=$$",
        "LISTEN_FDS=-1 LISTEN_PID=$$",
        "LISTEN_FDS=x LISTEN_PID=$$",
        "LISTEN_FDS='' LISTEN_PID=$$",
        "LISTEN_FDS=1048577 LISTEN_PID=$$",
        "LISTEN_FDS=4294967295 LISTEN_PID=$$",
        "LISTEN_FDS=4294967296 LISTEN_PID=$$",
        "LISTEN_FDS=1 LISTEN_PID=''",
        "LISTEN_FDS=1 LISTEN_PID=x",
        "LISTEN_FDS=1 LISTEN_PID=-1",
        "LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDS_FIRST_FD=0",
        "LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=a:b",
        "LISTEN_FDS=1048576 LISTEN_PID=$$", // the descriptors after the first one are not open
    ] {
        run(
            "refused",
            variables,
            &[TcpListener::bind("127.0.0.1:0")?.into()],
        )?;
    }
    Ok(())
}

fn expect_refused() -> Result {
    let Err(error) = InheritedSockets::from_env() else {
        return Err("taken".into());
    };
    assert!(error.to_string().starts_with("LISTEN_"), "{error}");
    expect_no_variables();
    assert!(InheritedSockets::from_env()?.is_empty());
    Ok(())
}

#[track_caller]
fn expect_no_variables() {
    for variable in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        assert!(
            std::env::var_os(variable).is_none(),
            "a child would believe {variable}"
        );
    }
}
