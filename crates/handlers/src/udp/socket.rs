//! The UDP socket, and the datagrams that it receives and sends.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit};

use super::options::UdpOptions;
use super::send_queue::Run;
use crate::sockets::udp::Batches;
use crate::sockets::{self, plain};

/// A UDP socket. One system call can send or receive many datagrams.
///
/// Datagrams are never fragmented on their way. A datagram that is too large for the route is
/// refused with `EMSGSIZE`. [`UdpOptions`](super::UdpOptions) sets the options that must be set
/// before the socket is bound. Each received [`Datagram`] names the address that it was sent to,
/// and the time at which the kernel received it.
///
/// To set an option that this type has no method for, use [`as_std`](Self::as_std). Do not set the
/// type of service (`IP_TOS`) in this way. The setting has no effect: this crate sets the same
/// header field for each datagram, because the field also holds the congestion mark (ECN).
///
/// ```
/// use handlers::udp::UdpSocket;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let socket = UdpSocket::bind("0.0.0.0:0".parse()?)?;
/// socket.set_broadcast(true)?;
/// # Ok(())
/// # }
/// ```
///
/// # Source
/// quinn-udp, which implements `recvmmsg(2)`. If the kernel supports segmentation offload,
/// quinn-udp uses it in both directions (`UDP_SEGMENT` and `UDP_GRO` of `udp(7)`).
#[doc(alias("uv_udp_t", "AsyncUDPSocket"))]
#[derive(Debug)]
pub struct UdpSocket {
    socket: std::net::UdpSocket,
    batches: Batches,
    peer: Option<SocketAddr>,
}

impl UdpSocket {
    /// Creates a socket bound to `address`, with the default [`UdpOptions`](super::UdpOptions).
    /// With port 0 the kernel chooses a free port. A socket on `[::]` also sends and receives IPv4.
    ///
    /// # Errors
    /// All errors name the address.
    /// - `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` and the other errors of `bind(2)`.
    /// - `EMFILE` and the other errors of `socket(2)`.
    ///
    /// ```
    /// use handlers::udp::UdpSocket;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let socket = UdpSocket::bind("127.0.0.1:0".parse()?)?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        UdpOptions::new().bind(address)
    }

    /// Creates a socket connected to `peer`. The kernel drops datagrams from other addresses, and
    /// reports `ECONNREFUSED` if no socket is bound at the peer's address. The kernel chooses a
    /// free local port. If the chosen port would connect the socket to itself, this method takes
    /// another port.
    ///
    /// # Errors
    /// All errors name the address.
    /// - `EINVAL` if the port of `peer` is 0.
    /// - `ENETUNREACH`, `EACCES` for a broadcast address, and the other errors of `connect(2)`.
    /// - `EMFILE` and the other errors of `socket(2)`.
    ///
    /// ```
    /// use handlers::udp::UdpSocket;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = UdpSocket::bind("127.0.0.1:0".parse()?)?;
    /// let client = UdpSocket::connect(server.local_addr()?)?;
    /// assert_eq!(client.peer_addr(), Some(server.local_addr()?));
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect(peer: SocketAddr) -> io::Result<Self> {
        UdpOptions::new().connect(peer)
    }

    /// Takes over a bound socket that was created elsewhere, for example one of
    /// `InheritedSockets`. The socket may be connected.
    ///
    /// # Errors
    /// - `InvalidInput` if the fd is not a datagram socket of IPv4 or IPv6. The error names the fd
    ///   and its type.
    /// - The errors of `setsockopt(2)`.
    ///
    /// ```
    /// use handlers::udp::UdpSocket;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let made_elsewhere = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let socket = UdpSocket::adopt(made_elsewhere)?;
    /// assert_eq!(socket.peer_addr(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn adopt(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        Self::of(socket.into().into())
    }

    pub(super) fn of(socket: std::net::UdpSocket) -> io::Result<Self> {
        let batches = Batches::of(&socket)?;
        let peer = sockets::peer_addr(socket.as_fd()).ok().map(plain);
        Ok(Self {
            socket,
            batches,
            peer,
        })
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// The errors of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sockets::local_addr(self.socket.as_fd())
    }

    /// Returns the address of the peer, or `None` if the socket is not connected. An IPv4 address
    /// is in [plain form](crate::Peer::Tcp): `192.0.2.1`, never `::ffff:192.0.2.1`.
    pub const fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Returns the underlying socket. Use it to set or read socket options. Do not send or receive
    /// through it, since neither the queue, the counters nor the loop notice this.
    pub const fn as_std(&self) -> &std::net::UdpSocket {
        &self.socket
    }

    /// Returns the maximum number of datagrams per call. This is 1 if the kernel has no
    /// segmentation offload, or if an earlier call has shown that the device has none.
    pub(super) fn segments_max(&self) -> usize {
        self.batches.segments_max()
    }

    /// Sends a run by one `sendmsg`.
    pub(super) fn transmit(&self, run: &Run<'_>) -> io::Result<()> {
        if run.route.to.port() == 0 {
            // The kernel's own error for port 0. It is returned here because quinn-udp would take
            // it for the sign of a kernel without offload.
            return Err(rustix::io::Errno::INVAL.into());
        }
        let transmit = Transmit {
            destination: run.route.to,
            ecn: run.route.ecn.map(Ecn::to_codepoint),
            contents: run.bytes,
            segment_size: (run.datagrams > 1).then_some(run.segment_bytes),
            src_ip: run.route.from,
        };
        self.batches.send(&self.socket, &transmit)
    }

    /// Receives a batch by one `recvmmsg`.
    pub(super) fn receive(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.batches.receive(&self.socket, buffers, metas)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The congestion mark of a datagram. By this mark a sender states that it reacts to congestion,
/// and a router states that it is congested. The mechanism is called explicit congestion
/// notification (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// ECT(0): the sender reacts to congestion marks.
    Ect0,
    /// ECT(1): the sender reacts to congestion marks. L4S uses this mark (RFC 9331).
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

/// A received datagram. It is always whole, never truncated.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Datagram<'a> {
    /// The payload. It may be empty.
    pub bytes: &'a [u8],
    /// The address of the sender. An IPv4 address is in [plain form](crate::Peer::Tcp):
    /// `192.0.2.1`, never `::ffff:192.0.2.1`.
    pub from: SocketAddr,
    /// The address that the datagram was sent to. This is an address of this host, a group address,
    /// or a broadcast address. An IPv4 address is in [plain form](crate::Peer::Tcp). `None` if the
    /// kernel does not report it.
    pub to: Option<IpAddr>,
    /// The number of the interface that received the datagram. `None` if the kernel does not report
    /// it.
    pub interface: Option<u32>,
    /// The congestion mark. `None` if the datagram has no mark. It is also `None` if the kernel has
    /// merged the datagram with others, since quinn-udp does not report the mark of such a
    /// datagram.
    pub ecn: Option<Ecn>,
    /// The wall-clock time at which the kernel received the datagram. `None` if the kernel does not
    /// report it.
    pub received: Option<SystemTime>,
}

