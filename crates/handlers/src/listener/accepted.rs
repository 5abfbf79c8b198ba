//! Accepted connections that are not on any loop yet.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::panic::Location;
use std::sync::Arc;

use reactor::Registry;

use super::unix::UnixSocket;
use crate::connection::{
    self, ConnectionHandler, ConnectionKey, ConnectionOptions, OpenedBy, Stream,
};
use crate::limit::Permit;
#[cfg(feature = "proxy-protocol")]
use crate::proxy_protocol::{Addresses, Header};
use crate::server::Server;
#[cfg(feature = "unix")]
use crate::sockets;
use crate::sockets::{Family, SocketStream, plain, tcp, unix};

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

/// A connection that was accepted and is not opened yet. It is `Send`, so you can
/// [post](reactor::Remote::post) it to the loop that opens it. To refuse the connection, drop it.
///
/// ```
/// use std::io;
/// use handlers::{ConnectionOptions, Listener, ServerKey, on_data};
/// use reactor::{LoopPool, Registry};
///
/// fn spread(
///     listener: Listener,
///     registry: &mut Registry<()>,
///     pool: LoopPool<()>,
/// ) -> io::Result<ServerKey<()>> {
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
///
/// # Opening as another stream
/// [`map`](Self::map) makes a stream of your own of the accepted socket, for example a TLS stream.
/// You can open the result at once, or later, for example when a worker has fetched a certificate.
/// Until then, and while the connection is open, it counts for the
/// [limit](crate::ListenOptions::limit) of the listener.
/// [`ServerKey::stop`](crate::ServerKey::stop) closes it like any other connection of the server.
/// If the server has stopped before `open` is called, the connection is closed gracefully in what
/// is left of the grace period.
#[derive(Debug)]
pub struct Accepted<T = SocketStream> {
    stream: T,
    origin: Origin,
    permit: Option<Permit>,
    server: Arc<Server>,
}

/// The peer of an accepted connection, and the client that it is a proxy for.
#[derive(Debug)]
struct Origin {
    /// The peer of the socket.
    peer: Peer,
    #[cfg(feature = "proxy-protocol")]
    proxied: Option<Box<Proxied>>,
}

/// The client of a proxy, as its header says.
#[cfg(feature = "proxy-protocol")]
#[derive(Debug)]
struct Proxied {
    client: Peer,
    header: Header,
}

impl Origin {
    const fn new(peer: Peer) -> Self {
        Self {
            peer,
            #[cfg(feature = "proxy-protocol")]
            proxied: None,
        }
    }

    /// Returns the client.
    const fn client(&self) -> &Peer {
        #[cfg(feature = "proxy-protocol")]
        if let Some(proxied) = &self.proxied {
            return &proxied.client;
        }
        &self.peer
    }
}

impl Accepted {
    pub(super) fn new(
        (stream, peer): (SocketStream, Peer),
        permit: Option<Permit>,
        server: Arc<Server>,
    ) -> Self {
        Self {
            stream,
            origin: Origin::new(peer),
            permit,
            server,
        }
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
        self.open_from(Location::caller(), registry, options, handler)
    }

    /// Opens the connection as [`open`](Self::open) does. Logs and lists show `line` for it.
    pub(super) fn open_from<S, H>(
        self,
        line: &'static Location<'static>,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        handler: H,
    ) -> io::Result<ConnectionKey<S>>
    where
        H: ConnectionHandler<S>,
    {
        let (stream, accepted) = self.replace_stream(());
        match stream {
            SocketStream::Tcp(stream) => accepted
                .replace_stream(stream)
                .1
                .open_from(line, registry, options, handler),
            SocketStream::Unix(stream) => accepted
                .replace_stream(stream)
                .1
                .open_from(line, registry, options, handler),
        }
    }
}

impl<T> Accepted<T> {
    /// Returns the peer's address. At a listener that expects a PROXY header, this is the address
    /// of the client.
    pub const fn peer(&self) -> &Peer {
        self.origin.client()
    }

    /// Makes another stream of the accepted one. Permit, peer and server stay the same.
    ///
    /// ```
    /// use std::io;
    /// use handlers::{Connection, ConnectionOptions, Listener, ServerKey, Stream, on_data};
    /// use reactor::Registry;
    ///
    /// /// Serves connections whose bytes pass through a layer of your own.
    /// fn serve_layered<L: Stream>(
    ///     listener: Listener,
    ///     registry: &mut Registry<()>,
    ///     layer: impl Fn(std::net::TcpStream) -> io::Result<L> + 'static,
    /// ) -> io::Result<ServerKey<()>> {
    ///     listener.accept(registry, move |accepted, cx| {
    ///         let echo = on_data(|data, connection: &mut Connection<'_, ()>, _cx| {
    ///             connection.write(data).map(|_flow| data.len())
    ///         });
    ///         let layered = accepted.map(|stream| layer(stream.into_tcp()?))?;
    ///         layered.open(cx.registry, &ConnectionOptions::new(), echo)?;
    ///         Ok(())
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    /// The error of `make`. The connection is dropped then.
    pub fn map<U>(self, make: impl FnOnce(T) -> io::Result<U>) -> io::Result<Accepted<U>> {
        let (stream, accepted) = self.replace_stream(());
        Ok(accepted.replace_stream(make(stream)?).1)
    }

