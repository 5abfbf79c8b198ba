//! Calls on Unix sockets: binding, connecting, accepting.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
#[cfg(feature = "simulation")]
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::{SocketOptions, address};
use crate::backoff::{Backoff, Jitter};
use crate::error::{errno, named};
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

/// Binds a socket to an address.
pub(crate) fn bind(socket: &OwnedFd, address: &SocketAddr) -> io::Result<()> {
    SockRef::from(socket).bind(&raw(address)?)
}

/// Returns a socket that listens at a name of the abstract namespace.
pub(crate) fn bind_abstract(
    name: &[u8],
    backlog: i32,
    before_bind: &SocketOptions,
) -> io::Result<UnixListener> {
    let address = address::of_name(name)?;
    #[cfg(feature = "simulation")]
    if let Some(bound) = bind_simulated(&address, backlog, before_bind) {
        return bound;
    }
    let socket = unbound(None, before_bind)?;
    bind(&socket, &address)?;
    super::listen(socket.as_fd(), backlog)?;
    Ok(socket.into())
}

/// Returns a non-blocking socket that is connected to `to`, with `options` if there are any.
/// Returns `None` while the queue of the listener is full: the kernel reports neither when it has
/// room nor that this attempt is over, so the caller must try again.
pub(crate) fn connect(
    to: &SocketAddr,
    options: Option<&SocketOptions>,
) -> io::Result<Option<UnixStream>> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::installed() {
        options.map_or(Ok(()), |options| {
            options.prepare_stand_in(Domain::UNIX, Type::STREAM)
        })?;
        return unless_full(sockets.connect_unix(to).map(Into::into));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    options.map_or(Ok(()), |options| options.set_on_unix(socket.as_fd()))?;
    unless_full(socket.connect(&raw(to)?).map(|()| socket.into()))
}

/// Returns the pauses between the tries of [`connect`] while the queue of the listener is full.
///
/// A listener that is not overloaded accepts within the first pause. A connect to a listener that
/// stays full costs this process 16 tries a second.
pub(crate) const fn full_queue_pauses() -> Backoff {
    const MIN: Duration = Duration::from_millis(1);
    const MAX: Duration = Duration::from_millis(64);
    Backoff::new(MIN, MAX).jitter(Jitter::None)
}

/// connect(2): on a non-blocking Unix socket, `EAGAIN` means that the queue is full.
fn unless_full(connected: io::Result<UnixStream>) -> io::Result<Option<UnixStream>> {
    match connected {
        Err(error) if errno(&error) == Some(Errno::AGAIN) => Ok(None),
        other => other.map(Some),
    }
}

/// Returns the form of an address that socket2 takes. There, an abstract name begins with a NUL.
fn raw(address: &SocketAddr) -> io::Result<SockAddr> {
    if let Some(path) = address.as_pathname() {
        return SockAddr::unix(path);
    }
    let name = address.as_abstract_name().unwrap_or_default();
    SockAddr::unix(OsStr::from_bytes(&[&[0], name].concat()))
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
