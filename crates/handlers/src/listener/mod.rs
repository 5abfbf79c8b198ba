//! Listeners: sockets that accept connections, and what becomes of those.
//!
//! Ground rule: a listener never spins and never dies of what a peer or a limit does. An error of `accept(2)` that concerns
//! one connection is that connection's; where the process or the system has no room for another, the listener pauses
//! and tries again by itself, later each time up to a second.

mod accepted;
mod acceptor;
mod bind;
mod ends;
#[cfg(feature = "inherited")]
mod inherited;

mod options;
mod stops;
mod unix;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::panic::Location;
use std::time::Duration;

use reactor::{Context, Key, Registry};

pub use self::accepted::{Accepted, Peer};
use self::bind::Socket;
pub use self::bind::{Address, AddressError};
pub use self::ends::on_listener_end;

pub use self::options::ListenOptions;
use crate::connection::{self, ConnectionHandler, ConnectionOptions, Finish};

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
    /// A listener whose socket stops listening ends with [`Closed::Failed`](reactor::Closed::Failed), and its end is logged as an error;
    /// [`on_listener_end`] calls a callback then. A daemon that cannot do without it ends with it, and `run` says why, after
    /// [`Registry::set_essential`] of its key.
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
        let is_tcp = matches!(self.socket, Socket::Tcp(_));
        let finish_all = if is_tcp {
            connection::finish_accepted::<S, TcpStream, H>
        } else {
            connection::finish_accepted::<S, UnixStream, H>
        };
        let (options, origin) = (options.clone(), Location::caller());
        let key = self.accept(registry, move |accepted, cx| {
            let handler = handler(accepted.peer(), cx)?;
            let listener = cx.key();
            if !cx.registry.contains(listener) {
                return Ok(()); // it was stopped just now, and so is this connection
            }
            let connection = accepted.open_for(origin, listener, cx, &options, handler)?.key();
            if let Some(grace) = stops::grace_left(cx.registry, listener) {
                let finish = Finish { grace, reads: true };
                if is_tcp {
                    connection::finish_one::<S, TcpStream, H>(cx.registry, connection, listener, finish);
                } else {
                    connection::finish_one::<S, UnixStream, H>(cx.registry, connection, listener, finish);
                }
            }
            Ok(())
        })?;
        Ok(ServerKey { key, finish_all })
    }

    /// Accepts connections and hands each to `accept`: to open it, on this loop or [another](Accepted), or to refuse it by
    /// dropping it. An error drops that connection, and no other. Paused, and ended by itself, as one that
    /// [serves](Self::serve).
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
    finish_all: fn(&mut Context<'_, S>, Key, Finish),
}

impl<S> ServerKey<S> {
    /// The key of its registration.
    pub const fn key(self) -> Key {
        self.key
    }

    /// Stops the server: answers what it has been asked, within `grace`, and lets nobody else in. Once its connections have ended,
    /// nothing of it keeps [`Reactor::run`](reactor::Reactor::run) alive. O(registrations).
    ///
    /// Each connection is closed once its handler has been told, by [`on_finish`](ConnectionHandler::on_finish), has been given
    /// what has come, and the answers have been [sent](crate::Connection::finish). An answer that is made elsewhere, by a worker or by
    /// another connection, is waited for if it was [announced](crate::Connection::answer_later).
    ///
    /// Clients that wait in the kernel's queue have connected, and may have asked: they are accepted, also where the listener is
    /// paused, and treated alike. Where a [limit](ListenOptions::limit) or the want of descriptors keeps them out they are let
    /// in as others end. The listener is closed when that queue is empty, next turn as a rule, or when `grace` is over: whoever is
    /// still in it is reset, as with a `grace` of zero at once.
    ///
    /// To let connections go on as they like, and only accept no more, [remove](Registry::remove) the listener by its
    /// [key](Self::key): they can still be stopped by this one.
    pub fn stop(self, cx: &mut Context<'_, S>, grace: Duration) {
        (self.finish_all)(cx, self.key, Finish { grace, reads: true });
        stops::begin(cx.registry, self.key, grace);
    }

    /// Stops the server without reading what clients have sent: for one that acknowledges what it takes on, and has enough.
    ///
    /// The listener is closed at once. Each connection reads nothing more; its handler is told by
    /// [`on_finish`](ConnectionHandler::on_finish), and what it has queued then, and what it has
    /// [announced](crate::Connection::answer_later), is sent within `grace`. A handler that resumes reading reads on, as a
    /// [`Relay`](crate::Relay) does. O(registrations).
    pub fn stop_without_reading(self, cx: &mut Context<'_, S>, grace: Duration) {
        let _ = cx.registry.remove(self.key); // it may be gone: its connections are not
        (self.finish_all)(cx, self.key, Finish { grace, reads: false });
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
