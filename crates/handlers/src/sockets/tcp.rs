//! Calls on TCP sockets: binding, connecting, accepting.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};

use super::SocketOptions;
use super::options::failed;
use crate::error::{errno, named};
#[cfg(feature = "simulation")]
use crate::simulation;

/// The options of a listening socket that are set before it is bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerOptions {
    pub(crate) backlog: i32,
    pub(crate) reuse_port: bool,
    pub(crate) only_v6: bool,
}

/// Returns a socket that listens at `address`.
pub(crate) fn bind(
    address: SocketAddr,
    options: ListenerOptions,
    before_bind: &SocketOptions,
) -> io::Result<TcpListener> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::installed() {
        before_bind.prepare_stand_in(Domain::for_address(address), Type::STREAM)?;
        return sockets.bind_tcp(address, options.backlog).map(Into::into);
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Lets a server restart while connections of its last run are in TIME_WAIT: tcp(7).
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(options.only_v6)?; // overrides /proc/sys/net/ipv6/bindv6only
    }
    before_bind.set_on_new(socket.as_fd())?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

/// Accepts one connection.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(listener.as_fd()) {
        return sockets
            .accept(listener.as_fd())
            .map(|(stream, peer)| (stream.into(), peer));
    }
    listener.accept()
}

/// Returns a socket that has started to connect to `to`, from the local address `from` if that is
/// given, with `options` if there are any.
pub(crate) fn start_connect(
    to: SocketAddr,
    from: Option<SocketAddr>,
    no_delay: bool,
    options: Option<&SocketOptions>,
) -> io::Result<TcpStream> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::installed() {
        options.map_or(Ok(()), |options| {
            options.prepare_stand_in(Domain::for_address(to), Type::STREAM)
        })?;
        return sockets.connect_tcp(to, from).map(Into::into);
    }
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None)?;
    set_nodelay(socket.as_fd(), no_delay)?;
    if let Some(options) = options {
        options.set_on_new(socket.as_fd())?;
    }
    if let Some(local) = from {
        // If a local port is given, all attempts share it.
        socket.set_reuse_address(local.port() != 0)?;
        socket
            .bind(&local.into())
            .map_err(|error| named(format_args!("bind to {local}"), error))?;
    }
    match socket.connect(&to.into()) {
        // connect(2): after EINTR the connection is still being established.
        Err(error) if !matches!(errno(&error), Some(Errno::INPROGRESS | Errno::INTR)) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Sets whether the kernel sends small segments without delay.
pub(crate) fn set_nodelay(fd: BorrowedFd<'_>, no_delay: bool) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if simulation::owner(fd).is_some() {
        return Ok(()); // a simulation delays what it likes
    }
    SockRef::from(&fd)
        .set_tcp_nodelay(no_delay)
        .map_err(|error| failed("TCP_NODELAY", fd, error))
}
