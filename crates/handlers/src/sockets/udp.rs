//! Calls on UDP sockets: binding, connecting, and batches of datagrams by quinn-udp.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(feature = "simulation")]
use std::rc::Rc;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};

use super::{SocketOptions, local_addr, not_a, peer_addr, unknown};
#[cfg(feature = "simulation")]
use crate::simulation::{self, Sockets};

/// The options of a socket that are set before it is bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct BindOptions {
    pub(crate) reuse_port: bool,
    pub(crate) only_v6: bool,
    pub(crate) before_bind: SocketOptions,
}

/// Returns a socket that is bound to `address`.
pub(crate) fn bind(address: SocketAddr, options: &BindOptions) -> io::Result<UdpSocket> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::installed() {
        options
            .before_bind
            .prepare_stand_in(Domain::for_address(address), Type::DGRAM)?;
        return sockets.bind_udp(address).map(Into::into);
    }
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(options.only_v6)?; // overrides /proc/sys/net/ipv6/bindv6only
    }
    options.before_bind.set_on_new(socket.as_fd())?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Returns a socket that is connected to `peer`. Its local port is any free one other than the port
/// of `peer`, since the socket would otherwise be its own peer.
pub(crate) fn connect(peer: SocketAddr, options: &BindOptions) -> io::Result<UdpSocket> {
    if peer.port() == 0 {
        return Err(Errno::INVAL.into()); // the kernel would leave the socket unconnected
    }
    let first = connect_from_any_port(peer, options)?;
    if local_addr(first.as_fd())? == peer_addr(first.as_fd())? {
        connect_from_any_port(peer, options) // gets another port, since this one is taken
    } else {
        Ok(first)
    }
}

/// Returns a socket that is connected to `peer`, from a port that the kernel chooses.
pub(crate) fn connect_from_any_port(
    peer: SocketAddr,
    options: &BindOptions,
) -> io::Result<UdpSocket> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::installed() {
        options
            .before_bind
            .prepare_stand_in(Domain::for_address(peer), Type::DGRAM)?;
        return sockets.connect_udp(peer).map(Into::into);
    }
    let any: IpAddr = if peer.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = bind((any, 0).into(), options)?;
    socket.connect(peer)?;
    Ok(socket)
}

/// Refuses an fd that is not a datagram socket of IPv4 or IPv6.
fn expect_datagrams(fd: BorrowedFd<'_>) -> io::Result<()> {
    const WANTED: &str = "a datagram socket of IPv4 or IPv6";
    match carries_datagrams(fd) {
        Ok(true) => Ok(()),
        Ok(false) => Err(not_a(WANTED, fd)),
        Err(error) => Err(unknown(WANTED, fd, error)),
    }
}

fn carries_datagrams(fd: BorrowedFd<'_>) -> io::Result<bool> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return Ok(sockets.is_datagram(fd));
    }
    let socket = SockRef::from(&fd);
    let is_internet = matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6);
    Ok(is_internet && socket.r#type()? == Type::DGRAM)
}

/// The state that sending and receiving in batches needs: which offloads the socket has.
#[derive(Debug)]
pub(crate) enum Batches {
    Kernel(UdpSocketState),
    /// A simulated socket sends and receives each datagram by a call of its own.
    #[cfg(feature = "simulation")]
    Simulated,
}

impl Batches {
    /// Prepares a datagram socket. Refuses any other fd.
    pub(crate) fn of(socket: &UdpSocket) -> io::Result<Self> {
        expect_datagrams(socket.as_fd())?;
        #[cfg(feature = "simulation")]
        if simulation::owner(socket.as_fd()).is_some() {
            return Ok(Self::Simulated);
        }
        UdpSocketState::new(UdpSockRef::from(socket)).map(Self::Kernel)
    }

    /// Returns the maximum number of datagrams per call of [`send`](Self::send): 1 if the kernel,
    /// or the device as found at run time, has no segmentation offload.
    pub(crate) fn segments_max(&self) -> usize {
        match self {
            Self::Kernel(state) => state.max_gso_segments(),
            #[cfg(feature = "simulation")]
            Self::Simulated => 1,
        }
    }

    /// Sends datagrams by one `sendmsg`.
    pub(crate) fn send(&self, socket: &UdpSocket, datagrams: &Transmit<'_>) -> io::Result<()> {
        match self {
            Self::Kernel(state) => state.try_send(UdpSockRef::from(socket), datagrams),
            #[cfg(feature = "simulation")]
            Self::Simulated => {
                let fd = socket.as_fd();
                owner(fd)?.send_to(fd, datagrams.destination, datagrams.contents)
            }
        }
    }

    /// Receives datagrams by one `recvmmsg`. Returns the number of buffers that are filled.
    pub(crate) fn receive(
        &self,
        socket: &UdpSocket,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        match self {
            Self::Kernel(state) => state.recv(UdpSockRef::from(socket), buffers, metas),
            #[cfg(feature = "simulation")]
            Self::Simulated => receive_one_by_one(socket.as_fd(), buffers, metas),
        }
    }
}

/// Returns the simulation of a socket. Once it is uninstalled, the socket is a mere placeholder.
#[cfg(feature = "simulation")]
fn owner(fd: BorrowedFd<'_>) -> io::Result<Rc<dyn Sockets>> {
    simulation::owner(fd).ok_or_else(|| Errno::NOTSOCK.into())
}

/// Receives datagrams of a simulated socket until none is left or each buffer has one.
#[cfg(feature = "simulation")]
fn receive_one_by_one(
    fd: BorrowedFd<'_>,
    buffers: &mut [IoSliceMut<'_>],
    metas: &mut [RecvMeta],
) -> io::Result<usize> {
    let sockets = owner(fd)?;
    let mut received = 0;
    for (buffer, meta) in buffers.iter_mut().zip(metas) {
        match sockets.receive_from(fd, buffer) {
            Ok((len, from, to)) => {
                *meta = RecvMeta::default();
                (meta.addr, meta.dst_ip) = (from, to);
                (meta.len, meta.stride) = (len, len);
                received += 1;
            }
            Err(error) if received == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(received)
}
