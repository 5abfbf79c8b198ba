//! Binding: from an address to a listening socket.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use socket2::{Domain, SockRef, Type};

use super::address::{Address, BindOptions};
use super::unix::UnixSocket;
use crate::socket::not_a;

pub(super) fn bind_tcp(address: SocketAddr, options: BindOptions) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Lets a server restart while connections of its last run are in `TIME_WAIT`: tcp(7).
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(options.only_v6)?; // overrides /proc/sys/net/ipv6/bindv6only
    }
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

pub(super) fn bind_abstract(name: &[u8], options: BindOptions) -> io::Result<UnixSocket> {
    let listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(name)?)?;
    SockRef::from(&listener).listen(options.backlog)?;
    Ok(listener.into())
}

/// A listening socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

/// Returns the address of a Unix socket. Returns `None` if it has neither a path nor a name.
pub(super) fn unix_address(address: &UnixAddr) -> Option<Address> {
    let path = address
        .as_pathname()
        .map(|path| Address::Unix(path.to_owned()));
    path.or_else(|| {
        address
            .as_abstract_name()
            .map(|name| Address::Abstract(name.to_owned()))
    })
}

/// Takes over a stream socket that listens already, of any family.
pub(super) fn adopt(fd: OwnedFd) -> io::Result<Socket> {
    let socket = SockRef::from(&fd);
    let listens = socket.is_listener().is_ok_and(|listens| listens)
        && matches!(socket.r#type(), Ok(Type::STREAM));
    match socket.domain() {
        Ok(Domain::IPV4 | Domain::IPV6) if listens => Ok(Socket::Tcp(fd.into())),
        Ok(Domain::UNIX) if listens => Ok(Socket::Unix(UnixListener::from(fd).into())),
        _ => Err(not_a("a listening stream socket", fd.as_fd())),
    }
}
