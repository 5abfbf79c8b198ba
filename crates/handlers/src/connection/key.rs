//! Keys of connections. A connection is reached from anywhere on its loop through its key.

use std::any::{Any, TypeId};
use std::fmt;
use std::hash::{Hash, Hasher};

use reactor::{Context, Error, Key};

use super::connection::Connection;
use super::handler::ConnectionHandler;

/// A request to a connection, made through its key.
pub(super) enum Request<'a, 'c, S> {
    /// Do the pending work: open, deliver unconsumed bytes, send the queue.
    Run(&'a mut Context<'c, S>),
    /// Call a closure with the connection.
    Access(&'a mut Context<'c, S>, Access<'a, S>),
    /// Call a closure with the connection and its handler, if the handler has this type.
    AccessHandler(&'a mut Context<'c, S>, TypeId, HandlerAccess<'a, S>),
    /// Take the stream into a place for its type.
    Take(&'a mut Context<'c, S>, &'a mut dyn Any),
    /// Return the type of the handler.
    HandlerType(&'a mut Option<TypeId>),
}

pub(super) type Access<'a, S> = &'a mut dyn FnMut(&mut Connection<'_, S>, &mut Context<'_, S>);
pub(super) type HandlerAccess<'a, S> =
    &'a mut dyn FnMut(&mut dyn Any, &mut Connection<'_, S>, &mut Context<'_, S>);

/// Passes a request to the connection that has this key.
type PassRequest<S> = fn(Key, Request<'_, '_, S>) -> Result<(), Error>;

/// The key of a connection. The type of the key does not depend on the types of the stream and the
/// handler. A key is `Copy`. Every use checks the key: if the connection has ended, the call
/// returns an error, and never reaches another connection. [`Connection::key`] returns the key.
pub struct ConnectionKey<S> {
    key: Key,
    /// The function that passes a request to the connection. It knows the types of the connection.
    pass: PassRequest<S>,
}

impl<S> ConnectionKey<S> {
    pub(super) const fn new(key: Key, pass: PassRequest<S>) -> Self {
        Self { key, pass }
    }

    /// Returns the key of the registration of this connection.
    pub const fn key(self) -> Key {
        self.key
    }

    /// Calls `access` with the connection, and returns its result. Use it in the callback of
    /// another connection or of a timer, to write to this connection, to pause it or to close it.
    /// If the handler's [`on_open`](ConnectionHandler::on_open) was not called yet, it is called
    /// before `access`. During the handshake of a [layered stream](crate::Stream#layered-streams),
    /// `access` is called without it, and its writes are sent after the handshake.
    ///
    /// With the feature `request-context`, `access` runs in the context of its caller, and
    /// `on_open` in that of the connection.
    ///
    /// The writes of `access` are sent with the [deferred callbacks](reactor::Registry::defer) of
    /// the turn. All writes of a turn to this connection are usually sent by one system call. If
    /// the deferred callbacks of this turn have already run, the writes are sent in the next turn.
    /// In three cases writes are sent earlier:
    /// - The queue has reached the [high watermark](crate::ConnectionOptions::watermarks). So
    ///   `write` returns [`Flow::Full`](crate::Flow::Full) only if the bytes could not be sent at
    ///   once.
    /// - [`Connection::flush`] is called.
    /// - A piece of 16 KiB or more is written while nothing is queued.
    ///
    /// ```
    /// # use handlers::ConnectionKey;
    /// # use reactor::Context;
    /// /// Returns how many bytes are queued for all of these connections.
    /// fn queued(connections: &[ConnectionKey<()>], cx: &mut Context<'_, ()>) -> usize {
    ///     let mut queued = 0;
    ///     for key in connections {
    ///         // An error means that this connection has ended.
    ///         let _ = key.with(cx, |connection, _cx| queued += connection.queued());
    ///     }
    ///     queued
    /// }
    /// ```
    ///
    /// # Cost
    /// O(1).
    ///
    /// # Errors
    /// - [`Error::StaleKey`] if the connection has ended. The connection may also have ended in its
    ///   `on_open`, if this method had to call `on_open` first.
    /// - [`Error::Running`] while a callback of this connection is running, because that callback
    ///   already has the connection. In this situation use [`write`](Self::write),
    ///   [`shutdown`](Self::shutdown) or one of the methods that close the connection: they also
    ///   work while a callback is running.
    pub fn with<R>(
        self,
        cx: &mut Context<'_, S>,
        access: impl FnOnce(&mut Connection<'_, S>, &mut Context<'_, S>) -> R,
    ) -> Result<R, Error> {
        let (mut access, mut result) = (Some(access), None);
        let once: Access<'_, S> =
            &mut |connection, cx| result = access.take().map(|access| access(connection, cx));
        (self.pass)(self.key, Request::Access(cx, once))?;
        // An error that is made early costs its drop.
        match result {
            Some(result) => Ok(result),
            None => Err(Error::StaleKey(self.key)),
        }
    }

    /// Calls `access` with the connection and its handler, if the handler has type `H`. Returns the
    /// result of `access`.
    ///
    /// With this method other callbacks can reach a handler that is not kept in the state of the
    /// loop. If the handler is [boxed](crate::BoxedHandler), `H` can be the type in the box, or the
    /// type of the box itself. The writes of `access` are sent as described at
    /// [`with`](Self::with).
    ///
    /// ```
    /// use std::io;
    /// use handlers::{Connection, ConnectionHandler, ConnectionKey};
    /// use reactor::Context;
    ///
    /// struct Player {
    ///     score: u32,
    /// }
    ///
    /// impl ConnectionHandler<()> for Player {
    ///     fn on_data(
    ///         &mut self,
    ///         data: &[u8],
    ///         _: &mut Connection<'_, ()>,
    ///         _: &mut Context<'_, ()>,
    ///     ) -> io::Result<usize> {
    ///         Ok(data.len())
    ///     }
    /// }
    ///
    /// /// Adds to the score of a player, and returns it.
    /// fn reward(player: ConnectionKey<()>, cx: &mut Context<'_, ()>) -> io::Result<u32> {
    ///     let score = player.with_handler(cx, |player: &mut Player, connection, _cx| {
    ///         player.score += 1;
    ///         let _ = connection.write(b"+1\n")?;
    ///         io::Result::Ok(player.score)
    ///     })?;
    ///     score
    /// }
    /// ```
    ///
    /// # Cost
    /// O(1), no allocation.
    ///
    /// # Errors
    /// - [`Error::OtherType`] if the handler has another type. In this case `access` is not called.
    /// - [`Error::StaleKey`] if the connection has ended. The connection may also have ended in its
    ///   `on_open`, if this method had to call `on_open` first.
    /// - [`Error::Running`] while a callback of this connection is running.
    pub fn with_handler<H, R>(
        self,
        cx: &mut Context<'_, S>,
        access: impl FnOnce(&mut H, &mut Connection<'_, S>, &mut Context<'_, S>) -> R,
    ) -> Result<R, Error>
    where
        H: ConnectionHandler<S>,
    {
        // If the connection has ended as it opened for this call, `once` is not called, and the
        // result stays `StaleKey`.
        let (mut access, mut result) = (Some(access), Err(Error::StaleKey(self.key)));
        let once: HandlerAccess<'_, S> = &mut |handler, connection, cx| {
            result = match (handler.downcast_mut(), access.take()) {
                (Some(handler), Some(access)) => Ok(access(handler, connection, cx)),
                _ => Err(Error::OtherType(self.key)),
            };
        };
        (self.pass)(
            self.key,
            Request::AccessHandler(cx, TypeId::of::<H>(), once),
        )?;
        result
    }

    /// Returns the type of the handler that the connection was opened with.
    pub(super) fn handler_type(self) -> Option<TypeId> {
        let mut handler_type = None;
        // This request looks at no registration, so it cannot fail.
        let _ = (self.pass)(self.key, Request::HandlerType(&mut handler_type));
        handler_type
    }

    /// Passes a request to the connection.
    pub(super) fn request(self, request: Request<'_, '_, S>) -> Result<(), Error> {
        (self.pass)(self.key, request)
    }

    /// Does the pending work of the connection: opens it, delivers unconsumed bytes, sends the
    /// queue.
    pub(super) fn run(self, cx: &mut Context<'_, S>) {
        // An error needs no handling. If the connection has ended, its handler was notified. If it
        // is running, it does its pending work anyway.
        let _ = (self.pass)(self.key, Request::Run(cx));
    }
}

impl<S> Clone for ConnectionKey<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for ConnectionKey<S> {}

impl<S> PartialEq for ConnectionKey<S> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<S> Eq for ConnectionKey<S> {}

impl<S> Hash for ConnectionKey<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// Displays as the [`Key`] of the registration.
impl<S> fmt::Display for ConnectionKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl<S> fmt::Debug for ConnectionKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionKey({})", self.key)
    }
}
