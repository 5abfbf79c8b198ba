//! Accepted connections that are not on any loop yet.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::Location;

use reactor::{Key, Registry};

use super::unix::UnixSocket;
use crate::connection::{self, ConnectionHandler, ConnectionKey, ConnectionOptions, OpenedBy};
use crate::limit::Permit;
use crate::sockets::{Family, plain, tcp, unix};

/// The peer of an accepted connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Peer {
    /// A TCP peer at this address. An IPv4 address is always in *plain form* (`192.0.2.1`), so you
    /// can compare it with the addresses of an allow list. At a listener with an IPv6 address such
    /// as `[::]`, the kernel reports IPv4 peers as `::ffff:192.0.2.1`, and this crate converts the
    /// address.
    Tcp(SocketAddr),
    /// A peer on a Unix socket. Such a peer hardly ever has an address of its own.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

#[derive(Debug)]
pub(super) enum AcceptedStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection that was accepted and is not opened yet. It is `Send`, so you can
/// [post](reactor::Remote::post) it to the loop that opens it. To refuse the connection, drop it.
///
/// ```
/// use std::io;
/// use handlers::{ConnectionOptions, Listener, on_data};
/// use reactor::{Key, LoopPool, Registry};
///
/// fn spread(
///     listener: Listener,
///     registry: &mut Registry<()>,
///     pool: LoopPool<()>,
/// ) -> io::Result<Key> {
///     listener.accept(registry, move |accepted, _cx| {
///         let to = pool.round_robin().ok_or_else(|| io::Error::other("an empty pool"))?;
///         let posted = to.post(move |cx| {
///             let echo = on_data(|data, connection, _cx| {
///                 let _flow = connection.write(data)?;
///                 Ok(data.len())
///             });
///             if let Err(error) = accepted.open(cx.registry, &ConnectionOptions::new(), echo) {
///                 eprintln!("a connection is dropped: {error}");
///             }
///         });
///         Ok(posted?)
///     })
/// }
/// ```
#[derive(Debug)]
pub struct Accepted {
    stream: AcceptedStream,
    peer: Peer,
    permit: Option<Permit>,
}

impl Accepted {
    pub(super) fn new((stream, peer): (AcceptedStream, Peer), permit: Option<Permit>) -> Self {
        Self {
            stream,
            peer,
            permit,
        }
    }

    /// Returns the peer's address.
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Opens the connection on the loop of `registry`. The handler's
    /// [`on_open`](ConnectionHandler::on_open) runs after `open` has returned, with the [deferred
    /// callbacks](Registry::defer).
    ///
    /// # Errors
    /// If one of these errors is returned, the connection is dropped:
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop.
    /// - [`Error::AlreadyRegistered`](reactor::Error::AlreadyRegistered) or
    ///   [`Error::Os`](reactor::Error::Os) if the loop cannot watch the socket: see
    ///   [`Registry::add`](reactor::Registry::add).
    /// - The errors of `setsockopt(2)` for the [options of the
    ///   socket](ConnectionOptions#options-of-the-socket), and an error of
    ///   [`prepare`](ConnectionOptions::prepare).
    #[track_caller]
    pub fn open<S, H>(
        self,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        handler: H,
    ) -> io::Result<ConnectionKey<S>>
    where
        H: ConnectionHandler<S>,
    {
        self.open_for(Location::caller(), Key::NULL, registry, options, handler)
    }

    /// Opens the connection for a listener that closes its accepted connections when it is stopped.
    pub(super) fn open_for<S, H>(
        self,
        line: &'static Location<'static>,
        listener: Key,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        handler: H,
    ) -> io::Result<ConnectionKey<S>>
    where
        H: ConnectionHandler<S>,
    {
        let Self { stream, permit, .. } = self;
        let by = OpenedBy {
            line,
            listener,
            permit,
        };
        Ok(match stream {
            AcceptedStream::Tcp(stream) => {
                options.set_on_accepted(stream.as_fd(), Family::Internet)?;
                connection::open_by(registry, stream, options, handler, by)?
            }
            AcceptedStream::Unix(stream) => {
                options.set_on_accepted(stream.as_fd(), Family::Unix)?;
                connection::open_by(registry, stream, options, handler, by)?
            }
        })
    }
}

/// A socket that connections are accepted from.
pub(super) trait Listen: AsFd + 'static {
    fn accept(&self) -> io::Result<(AcceptedStream, Peer)>;
}

impl Listen for TcpListener {
    fn accept(&self) -> io::Result<(AcceptedStream, Peer)> {
        tcp::accept(self)
            .map(|(stream, peer)| (AcceptedStream::Tcp(stream), Peer::Tcp(plain(peer))))
    }
}

impl Listen for UnixSocket {
    fn accept(&self) -> io::Result<(AcceptedStream, Peer)> {
        unix::accept(&self.listener).map(|stream| (AcceptedStream::Unix(stream), Peer::Unix))
    }
}
