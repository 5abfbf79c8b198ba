//! Servers: a listener that opens each connection with a handler of its own, and the key that stops
//! both.

use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::Duration;

use reactor::{Context, Error, Key, Registry};

use super::bind::Socket;
use super::{Listener, Peer, stopping};
use crate::connection::{self, ConnectionHandler, ConnectionOptions, GracefulClose};

/// The servers of a loop, each with the options of the connections that it will accept. Entries of
/// ended listeners are removed when the next server starts.
#[derive(Default)]
struct Servers(Vec<(Key, Weak<RefCell<ConnectionOptions>>)>);

impl Listener {
    /// Accepts connections and opens each with the handler that `handler` returns. An error of
    /// `handler` drops that connection and no other. It is logged as a warning, at most once a
    /// minute.
    ///
    /// The listener keeps [`Reactor::run`](reactor::Reactor::run) alive until it is
    /// [stopped](ServerKey::stop). If its socket stops listening, the listener ends with
    /// [`CloseReason::Failed`](reactor::CloseReason::Failed) and the end is logged as an error.
    /// [`on_listener_end`](crate::on_listener_end) registers a callback for that. If a daemon
    /// should end with its listener, call [`Registry::set_essential`] with the listener's key;
    /// `run` then returns the error.
    ///
    /// To pause accepting, set the interest of the [key](ServerKey::key) to
    /// [`Interest::NONE`](reactor::Interest::NONE). New clients wait in the kernel's accept queue
    /// until it is [`Interest::READABLE`](reactor::Interest::READABLE) again. Nothing else ends
    /// that pause: neither a connection that leaves room below the
    /// [limit](crate::ListenOptions::limit) nor file descriptors that become free.
    ///
    /// # Errors
    /// - [`Error::Full`] at the registration limit of the loop. A listener with a limit takes two
    ///   registrations.
    /// - [`Error::Os`] or [`Error::AlreadyRegistered`] if epoll refuses the socket; see
    ///   [`Registry::add`].
    /// - [`Error::Loop`] if a listener with a limit cannot get the `eventfd` of the loop.
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
    #[doc(alias("evconnlistener_new", "uv_listen"))]
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
        let close_all = if is_tcp {
            connection::close_accepted::<S, TcpStream, H>
        } else {
            connection::close_accepted::<S, UnixStream, H>
        };
        let pause_all = if is_tcp {
            connection::pause_accepted::<S, TcpStream, H>
        } else {
            connection::pause_accepted::<S, UnixStream, H>
        };
        let (options, origin) = (Rc::new(RefCell::new(options.clone())), Location::caller());
        let shared = Rc::downgrade(&options);
        let key = self.accept(registry, move |accepted, cx| {
            let handler = handler(accepted.peer(), cx)?;
            let listener = cx.key();
            if !cx.registry.contains(listener) {
                // `handler` has stopped the server, so this connection is dropped too.
                return Ok(());
            }
            let connection = accepted
                .open_for(origin, listener, cx.registry, &options.borrow(), handler)?
                .key();
            if let Some(grace) = stopping::grace_left(cx.registry, listener) {
                let how = GracefulClose { grace, reads: true };
                if is_tcp {
                    connection::close_if_accepted_by::<S, TcpStream, H>(
                        cx.registry,
                        connection,
                        listener,
                        how,
                    );
                } else {
                    connection::close_if_accepted_by::<S, UnixStream, H>(
                        cx.registry,
                        connection,
                        listener,
                        how,
                    );
                }
            }
            Ok(())
        })?;
        let servers = &mut registry.local::<Servers>().0;
        servers.retain(|(_, options)| options.strong_count() > 0);
        servers.push((key, shared));
        Ok(ServerKey {
            key,
            close_all,
            pause_all,
        })
    }
}

/// Identifies a listener that [serves](Listener::serve), and the connections that it has accepted.
/// It is `Copy`, and checked at each use like a [`Key`].
pub struct ServerKey<S> {
    key: Key,
    /// Gracefully closes all connections that the listener has accepted.
    close_all: fn(&mut Registry<S>, Key, GracefulClose),
    /// Pauses reading on all of them.
    pause_all: fn(&mut Context<'_, S>, Key),
}

impl<S> ServerKey<S> {
    /// Returns the key of the listener's registration.
    pub const fn key(self) -> Key {
        self.key
    }

