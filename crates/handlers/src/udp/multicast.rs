//! Broadcast, multicast and time to live: the options of a UDP socket that can change at any time.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use super::UdpSocket;
use crate::sockets::multicast as calls;

/// The network interface of a multicast group, or of the multicast datagrams that are sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MulticastInterface {
    /// The kernel chooses the interface by its routes.
    Any,
    /// The interface with this name, for example `eth0`.
    Name(String),
    /// The interface with this index: `ip link` shows it. It is at least 1.
    Index(u32),
    /// The interface that has this address. Only for IPv4 groups.
    Address(Ipv4Addr),
}

/// Options that can change at any time. In a simulation they have no effect.
impl UdpSocket {
    /// Sets whether the socket may send to broadcast addresses (`SO_BROADCAST`). Without it, such a
    /// datagram fails with `EACCES`. Default: `false`.
    ///
    /// # Errors
    /// The errors of `setsockopt(2)`.
    #[doc(alias("SO_BROADCAST", "uv_udp_set_broadcast"))]
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        calls::set_broadcast(self.as_fd(), broadcast)
    }

    /// Joins a multicast group on one interface. The socket then receives the datagrams that are
    /// sent to the group at the port of the socket. A socket can join several groups, and one group
    /// on several interfaces. It leaves them when it is closed.
    ///
    /// Linux passes a multicast datagram to each socket that is bound to `0.0.0.0` or `[::]` and
    /// its port, if any program of the host has joined the group. To receive datagrams of the
    /// joined groups only, bind the socket to the address of the group.
    ///
    /// A socket that is bound to `[::]` without [`only_v6`](super::UdpOptions::only_v6) can join
    /// groups of both families.
    ///
    /// # Errors
    /// All errors name the group and the fd.
    /// - `EINVAL` if `group` is not a multicast address.
    /// - `EADDRINUSE` if the socket has joined the group on this interface.
    /// - `ENODEV` if there is no such interface, or if no route leads to the group.
    /// - `ENOBUFS` if the socket has joined too many groups: for IPv4 see
    ///   `/proc/sys/net/ipv4/igmp_max_memberships` (20).
    /// - `InvalidInput` for an [`Address`](MulticastInterface::Address) with an IPv6 group, and for
    ///   the [index](MulticastInterface::Index) 0.
    ///
    /// ```
    /// use handlers::udp::{MulticastInterface, UdpOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = [224, 0, 0, 251]; // mDNS
    /// let socket = UdpOptions::new().reuse_port(true).bind((group, 0).into())?;
    /// socket.join_multicast(group.into(), &MulticastInterface::Name("lo".into()))?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("IP_ADD_MEMBERSHIP", "IPV6_JOIN_GROUP", "uv_udp_set_membership"))]
    pub fn join_multicast(&self, group: IpAddr, on: &MulticastInterface) -> io::Result<()> {
        calls::join(self.as_fd(), group, on)
    }

    /// Leaves a multicast group on one interface. Name the interface in the same way as in
    /// [`join_multicast`](Self::join_multicast).
    ///
    /// # Errors
    /// All errors name the group and the fd.
    /// - `EADDRNOTAVAIL` if the socket has not joined the group on this interface.
    /// - `ENODEV` if there is no such interface.
    /// - `InvalidInput` for an [`Address`](MulticastInterface::Address) with an IPv6 group, and for
    ///   the [index](MulticastInterface::Index) 0.
    #[doc(alias("IP_DROP_MEMBERSHIP", "IPV6_LEAVE_GROUP"))]
    pub fn leave_multicast(&self, group: IpAddr, on: &MulticastInterface) -> io::Result<()> {
        calls::leave(self.as_fd(), group, on)
    }

    /// Sets the interface through which multicast datagrams leave. Default:
    /// [`Any`](MulticastInterface::Any).
    ///
    /// # Errors
    /// - `ENODEV` or `EADDRNOTAVAIL` if there is no such interface.
    /// - `InvalidInput` for an [`Address`](MulticastInterface::Address) on an IPv6 socket, and for
    ///   the [index](MulticastInterface::Index) 0.
    #[doc(alias(
        "IP_MULTICAST_IF",
        "IPV6_MULTICAST_IF",
        "uv_udp_set_multicast_interface"
    ))]
    pub fn set_multicast_interface(&self, interface: &MulticastInterface) -> io::Result<()> {
        calls::set_interface(self.as_fd(), interface)
    }

    /// Sets whether programs of this host receive the multicast datagrams that the socket sends. On
    /// the interface `lo` they always do. Default: `true`.
    ///
    /// # Errors
    /// The errors of `setsockopt(2)`.
    #[doc(alias(
        "IP_MULTICAST_LOOP",
        "IPV6_MULTICAST_LOOP",
        "uv_udp_set_multicast_loop"
    ))]
    pub fn set_multicast_loop(&self, to_this_host: bool) -> io::Result<()> {
        calls::set_loop(self.as_fd(), to_this_host)
    }

    /// Sets how many networks a multicast datagram can cross. With 0 it does not leave the host,
    /// with 1 it stays in the local network. Default: 1.
    ///
    /// # Errors
    /// The errors of `setsockopt(2)`.
    #[doc(alias("IP_MULTICAST_TTL", "IPV6_MULTICAST_HOPS", "uv_udp_set_multicast_ttl"))]
    pub fn set_multicast_ttl(&self, ttl: u8) -> io::Result<()> {
        calls::set_multicast_ttl(self.as_fd(), ttl)
    }

    /// Sets how many networks any other datagram can cross, at least 1. Default: the value in
    /// `/proc/sys/net/ipv4/ip_default_ttl` (64).
    ///
    /// # Errors
    /// - `InvalidInput` if `ttl` is 0.
    /// - The errors of `setsockopt(2)`.
    #[doc(alias("IP_TTL", "IPV6_UNICAST_HOPS", "uv_udp_set_ttl"))]
    pub fn set_ttl(&self, ttl: u8) -> io::Result<()> {
        calls::set_ttl(self.as_fd(), ttl)
    }
}
