//! A call on a simulated socket is answered by the simulation, and a call on any other socket by
//! the kernel.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockRef};

use crate::simulation::{Installed, Sockets, install};
use crate::sockets::{self, Family, Prepare, SocketOptions, TcpKeepalive, tcp, unix};
use crate::{Address, ListenOptions};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Stream,
    Listener,
    UnixListener,
    Datagrams,
}

/// Sockets that record each call. No answer is one that the kernel gives for a fresh socket.
#[derive(Default)]
struct Fake {
    placeholders: RefCell<Vec<(RawFd, Kind)>>,
    calls: RefCell<Vec<&'static str>>,
    waiting_datagrams: Cell<u8>,
}

impl Fake {
    fn socket(&self, kind: Kind) -> io::Result<OwnedFd> {
        let (reader, _writer) = io::pipe()?;
        let placeholder = (reader.as_raw_fd(), kind);
        self.placeholders.borrow_mut().push(placeholder);
        Ok(reader.into())
    }

    fn is(&self, fd: BorrowedFd<'_>, kind: Kind) -> bool {
        let placeholders = self.placeholders.borrow();
        placeholders.contains(&(fd.as_raw_fd(), kind))
    }

    fn record(&self, call: &'static str) {
        self.calls.borrow_mut().push(call);
    }

    fn take_calls(&self) -> Vec<&'static str> {
        self.calls.take()
    }
}

fn local() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1))
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2], 2))
}

/// A path whose folder does not exist, so the kernel would refuse it.
const UNIX_PATH: &str = "/nowhere/at/all/socket";

impl Sockets for Fake {
    fn is_simulated(&self, fd: BorrowedFd<'_>) -> bool {
        let kinds = [
            Kind::Stream,
            Kind::Listener,
            Kind::UnixListener,
            Kind::Datagrams,
        ];
        kinds.into_iter().any(|kind| self.is(fd, kind))
    }

    fn bind_tcp(&self, _address: SocketAddr, _backlog: i32) -> io::Result<OwnedFd> {
        self.record("bind_tcp");
        self.socket(Kind::Listener)
    }

    fn bind_unix(&self, _address: &UnixAddr, _backlog: i32) -> io::Result<OwnedFd> {
        self.record("bind_unix");
        self.socket(Kind::UnixListener)
    }

    fn unlink_unix(&self, path: &Path) {
        assert_eq!(path, Path::new(UNIX_PATH));
        self.record("unlink_unix");
    }

    fn unix_addr(&self, _fd: BorrowedFd<'_>) -> io::Result<UnixAddr> {
        self.record("unix_addr");
        UnixAddr::from_pathname(UNIX_PATH)
    }

    fn connect_tcp(&self, _to: SocketAddr, _from: Option<SocketAddr>) -> io::Result<OwnedFd> {
        self.record("connect_tcp");
        self.socket(Kind::Stream)
    }

    fn connect_unix(&self, _to: &UnixAddr) -> io::Result<OwnedFd> {
        self.record("connect_unix");
        self.socket(Kind::Stream)
    }

    fn pair(&self) -> io::Result<[OwnedFd; 2]> {
        self.record("pair");
        Ok([self.socket(Kind::Stream)?, self.socket(Kind::Stream)?])
    }

    fn lookup(&self, _host: &str, _service: &str) -> io::Result<Vec<SocketAddr>> {
        self.record("lookup");
        Ok(vec![peer()])
    }

    fn bind_udp(&self, _address: SocketAddr) -> io::Result<OwnedFd> {
        self.record("bind_udp");
        self.socket(Kind::Datagrams)
    }

    fn connect_udp(&self, _to: SocketAddr) -> io::Result<OwnedFd> {
        self.record("connect_udp");
        self.socket(Kind::Datagrams)
    }

    fn listens(&self, fd: BorrowedFd<'_>) -> bool {
        self.is(fd, Kind::Listener) || self.is(fd, Kind::UnixListener)
    }

