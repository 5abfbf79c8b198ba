//! Connecting and accepting within a future.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::io::Errno;

use super::Async;
use crate::error::{named, named_on};
use crate::futures::sleep;
use crate::sockets::{self, address, tcp, unix};

impl Async<TcpStream> {
    /// Connects to `address`.
    ///
    /// The attempt goes on until the kernel gives up, after about two minutes. Limit it by
    /// [`timeout`](crate::futures::timeout). To stop it, drop the future.
    ///
    /// # Errors
    /// The error names the call and the address, for example "connect to 192.0.2.1:80: Connection
    /// refused (os error 111)". Also the errors of a registration: see [`Async`](Self#errors).
    #[track_caller]
    pub fn connect(address: SocketAddr) -> impl Future<Output = io::Result<Self>> + Send {
        let started = tcp::start_connect(address, None, false, None).map(Self::of_nonblocking);
        Self::connected(address, started)
    }

    /// Connects to `address` from the local address `from`, whose port may be 0. See
    /// [`connect`](Self::connect).
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect). If the local address cannot be used, the error names
    /// both addresses.
    #[track_caller]
    #[doc(alias("bind", "local_address"))]
    pub fn connect_from(
        from: SocketAddr,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self>> + Send {
        let started = tcp::start_connect(address, Some(from), false, None);
        Self::connected(address, started.map(Self::of_nonblocking))
    }

    /// Waits until a connect to `address` has succeeded or failed.
    async fn connected(address: SocketAddr, started: io::Result<Self>) -> io::Result<Self> {
        let connecting = async {
            let stream = started?;
            let check = |stream: &TcpStream| expect_connected(stream.as_fd());
            stream.write_with(check).await?;
            Ok(stream)
        };
        let connected: io::Result<Self> = connecting.await;
        connected.map_err(|error| named(format_args!("connect to {address}"), error))
    }
}

impl Async<UnixStream> {
    /// Connects to the socket at `path`.
    ///
    /// While the queue of the listener is full, the attempt is repeated after pauses of 1 ms to
    /// 64 ms, since the kernel does not report when the queue has room. Limit it by
    /// [`timeout`](crate::futures::timeout). To stop it, drop the future.
    ///
    /// # Errors
    /// The error names the call and the path, for example "connect to /run/db.sock: No such file or
    /// directory (os error 2)". `InvalidInput` if no socket can have the path.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let connected = connect_unix(path).await.and_then(Self::new);
        connected.map_err(|error| named(format_args!("connect to {}", path.display()), error))
    }
}

async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let address = address::of_path(path)?;
    let mut pauses = unix::full_queue_pauses();
    loop {
        if let Some(stream) = unix::connect(&address, None)? {
            return Ok(stream);
        }
        sleep(pauses.next_delay()).await;
    }
}

/// Returns `WouldBlock` while a connect is in progress, and its error if it has failed.
fn expect_connected(fd: BorrowedFd<'_>) -> io::Result<()> {
    if let Some(failed) = sockets::take_error(fd)? {
        return Err(failed);
    }
    match sockets::peer_addr(fd) {
        // The kernel connects a socket to itself, if nothing listens at a port that it has chosen
        // as the local port too. RFC 793 calls it a simultaneous open.
        Ok(peer) if sockets::local_addr(fd).is_ok_and(|local| local == peer) => {
            sockets::reset_on_close(fd); // so that the port is free for a listener
            Err(Errno::CONNREFUSED.into())
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotConnected => Err(ErrorKind::WouldBlock.into()),
        Err(error) => Err(error),
    }
}

impl Async<TcpListener> {
    /// Accepts one connection. Returns its stream, which is non-blocking, and its peer.
    ///
    /// The errors `EMFILE` and `ENFILE` leave the connection in the queue of the listener, so a
    /// task that accepts again must pause before. [`Listener`](crate::Listener) does that, and
    /// limits the connections.
    ///
    /// # Errors
    /// The errors of `accept(2)`, which name the call and the fd, for example "accept on fd 7: Too
    /// many open files (os error 24)". [`errno`](crate::errno) finds the errno. Also the errors of
    /// a registration: see [`Async`](Self#errors).
    pub async fn accept(&self) -> io::Result<(Async<TcpStream>, SocketAddr)> {
        let accepted = self.read_with(tcp::accept).await;
        let (stream, peer) = accepted.map_err(|error| self.accept_failed(error))?;
        Ok((Async::new(stream)?, peer))
    }
}

impl Async<UnixListener> {
    /// Accepts one connection. Returns its stream, which is non-blocking.
    ///
    /// The errors `EMFILE` and `ENFILE` leave the connection in the queue of the listener, so a
    /// task that accepts again must pause before.
    ///
    /// # Errors
    /// The errors of `accept(2)`, which name the call and the fd, for example "accept on fd 7: Too
    /// many open files (os error 24)". [`errno`](crate::errno) finds the errno. Also the errors of
    /// a registration: see [`Async`](Self#errors).
    pub async fn accept(&self) -> io::Result<Async<UnixStream>> {
        let accepted = self.read_with(unix::accept).await;
        Async::new(accepted.map_err(|error| self.accept_failed(error))?)
    }
}

impl<L: AsFd> Async<L> {
    #[cold]
    fn accept_failed(&self, error: io::Error) -> io::Error {
        named_on(self.as_fd(), "accept", error)
    }
}
