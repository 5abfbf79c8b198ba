//! Every call on a socket but the reads and writes of a connection: what the socket is, what it has
//! received, and how it is changed. The calls of one family are in [`tcp`], [`unix`], `udp` and
//! `datagram`. The options that a user may set before a socket is used are in [`options`]. `names`
//! looks up names.
//!
//! Ground rule: no other file of this crate makes such a call. So with the feature `simulation`, a
//! simulation that is installed on this thread answers for all of its sockets in the place of the
//! kernel. Each function asks it first. The calls on the file of a Unix socket are in
//! `listener/unix.rs`.

pub(crate) mod address;
#[cfg(feature = "unix")]
pub(crate) mod credentials;
#[cfg(feature = "futures")]
pub(crate) mod datagram;
#[cfg(feature = "unix")]
pub(crate) mod descriptors;
mod keepalive;
#[cfg(feature = "udp")]
pub(crate) mod multicast;
#[cfg(feature = "names")]
pub(crate) mod names;
pub(crate) mod options;
#[cfg(feature = "stream-check")]
pub(crate) mod pair;
mod stream;
pub(crate) mod tcp;
#[cfg(all(test, feature = "simulation"))]
mod tests;
#[cfg(feature = "udp")]
pub(crate) mod udp;
pub(crate) mod unix;

#[cfg(feature = "inherited")]
use std::ffi::c_int;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
#[cfg(feature = "inherited")]
use socket2::Protocol;
use socket2::{Domain, SockRef, Type};

pub use self::address::{Address, AddressParseError};
#[cfg(feature = "unix")]
pub use self::credentials::PeerCredentials;
pub use self::keepalive::TcpKeepalive;
pub(crate) use self::options::{Prepare, SocketOptions};
pub use self::stream::SocketStream;
use crate::error::{SystemError, errno, named};
#[cfg(feature = "inherited")]
use crate::inherited::SocketKind;
#[cfg(feature = "simulation")]
use crate::simulation::{self, Sockets};

/// The protocol family of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4 or IPv6.
    Internet,
    Unix,
}

/// Returns the family of a stream socket that listens. Refuses any other fd.
pub(crate) fn expect_listener(fd: BorrowedFd<'_>) -> io::Result<Family> {
    const WANTED: &str = "a listening stream socket";
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return match (sockets.listens(fd), sockets.is_unix(fd)) {
            (true, true) => Ok(Family::Unix),
            (true, false) => Ok(Family::Internet),
            (false, _) => Err(not_a(WANTED, fd)),
        };
    }
    match listening_family(fd) {
        Ok(Some(family)) => Ok(family),
        Ok(None) => Err(not_a(WANTED, fd)),
        Err(error) => Err(unknown(WANTED, fd, error)),
    }
}

/// Returns the family of a stream socket that listens, or `None` for another socket.
fn listening_family(fd: BorrowedFd<'_>) -> io::Result<Option<Family>> {
    let socket = SockRef::from(&fd);
    let listens = socket.is_listener()? && socket.r#type()? == Type::STREAM;
    Ok(match socket.domain()? {
        Domain::IPV4 | Domain::IPV6 if listens => Some(Family::Internet),
        Domain::UNIX if listens => Some(Family::Unix),
        _ => None,
    })
}

/// Returns the kind of a socket.
#[cfg(feature = "inherited")]
pub(crate) fn kind(fd: BorrowedFd<'_>) -> io::Result<SocketKind> {
    socket_kind(&SockRef::from(&fd))
        .map_err(|error| named(format_args!("getsockopt on fd {}", fd.as_raw_fd()), error))
}

/// Returns each family that a service manager passes sockets of, with each type of socket. IPv6 is
/// left out.
#[cfg(feature = "inherited")]
pub(crate) fn families_and_types() -> impl Iterator<Item = (c_int, c_int)> {
    const NETLINK: c_int = 16; // `AF_NETLINK` of netlink(7), which socket2 does not name
    let families = [
        Domain::IPV4,
        Domain::UNIX,
        NETLINK.into(),
        Domain::VSOCK,
        Domain::PACKET,
    ];
    let types = [Type::STREAM, Type::DGRAM, Type::SEQPACKET, Type::RAW];
    families.into_iter().flat_map(move |family| {
        types
            .into_iter()
            .map(move |of_type| (family.into(), of_type.into()))
    })
}

