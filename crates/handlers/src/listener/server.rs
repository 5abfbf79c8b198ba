//! Servers: a listener that opens each connection with a handler of its own, and the key by which both are stopped.

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

/// The servers of a loop, each with the options of the connections that it accepts from now on. Those whose listener
/// has ended are removed when the next one begins.
#[derive(Default)]
struct Servers(Vec<(Key, Weak<RefCell<ConnectionOptions>>)>);

impl Listener {
    /// Accepts connections and opens each with the handler that `handler` makes for it.
    ///
    /// A listener whose socket stops listening ends with [`CloseReason::Failed`](reactor::CloseReason::Failed), and its end is
    /// logged as an error; [`on_listener_end`](crate::on_listener_end) calls a callback then. A daemon that cannot do
    /// without it ends with it, and `run` says why, after [`Registry::set_essential`] of its key.
    ///
    /// An error of `handler` drops that connection, and no other. The listener keeps
    /// [`Reactor::run`](reactor::Reactor::run) alive until it is [stopped](ServerKey::stop).
    ///
    /// To accept nobody for a while, set the interest of its [key](ServerKey::key) to
    /// [`Interest::NONE`](reactor::Interest::NONE); whoever connects waits in the kernel until it is
    /// [`Interest::READABLE`](reactor::Interest::READABLE) again. Nothing else ends that pause: neither a connection
    /// that leaves room below the [limit](crate::ListenOptions::limit) nor file descriptors that are free again.
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
                return Ok(()); // it was stopped just now, and so is this connection
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

/// Names a listener that [serves](Listener::serve), and the connections that it has accepted. `Copy`, and checked at
/// each use like a [`Key`].
pub struct ServerKey<S> {
    key: Key,
    /// Closes all connections gracefully that the listener has accepted.
    close_all: fn(&mut Registry<S>, Key, GracefulClose),
    /// Has all of them read nothing more.
    pause_all: fn(&mut Context<'_, S>, Key),
}

impl<S> ServerKey<S> {
    /// Returns the key of the listener's registration.
    pub const fn key(self) -> Key {
        self.key
    }

    /// Stops the server: answers what it has been asked, within `grace`, and lets nobody else in. Once its connections
    /// have ended, nothing of it keeps [`Reactor::run`](reactor::Reactor::run) alive. O(registrations).
    ///
    /// Each connection is closed once its handler has been told, by [`on_graceful_close`](ConnectionHandler::on_graceful_close), has
    /// been given what has come, and the answers have been [sent](crate::Connection::close_gracefully). An answer that is made
    /// elsewhere, by a worker or by another connection, is waited for if it was
    /// [announced](crate::Connection::begin_response).
    ///
    /// Clients that wait in the kernel's queue have connected, and may have asked: they are accepted, also where the
    /// listener is paused, and treated alike. Where a [limit](crate::ListenOptions::limit) or the want of descriptors
    /// keeps them out they are let in as others end. The listener is closed when that queue is empty, next turn as a
    /// rule, or when `grace` is over: whoever is still in it is reset, as with a `grace` of zero at once.
    ///
    /// To let connections go on as they like, and only accept no more, [remove](Registry::remove) the listener by its
    /// [key](Self::key): they can still be stopped by this one.
    ///
    /// No callback runs before this returns. After the listener has ended it stops the connections that are left.
    pub fn stop(self, registry: &mut Registry<S>, grace: Duration) {
        (self.close_all)(registry, self.key, GracefulClose { grace, reads: true });
        stopping::begin(registry, self.key, grace);
    }

    /// Sets the options of the connections that are accepted from now on, those that wait in the kernel's queue
    /// included. Connections that are open keep theirs: [`Connection::set_options`](crate::Connection::set_options)
    /// changes one of them. O(servers of the loop).
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

    /// Stops the server without reading what clients have sent: for one that acknowledges what it takes on, and has
    /// enough.
    ///
    /// The listener is closed at once. Each connection reads nothing more; its handler is told by
    /// [`on_graceful_close`](ConnectionHandler::on_graceful_close), and what it has queued then, and what it has
    /// [announced](crate::Connection::begin_response), is sent within `grace`. A handler that resumes reading reads on,
    /// as a [`Relay`](crate::Relay) does. O(registrations).
    ///
    /// It takes the [`Context`], unlike [`stop`](Self::stop), since it reaches into each connection at once. No
    /// callback runs before this returns.
    pub fn stop_without_reading(self, cx: &mut Context<'_, S>, grace: Duration) {
        let _ = cx.registry.remove(self.key); // it may be gone: its connections are not
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

/// As the [`Key`] of the listener.
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