impl<'a> Datagram<'a> {
    /// Splits a buffer into its datagrams. The kernel may have merged several of them.
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
        // `chunks` returns none for an empty datagram.
        let empty = (meta.len == 0).then_some(whole);
        let merged = whole
            .bytes
            .chunks(meta.stride.max(1))
            .map(move |bytes| Self { bytes, ..whole });
        empty.into_iter().chain(merged)
    }
}

/// A datagram to send.
///
/// ```
/// use handlers::udp::Outgoing;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut datagram = Outgoing::new(b"ping", "192.0.2.1:7".parse()?);
/// datagram.from = Some("192.0.2.2".parse()?); // one of this host's addresses
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The payload.
    pub bytes: &'a [u8],
    /// The destination.
    pub to: SocketAddr,
    /// The source address of the datagram, which must be an address of this host. With `None`, the
    /// kernel chooses the source address. The kernel also chooses it if you set the broadcast
    /// address of a network.
    pub from: Option<IpAddr>,
    /// The congestion mark.
    pub ecn: Option<Ecn>,
}

impl<'a> Outgoing<'a> {
    /// Creates a datagram with the payload `bytes` for `to`. The kernel chooses the source address,
    /// and no congestion mark is set.
    pub const fn new(bytes: &'a [u8], to: SocketAddr) -> Self {
        Self {
            bytes,
            to,
            from: None,
            ecn: None,
        }
    }

    /// Creates an answer with the payload `bytes` to the sender of `datagram`. The source address
    /// of the answer is the address that `datagram` was sent to, because the sender of `datagram`
    /// expects the answer from there. If `datagram` was sent to a group or broadcast address, the
    /// kernel chooses the address of the outgoing interface.
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
