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

/// The servers of a loop, each with the options for the connections that it will accept. When a
/// server starts, the entries of ended listeners are removed.
#[derive(Default)]
struct Servers(Vec<(Key, Weak<RefCell<ConnectionOptions>>)>);

impl Listener {
    /// Accepts connections, and opens each connection with the handler that the closure `handler`
    /// returns. If `handler` returns an error, only this connection is dropped. The error is logged
    /// at WARN, at most once a minute.
    ///
    /// The listener keeps [`Reactor::run`](reactor::Reactor::run) alive until it is
    /// [stopped](ServerKey::stop). If its socket stops listening, the listener ends with
    /// [`CloseReason::Failed`](reactor::CloseReason::Failed), and the end is logged as an error. To
    /// be notified of the end, use [`on_listener_end`](crate::on_listener_end). If your daemon must
    /// end when its listener ends, call [`Registry::set_essential`] with the listener's key: `run`
    /// then returns the error.
    ///
    /// To pause accepting, set the interest of the [key](ServerKey::key) to
    /// [`Interest::NONE`](reactor::Interest::NONE). New clients wait in the kernel's accept queue
    /// until you set [`Interest::READABLE`](reactor::Interest::READABLE) again. The listener never
    /// ends this pause by itself, even if connections end and the
    /// [limit](crate::ListenOptions::limit) or the file descriptors allow new ones.
    ///
    /// # Errors
    /// - [`Error::Full`] at the registration limit of the loop. A listener with a connection limit
    ///   takes two registrations.
    /// - [`Error::Os`] or [`Error::AlreadyRegistered`] if the loop cannot watch the socket: see
    ///   [`Registry::add`].
    /// - [`Error::Loop`] if a listener with a connection limit cannot get the `eventfd` of the
    ///   loop.
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

/// Identifies a listener that [`Listener::serve`] has started, together with the connections that
/// the listener has accepted. The key is `Copy`. Like a [`Key`], it is checked at each use, so it
/// never refers to another listener.
pub struct ServerKey<S> {
    key: Key,
    /// Gracefully closes all connections that the listener has accepted.
    close_all: fn(&mut Registry<S>, Key, GracefulClose),
    /// Pauses reading on all connections that the listener has accepted.
    pause_all: fn(&mut Context<'_, S>, Key),
}

impl<S> ServerKey<S> {
    /// Returns the key of the listener's registration.
    pub const fn key(self) -> Key {
        self.key
    }

    /// Stops the server gracefully within `grace`: it accepts no new clients, and answers the
    /// requests that clients have already sent. The server keeps
    /// [`Reactor::run`](reactor::Reactor::run) alive until its connections have ended. No callback
    /// runs before this method returns.
    ///
    /// Each connection is [closed gracefully](crate::Connection::close_gracefully), in this order:
    /// - Its handler is notified by [`on_graceful_close`](ConnectionHandler::on_graceful_close).
    /// - The handler is called with the data that has arrived.
    /// - The responses are sent. If a response is made by a worker or another connection, the close
    ///   waits for the response only if it was [announced](crate::Connection::begin_response).
    ///
    /// If a connection is already closing, its own deadline still applies.
    ///
    /// The kernel's accept queue can hold clients that have connected and may have sent a request.
    /// These clients are accepted, even if the listener is paused, and their connections are closed
    /// in the same way. If a [limit](crate::ListenOptions::limit) or a lack of descriptors prevents
    /// this, they are accepted when other connections end.
    ///
    /// The listener is closed when the queue is empty, usually next turn, or when `grace` is over.
    /// When the listener is closed, the clients that are still in the queue are reset. With a
    /// `grace` of zero the listener is closed at once.
    ///
    /// To close only the listener and not the open connections, [remove](Registry::remove) the
    /// listener by its [key](Self::key). You can still close the connections later by `stop`, which
    /// also works after the listener has ended.
    ///
    /// # Cost
    /// O(number of registrations of the loop).
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

    /// Sets the options of all connections that the server accepts after this call. Connections
    /// that wait in the kernel's accept queue get these options too. Open connections keep their
    /// options. To change the options of one connection, use
    /// [`Connection::set_options`](crate::Connection::set_options).
    ///
    /// # Cost
    /// O(number of servers of the loop).
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

    /// Stops the server without reading further input. Use it if the server must still acknowledge
    /// the work that it has accepted, but must not accept more work. No callback runs before this
    /// method returns.
    ///
    /// The listener is closed at once. Each connection stops reading, and its handler is notified
    /// by [`on_graceful_close`](ConnectionHandler::on_graceful_close). The connection then sends
    /// its queued data and its [announced](crate::Connection::begin_response) responses within
    /// `grace`. If a handler resumes reading, as a [`Relay`](crate::Relay) does, its connection
    /// reads again. If a connection is already closing, its own deadline still applies.
    ///
    /// Unlike [`stop`](Self::stop), this method needs the [`Context`], because it accesses each
    /// connection during the call.
    ///
    /// # Cost
    /// O(number of registrations of the loop).
    pub fn stop_without_reading(self, cx: &mut Context<'_, S>, grace: Duration) {
        // An error means that the listener has ended. Its connections may not have.
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

/// Displays as the [`Key`] of the listener.
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
