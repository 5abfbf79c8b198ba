//! The key of a server, which stops its listener and its connections.

use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::rc::Weak;
use std::sync;
use std::time::Duration;

use reactor::{Context, Error, Key, Registry};

use super::stopping;
use crate::connection::{self, ConnectionOptions};
use crate::server::{GracefulClose, Server, ServerId};

/// The servers of a loop. When a server starts, the entries of which nothing is left are removed.
#[derive(Default)]
struct Servers(Vec<ServerEntry>);

struct ServerEntry {
    id: ServerId,
    server: sync::Weak<Server>,
    /// The options of the connections that it will accept, if it opens them itself.
    options: Option<Weak<RefCell<ConnectionOptions>>>,
}

impl Servers {
    fn find(&self, id: ServerId) -> Option<&ServerEntry> {
        self.0.iter().find(|server| server.id == id)
    }
}

/// Identifies a server: a listener that [`Listener::serve`](crate::Listener::serve) or
/// [`Listener::accept`](crate::Listener::accept) has started, together with the connections that
/// the listener has accepted. The key is `Copy` and `Send`. Like a [`Key`], it is checked at each
/// use, so it never refers to another listener.
///
/// # Connections on other loops
/// If you open accepted connections on [several loops](crate::Accepted), call
/// [`stop`](Self::stop) on each of them: [`LoopPool::broadcast`](reactor::LoopPool::broadcast)
/// does that. Each call closes the connections of its loop, and the listener if that is one of its
/// loop. The first call counts for all connections of the server that are opened later, on any
/// loop.
pub struct ServerKey<S> {
    key: Key,
    id: ServerId,
    state: PhantomData<fn(S)>,
}

impl<S> ServerKey<S> {
    /// Returns the key of a server, and records the server for this loop.
    pub(super) fn new(
        registry: &mut Registry<S>,
        key: Key,
        id: ServerId,
        server: sync::Weak<Server>,
        options: Option<Weak<RefCell<ConnectionOptions>>>,
    ) -> Self {
        let servers = &mut registry.local::<Servers>().0;
        servers.retain(|other| other.server.strong_count() > 0);
        servers.push(ServerEntry {
            id,
            server,
            options,
        });
        Self {
            key,
            id,
            state: PhantomData,
        }
    }

    /// Returns the key of the listener's registration.
    pub const fn key(self) -> Key {
        self.key
    }

    /// Returns this key for a loop whose state has another type, so that it can be stopped there.
    pub const fn for_state<R>(self) -> ServerKey<R> {
        ServerKey {
            key: self.key,
            id: self.id,
            state: PhantomData,
        }
    }

    /// Stops the server gracefully within `grace`: it accepts no new clients, and answers the
    /// requests that clients have already sent. The server keeps
    /// [`Reactor::run`](reactor::Reactor::run) alive until its connections have ended. No callback
    /// runs before this method returns.
    ///
    /// Each connection is [closed gracefully](crate::Connection::close_gracefully), in this order:
    /// - Its handler is notified by
    ///   [`on_graceful_close`](crate::ConnectionHandler::on_graceful_close).
    /// - The handler is called with the data that has arrived.
    /// - The responses are sent. If a response is made by a worker or another connection, the close
    ///   waits for the response only if it was [announced](crate::Connection::begin_response).
    ///
    /// If a connection is already closing, its own deadline still applies.
    ///
    /// The kernel's accept queue can hold clients that have connected and may have sent a request.
    /// These clients are accepted, even if the listener is paused, and their connections are closed
    /// in the same way. If a [limit](crate::ListenOptions::limit) or a lack of descriptors prevents
    /// this, they are accepted when other connections end. An
    /// [`accept_rate`](crate::ListenOptions::accept_rate) still holds: no more clients are accepted
    /// than it allows within `grace`.
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
        self.close_all(registry, GracefulClose { grace, reads: true });
        if self.is_of(registry) {
            stopping::begin(registry, self.key, grace);
        }
    }

    /// Closes the connections of this loop, and those that are opened later.
    fn close_all(self, registry: &mut Registry<S>, how: GracefulClose) {
        self.id.stop_at(registry.now(), how);
        connection::close_accepted(registry, self.id, how);
    }

    /// Returns `true` if the listener belongs to this loop. On another loop its key may name
    /// another registration.
    fn is_of(self, registry: &mut Registry<S>) -> bool {
        registry.local::<Servers>().find(self.id).is_some()
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
    /// - [`Error::StaleKey`] if the listener has ended, or belongs to another loop.
    /// - [`Error::OtherType`] if the server was started by
    ///   [`Listener::accept`](crate::Listener::accept): your callback chooses the options of its
    ///   connections.
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
        let server = registry.local::<Servers>().find(self.id);
        let server = server
            .filter(|_| listens)
            .ok_or(Error::StaleKey(self.key))?;
        let shared = server.options.as_ref().ok_or(Error::OtherType(self.key))?;
        let shared = shared.upgrade().ok_or(Error::StaleKey(self.key))?;
        shared.replace(options.clone());
        Ok(())
    }

    /// Stops the server without reading further input. Use it if the server must still acknowledge
    /// the work that it has accepted, but must not accept more work. No callback runs before this
    /// method returns.
    ///
    /// The listener is closed at once. Each connection stops reading, and its handler is notified
    /// by [`on_graceful_close`](crate::ConnectionHandler::on_graceful_close). The connection then
    /// sends its queued data and its [announced](crate::Connection::begin_response) responses
    /// within `grace`. If a handler resumes reading, as a [`Relay`](crate::Relay) does, its
    /// connection reads again. If a connection is already closing, its own deadline still applies.
    ///
    /// Unlike [`stop`](Self::stop), this method needs the [`Context`], because it accesses each
    /// connection during the call.
    ///
    /// # Cost
    /// O(number of registrations of the loop).
    pub fn stop_without_reading(self, cx: &mut Context<'_, S>, grace: Duration) {
        if self.is_of(cx.registry) {
            // An error means that the listener has ended. Its connections may not have.
            let _ = cx.registry.remove(self.key);
        }
        connection::pause_accepted(cx, self.id);
        let reads = false;
        self.close_all(cx.registry, GracefulClose { grace, reads });
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
        self.id == other.id
    }
}

impl<S> Eq for ServerKey<S> {}

impl<S> Hash for ServerKey<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
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
