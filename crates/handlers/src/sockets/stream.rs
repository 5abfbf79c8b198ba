//! A connected socket whose family is known at run time only.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A connected socket of either family. [`Accepted::map`](crate::Accepted::map) passes an accepted
/// socket to your function, and [`Connection::connect_to_as`](crate::Connection::connect_to_as) the
/// socket that it has connected.
#[derive(Debug)]
#[non_exhaustive]
pub enum SocketStream {
    /// A TCP socket.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl SocketStream {
    /// Returns the TCP socket. Use it if the address is one of TCP.
    ///
    /// # Errors
    /// `InvalidInput` if this is a Unix socket.
    pub fn into_tcp(self) -> io::Result<TcpStream> {
        match self {
            Self::Tcp(stream) => Ok(stream),
            Self::Unix(_) => Err(other_family("a Unix socket", "TCP")),
        }
    }

    /// Returns the Unix socket. Use it if the address is one of a Unix socket.
    ///
    /// # Errors
    /// `InvalidInput` if this is a TCP socket.
    pub fn into_unix(self) -> io::Result<UnixStream> {
        match self {
            Self::Tcp(_) => Err(other_family("a TCP socket", "Unix")),
            Self::Unix(stream) => Ok(stream),
        }
    }
}

fn other_family(is: &str, wanted: &str) -> io::Error {
    let text = format!("the connection is {is}, and a {wanted} socket is wanted");
    io::Error::new(ErrorKind::InvalidInput, text)
}

impl AsFd for SocketStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
