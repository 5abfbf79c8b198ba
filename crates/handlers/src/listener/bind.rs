//! Binding: from an address to a listening socket.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use super::unix::UnixSocket;
use crate::sockets::{self, Address, Family, SocketOptions, tcp};

/// The part of [`ListenOptions`](super::ListenOptions) that is needed to make a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct BindOptions {
    pub(super) backlog: i32,
    pub(super) reuse_port: bool,
    pub(super) only_v6: bool,
    /// The mode of a Unix socket's file.
    pub(super) mode: Option<u32>,
}

/// The permission bits of a file that have a meaning for a socket.
const MODE_MAX: u32 = 0o777;

impl BindOptions {
    /// Refuses options that are impossible at `address`, because a mistake would go unnoticed if
    /// they were ignored.
    pub(super) fn expect_possible(
        self,
        address: &Address,
        before_bind: &SocketOptions,
    ) -> io::Result<()> {
        let is_tcp = matches!(address, Address::Tcp(_));
        let text = match self.mode {
            _ if self.reuse_port && !is_tcp => {
                "reuse_port is only for TCP: sockets cannot share a Unix address"
            }
            _ if before_bind.device.is_some() && !is_tcp => {
                "bind_device is only for TCP: a Unix socket has no network interface"
            }
            Some(_) if !matches!(address, Address::Unix(_)) => {
                "mode is only for a Unix socket with a path: this address is not a file"
            }
            Some(mode) if mode > MODE_MAX => "mode is greater than 0o777",
            _ => return Ok(()),
        };
        Err(io::Error::new(ErrorKind::InvalidInput, text))
    }
}

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

/// Takes over a stream socket that listens already, of any family.
pub(super) fn adopt(fd: OwnedFd) -> io::Result<Socket> {
    Ok(match sockets::expect_listener(fd.as_fd())? {
        Family::Internet => Socket::Tcp(fd.into()),
        Family::Unix => Socket::Unix(UnixListener::from(fd).into()),
    })
}
