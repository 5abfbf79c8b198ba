//! Sockets: their type, their pending input, and the form in which the address of a peer is shown.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockRef, Type};

use crate::error::SystemError;

/// Returns the error for a file descriptor of the wrong type, for example "fd 4 is a listening
/// stream socket, not a datagram socket".
pub(crate) fn not_a(wanted: &str, fd: BorrowedFd<'_>) -> io::Error {
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

/// Returns `true` if a read or an accept would find something, including an end of stream. Asks the
/// kernel, because the loop may know of the input only turns later: one wait does not report every
/// source if many are ready.
pub(crate) fn has_input(source: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(source, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
