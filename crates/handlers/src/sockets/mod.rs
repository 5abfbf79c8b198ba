//! Every call on a socket but the reads and writes of a connection: what the socket is, what it has
//! received, and how it is changed. The calls of one family are in [`tcp`], [`unix`] and `udp`.
//!
//! Ground rule: no other file of this crate asks the kernel about a socket. So what answers in the
//! place of the kernel has to be added only here.

pub(crate) mod tcp;
#[cfg(feature = "udp")]
pub(crate) mod udp;
pub(crate) mod unix;

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockRef, Type};

use crate::error::SystemError;

/// The protocol family of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4 or IPv6.
    Internet,
    Unix,
}

/// Returns the family of a stream socket that listens. Refuses any other fd.
pub(crate) fn expect_listener(fd: BorrowedFd<'_>) -> io::Result<Family> {
    let socket = SockRef::from(&fd);
    let listens = socket.is_listener().is_ok_and(|listens| listens)
        && matches!(socket.r#type(), Ok(Type::STREAM));
    match socket.domain() {
        Ok(Domain::IPV4 | Domain::IPV6) if listens => Ok(Family::Internet),
        Ok(Domain::UNIX) if listens => Ok(Family::Unix),
        _ => Err(not_a("a listening stream socket", fd)),
    }
}

/// Refuses a socket that does not carry a stream of bytes. An fd that is not a socket is accepted:
/// it can be anything that is read or written.
pub(crate) fn expect_bytes(fd: BorrowedFd<'_>) -> io::Result<()> {
    let socket = SockRef::from(&fd);
    let is_other = match socket.r#type() {
        Ok(Type::STREAM) => socket.is_listener().is_ok_and(|listens| listens),
        Ok(_) => true,
        Err(_) => false,
    };
    if is_other {
        Err(not_a("a stream of bytes", fd))
    } else {
        Ok(())
    }
}

/// Returns the error for a file descriptor of the wrong type: "fd 4 is a listening stream socket,
/// not a datagram socket".
fn not_a(wanted: &str, fd: BorrowedFd<'_>) -> io::Error {
    let (socket, number) = (SockRef::from(&fd), fd.as_raw_fd());
    let is = match socket.r#type() {
        Ok(Type::STREAM) if socket.is_listener().is_ok_and(|listens| listens) => {
            "a listening stream socket"
        }
        Ok(Type::STREAM) => "a stream socket",
        Ok(Type::DGRAM) => "a datagram socket",
        Ok(_) => "a socket of another type",
        Err(source) => {
            let call = format!("fd {number} is not a socket, not {wanted}");
            return io::Error::new(ErrorKind::InvalidInput, SystemError::of(call, source));
        }
    };
    let of = match socket.domain() {
        Ok(Domain::IPV4 | Domain::IPV6) | Err(_) => "",
        Ok(Domain::UNIX) => " of the Unix family",
        Ok(_) => " of another family",
    };
    io::Error::new(
        ErrorKind::InvalidInput,
        format!("fd {number} is {is}{of}, not {wanted}"),
    )
}

/// Returns the local address of a socket of IPv4 or IPv6.
pub(crate) fn local_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address = SockRef::from(&fd).local_addr()?;
    Ok(address.as_socket().ok_or(ErrorKind::InvalidInput)?)
}

/// Returns the peer of a socket of IPv4 or IPv6.
pub(crate) fn peer_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address = SockRef::from(&fd).peer_addr()?;
    Ok(address.as_socket().ok_or(ErrorKind::InvalidInput)?)
}

/// Returns the IPv4 address for an IPv6 address by which an IPv6 socket shows it
/// (`::ffff:192.0.2.1`). Other addresses are returned unchanged.
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
    SockRef::from(&fd).listen(backlog)
}

/// Returns whether there is something to read or to accept, or an end of stream. Asks the kernel:
/// if many sources are ready, its events can report it turns later.
pub(crate) fn has_input(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Returns the number of bytes in the kernel's buffer. Returns 1 if the kernel does not report it,
/// so that no byte is lost.
pub(crate) fn unread(fd: BorrowedFd<'_>) -> u64 {
    rustix::io::ioctl_fionread(fd).unwrap_or(1)
}

/// Returns the pending error of a socket and clears it.
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    SockRef::from(&fd).take_error()
}

/// Closes the write side of a stream socket.
pub(crate) fn shutdown_write(fd: BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(&fd).shutdown(Shutdown::Write)
}

/// Makes the close of the socket a reset. A stream that is not TCP has no reset, and is closed.
pub(crate) fn reset_on_close(fd: BorrowedFd<'_>) {
    let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
}

/// Makes the socket count as writable only when the kernel has sent all bytes that it was given.
/// Returns whether the socket supports this.
pub(crate) fn await_sent(fd: BorrowedFd<'_>) -> bool {
    // tcp(7), TCP_NOTSENT_LOWAT. Only TCP sockets have this option.
    SockRef::from(&fd).set_tcp_notsent_lowat(1).is_ok()
}
