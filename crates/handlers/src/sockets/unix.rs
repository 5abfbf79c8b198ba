//! Calls on Unix sockets: binding, connecting, accepting.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
#[cfg(feature = "simulation")]
use std::path::PathBuf;

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::error::named;
#[cfg(feature = "simulation")]
use crate::simulation;

/// Returns a simulated socket that listens at a path or a name, or `None` if no simulation is
/// installed.
#[cfg(feature = "simulation")]
pub(crate) fn bind_simulated(
    address: &SocketAddr,
    backlog: i32,
) -> Option<io::Result<UnixListener>> {
    let sockets = simulation::installed()?;
    Some(sockets.bind_unix(address, backlog).map(Into::into))
}

/// The path of a simulated socket. Dropping it removes the path.
#[cfg(feature = "simulation")]
#[derive(Debug)]
pub(crate) struct SimulatedFile(pub(crate) PathBuf);

#[cfg(feature = "simulation")]
impl Drop for SimulatedFile {
    fn drop(&mut self) {
        if let Some(sockets) = simulation::installed() {
            sockets.unlink_unix(&self.0);
        }
    }
}

/// Returns a stream socket that is not bound yet. [`bind`] creates its file with this mode.
pub(crate) fn unbound(mode: Option<u32>) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Some(mode) = mode {
        // bind(2) makes the file with this mode less the umask, so the file never has more
        // permissions.
        fchmod(&socket, Mode::from_raw_mode(mode))?;
    }
    Ok(socket.into())
}

/// Binds a socket to a path.
pub(crate) fn bind(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    SockRef::from(socket).bind(&SockAddr::unix(path)?)
}

/// Returns a socket that listens at a name of the abstract namespace.
pub(crate) fn bind_abstract(name: &[u8], backlog: i32) -> io::Result<UnixListener> {
    let address = SocketAddr::from_abstract_name(name)?;
    #[cfg(feature = "simulation")]
    if let Some(bound) = bind_simulated(&address, backlog) {
        return bound;
    }
    let listener = UnixListener::bind_addr(&address)?;
    super::listen(listener.as_fd(), backlog)?;
    Ok(listener)
}

/// Connects to a path and closes the connection. Does not block: a server with a full queue is
/// `WouldBlock`.
pub(crate) fn probe(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// Accepts one connection.
pub(crate) fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(listener.as_fd()) {
        return sockets
            .accept(listener.as_fd())
            .map(|(stream, _)| stream.into());
    }
    listener.accept().map(|(stream, _)| stream)
}

/// Returns the local address.
pub(crate) fn local_addr(listener: &UnixListener) -> io::Result<SocketAddr> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(listener.as_fd()) {
        return sockets.unix_addr(listener.as_fd());
    }
    let named = |error| {
        named(
            format_args!("getsockname on fd {}", listener.as_raw_fd()),
            error,
        )
    };
    listener.local_addr().map_err(named)
}
