//! Listeners: sockets that accept connections.
//!
//! Ground rule: a listener never spins, and never ends because of a peer or a limit. An error of
//! `accept(2)` that concerns one connection affects only that connection. If the process or the
//! system has no resources for another connection, the listener pauses, and later tries again by
//! itself. The pause grows up to a second.

mod accepted;
mod acceptor;
mod admission;
mod bind;
mod on_end;
mod options;
#[cfg(feature = "proxy-protocol")]
mod preamble;
mod reports;
mod server;
mod server_key;
mod stopping;
mod unix;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use reactor::{Context, Registry};

pub use self::accepted::{Accepted, Peer};
pub use self::admission::WhenFull;
use self::bind::Socket;
pub use self::on_end::on_listener_end;
pub use self::options::ListenOptions;
pub use self::server_key::ServerKey;
use crate::sockets::{self, Address};

/// A listening socket that is not registered on a loop yet. [`ListenOptions::bind`] makes one. To
/// register it on a loop, call [`serve`](Self::serve) or [`accept`](Self::accept).
///
/// With [`AsFd`] you can set or read all options of the socket, even the options that
/// [`ListenOptions`] does not have:
///
/// ```
/// use handlers::ListenOptions;
/// use socket2::SockRef;
///
/// # fn main() -> std::io::Result<()> {
/// let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
/// SockRef::from(&listener).set_recv_buffer_size(64 * 1024)?; // inherited by accepted sockets
/// # Ok(())
/// # }
/// ```
#[doc(alias("evconnlistener", "AsyncServerSocket", "TcpListener"))]
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    options: ListenOptions,
}

impl Listener {
    /// Returns the local address. If port 0 was requested, the address has the port that the kernel
    /// has chosen.
    ///
    /// # Errors
    /// - The errors of `getsockname(2)`.
    /// - `AddrNotAvailable` if a Unix socket has neither a path nor a name.
    ///
    /// ```
    /// use handlers::{Address, ListenOptions};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
    /// let Address::Tcp(address) = listener.local_addr()? else { unreachable!() };
    /// assert_ne!(address.port(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn local_addr(&self) -> io::Result<Address> {
        match &self.socket {
            Socket::Tcp(listener) => sockets::local_addr(listener.as_fd()).map(Address::Tcp),
            Socket::Unix(socket) => Address::of_unix(&sockets::unix::local_addr(&socket.listener)?)
                .ok_or_else(|| ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// Accepts connections, and passes each connection to the callback `accept`. The callback opens
    /// the connection on this loop or on [another loop](Accepted), or drops the connection to
    /// refuse it. If the callback returns an error, only this connection is dropped. The error is
    /// logged at WARN, at most once a minute.
    ///
    /// The returned key [stops](ServerKey::stop) the listener and the connections that `accept` has
    /// opened. To stop accepting only, [remove](Registry::remove) the listener by
    /// [its key](ServerKey::key). [`serve`](Self::serve) describes how to pause the listener, and
    /// how it ends by itself.
    ///
    /// With the feature `request-context`, `accept` runs in the context of the listener, and a
    /// connection that it opens inherits this context. To give the connection its own, open it in a
    /// `RequestContext::scope`.
    ///
    /// # Errors
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop. A listener
    ///   with a [connection limit](ListenOptions::limit) takes two registrations.
    /// - [`Error::Os`](reactor::Error::Os) or
    ///   [`Error::AlreadyRegistered`](reactor::Error::AlreadyRegistered) if the loop cannot watch
    ///   the socket: see [`Registry::add`].
    /// - [`Error::Loop`](reactor::Error::Loop) if a listener with a connection limit cannot get the
    ///   `eventfd` of the loop.
    #[track_caller]
    pub fn accept<S>(
        self,
        registry: &mut Registry<S>,
        accept: impl FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()> + 'static,
    ) -> io::Result<ServerKey<S>> {
        self.serve_by(registry, None, accept)
    }
}

/// Borrows the listening socket. Use it to set or read socket options. Do not accept connections
/// from it directly, because the limits and the metrics do not see those connections.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