    /// Stops the server gracefully: accepts no new clients, and answers the requests that clients
    /// have already sent, within `grace`. Once its connections have ended, the server no longer
    /// keeps [`Reactor::run`](reactor::Reactor::run) alive. No callback runs before this returns.
    ///
    /// Each connection is closed in this order:
    /// - Its handler is notified by [`on_graceful_close`](ConnectionHandler::on_graceful_close).
    /// - The handler is called with the data that has arrived.
    /// - The responses are [sent](crate::Connection::close_gracefully). A response that is made
    ///   elsewhere, by a worker or by another connection, is waited for only if it was
    ///   [announced](crate::Connection::begin_response).
    ///
    /// Clients in the kernel's accept queue have connected and may have sent a request. They are
    /// accepted, even if the listener is paused, and treated alike. If a
    /// [limit](crate::ListenOptions::limit) or a lack of descriptors keeps them out, they are
    /// accepted as other connections end. The listener is closed when the queue is empty, usually
    /// next turn, or when `grace` is over. Clients that are still in the queue then are reset. With
    /// a `grace` of zero they are reset at once.
    ///
    /// To accept no more and leave the open connections alone, [remove](Registry::remove) the
    /// listener by its [key](Self::key). You can still stop its connections later by calling
    /// `stop`, also after the listener has ended.
    ///
    /// # Cost
    /// O(registrations).
    ///
    /// ```
    /// use std::time::Duration;
    /// use handlers::{ConnectionOptions, ListenOptions, on_data};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
    /// let server = listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
    ///     Ok(on_data(|data, _connection, _cx| Ok(data.len())))
    /// })?;
    /// server.stop(&mut reactor, Duration::from_secs(5));
    /// reactor.run(&mut ())?; // returns once the listener and its connections have ended
    /// # Ok(())
    /// # }
    /// ```
    pub fn stop(self, registry: &mut Registry<S>, grace: Duration) {
        (self.close_all)(registry, self.key, GracefulClose { grace, reads: true });
        stopping::begin(registry, self.key, grace);
    }

    /// Sets the options of the connections that will be accepted, including those that wait in the
    /// kernel's accept queue. Open connections keep their options: use
    /// [`Connection::set_options`](crate::Connection::set_options) to change those of one
    /// connection.
    ///
    /// # Cost
    /// O(servers of the loop).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the listener has ended.
    ///
    /// ```
    /// use std::time::Duration;
    /// use handlers::{ConnectionOptions, ListenOptions, on_data};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let options = ConnectionOptions::new();
    /// let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
    /// let server = listener.serve(&mut reactor, &options, |_peer, _cx| {
    ///     Ok(on_data(|data, _connection, _cx| Ok(data.len())))
    /// })?;
    /// // The configuration was read again:
    /// server.set_options(&mut reactor, &options.idle_timeout(Duration::from_secs(10)))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_options(
        self,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
    ) -> Result<(), Error> {
        let listens = registry.contains(self.key);
        let servers = registry.local::<Servers>().0.iter();
        let shared = servers
            .filter(|(key, _)| listens && *key == self.key)
            .find_map(|(_, options)| options.upgrade());
        shared
            .ok_or(Error::StaleKey(self.key))?
            .replace(options.clone());
        Ok(())
    }

    /// Stops the server without reading further input. Use it for a server that acknowledges the
    /// work it accepts and takes on no more. No callback runs before this returns.
    ///
    /// The listener is closed at once. Each connection stops reading, and its handler is notified
    /// by [`on_graceful_close`](ConnectionHandler::on_graceful_close). The connection then sends
    /// its queued data and its [announced](crate::Connection::begin_response) responses within
    /// `grace`. If a handler resumes reading, as a [`Relay`](crate::Relay) does, its connection
    /// reads on.
    ///
    /// Unlike [`stop`](Self::stop) this takes the [`Context`], since it accesses each connection at
    /// once.
    ///
    /// # Cost
    /// O(registrations).
    pub fn stop_without_reading(self, cx: &mut Context<'_, S>, grace: Duration) {
        // The listener may have ended; its connections have not.
        let _ = cx.registry.remove(self.key);
        (self.pause_all)(cx, self.key);
        (self.close_all)(
            cx.registry,
            self.key,
            GracefulClose {
                grace,
                reads: false,
            },
        );
    }
}

impl<S> Clone for ServerKey<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for ServerKey<S> {}

impl<S> PartialEq for ServerKey<S> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<S> Eq for ServerKey<S> {}

impl<S> Hash for ServerKey<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// Formats the [`Key`] of the listener.
impl<S> fmt::Display for ServerKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl<S> fmt::Debug for ServerKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerKey({})", self.key)
    }
}