    fn is_unix(&self, fd: BorrowedFd<'_>) -> bool {
        self.is(fd, Kind::UnixListener)
    }

    fn is_datagram(&self, fd: BorrowedFd<'_>) -> bool {
        self.is(fd, Kind::Datagrams)
    }

    fn listen(&self, _fd: BorrowedFd<'_>, _backlog: i32) -> io::Result<()> {
        self.record("listen");
        Err(Errno::OPNOTSUPP.into())
    }

    fn accept(&self, _fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
        self.record("accept");
        Ok((self.socket(Kind::Stream)?, peer()))
    }

    fn shutdown_write(&self, _fd: BorrowedFd<'_>) -> io::Result<()> {
        self.record("shutdown_write");
        Err(Errno::NOTCONN.into())
    }

    fn reset_on_close(&self, _fd: BorrowedFd<'_>) {
        self.record("reset_on_close");
    }

    fn take_error(&self, _fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
        self.record("take_error");
        Ok(Some(Errno::CONNRESET.into()))
    }

    fn unread(&self, _fd: BorrowedFd<'_>) -> io::Result<u64> {
        self.record("unread");
        Ok(42)
    }

    fn has_input(&self, _fd: BorrowedFd<'_>) -> bool {
        self.record("has_input");
        true
    }

    fn await_sent(&self, _fd: BorrowedFd<'_>) -> bool {
        self.record("await_sent");
        false
    }

    fn local_addr(&self, _fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        self.record("local_addr");
        Ok(local())
    }

    fn peer_addr(&self, _fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        self.record("peer_addr");
        Ok(peer())
    }

    fn send_to(&self, _fd: BorrowedFd<'_>, _to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(bytes, b"datagram");
        self.record("send_to");
        Ok(())
    }

    fn receive_from(
        &self,
        _fd: BorrowedFd<'_>,
        buf: &mut [u8],
    ) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
        self.record("receive_from");
        let left = self.waiting_datagrams.get();
        let next = left.checked_sub(1).ok_or(Errno::WOULDBLOCK)?;
        self.waiting_datagrams.set(next);
        buf[0] = left;
        Ok((1, peer(), Some(local().ip())))
    }

    fn delivered(&self) {
        self.record("delivered");
    }
}

