//! What the callbacks of all handlers may answer, and what they panic with.

use std::any::Any;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{Domain, SockRef, Type};

/// Errors that only say that nothing was done, and end nothing: so `?` may be used on what would block.
pub(crate) fn is_nothing_done(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// An error with what was done when it came: the call, and of what. Displays as "open(/etc/app.conf): No such file or directory (os
/// error 2)".
pub(crate) fn named(call: impl Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{call}: {error}"))
}

/// The refusal of a descriptor that was handed over for something else: "fd 4 is a listening stream socket, not a datagram socket".
pub(crate) fn not_a(wanted: &str, fd: BorrowedFd<'_>) -> io::Error {
    let socket = SockRef::from(&fd);
    let is = match socket.r#type() {
        Ok(Type::STREAM) if socket.is_listener().is_ok_and(|listens| listens) => "a listening stream socket",
        Ok(Type::STREAM) => "a stream socket",
        Ok(Type::DGRAM) => "a datagram socket",
        Ok(_) => "a socket of another type",
        Err(_) => "not a socket",
    };
    let of = match socket.domain() {
        Ok(Domain::IPV4 | Domain::IPV6) | Err(_) => "",
        Ok(Domain::UNIX) => " of the Unix family",
        Ok(_) => " of another family",
    };
    io::Error::new(ErrorKind::InvalidInput, format!("fd {} is {is}{of}, not {wanted}", fd.as_raw_fd()))
}

/// Returns an IPv4 address in place of the IPv6 address that an IPv6 socket shows of it (`::ffff:192.0.2.1`). Others stay as they are.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().map_or(address, |v4| (v4, v6.port()).into()),
        SocketAddr::V4(_) => address,
    }
}

/// What becomes of a registration after its callback has answered.
#[cfg(any(feature = "console", feature = "files", feature = "signal", feature = "udp"))]
pub(crate) fn next(answer: io::Result<reactor::Next>) -> io::Result<reactor::Next> {
    match answer {
        Err(error) if is_nothing_done(&error) => Ok(reactor::Next::Keep),
        answer => answer,
    }
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic whose payload is no text").to_owned()
}
