//! Calls on Unix sockets: binding, connecting, accepting.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
#[cfg(feature = "simulation")]
use std::path::PathBuf;

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::SocketOptions;
use crate::error::named;
#[cfg(feature = "simulation")]
use crate::simulation;

/// Returns a simulated socket that listens at a path or a name, or `None` if no simulation is
/// installed.
#[cfg(feature = "simulation")]
pub(crate) fn bind_simulated(
    address: &SocketAddr,
    backlog: i32,
    before_bind: &SocketOptions,
) -> Option<io::Result<UnixListener>> {
    let sockets = simulation::installed()?;
    let prepared = before_bind.prepare_stand_in(Domain::UNIX, Type::STREAM);
    Some(prepared.and_then(|()| sockets.bind_unix(address, backlog).map(Into::into)))
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

/// Returns a stream socket with these options that is not bound yet. [`bind`] creates its file with
/// this mode.
pub(crate) fn unbound(mode: Option<u32>, before_bind: &SocketOptions) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Some(mode) = mode {
        // bind(2) makes the file with this mode less the umask, so the file never has more
        // permissions.
        fchmod(&socket, Mode::from_raw_mode(mode))?;
    }
    before_bind.set_on_new(socket.as_fd())?;
    Ok(socket.into())
}

/// Binds a socket to a path, or to an abstract name, which begins with a NUL.
pub(crate) fn bind(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    SockRef::from(socket).bind(&SockAddr::unix(path)?)
}

/// Returns a socket that listens at a name of the abstract namespace.
pub(crate) fn bind_abstract(
    name: &[u8],
    backlog: i32,
    before_bind: &SocketOptions,
) -> io::Result<UnixListener> {
    SocketAddr::from_abstract_name(name)?; // fails if it is too long
    #[cfg(feature = "simulation")]
    if let Some(bound) =
        bind_simulated(&SocketAddr::from_abstract_name(name)?, backlog, before_bind)
    {
        return bound;
    }
    let socket = unbound(None, before_bind)?;
    let path = [&[0], name].concat();
    bind(&socket, Path::new(OsStr::from_bytes(&path)))?;
    super::listen(socket.as_fd(), backlog)?;
    Ok(socket.into())
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
