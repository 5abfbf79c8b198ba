//! Calls that set the broadcast, multicast and hop options of a UDP socket.
//!
//! Ground rule: an IPv6 socket may send and receive IPv4 too, so it gets the options of both
//! families. The kernel accepts the options of IPv4 on a socket of IPv6.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::net::{netdevice, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, SockRef};

use super::options::failed;
use crate::error::named;
#[cfg(feature = "simulation")]
use crate::simulation;
use crate::udp::MulticastInterface;

pub(crate) fn set_broadcast(fd: BorrowedFd<'_>, broadcast: bool) -> io::Result<()> {
    set(fd, "SO_BROADCAST", |socket| socket.set_broadcast(broadcast))
}

pub(crate) fn join(
    fd: BorrowedFd<'_>,
    group: IpAddr,
    interface: &MulticastInterface,
) -> io::Result<()> {
    match group {
        IpAddr::V4(group) => set(fd, format_args!("IP_ADD_MEMBERSHIP, {group}"), |socket| {
            socket.join_multicast_v4_n(&group, &v4_interface(fd, interface)?)
        }),
        IpAddr::V6(group) => set(fd, format_args!("IPV6_JOIN_GROUP, {group}"), |socket| {
            socket.join_multicast_v6(&group, index(fd, interface)?)
        }),
    }
}

pub(crate) fn leave(
    fd: BorrowedFd<'_>,
    group: IpAddr,
    interface: &MulticastInterface,
) -> io::Result<()> {
    match group {
        IpAddr::V4(group) => set(fd, format_args!("IP_DROP_MEMBERSHIP, {group}"), |socket| {
            socket.leave_multicast_v4_n(&group, &v4_interface(fd, interface)?)
        }),
        IpAddr::V6(group) => set(fd, format_args!("IPV6_LEAVE_GROUP, {group}"), |socket| {
            socket.leave_multicast_v6(&group, index(fd, interface)?)
        }),
    }
}

pub(crate) fn set_interface(fd: BorrowedFd<'_>, interface: &MulticastInterface) -> io::Result<()> {
    set_v6(fd, "IPV6_MULTICAST_IF", |socket| {
        socket.set_multicast_if_v6(index(fd, interface)?)
    })?;
    set(fd, "IP_MULTICAST_IF", |_| {
        let (address, index) = match v4_interface(fd, interface)? {
            InterfaceIndexOrAddress::Index(index) => (Ipv4Addr::UNSPECIFIED, index),
            InterfaceIndexOrAddress::Address(address) => (address, 0),
        };
        let no_group = Ipv4Addr::UNSPECIFIED; // the kernel does not look at it
        sockopt::set_ip_multicast_if_with_ifindex(fd, &no_group, &address, index)
            .map_err(Into::into)
    })
}

pub(crate) fn set_loop(fd: BorrowedFd<'_>, to_this_host: bool) -> io::Result<()> {
    set_v6(fd, "IPV6_MULTICAST_LOOP", |socket| {
        socket.set_multicast_loop_v6(to_this_host)
    })?;
    set(fd, "IP_MULTICAST_LOOP", |socket| {
        socket.set_multicast_loop_v4(to_this_host)
    })
}

pub(crate) fn set_multicast_ttl(fd: BorrowedFd<'_>, ttl: u8) -> io::Result<()> {
    set_v6(fd, "IPV6_MULTICAST_HOPS", |socket| {
        socket.set_multicast_hops_v6(ttl.into())
    })?;
    set(fd, "IP_MULTICAST_TTL", |socket| {
        socket.set_multicast_ttl_v4(ttl.into())
    })
}

pub(crate) fn set_ttl(fd: BorrowedFd<'_>, ttl: u8) -> io::Result<()> {
    if ttl == 0 {
        // The kernel refuses it for IPv4 only.
        let text = format!("set_ttl on fd {}: 0 is not in 1 to 255", fd.as_raw_fd());
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    set_v6(fd, "IPV6_UNICAST_HOPS", |socket| {
        socket.set_unicast_hops_v6(ttl.into())
    })?;
    set(fd, "IP_TTL", |socket| socket.set_ttl_v4(ttl.into()))
}

/// Sets an option. Does nothing to a simulated socket, which has no options.
fn set(
    fd: BorrowedFd<'_>,
    option: impl Display,
    call: impl FnOnce(&SockRef<'_>) -> io::Result<()>,
) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if simulation::owner(fd).is_some() {
        return Ok(());
    }
    call(&SockRef::from(&fd)).map_err(|error| failed(&option.to_string(), fd, error))
}

/// Sets an option if the socket is of the IPv6 family.
fn set_v6(
    fd: BorrowedFd<'_>,
    option: &str,
    call: impl FnOnce(&SockRef<'_>) -> io::Result<()>,
) -> io::Result<()> {
    set(fd, option, |socket| match socket.domain()? {
        Domain::IPV6 => call(socket),
        _ => Ok(()),
    })
}

fn v4_interface(
    fd: BorrowedFd<'_>,
    interface: &MulticastInterface,
) -> io::Result<InterfaceIndexOrAddress> {
    Ok(match interface {
        MulticastInterface::Address(address) => InterfaceIndexOrAddress::Address(*address),
        other => InterfaceIndexOrAddress::Index(index(fd, other)?),
    })
}

/// Returns the index of an interface, or 0 for any.
fn index(fd: BorrowedFd<'_>, interface: &MulticastInterface) -> io::Result<u32> {
    match interface {
        MulticastInterface::Any => Ok(0),
        MulticastInterface::Index(0) => {
            let text = "0 is not the index of an interface: expected 1 or more, or Any";
            Err(io::Error::new(ErrorKind::InvalidInput, text))
        }
        MulticastInterface::Index(index) => Ok(*index),
        MulticastInterface::Name(name) => netdevice::name_to_index(fd, name)
            .map_err(|error| named(format_args!("ioctl(SIOCGIFINDEX, {name})"), error.into())),
        MulticastInterface::Address(address) => {
            let text = format!("{address} does not name an interface for IPv6: use its name");
            Err(io::Error::new(ErrorKind::InvalidInput, text))
        }
    }
}
