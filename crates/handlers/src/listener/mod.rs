//! Listeners: sockets that accept connections, and what becomes of those.
//!
//! Ground rule: a listener never spins and never dies of what a peer or a limit does. An error of `accept(2)` that concerns
//! one connection is that connection's; where the process or the system has no room for another, the listener pauses
//! and tries again by itself, later each time up to a second.

mod accepted;
mod acceptor;
mod bind;
mod limit;
mod options;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::panic::Location;
use std::time::Duration;

use reactor::{Context, Key, Registry};

pub use self::accepted::{Accepted, Peer};
pub use self::bind::Address;
use self::bind::Socket;
pub use self::limit::{ConnectionLimit, Permit};
pub use self::options::ListenOptions;
use crate::connection::{self, ConnectionHandler, ConnectionOptions};

/// A listening socket, to be put on a loop.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    options: ListenOptions,
}

impl Listener {
    /// Where it listens; with the port that the kernel has chosen, if it was asked to.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_address(&self) -> io::Result<Address> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Socket::Unix(socket) => {
                bind::unix_address(&socket.listener.local_addr()?).ok_or_else(|| ErrorKind::AddrNotAvailable.into())
            }
        }
    }

    /// Accepts connections and opens each with the handler that `handler` makes for it.
    ///
    /// An error of `handler` drops that connection, and no other. The listener keeps [`Reactor::run`](reactor::Reactor::run)
    /// alive until it is [stopped](ServerKey::stop).
    ///
    /// To accept nobody for a while, set the interest of its [key](ServerKey::key) to
    /// [`Interest::NONE`](reactor::Interest::NONE); whoever connects waits in the kernel until it is
    /// [`Interest::READABLE`](reactor::Interest::READABLE) again. Nothing else ends that pause: neither a connection that leaves
    /// room below the [limit](ListenOptions::limit) nor file descriptors that are free again.
    ///
    /// # Errors
    /// As [`Registry::add`].
    ///
    /// ```no_run
    /// use handlers::{ConnectionOptions, ListenOptions, on_data};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let listener = ListenOptions::new().bind(&"127.0.0.1:7777".parse().unwrap())?;
    /// listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
    ///     Ok(on_data(|data, connection, _cx| {
    ///         let _ = connection.write(data)?;
    ///         Ok(data.len())
    ///     }))
    /// })?;
    /// reactor.run(&mut ())?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn serve<S, H>(
        self,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        mut handler: impl FnMut(&Peer, &mut Context<'_, S>) -> io::Result<H> + 'static,
    ) -> io::Result<ServerKey<S>>
    where
        H: ConnectionHandler<S>,
    {
        let stop = match &self.socket {
            Socket::Tcp(_) => connection::close_accepted::<S, TcpStream, H>,
            Socket::Unix(..) => connection::close_accepted::<S, UnixStream, H>,
        };
        let (options, origin) = (options.clone(), Location::caller());
        let key = self.accept(registry, move |accepted, cx| {
            let handler = handler(accepted.peer(), cx)?;
            let listener = cx.key();
            if !cx.registry.contains(listener) {
                return Ok(()); // it was stopped just now, and so is this connection
            }
            let connection = accepted.open_for(listener, cx, &options, handler)?;
            Ok(cx.registry.set_origin(connection.key(), origin)?)
        })?;
        Ok(ServerKey { key, stop })
    }

    /// Accepts connections and hands each to `accept`: to open it, on this loop or [another](Accepted), or to refuse it by
    /// dropping it. An error drops that connection, and no other. Paused as one that [serves](Self::serve).
    ///
    /// # Errors
    /// As [`Registry::add`].
    #[track_caller]
    pub fn accept<S>(
        self,
        registry: &mut Registry<S>,
        accept: impl FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()> + 'static,
    ) -> io::Result<Key> {
        acceptor::add(self.socket, self.options, registry, accept)
    }
}

/// The name of a listener that [serves](Listener::serve).
pub struct ServerKey<S> {
    key: Key,
    stop: fn(&mut Context<'_, S>, Key, Duration),
}

impl<S> ServerKey<S> {
    /// The key of its registration.
    pub const fn key(self) -> Key {
        self.key
    }

    /// Accepts no more, and closes each connection that it has accepted, once its handler has been given what has come and
    /// what that has answered [has been sent](crate::Connection::finish), within `grace`. Once they have ended, nothing of it
    /// keeps [`Reactor::run`](reactor::Reactor::run) alive. O(registrations).
    ///
    /// An answer that is made elsewhere, by a worker or by another connection, is waited for if it was
    /// [announced](crate::Connection::answer_later). To let connections go on as they like, and only accept no more,
    /// [remove](Registry::remove) the listener by its [key](Self::key): they can still be stopped by this one.
    pub fn stop(self, cx: &mut Context<'_, S>, grace: Duration) {
        let _ = cx.registry.remove(self.key); // it may be gone: its connections are not
        (self.stop)(cx, self.key, grace);
    }
}

impl<S> Clone for ServerKey<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for ServerKey<S> {}

impl<S> fmt::Debug for ServerKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerKey({})", self.key)
    }
}
