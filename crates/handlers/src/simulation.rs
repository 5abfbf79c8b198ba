//! The interface between this crate and a simulated network. A simulation provides the bytes, the
//! addresses and the errors of its sockets.
//!
//! A program does not use this module. A simulation implements [`Sockets`] and [installs](install)
//! it. The simulation also implements and installs the trait of [`reactor::simulation`], which
//! answers reads, writes and readiness. Each call of this crate on a socket then looks up the
//! simulation that is installed on the thread of the call.
//!
//! - Both ends of `UnixStream::pair`, and a Unix socket that a program itself makes, are real.
//! - A listener at the path of a Unix socket makes neither a file nor a lock file.
//! - The simulation does not learn of the [options of a
//!   socket](crate::ConnectionOptions#options-of-the-socket), of `SO_REUSEPORT` and `IPV6_V6ONLY`,
//!   nor of the source address and the congestion mark of a datagram. Setting an option succeeds
//!   and does nothing.
//! - The closures [`ConnectionOptions::prepare`](crate::ConnectionOptions::prepare) and
//!   [`ListenOptions::prepare`](crate::ListenOptions::prepare) are called with a socket of the
//!   kernel in the place of the simulated one. This stand-in has the same family, is neither bound
//!   nor connected, and is closed when the closure returns. So the options that a closure sets have
//!   no effect, and its error has the usual effect.
//! - A name is looked up by the simulation. A resolver with a lookup function of its own asks this
//!   function, on a simulated thread. Network interfaces are those of the kernel.
//! - All simulated threads share one real thread. The tasks that this crate keeps for each thread
//!   belong to the real one. So a simulation calls [`set_tasks_aside`] each time that it suspends a
//!   thread.
//! - If a program itself makes a socket call on the fd of a simulated socket, for example by
//!   `TcpStream::peer_addr`, the call fails with `ENOTSOCK`. Use the methods of this crate instead,
//!   for example [`Connection::peer_addr`](crate::Connection::peer_addr).

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::Path;
use std::rc::Rc;

#[cfg(feature = "futures")]
use crate::futures::OfThread;