#[cfg(feature = "inherited")]
fn socket_kind(socket: &SockRef<'_>) -> io::Result<SocketKind> {
    let (of_type, listens) = (socket.r#type()?, socket.is_listener()?);
    Ok(match socket.domain()? {
        Domain::IPV4 | Domain::IPV6 => match (socket.protocol()?, listens) {
            (Some(Protocol::TCP | Protocol::MPTCP), true) => SocketKind::TcpListener,
            (Some(Protocol::TCP | Protocol::MPTCP), false) => SocketKind::TcpStream,
            (Some(Protocol::UDP), _) => SocketKind::Udp,
            _ => SocketKind::Other,
        },
        Domain::UNIX => match (of_type, listens) {
            (Type::STREAM, true) => SocketKind::UnixListener,
            (Type::STREAM, false) => SocketKind::UnixStream,
            (Type::SEQPACKET, true) => SocketKind::SeqpacketListener,
            (Type::DGRAM, _) => SocketKind::UnixDatagram,
            _ => SocketKind::Other,
        },
        _ => SocketKind::Other,
    })
}

/// Refuses a socket that does not carry a stream of bytes. Accepts an fd that is not a socket: it
/// can be anything that is read or written.
pub(crate) fn expect_bytes(fd: BorrowedFd<'_>) -> io::Result<()> {
    const WANTED: &str = "a stream of bytes";
    match carries_bytes(fd) {
        Ok(true) => Ok(()),
        Ok(false) => Err(not_a(WANTED, fd)),
        Err(error) if errno(&error) == Some(Errno::NOTSOCK) => Ok(()),
        Err(error) => Err(unknown(WANTED, fd, error)),
    }
}

/// Returns `true` for a socket of the stream type that does not listen.
fn carries_bytes(fd: BorrowedFd<'_>) -> io::Result<bool> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return Ok(!sockets.listens(fd) && !sockets.is_datagram(fd));
    }
    let socket = SockRef::from(&fd);
    Ok(socket.r#type()? == Type::STREAM && !socket.is_listener()?)
}

/// Returns the error for a file descriptor whose type the kernel does not tell.
fn unknown(wanted: &str, fd: BorrowedFd<'_>, error: io::Error) -> io::Error {
    let number = fd.as_raw_fd();
    if errno(&error) == Some(Errno::NOTSOCK) {
        let call = format!("fd {number} is not a socket, not {wanted}");
        return io::Error::new(ErrorKind::InvalidInput, SystemError::of(call, error));
    }
    named(format_args!("getsockopt on fd {number}"), error)
}

/// Returns the error for a file descriptor of the wrong type, for example "fd 4 is a listening
/// stream socket, not a datagram socket".
fn not_a(wanted: &str, fd: BorrowedFd<'_>) -> io::Error {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return simulated_is_not_a(wanted, fd, &*sockets);
    }
    match description(fd) {
        Ok(is) => {
            let text = format!("fd {} is {is}, not {wanted}", fd.as_raw_fd());
            io::Error::new(ErrorKind::InvalidInput, text)
        }
        Err(error) => unknown(wanted, fd, error),
    }
}

/// Describes a socket.
fn description(fd: BorrowedFd<'_>) -> io::Result<String> {
    let socket = SockRef::from(&fd);
    let is = match socket.r#type()? {
        Type::STREAM if socket.is_listener()? => "a listening stream socket",
        Type::STREAM => "a stream socket",
        Type::DGRAM => "a datagram socket",
        _ => "a socket of another type",
    };
    let of = match socket.domain()? {
        Domain::IPV4 | Domain::IPV6 => "",
        Domain::UNIX => " of the Unix family",
        _ => " of another family",
    };
    Ok(format!("{is}{of}"))
}

