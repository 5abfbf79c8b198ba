//! The socket, and what goes in and out of it.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, SockRef, Type};

use super::send_queue::Run;
use crate::error::named;
use crate::socket::{not_a, plain};

/// A UDP socket that sends and receives many datagrams in one system call.
///
/// Datagrams are never fragmented on their way: one that is larger than the route takes is refused with `EMSGSIZE`.
/// [`as_std`](Self::as_std) leads to its options: broadcast, multicast, time to live; but the congestion mark that each
/// datagram is sent with stands in place of a type of service set there. Received datagrams come with the address they
/// were sent to, and with the kernel's time stamp.
///
/// # Source
/// quinn-udp, which brings `recvmmsg(2)`, and segmentation offload in both directions (`UDP_SEGMENT`, `UDP_GRO` of
/// `udp(7)`) where the kernel has it.
#[doc(alias("uv_udp_t", "AsyncUDPSocket"))]
#[derive(Debug)]
pub struct UdpSocket {
    socket: std::net::UdpSocket,
    state: UdpSocketState,
    peer: Option<SocketAddr>,
}

impl UdpSocket {
    /// A socket bound to `address`; port 0 is any that is free. On `[::]` it serves IPv4 too, unless
    /// `/proc/sys/net/ipv6/bindv6only` says otherwise.
    ///
    /// # Errors
    /// What `bind(2)` gives, with the address: `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`; `EMFILE`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let bound = std::net::UdpSocket::bind(address).and_then(Self::from_std);
        bound.map_err(|error| named(format_args!("bind {address}"), error))
    }

    /// A socket that talks to `peer` alone: the kernel drops what comes from others, and reports that nobody listens
    /// there. It is bound to any free port other than that of `peer`: it would be its own peer.
    ///
    /// # Errors
    /// What `connect(2)` gives, with the address: `ENETUNREACH`, `EACCES` for a broadcast address; `EMFILE`.
    pub fn connect(peer: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = if peer.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let connected = || {
            let mut socket = std::net::UdpSocket::bind((any, 0))?;
            socket.connect(peer)?;
            if socket.local_addr()? == socket.peer_addr()? {
                let other = std::net::UdpSocket::bind((any, 0))?; // another port, as this one is taken
                other.connect(peer)?;
                socket = other;
            }
            Self::from_std(socket)
        };
        connected().map_err(|error| named(format_args!("connect {peer}"), error))
    }

    /// A socket that was made and bound elsewhere, connected or not: with `SO_REUSEPORT`, or passed in by a service
    /// manager.
    ///
    /// # Errors
    /// `InvalidInput`, with the fd and what it is, for anything but a datagram socket of IPv4 or IPv6; what
    /// `setsockopt(2)` gives.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        let given = SockRef::from(&socket);
        let is_internet = matches!(given.domain(), Ok(Domain::IPV4 | Domain::IPV6));
        if !is_internet || !matches!(given.r#type(), Ok(Type::DGRAM)) {
            return Err(not_a("a datagram socket of IPv4 or IPv6", socket.as_fd()));
        }
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let peer = socket.peer_addr().ok().map(plain);
        Ok(Self {
            socket,
            state,
            peer,
        })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// What `getsockname(2)` gives.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Returns the peer, if it is connected; an IPv4 one in [plain form](crate::Peer::Tcp).
    pub const fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The socket itself, for its options. What is sent and received through it passes by the queue and the counts, and
    /// by what the loop knows of the readiness.
    pub const fn as_std(&self) -> &std::net::UdpSocket {
        &self.socket
    }

    /// How many datagrams one call may send: 1 where the kernel, or the device as it turned out, cannot divide them.
    pub(super) fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// One `sendmsg`.
    pub(super) fn transmit(&self, run: &Run<'_>) -> io::Result<()> {
        if run.route.to.port() == 0 {
            // The kernel's answer. It is not asked, since to quinn-udp it means a kernel that knows less than ours.
            return Err(rustix::io::Errno::INVAL.into());
        }
        let transmit = Transmit {
            destination: run.route.to,
            ecn: run.route.ecn.map(Ecn::to_codepoint),
            contents: run.bytes,
            segment_size: (run.datagrams > 1).then_some(run.segment_bytes),
            src_ip: run.route.from,
        };
        self.state
            .try_send(UdpSockRef::from(&self.socket), &transmit)
    }

    /// One `recvmmsg`.
    pub(super) fn receive(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.state
            .recv(UdpSockRef::from(&self.socket), buffers, metas)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Explicit congestion notification: what the network is told, and tells, of congestion (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// ECT(0): the sender heeds marks.
    Ect0,
    /// ECT(1): likewise; of use to L4S (RFC 9331).
    Ect1,
    /// CE: a router on the way is congested.
    Ce,
}

impl Ecn {
    const fn to_codepoint(self) -> EcnCodepoint {
        match self {
            Self::Ect0 => EcnCodepoint::Ect0,
            Self::Ect1 => EcnCodepoint::Ect1,
            Self::Ce => EcnCodepoint::Ce,
        }
    }

    const fn from_codepoint(codepoint: EcnCodepoint) -> Self {
        match codepoint {
            EcnCodepoint::Ect0 => Self::Ect0,
            EcnCodepoint::Ect1 => Self::Ect1,
            EcnCodepoint::Ce => Self::Ce,
        }
    }
}

/// A datagram that was received, whole: none is ever truncated.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Datagram<'a> {
    /// What it carries; nothing is possible too.
    pub bytes: &'a [u8],
    /// The address of the sender, an IPv4 one in [plain form](crate::Peer::Tcp).
    pub from: SocketAddr,
    /// The address it was sent to, in the same form: one of ours, or that of a group or broadcast.
    pub to: Option<IpAddr>,
    /// The number of the interface it came in by.
    pub interface: Option<u32>,
    /// The congestion mark. Not known of datagrams that the kernel has merged: quinn-udp leaves it no room to tell.
    pub ecn: Option<Ecn>,
    /// When the kernel received it, by the clock on the wall.
    pub received: Option<SystemTime>,
}

