//! Binding: from an address to a listening socket.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use super::address::{Address, BindOptions};
use super::unix::UnixSocket;
use crate::sockets::{self, Family, SocketOptions, tcp};

pub(super) fn bind_tcp(
    address: SocketAddr,
    options: BindOptions,
    before_bind: &SocketOptions,
) -> io::Result<TcpListener> {
    let options = tcp::ListenerOptions {
        backlog: options.backlog,
        reuse_port: options.reuse_port,
        only_v6: options.only_v6,
    };
    tcp::bind(address, options, before_bind)
}

pub(super) fn bind_abstract(
    name: &[u8],
    options: BindOptions,
    before_bind: &SocketOptions,
) -> io::Result<UnixSocket> {
    sockets::unix::bind_abstract(name, options.backlog, before_bind).map(Into::into)
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
    Ok(match sockets::expect_listener(fd.as_fd())? {
        Family::Internet => Socket::Tcp(fd.into()),
        Family::Unix => Socket::Unix(UnixListener::from(fd).into()),
    })
}