/// The sockets of a simulated network.
///
/// A simulated socket is an ordinary `TcpListener`, `TcpStream`, `UnixListener`, `UnixStream` or
/// `UdpSocket`, but its fd is not a socket. The fd is a placeholder, for example one end of a pipe,
/// that the simulation has made and that it recognises. A socket that this crate makes while a
/// simulation is installed is simulated.
///
/// This trait answers the calls that this crate makes on a simulated socket, except reads, writes
/// and readiness: [`reactor::simulation`] answers those. The kernel answers for every other fd.
///
/// A method fails with the errors of the system calls that it stands for, and with their errno, for
/// example `ECONNREFUSED` or `ENOTCONN`.
pub trait Sockets {
    /// Returns `true` if `fd` is the placeholder of a simulated socket. This crate asks before each
    /// call on a socket.
    fn is_simulated(&self, fd: BorrowedFd<'_>) -> bool;

    /// Returns a TCP socket that is bound to `address` and listens. With port 0 the simulation
    /// chooses a free port.
    ///
    /// # Errors
    /// The errors of `bind(2)` and `listen(2)`.
    fn bind_tcp(&self, address: SocketAddr, backlog: i32) -> io::Result<OwnedFd>;

    /// Returns a Unix socket that is bound to a path or an abstract name, and listens. If a socket
    /// is bound to the path and has been closed, it is replaced: a simulation does in one step what
    /// [`ListenOptions::bind`](crate::ListenOptions::bind) does to a stale socket under its lock.
    ///
    /// # Errors
    /// The errors of `bind(2)` and `listen(2)`.
    fn bind_unix(&self, address: &UnixAddr, backlog: i32) -> io::Result<OwnedFd>;

    /// Removes the path of a Unix socket, as `unlink(2)` does. Does nothing if no simulated socket
    /// is bound to the path.
    fn unlink_unix(&self, path: &Path);

    /// Returns the path or the abstract name of a Unix socket that listens.
    ///
    /// # Errors
    /// The errors of `getsockname(2)`.
    fn unix_addr(&self, fd: BorrowedFd<'_>) -> io::Result<UnixAddr>;

    /// Returns a TCP socket that has started to connect to `to`, from the local address `from` if
    /// that is given. The socket becomes writable when the connect has succeeded or failed. After a
    /// failure, [`take_error`](Self::take_error) returns the error. After a success,
    /// [`peer_addr`](Self::peer_addr) returns the peer.
    ///
    /// # Errors
    /// The errors of `bind(2)` and `connect(2)`, but not `EINPROGRESS`: if the connect is still in
    /// progress, this method returns the socket.
    fn connect_tcp(&self, to: SocketAddr, from: Option<SocketAddr>) -> io::Result<OwnedFd>;

    /// Returns a Unix socket that is connected to a path or an abstract name.
    ///
    /// # Errors
    /// The errors of `connect(2)` on a non-blocking socket, for example `EAGAIN` while the queue of
    /// the listener is full.
    fn connect_unix(&self, to: &UnixAddr) -> io::Result<OwnedFd>;

    /// Returns two TCP sockets that are connected with each other.
    ///
    /// # Errors
    /// The errors of `socket(2)`.
    fn pair(&self) -> io::Result<[OwnedFd; 2]>;

    /// Looks up the addresses of a host, in the place of `getaddrinfo(3)`. `service` is a port or
    /// the name of a service. This method is called on a simulated thread, and may block it.
    ///
    /// # Errors
    /// `NotFound` if the name does not exist, `HostUnreachable` if that cannot be found out now.
    fn lookup(&self, host: &str, service: &str) -> io::Result<Vec<SocketAddr>>;

    /// Returns a UDP socket that is bound to `address`. With port 0 the simulation chooses a free
    /// port.
    ///
    /// # Errors
    /// The errors of `bind(2)`.
    fn bind_udp(&self, address: SocketAddr) -> io::Result<OwnedFd>;

    /// Returns a UDP socket that is connected to `to`, from any free port.
    ///
    /// # Errors
    /// The errors of `connect(2)`, for example `EACCES` for a broadcast address.
    fn connect_udp(&self, to: SocketAddr) -> io::Result<OwnedFd>;

    /// Returns `true` if the socket is a stream socket that listens.
    fn listens(&self, fd: BorrowedFd<'_>) -> bool;

    /// Returns `true` if the socket is a Unix socket.
    fn is_unix(&self, fd: BorrowedFd<'_>) -> bool;

    /// Returns `true` if the socket is a UDP socket.
    fn is_datagram(&self, fd: BorrowedFd<'_>) -> bool;

    /// Changes the length of the queue of a listening socket and keeps its entries. With a length
    /// of 0, no new connection joins the queue.
    ///
    /// # Errors
    /// The errors of `listen(2)`.
    fn listen(&self, fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()>;

    /// Accepts one connection. Returns its socket and the address of its peer. A Unix peer has no
    /// address, and this crate ignores what is returned for it.
    ///
    /// # Errors
    /// The errors of `accept(2)`. `WouldBlock` if the queue is empty.
    fn accept(&self, fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)>;

    /// Closes the write side of a stream socket.
    ///
    /// # Errors
    /// The errors of `shutdown(2)`.
    fn shutdown_write(&self, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Makes a TCP socket reset its connection when the socket is closed later. A Unix socket has
    /// no reset, and is unchanged.
    fn reset_on_close(&self, fd: BorrowedFd<'_>);

    /// Returns the pending error of a socket and clears it, as `SO_ERROR` does.
    ///
    /// # Errors
    /// The errors of `getsockopt(2)`.
    fn take_error(&self, fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>>;

    /// Returns the number of bytes that have arrived and are not read yet.
    ///
    /// # Errors
    /// The errors of `ioctl(FIONREAD)`.
    fn unread(&self, fd: BorrowedFd<'_>) -> io::Result<u64>;

    /// Returns `true` if a read or an accept would return at once, with input, an end of stream or
    /// an error.
    fn has_input(&self, fd: BorrowedFd<'_>) -> bool;

    /// Makes a TCP socket count as writable only while its simulated host holds no unsent bytes of
    /// the socket. Returns `false` for a Unix socket, and if the simulation does not support this.
    /// A connection that waits for its bytes to be sent before a reset is then reset at once.
    fn await_sent(&self, fd: BorrowedFd<'_>) -> bool;

    /// Returns the local address of a socket.
    ///
    /// # Errors
    /// The errors of `getsockname(2)`.
    fn local_addr(&self, fd: BorrowedFd<'_>) -> io::Result<SocketAddr>;

    /// Returns the address of the peer of a socket.
    ///
    /// # Errors
    /// The errors of `getpeername(2)`. `ENOTCONN` while a TCP socket is still connecting.
    fn peer_addr(&self, fd: BorrowedFd<'_>) -> io::Result<SocketAddr>;

    /// Sends one datagram.
    ///
    /// # Errors
    /// The errors of `sendto(2)`. `WouldBlock` if the socket has no room.
    fn send_to(&self, fd: BorrowedFd<'_>, to: SocketAddr, bytes: &[u8]) -> io::Result<()>;

    /// Receives one datagram. Returns its size, its sender and the address that it was sent to.
    /// `buf` has room for any datagram.
    ///
    /// # Errors
    /// The errors of `recvfrom(2)`. `WouldBlock` if there is no datagram. If the socket has
    /// another error and also datagrams, return the error first. This crate calls this method
    /// several times for a batch of datagrams, and drops an error that comes after a datagram of
    /// the same batch.
    fn receive_from(
        &self,
        fd: BorrowedFd<'_>,
        buf: &mut [u8],
    ) -> io::Result<(usize, SocketAddr, Option<IpAddr>)>;

    /// Called when a [layered stream](crate::Stream#layered-streams) has returned input. The stream
    /// may have held this input, and then no call of a socket belongs to it. So a simulation that
    /// looks for loops that do nothing knows of the turns that deliver held input.
    fn delivered(&self);
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

/// Tells the simulation that a layered stream has returned input.
pub(crate) fn delivered() {
    if let Some(sockets) = installed() {
        sockets.delivered();
    }
}

/// Returns the installed sockets if `fd` is one of them.
pub(crate) fn owner(fd: BorrowedFd<'_>) -> Option<Rc<dyn Sockets>> {
    installed().filter(|sockets| sockets.is_simulated(fd))
}

/// Keeps simulated [`Sockets`] installed. When this guard is dropped, the sockets that were
/// installed before are installed again.
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

/// The loops with tasks of a thread, and the task that it polls. They are restored when this value
/// is dropped, also by a panic.
#[must_use = "dropping it restores the tasks"]
pub struct TasksSetAside {
    #[cfg(feature = "futures")]
    of_thread: OfThread,
}

/// Sets aside what this thread knows of its loops with tasks, and of the task that it polls. From
/// then on it knows of none. Without the feature `futures`, does nothing.
///
/// A simulation calls this when it suspends one of its threads, and drops the result when the
/// thread goes on. So a wake by another simulated thread takes the way of a wake by another real
/// thread, and a task that is suspended during its poll finds its own loop again.
pub fn set_tasks_aside() -> TasksSetAside {
    TasksSetAside {
        #[cfg(feature = "futures")]
        of_thread: crate::futures::replace_of_thread(OfThread::default()),
    }
}

impl Drop for TasksSetAside {
    fn drop(&mut self) {
        #[cfg(feature = "futures")]
        drop(crate::futures::replace_of_thread(std::mem::take(
            &mut self.of_thread,
        )));
    }
}

impl fmt::Debug for TasksSetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TasksSetAside").finish_non_exhaustive()
    }
}
