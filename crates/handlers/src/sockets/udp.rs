//! Calls on UDP sockets: binding, connecting, and batches of datagrams by quinn-udp.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, SockRef, Type};

use super::{local_addr, not_a, peer_addr};

/// Returns a socket that is bound to `address`.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(address)
}

/// Returns a socket that is connected to `peer`. Its local port is any free one other than the port
/// of `peer`, since the socket would otherwise be its own peer.
pub(crate) fn connect(peer: SocketAddr) -> io::Result<UdpSocket> {
    let first = connect_from_any_port(peer)?;
    if local_addr(first.as_fd())? == peer_addr(first.as_fd())? {
        connect_from_any_port(peer) // gets another port, since this one is taken
    } else {
        Ok(first)
    }
}

/// Returns a socket that is connected to `peer`, from a port that the kernel chooses.
pub(crate) fn connect_from_any_port(peer: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if peer.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket)
}

/// Refuses an fd that is not a datagram socket of IPv4 or IPv6.
fn expect_datagrams(fd: BorrowedFd<'_>) -> io::Result<()> {
    let socket = SockRef::from(&fd);
    let is_internet = matches!(socket.domain(), Ok(Domain::IPV4 | Domain::IPV6));
    if is_internet && matches!(socket.r#type(), Ok(Type::DGRAM)) {
        Ok(())
    } else {
        Err(not_a("a datagram socket of IPv4 or IPv6", fd))
    }
}

/// The state that sending and receiving in batches needs: which offloads the socket has.
#[derive(Debug)]
pub(crate) struct Batches(UdpSocketState);

impl Batches {
    /// Prepares a datagram socket. Refuses any other fd.
    pub(crate) fn of(socket: &UdpSocket) -> io::Result<Self> {
        expect_datagrams(socket.as_fd())?;
        UdpSocketState::new(UdpSockRef::from(socket)).map(Self)
    }

    /// Returns the maximum number of datagrams per call of [`send`](Self::send): 1 if the kernel,
    /// or the device as found at run time, has no segmentation offload.
    pub(crate) fn segments_max(&self) -> usize {
        self.0.max_gso_segments()
    }

    /// Sends datagrams by one `sendmsg`.
    pub(crate) fn send(&self, socket: &UdpSocket, datagrams: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(UdpSockRef::from(socket), datagrams)
    }

    /// Receives datagrams by one `recvmmsg`. Returns the number of buffers that are filled.
    pub(crate) fn receive(
        &self,
        socket: &UdpSocket,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.0.recv(UdpSockRef::from(socket), buffers, metas)
    }
}