    /// Returns the stream, and everything else with `stream`.
    pub(super) fn replace_stream<U>(self, stream: U) -> (T, Accepted<U>) {
        let Self {
            stream: old,
            origin,
            permit,
            server,
        } = self;
        let new = Accepted {
            stream,
            origin,
            permit,
            server,
        };
        (old, new)
    }
}

#[cfg(feature = "unix")]
impl<T: AsFd> Accepted<T> {
    /// Returns the process, the user and the group that have connected to a Unix socket.
    /// [`PeerCredentials`](crate::PeerCredentials) describes the time at which they are recorded,
    /// and has an example.
    ///
    /// # Cost
    /// Two system calls.
    ///
    /// # Errors
    /// - `InvalidInput` if the stream is a socket of another family, such as a TCP socket.
    /// - `ENOTSOCK` if the stream is not a socket.
    #[doc(alias("SO_PEERCRED", "getpeereid"))]
    pub fn peer_credentials(&self) -> io::Result<sockets::PeerCredentials> {
        sockets::credentials::peer_credentials(self.stream.as_fd())
    }
}

#[cfg(feature = "proxy-protocol")]
impl<T> Accepted<T> {
    /// Returns the peer of the socket. At a listener that expects a [PROXY
    /// header](crate::ListenOptions::proxy_protocol), this is the address of the proxy.
    pub const fn socket_peer(&self) -> &Peer {
        &self.origin.peer
    }

    /// Returns the PROXY header that the connection began with. It has, for example, the address
    /// that the client has connected to, and the host name that it has asked for. Returns `None` if
    /// the listener [expects no header](crate::ListenOptions::proxy_protocol).
    ///
    /// ```
    /// use std::io;
    /// use handlers::proxy_protocol::TlvType;
    /// use handlers::{ConnectionOptions, Listener, ServerKey, on_data};
    /// use reactor::Registry;
    ///
    /// fn serve_by_name(
    ///     listener: Listener,
    ///     registry: &mut Registry<()>,
    /// ) -> io::Result<ServerKey<()>> {
    ///     listener.accept(registry, |accepted, cx| {
    ///         let header = accepted.proxy_header();
    ///         let name = header.and_then(|header| header.tlv(TlvType::AUTHORITY));
    ///         if name != Some(b"example.org") {
    ///             return Ok(()); // refuses the connection
    ///         }
    ///         let discard = on_data(|data, _connection, _cx| Ok(data.len()));
    ///         accepted.open(cx.registry, &ConnectionOptions::new(), discard)?;
    ///         Ok(())
    ///     })
    /// }
    /// ```
    pub fn proxy_header(&self) -> Option<&Header> {
        let proxied = self.origin.proxied.as_ref()?;
        Some(&proxied.header)
    }

    /// Returns the connection as that of the client that the header names.
    pub(super) fn with_header(mut self, header: Header) -> Self {
        let client = match header.addresses() {
            Addresses::Internet { source, .. } => Peer::Tcp(plain(*source)),
            Addresses::Unix { .. } => Peer::Unix,
            Addresses::Local | Addresses::Unknown => self.origin.peer.clone(),
        };
        self.origin.proxied = Some(Box::new(Proxied { client, header }));
        self
    }
}

impl<T: Stream> Accepted<T> {
    /// Opens the connection on the loop of `registry`, as a connection on the stream that
    /// [`map`](Self::map) has made. The handler's [`on_open`](ConnectionHandler::on_open) runs
    /// after `open` has returned, with the [deferred callbacks](Registry::defer).
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
        self.open_from(Location::caller(), registry, options, handler)
    }

    /// Opens the connection as [`open`](Self::open) does. Logs and lists show `line` for it.
    pub(super) fn open_from<S, H>(
        self,
        line: &'static Location<'static>,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        handler: H,
    ) -> io::Result<ConnectionKey<S>>
    where
        H: ConnectionHandler<S>,
    {
        let Self {
            stream,
            origin,
            permit,
            server,
        } = self;
        let family = match origin.peer {
            Peer::Tcp(_) => Family::Internet,
            Peer::Unix => Family::Unix,
        };
        options.set_on_accepted(stream.as_fd(), family)?;
        let by = OpenedBy {
            line,
            server: Some(server),
            permit,
        };
        Ok(connection::open_by(registry, stream, options, handler, by)?)
    }
}

/// A socket that connections are accepted from.
pub(super) trait Listen: AsFd + 'static {
    fn accept(&self) -> io::Result<(SocketStream, Peer)>;
}

impl Listen for TcpListener {
    fn accept(&self) -> io::Result<(SocketStream, Peer)> {
        tcp::accept(self).map(|(stream, peer)| (SocketStream::Tcp(stream), Peer::Tcp(plain(peer))))
    }
}

impl Listen for UnixSocket {
    fn accept(&self) -> io::Result<(SocketStream, Peer)> {
        unix::accept(&self.listener).map(|stream| (SocketStream::Unix(stream), Peer::Unix))
    }
}