/// Returns the same error for a simulated socket.
#[cfg(feature = "simulation")]
fn simulated_is_not_a(wanted: &str, fd: BorrowedFd<'_>, sockets: &dyn Sockets) -> io::Error {
    let is = match (sockets.is_datagram(fd), sockets.listens(fd)) {
        (true, _) => "a datagram socket",
        (false, true) => "a listening stream socket",
        (false, false) => "a stream socket",
    };
    let of = if sockets.is_unix(fd) {
        " of the Unix family"
    } else {
        ""
    };
    let number = fd.as_raw_fd();
    io::Error::new(
        ErrorKind::InvalidInput,
        format!("fd {number} is {is}{of}, not {wanted}"),
    )
}

/// Returns the local address of a socket of IPv4 or IPv6.
pub(crate) fn local_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return sockets.local_addr(fd);
    }
    let named = |error| named(format_args!("getsockname on fd {}", fd.as_raw_fd()), error);
    let address = SockRef::from(&fd).local_addr().map_err(named)?;
    Ok(address.as_socket().ok_or(ErrorKind::InvalidInput)?)
}

/// Returns the peer of a socket of IPv4 or IPv6.
pub(crate) fn peer_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return sockets.peer_addr(fd);
    }
    let address = SockRef::from(&fd).peer_addr()?;
    Ok(address.as_socket().ok_or(ErrorKind::InvalidInput)?)
}

/// Returns the plain form of an address. An IPv6 socket shows an IPv4 peer as `::ffff:192.0.2.1`:
/// for such an address this returns the IPv4 address. Other addresses are returned unchanged.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => v6
            .ip()
            .to_ipv4_mapped()
            .map_or(address, |v4| (v4, v6.port()).into()),
        SocketAddr::V4(_) => address,
    }
}

/// Lets a bound socket listen. Changes the length of the queue of a socket that listens already,
/// and keeps the entries.
pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return sockets.listen(fd, backlog);
    }
    SockRef::from(&fd).listen(backlog)
}

/// Returns `true` if a read or an accept would find something, including an end of stream. Asks the
/// kernel, because the loop may know of the input only turns later: one wait does not report every
/// source if many are ready.
pub(crate) fn has_input(fd: BorrowedFd<'_>) -> bool {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return sockets.has_input(fd);
    }
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Returns the number of bytes in the kernel's buffer that can be read. If the kernel does not
/// report the number, returns 1. The connection then tries to read before it ends, so bytes that
/// are there are not lost.
pub(crate) fn unread(fd: BorrowedFd<'_>) -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return sockets.unread(fd).unwrap_or(1);
    }
    rustix::io::ioctl_fionread(fd).unwrap_or(1)
}

/// Returns the pending error of a socket and clears it.
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return sockets.take_error(fd);
    }
    SockRef::from(&fd).take_error()
}

/// Returns another descriptor of the same socket, or `None` if the process has too many. A
/// simulated socket has only one.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    #[cfg(feature = "simulation")]
    if simulation::owner(fd).is_some() {
        return None;
    }
    fd.try_clone_to_owned().ok()
}

/// Closes the write side of a stream socket.
pub(crate) fn shutdown_write(fd: BorrowedFd<'_>) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return sockets.shutdown_write(fd);
    }
    SockRef::from(&fd).shutdown(Shutdown::Write)
}

/// Makes the close of the socket a reset. A stream that is not TCP has no reset, and is closed.
pub(crate) fn reset_on_close(fd: BorrowedFd<'_>) {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return sockets.reset_on_close(fd);
    }
    let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
}

/// Makes the socket count as writable only when the kernel has sent all bytes that it was given.
/// Returns whether the socket supports this.
pub(crate) fn await_sent(fd: BorrowedFd<'_>) -> bool {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        return sockets.await_sent(fd);
    }
    // tcp(7), TCP_NOTSENT_LOWAT. Only TCP sockets have this option.
    SockRef::from(&fd).set_tcp_notsent_lowat(1).is_ok()
}
