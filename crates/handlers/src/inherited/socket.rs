//! One inherited socket: its name and its kind.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sockets;

/// The kind of an inherited socket: its family, its type, and whether it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketKind {
    /// A TCP socket that listens: `ListenStream=` of systemd with a port.
    TcpListener,
    /// A stream socket of the Unix family that listens: `ListenStream=` with a path.
    UnixListener,
    /// A `SOCK_SEQPACKET` socket of the Unix family that listens: `ListenSequentialPacket=`.
    SeqpacketListener,
    /// A UDP socket: `ListenDatagram=` with a port.
    Udp,
    /// A datagram socket of the Unix family: `ListenDatagram=` with a path.
    UnixDatagram,
    /// A connected TCP socket: `Accept=yes`.
    TcpStream,
    /// A connected stream socket of the Unix family.
    UnixStream,
    /// A socket of any other kind, for example `ListenNetlink=`, or a vsock.
    Other,
}

/// A socket that a service manager has opened for this process.
///
/// It converts into an [`OwnedFd`]. Pass a listening socket to
/// [`ListenOptions::adopt`](crate::ListenOptions::adopt), a UDP socket to `UdpSocket::adopt`, and
/// any other socket to the type of the standard library that fits.
///
/// ```
/// use std::os::fd::OwnedFd;
/// use std::os::unix::net::UnixDatagram;
/// use handlers::InheritedSockets;
///
/// # fn main() -> std::io::Result<()> {
/// let mut sockets = InheritedSockets::from_env()?;
/// for socket in sockets.take_named("log") {
///     let log = UnixDatagram::from(OwnedFd::from(socket));
///     # let _ = log;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InheritedSocket {
    fd: OwnedFd,
    name: String,
    kind: SocketKind,
}

impl InheritedSocket {
    pub(super) fn new(fd: OwnedFd, name: String) -> io::Result<Self> {
        let kind = sockets::kind(fd.as_fd())?;
        Ok(Self { fd, name, kind })
    }

    /// Returns the name that the service manager has given to the socket. Several sockets can have
    /// the same name. Returns "unknown" if the service manager passes no names.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the kind of the socket.
    pub const fn kind(&self) -> SocketKind {
        self.kind
    }
}

impl AsFd for InheritedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<InheritedSocket> for OwnedFd {
    fn from(socket: InheritedSocket) -> Self {
        socket.fd
    }
}
