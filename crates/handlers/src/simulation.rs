//! The seam for a simulated network: sockets whose bytes, addresses and errors are those of a
//! simulation.
//!
//! A program does not use this module. A simulation implements [`Sockets`] and [installs](install)
//! it, together with the seam of `reactor`, which answers reads, writes and readiness. Each call on
//! a socket then looks up the installed simulation of its thread.
//!
//! - Unix sockets are not simulated.
//! - The simulation does not learn of `TCP_NODELAY`, `SO_REUSEPORT` and `IPV6_V6ONLY`, nor of the
//!   source address and the congestion mark of a datagram.
//! - A call that a program makes itself on the fd of a simulated socket fails with `ENOTSOCK`, for
//!   example `TcpStream::peer_addr` instead of
//!   [`Connection::peer_addr`](crate::Connection::peer_addr).

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

/// The sockets of a simulated network.
///
/// A simulated socket is an ordinary `TcpListener`, `TcpStream` or `UdpSocket`, but its fd is only
/// a placeholder: any fd that the simulation has made and recognises, for example one end of a
/// pipe. Every call on such a socket is answered here. The kernel answers for every other fd. A
/// socket that is made while a simulation is installed is simulated, unless it is a Unix socket.
///
/// An error is that of the call of the same name, with its errno: `ECONNREFUSED`, `ENOTCONN`.
pub trait Sockets {
    /// Returns `true` if `fd` is the placeholder of a simulated socket. Called before each call on
    /// an fd.
    fn is_simulated(&self, fd: BorrowedFd<'_>) -> bool;

    /// Returns a TCP socket that is bound to `address` and listens. With port 0 the simulation
    /// chooses a free port.
    ///
    /// # Errors
    /// Those of `bind(2)` and `listen(2)`.
    fn bind_tcp(&self, address: SocketAddr, backlog: i32) -> io::Result<OwnedFd>;

    /// Returns a TCP socket that has started to connect to `to`, from the local address `from` if
    /// that is given. It becomes writable when its outcome is known. The outcome is that of
    /// [`take_error`](Self::take_error) and [`peer_addr`](Self::peer_addr).
    ///
    /// # Errors
    /// Those of `bind(2)` and `connect(2)`, but not `EINPROGRESS`.
    fn connect_tcp(&self, to: SocketAddr, from: Option<SocketAddr>) -> io::Result<OwnedFd>;

    /// Returns a UDP socket that is bound to `address`. With port 0 the simulation chooses a free
    /// port.
    ///
    /// # Errors
    /// Those of `bind(2)`.
    fn bind_udp(&self, address: SocketAddr) -> io::Result<OwnedFd>;

    /// Returns a UDP socket that is connected to `to`, from any free port.
    ///
    /// # Errors
    /// Those of `connect(2)`, for example `EACCES` for a broadcast address.
    fn connect_udp(&self, to: SocketAddr) -> io::Result<OwnedFd>;

    /// Returns `true` if a TCP socket listens.
    fn listens(&self, fd: BorrowedFd<'_>) -> bool;

    /// Returns `true` for a UDP socket.
    fn is_datagram(&self, fd: BorrowedFd<'_>) -> bool;

    /// Changes the length of the queue of a listening socket and keeps its entries. With a length
    /// of 0, no new connection joins the queue.
    ///
    /// # Errors
    /// Those of `listen(2)`.
    fn listen(&self, fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()>;

    /// Accepts one connection. Returns its socket and its peer.
    ///
    /// # Errors
    /// Those of `accept(2)`. `WouldBlock` if the queue is empty.
    fn accept(&self, fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)>;

    /// Closes the write side of a TCP socket.
    ///
    /// # Errors
    /// Those of `shutdown(2)`.
    fn shutdown_write(&self, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Makes the close of a TCP socket a reset.
    fn reset_on_close(&self, fd: BorrowedFd<'_>);

    /// Returns the pending error of a socket and clears it, as `SO_ERROR` does.
    ///
    /// # Errors
    /// Those of `getsockopt(2)`.
    fn take_error(&self, fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>>;

    /// Returns the number of bytes that have arrived and are not read yet.
    ///
    /// # Errors
    /// Those of `ioctl(FIONREAD)`.
    fn unread(&self, fd: BorrowedFd<'_>) -> io::Result<u64>;

    /// Returns `true` if a read or an accept would not block, be it for an end of stream or an
    /// error.
    fn has_input(&self, fd: BorrowedFd<'_>) -> bool;

    /// Makes a TCP socket count as writable only when its host has sent all bytes that it was
    /// given. Returns `false` if the simulation does not support that: the socket is then reset at
    /// once.
    fn await_sent(&self, fd: BorrowedFd<'_>) -> bool;

    /// Returns the local address of a socket.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    fn local_addr(&self, fd: BorrowedFd<'_>) -> io::Result<SocketAddr>;

    /// Returns the peer of a socket.
    ///
    /// # Errors
    /// Those of `getpeername(2)`. `ENOTCONN` while a TCP socket connects.
    fn peer_addr(&self, fd: BorrowedFd<'_>) -> io::Result<SocketAddr>;

    /// Sends one datagram.
    ///
    /// # Errors
    /// Those of `sendto(2)`. `WouldBlock` if the socket has no room.
    fn send_to(&self, fd: BorrowedFd<'_>, to: SocketAddr, bytes: &[u8]) -> io::Result<()>;

    /// Receives one datagram. Returns its size, its sender and the address that it was sent to.
    /// `buf` has room for any datagram.
    ///
    /// # Errors
    /// Those of `recvfrom(2)`. `WouldBlock` if there is no datagram. Any other error must come
    /// before the datagrams that wait: after a datagram, an error ends the batch and is dropped.
    fn receive_from(
        &self,
        fd: BorrowedFd<'_>,
        buf: &mut [u8],
    ) -> io::Result<(usize, SocketAddr, Option<IpAddr>)>;
}

thread_local! {
    static INSTALLED: RefCell<Option<Rc<dyn Sockets>>> = const { RefCell::new(None) };
}

/// Installs simulated sockets on this thread until the returned guard is dropped.
#[must_use = "dropping the guard uninstalls the sockets"]
pub fn install(sockets: Rc<dyn Sockets>) -> Installed {
    Installed(INSTALLED.replace(Some(sockets)))
}

/// Returns the sockets that are installed on this thread.
pub(crate) fn installed() -> Option<Rc<dyn Sockets>> {
    // A loop that is dropped at the end of its thread may ask when this value is gone.
    INSTALLED
        .try_with(|sockets| sockets.borrow().clone())
        .ok()
        .flatten()
}

/// Returns the installed sockets if `fd` is one of them.
pub(crate) fn owner(fd: BorrowedFd<'_>) -> Option<Rc<dyn Sockets>> {
    installed().filter(|sockets| sockets.is_simulated(fd))
}

/// Keeps simulated [`Sockets`] installed. Dropping it restores those that were installed before.
pub struct Installed(Option<Rc<dyn Sockets>>);

impl Drop for Installed {
    fn drop(&mut self) {
        let before = self.0.take();
        let installed = INSTALLED.try_with(|sockets| sockets.replace(before));
        drop(installed); // while nothing of this module is borrowed
    }
}

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installed").finish_non_exhaustive()
    }
}