impl<'a> Datagram<'a> {
    /// The datagrams of one buffer, which the kernel may have merged.
    pub(super) fn split(buffer: &'a [u8], meta: &RecvMeta) -> impl Iterator<Item = Self> + use<'a> {
        let whole = Self {
            bytes: &buffer[..meta.len],
            from: plain(meta.addr),
            to: meta.dst_ip.map(|address| address.to_canonical()),
            interface: meta.interface_index,
            ecn: meta.ecn.map(Ecn::from_codepoint),
            received: meta
                .timestamp
                .and_then(|since_epoch: Duration| SystemTime::UNIX_EPOCH.checked_add(since_epoch)),
        };
        let empty = (meta.len == 0).then_some(whole); // which has no chunks
        let merged = whole
            .bytes
            .chunks(meta.stride.max(1))
            .map(move |bytes| Self { bytes, ..whole });
        empty.into_iter().chain(merged)
    }
}

/// A datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// What it carries.
    pub bytes: &'a [u8],
    /// Where it goes.
    pub to: SocketAddr,
    /// Which of our addresses it comes from; `None` leaves the choice to the kernel, and so does the broadcast address
    /// of a network.
    pub from: Option<IpAddr>,
    /// The congestion mark.
    pub ecn: Option<Ecn>,
}

impl<'a> Outgoing<'a> {
    /// `bytes` to `to`, without anything special.
    pub const fn new(bytes: &'a [u8], to: SocketAddr) -> Self {
        Self {
            bytes,
            to,
            from: None,
            ecn: None,
        }
    }

    /// `bytes` to the sender of `datagram`, from the address that it was sent to, as its sender expects; if that was
    /// a group or a broadcast, from the address that the kernel chooses: that of the interface on the way.
    pub fn reply(datagram: &Datagram<'_>, bytes: &'a [u8]) -> Self {
        let single = |address: &IpAddr| match address.to_canonical() {
            IpAddr::V4(address) => !address.is_multicast() && !address.is_broadcast(),
            IpAddr::V6(address) => !address.is_multicast(),
        };
        Self {
            bytes,
            to: datagram.from,
            from: datagram.to.filter(single),
            ecn: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(len: usize, stride: usize) -> Vec<Vec<u8>> {
        let buffer: Vec<u8> = (0..100).collect();
        let mut meta = RecvMeta::default();
        (meta.len, meta.stride) = (len, stride);
        Datagram::split(&buffer, &meta)
            .map(|datagram| datagram.bytes.to_vec())
            .collect()
    }

    #[test]
    fn merged_datagrams_are_delivered_one_by_one_including_empty_ones() {
        assert_eq!(split(5, 2), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(split(4, 4), [[0, 1, 2, 3]]);
        assert_eq!(split(0, 0), [Vec::<u8>::new()]);
    }
}