fn installed_fake() -> (Rc<Fake>, Installed) {
    let fake = Rc::new(Fake::default());
    let installed = install(Rc::clone(&fake) as Rc<dyn Sockets>);
    (fake, installed)
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Returns a listener of the kernel, and a stream that is connected to it.
fn of_the_kernel() -> io::Result<(TcpListener, TcpStream)> {
    let listener = TcpListener::bind(loopback())?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    Ok((listener, stream))
}

fn options() -> tcp::ListenerOptions {
    tcp::ListenerOptions {
        backlog: 1,
        reuse_port: false,
        only_v6: false,
    }
}

/// A call on a stream, with its answer as a text.
type Call = fn(BorrowedFd<'_>) -> String;

/// Each call on a stream by its name.
const CALLS: [(&str, Call); 9] = [
    ("local_addr", |fd| show(sockets::local_addr(fd))),
    ("peer_addr", |fd| show(sockets::peer_addr(fd))),
    ("has_input", |fd| show(sockets::has_input(fd))),
    ("unread", |fd| show(sockets::unread(fd))),
    ("take_error", |fd| show(sockets::take_error(fd))),
    ("await_sent", |fd| show(sockets::await_sent(fd))),
    ("listen", |fd| show(sockets::listen(fd, 1))),
    ("shutdown_write", |fd| show(sockets::shutdown_write(fd))),
    ("reset_on_close", |fd| {
        sockets::reset_on_close(fd);
        show(SockRef::from(&fd).linger())
    }),
];

fn show(answer: impl fmt::Debug) -> String {
    format!("{answer:?}")
}

#[test]
fn a_simulated_fd_is_asked_of_the_simulation_and_no_other_fd_is() {
    let (fake, _installed) = installed_fake();
    let (_listener, real) = of_the_kernel().unwrap();
    let simulated = fake.socket(Kind::Stream).unwrap();
    for (name, call) in CALLS {
        let by_the_simulation = call(simulated.as_fd());
        assert_eq!(fake.take_calls(), [name]);
        let by_the_kernel = call(real.as_fd());
        assert_eq!(
            fake.take_calls(),
            [""; 0],
            "{name} of a socket of the kernel"
        );
        assert_ne!(by_the_simulation, by_the_kernel, "{name}");
    }
    assert_eq!(SockRef::from(&real).linger().unwrap(), Some(Duration::ZERO));
    tcp::set_nodelay(simulated.as_fd(), true).unwrap(); // of a pipe: ENOTSOCK
    tcp::set_nodelay(real.as_fd(), true).unwrap();
    assert!(real.nodelay().unwrap());
}

#[cfg(feature = "stream-check")]
#[test]
fn the_sockets_of_a_wire_are_those_of_the_simulation() {
    use crate::sockets::pair;

    for is_reset in [false, true] {
        assert!(!pair::is_simulated());
        let (fake, installed) = installed_fake();
        assert!(pair::is_simulated());
        let pair = pair::pair(is_reset).unwrap();
        assert_eq!(fake.take_calls(), ["pair"]);
        assert!(pair.iter().all(|end| fake.is(end.as_fd(), Kind::Stream)));
        drop(installed);
    }
}

#[test]
fn a_type_that_the_kernel_does_not_tell_keeps_its_errno() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let number = file.as_raw_fd();
    for (errno, kind, text) in [
        (
            Errno::NOTSOCK,
            io::ErrorKind::InvalidInput,
            "is not a socket, not a stream of bytes",
        ),
        (
            Errno::NOBUFS,
            io::Error::from(Errno::NOBUFS).kind(),
            "getsockopt on",
        ),
    ] {
        let error = sockets::unknown("a stream of bytes", file.as_fd(), errno.into());
        assert_eq!(
            (error.kind(), crate::error::errno(&error)),
            (kind, Some(errno))
        );
        let shown = error.to_string();
        assert!(
            shown.contains(text) && shown.contains(&format!("fd {number}")),
            "{shown}"
        );
    }
    assert!(sockets::expect_bytes(file.as_fd()).is_ok());
}

#[test]
fn the_kind_of_a_simulated_socket_is_that_of_the_simulation() {
    let (fake, _installed) = installed_fake();
    let text = |result: io::Result<()>| result.unwrap_err().to_string();
    let [stream, listener, datagrams] =
        [Kind::Stream, Kind::Listener, Kind::Datagrams].map(|kind| fake.socket(kind).unwrap());
    assert!(sockets::expect_bytes(stream.as_fd()).is_ok());
    assert_eq!(
        sockets::expect_listener(listener.as_fd()).unwrap(),
        Family::Internet
    );
    assert_eq!(
        text(sockets::expect_bytes(listener.as_fd())),
        format!(
            "fd {} is a listening stream socket, not a stream of bytes",
            listener.as_raw_fd()
        )
    );
    assert_eq!(
        text(sockets::expect_bytes(datagrams.as_fd())),
        format!(
            "fd {} is a datagram socket, not a stream of bytes",
            datagrams.as_raw_fd()
        )
    );
    assert_eq!(
        text(sockets::expect_listener(stream.as_fd()).map(drop)),
        format!(
            "fd {} is a stream socket, not a listening stream socket",
            stream.as_raw_fd()
        )
    );
    let (real_listener, real) = of_the_kernel().unwrap();
    assert!(sockets::expect_bytes(real.as_fd()).is_ok());
    assert!(sockets::expect_bytes(real_listener.as_fd()).is_err());
    assert!(sockets::expect_listener(real_listener.as_fd()).is_ok());
}

#[test]
fn the_error_for_a_socket_of_the_wrong_kind_says_its_kind() {
    let (listener, stream) = of_the_kernel().unwrap();
    let (unix, _far) = UnixStream::pair().unwrap();
    let datagrams = UdpSocket::bind(loopback()).unwrap();
    for (fd, is) in [
        (stream.as_fd(), "a stream socket"),
        (unix.as_fd(), "a stream socket of the Unix family"),
        (datagrams.as_fd(), "a datagram socket"),
    ] {
        let error = sockets::expect_listener(fd).map(drop).unwrap_err();
        let expected = format!(
            "fd {} is {is}, not a listening stream socket",
            fd.as_raw_fd()
        );
        assert_eq!(error.to_string(), expected);
    }
    let error = sockets::expect_bytes(listener.as_fd()).unwrap_err();
    let expected = "is a listening stream socket, not a stream of bytes";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn what_a_simulated_listener_accepts_is_simulated() {
    let (fake, _installed) = installed_fake();
    let listener = tcp::bind(loopback(), options(), &SocketOptions::default()).unwrap();
    let (stream, from) = tcp::accept(&listener).unwrap();
    assert!(fake.is(stream.as_fd(), Kind::Stream));
    assert_eq!(from, peer());
    assert_eq!(fake.take_calls(), ["bind_tcp", "accept"]);
    let (real_listener, real) = of_the_kernel().unwrap();
    let (_stream, from) = tcp::accept(&real_listener).unwrap();
    assert_eq!(from, real.local_addr().unwrap());
    assert_eq!(fake.take_calls(), [""; 0]);
}

#[test]
fn new_sockets_are_simulated_while_a_simulation_is_installed() {
    let (fake, installed) = installed_fake();
    let listener = ListenOptions::new()
        .bind(&Address::Tcp(loopback()))
        .unwrap();
    assert_eq!(listener.local_addr().unwrap(), Address::Tcp(local()));
    let stream = tcp::start_connect(peer(), None, true, None).unwrap();
    assert!(fake.is(stream.as_fd(), Kind::Stream));
    assert_eq!(fake.take_calls(), ["bind_tcp", "local_addr", "connect_tcp"]);
    let unix_listener = unix::bind_abstract(b"name", 1, &SocketOptions::default()).unwrap();
    let family = sockets::expect_listener(unix_listener.as_fd()).unwrap();
    assert_eq!(family, Family::Unix);
    unix::accept(&unix_listener).unwrap();
    assert_eq!(fake.take_calls(), ["bind_unix", "accept"]);
    let address = Address::Unix(UNIX_PATH.into());
    let listener = ListenOptions::new().bind(&address).unwrap();
    assert_eq!(listener.local_addr().unwrap(), address);
    drop(listener);
    assert_eq!(fake.take_calls(), ["bind_unix", "unix_addr", "unlink_unix"]);
    let stream = unix::connect(&UnixAddr::from_pathname(UNIX_PATH).unwrap(), None).unwrap();
    assert!(stream.is_some_and(|stream| fake.is(stream.as_fd(), Kind::Stream)));
    assert_eq!(fake.take_calls(), ["connect_unix"]);

    drop(installed);
    let name = format!("handlers-simulation-{}", std::process::id());
    let listener = unix::bind_abstract(name.as_bytes(), 1, &SocketOptions::default()).unwrap();
    assert!(
        unix::local_addr(&listener)
            .unwrap()
            .as_abstract_name()
            .is_some()
    );
    let listener = tcp::bind(loopback(), options(), &SocketOptions::default()).unwrap();
    assert!(listener.local_addr().unwrap().ip().is_loopback());
    assert_eq!(fake.take_calls(), [""; 0]);
}

/// Returns options of each kind, and the domain of each socket that `prepare` is called with, with
/// `true` if the socket is bound. `prepare` returns `answer`.
fn options_with_prepare(
    answer: Result<(), Errno>,
) -> (SocketOptions, Receiver<(Option<Domain>, bool)>) {
    let (note, prepared) = channel();
    let prepare = Prepare::new(move |fd| {
        let socket = SockRef::from(&fd);
        let address = socket.local_addr()?;
        let is_bound = address
            .as_socket()
            .is_some_and(|address| address.port() != 0);
        let _ = note.send((socket.domain().ok(), is_bound));
        answer.map_err(Into::into)
    });
    let options = SocketOptions {
        keepalive: Some(TcpKeepalive::new(Duration::from_secs(1))),
        user_timeout: Some(Duration::from_secs(1)),
        receive_buffer: Some(1),
        send_buffer: Some(1),
        mark: Some(1),
        device: Some("no such device".into()),
        prepare: Some(prepare),
    };
    (options, prepared)
}

#[test]
fn options_of_simulated_sockets_do_nothing_and_prepare_gets_a_real_one() {
    let (fake, _installed) = installed_fake();
    let (chosen, prepared) = options_with_prepare(Ok(()));
    let v6 = SocketAddr::from(([0; 16], 1));
    let stream = tcp::start_connect(v6, None, true, Some(&chosen)).unwrap();
    tcp::bind(loopback(), options(), &chosen).unwrap();
    chosen
        .set_on_accepted(stream.as_fd(), Family::Internet)
        .unwrap();
    assert_eq!(fake.take_calls(), ["connect_tcp", "bind_tcp", "local_addr"]);
    let [v4, v6] = [Domain::IPV4, Domain::IPV6].map(|domain| (Some(domain), false));
    assert_eq!(prepared.try_iter().collect::<Vec<_>>(), [v6, v4, v4]);
}

#[test]
fn an_error_of_prepare_reaches_no_simulated_network() {
    let (fake, _installed) = installed_fake();
    let (chosen, prepared) = options_with_prepare(Err(Errno::ACCESS));
    let connected = tcp::start_connect(peer(), None, true, Some(&chosen)).map(drop);
    let bound = tcp::bind(loopback(), options(), &chosen).map(drop);
    assert_eq!(fake.take_calls(), [""; 0]);
    let accepted = fake.socket(Kind::Stream).unwrap();
    let accepted = chosen.set_on_accepted(accepted.as_fd(), Family::Internet);
    assert_eq!(prepared.try_iter().count(), 3);
    for result in [connected, bound, accepted] {
        let error = result.unwrap_err();
        assert_eq!(crate::error::errno(&error), Some(Errno::ACCESS));
        assert!(error.to_string().starts_with("prepare of fd "), "{error}");
    }
}

#[test]
fn a_dropped_guard_restores_the_simulation_before() {
    let (outer, _outer_guard) = installed_fake();
    let (inner, inner_guard) = installed_fake();
    let _first = tcp::bind(loopback(), options(), &SocketOptions::default()).unwrap();
    drop(inner_guard);
    let _second = tcp::bind(loopback(), options(), &SocketOptions::default()).unwrap();
    assert_eq!(inner.take_calls(), ["bind_tcp"]);
    assert_eq!(outer.take_calls(), ["bind_tcp"]);
}

#[cfg(feature = "udp")]
mod datagrams {
    use std::io::{ErrorKind, IoSliceMut};
    use std::net::UdpSocket;

    use quinn_udp::{RecvMeta, Transmit};

    use super::*;
    use crate::sockets::udp::{self, Batches, BindOptions};
    use crate::udp::{MulticastInterface, UdpOptions};

    fn transmit(to: SocketAddr) -> Transmit<'static> {
        Transmit {
            destination: to,
            ecn: None,
            contents: b"datagram",
            segment_size: None,
            src_ip: None,
        }
    }

    /// Receives into two buffers. Returns the first byte of each datagram.
    fn receive(batches: &Batches, socket: &UdpSocket) -> io::Result<Vec<u8>> {
        let (mut first, mut second) = ([0; 8], [0; 8]);
        let mut metas = [RecvMeta::default(); 2];
        let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        let received = batches.receive(socket, &mut buffers, &mut metas)?;
        for meta in &metas[..received] {
            assert_eq!((meta.addr, meta.len, meta.stride), (peer(), 1, 1));
            assert_eq!(meta.dst_ip, Some(local().ip()));
        }
        Ok([first[0], second[0]][..received].to_vec())
    }

    #[test]
    fn datagrams_of_a_simulated_socket_go_through_the_simulation() {
        let (fake, _installed) = installed_fake();
        let socket = udp::bind(loopback(), &BindOptions::default()).unwrap();
        let batches = Batches::of(&socket).unwrap();
        assert_eq!(batches.segments_max(), 1);
        batches.send(&socket, &transmit(peer())).unwrap();
        assert_eq!(fake.take_calls(), ["bind_udp", "send_to"]);

        fake.waiting_datagrams.set(3);
        assert_eq!(receive(&batches, &socket).unwrap(), [3, 2]);
        assert_eq!(receive(&batches, &socket).unwrap(), [1]);
        let error = receive(&batches, &socket).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn options_of_a_simulated_socket_succeed_without_the_kernel() {
        let (fake, _installed) = installed_fake();
        let socket = UdpOptions::new()
            .receive_buffer(0)
            .bind(loopback())
            .unwrap();
        let group = [239, 255, 77, 75].into();
        let on = MulticastInterface::Name("nowhere".into());
        socket.set_broadcast(true).unwrap();
        socket.join_multicast(group, &on).unwrap();
        socket.leave_multicast(group, &on).unwrap();
        socket.set_multicast_interface(&on).unwrap();
        socket.set_multicast_loop(false).unwrap();
        socket.set_multicast_ttl(2).unwrap();
        socket.set_ttl(2).unwrap();
        assert_eq!(fake.take_calls()[0], "bind_udp");
    }

    #[test]
    fn datagrams_of_another_socket_go_through_the_kernel() {
        let (fake, _installed) = installed_fake();
        let socket = UdpSocket::bind(loopback()).unwrap();
        let receiver = UdpSocket::bind(loopback()).unwrap();
        let batches = Batches::of(&socket).unwrap();
        let to = receiver.local_addr().unwrap();
        batches.send(&socket, &transmit(to)).unwrap();
        assert_eq!(receiver.recv(&mut [0; 64]).unwrap(), 8);
        let error = receive(&batches, &socket).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert_eq!(fake.take_calls(), [""; 0]);
    }

    #[test]
    fn a_connected_udp_socket_is_simulated_and_another_kind_is_refused() {
        let (fake, installed) = installed_fake();
        let socket = crate::udp::UdpSocket::connect(peer()).unwrap();
        assert_eq!(socket.peer_addr(), Some(peer()));
        assert_eq!(socket.local_addr().unwrap(), local());
        assert_eq!(
            fake.take_calls(),
            [
                "connect_udp",
                "local_addr",
                "peer_addr",
                "peer_addr",
                "local_addr"
            ]
        );
        let stream = UdpSocket::from(fake.socket(Kind::Stream).unwrap());
        let error = Batches::of(&stream).unwrap_err().to_string();
        assert!(error.contains("is a stream socket, not a datagram socket"));

        let batches = Batches::of(socket.as_std()).unwrap();
        drop(installed);
        let error = batches
            .send(socket.as_std(), &transmit(peer()))
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOTSOCK.raw_os_error()));
    }
}

#[cfg(feature = "names")]
#[test]
fn a_name_is_looked_up_by_the_simulation() {
    let (fake, installed) = installed_fake();
    assert_eq!(sockets::names::lookup("127.0.0.1", "1").unwrap(), [peer()]);
    assert_eq!(fake.take_calls(), ["lookup"]);
    drop(installed);
    let by_the_system = sockets::names::lookup("127.0.0.1", "1").unwrap();
    assert_eq!(by_the_system, [SocketAddr::from(([127, 0, 0, 1], 1))]);
    assert_eq!(fake.take_calls(), [""; 0]);
}
