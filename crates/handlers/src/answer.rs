//! What the callbacks of all handlers may answer, and what they panic with.

use std::any::Any;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::{Domain, SockRef, Type};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Errors that only say that nothing was done, and end nothing: so `?` may be used on what would block.
pub(crate) fn is_nothing_done(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// A system call that has failed: which it was, and of what. It travels inside an [`io::Error`] of the same kind.
///
/// Displays as "open(/etc/app.conf): No such file or directory (os error 2)", with advice behind it where there is some. The errno
/// is found by [`raw_os_error`](Self::raw_os_error), and in the `io::Error` around it by [`errno`](crate::errno).
#[derive(Debug)]
pub struct SystemError {
    call: String,
    source: io::Error,
    advice: &'static str,
}

impl SystemError {
    /// Returns the call and what it was made for: a path, an address, a child.
    pub fn call(&self) -> &str {
        &self.call
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }

    /// Returns the errno of the kernel. `None` where the standard library has refused before it was asked.
    pub fn raw_os_error(&self) -> Option<i32> {
        reactor::errno(&self.source)
    }
}

impl Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, source, advice } = self;
        write!(f, "{call}: {source}{advice}")
    }
}

impl std::error::Error for SystemError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// An error with what was done when it came: the call, and of what.
#[cold]
pub(crate) fn named(call: impl Display, error: io::Error) -> io::Error {
    advised(call, error, "")
}

/// The same, with what to do about it: the kernel's words may mislead.
#[cold]
pub(crate) fn advised(call: impl Display, error: io::Error, advice: &'static str) -> io::Error {
    io::Error::new(error.kind(), SystemError { call: call.to_string(), source: error, advice })
}

/// The errno of an error, also where it is wrapped.
pub(crate) fn errno(error: &io::Error) -> Option<Errno> {
    reactor::errno(error).map(Errno::from_raw_os_error)
}

/// The refusal of a descriptor that was handed over for something else: "fd 4 is a listening stream socket, not a datagram socket".
pub(crate) fn not_a(wanted: &str, fd: BorrowedFd<'_>) -> io::Error {
    let (socket, number) = (SockRef::from(&fd), fd.as_raw_fd());
    let is = match socket.r#type() {
        Ok(Type::STREAM) if socket.is_listener().is_ok_and(|listens| listens) => "a listening stream socket",
        Ok(Type::STREAM) => "a stream socket",
        Ok(Type::DGRAM) => "a datagram socket",
        Ok(_) => "a socket of another type",
        Err(source) => {
            let call = format!("fd {number} is not a socket, not {wanted}");
            return io::Error::new(ErrorKind::InvalidInput, SystemError { call, source, advice: "" });
        }
    };
    let of = match socket.domain() {
        Ok(Domain::IPV4 | Domain::IPV6) | Err(_) => "",
        Ok(Domain::UNIX) => " of the Unix family",
        Ok(_) => " of another family",
    };
    io::Error::new(ErrorKind::InvalidInput, format!("fd {number} is {is}{of}, not {wanted}"))
}

/// Returns an IPv4 address in place of the IPv6 address that an IPv6 socket shows of it (`::ffff:192.0.2.1`). Others stay as they are.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().map_or(address, |v4| (v4, v6.port()).into()),
        SocketAddr::V4(_) => address,
    }
}

/// Returns whether something is there to read or to accept, or an end: asked of the kernel, whose events may tell it turns later
/// where many sources are ready.
pub(crate) fn has_input(source: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(source, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
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
