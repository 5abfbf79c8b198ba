//! Keys of connections: how one is reached from anywhere on its loop.

use std::any::{Any, TypeId};
use std::fmt;
use std::hash::{Hash, Hasher};

use reactor::{Context, Error, Key};

use super::connection::Connection;
use super::handler::ConnectionHandler;

/// What is asked of a connection by its key.
pub(super) enum Request<'a, 'c, S> {
    /// Do what can be done now: open, deliver what was left, send what is queued.
    Run(&'a mut Context<'c, S>),
    /// Call a closure with the connection.
    Access(&'a mut Context<'c, S>, Access<'a, S>),
    /// Call a closure with the connection and its handler, if that is of this type.
    AccessHandler(&'a mut Context<'c, S>, TypeId, HandlerAccess<'a, S>),
    /// Tell the type of the handler.
    HandlerType(&'a mut Option<TypeId>),
}

pub(super) type Access<'a, S> = &'a mut dyn FnMut(&mut Connection<'_, S>, &mut Context<'_, S>);
pub(super) type HandlerAccess<'a, S> =
    &'a mut dyn FnMut(&mut dyn Any, &mut Connection<'_, S>, &mut Context<'_, S>);

/// Passes a request to the connection that has this key.
type PassRequest<S> = fn(Key, Request<'_, '_, S>) -> Result<(), Error>;

/// The key of a connection, whatever its stream and its handler are: `Copy`, and checked at every use like a [`Key`].
pub struct ConnectionKey<S> {
    key: Key,
    /// Knows the types of the connection.
    pass: PassRequest<S>,
}

impl<S> ConnectionKey<S> {
    pub(super) const fn new(key: Key, pass: PassRequest<S>) -> Self {
        Self { key, pass }
    }

    /// Returns the key of its registration.
    pub const fn key(self) -> Key {
        self.key
    }

    /// Calls `access` with the connection: to write to it, pause it or close it from the callback of another, or of a
    /// timer.
    ///
    /// Writes are sent with the deferred callbacks, all of this turn by one system call: in this turn, or in the next
    /// where those have run already. They are tried before that where the queue reaches the [high
    /// watermark](crate::ConnectionOptions::watermarks), so that [`Flow::Full`](crate::Flow) means a peer that does not
    /// read. [`Connection::flush`] tries them at once, and so does a piece of 16 KiB or more with nothing queued before
    /// it. O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended, be it as it opened for this; [`Error::Running`] while its own callback is
    /// running, which has the connection already. [`write`](Self::write), [`shutdown`](Self::shutdown) and the ways to
    /// close are possible then too.
    ///
    /// ```
    /// # use handlers::ConnectionKey;
    /// # use reactor::Context;
    /// /// Returns how many bytes are queued for all of these connections.
    /// fn queued(connections: &[ConnectionKey<()>], cx: &mut Context<'_, ()>) -> usize {
    ///     connections.iter().filter_map(|key| key.with(cx, |connection, _cx| connection.queued()).ok()).sum()
    /// }
    /// ```
    pub fn with<R>(
        self,
        cx: &mut Context<'_, S>,
        access: impl FnOnce(&mut Connection<'_, S>, &mut Context<'_, S>) -> R,
    ) -> Result<R, Error> {
        let (mut access, mut result) = (Some(access), None);
        let once: Access<'_, S> =
            &mut |connection, cx| result = access.take().map(|access| access(connection, cx));
        (self.pass)(self.key, Request::Access(cx, once))?;
        result.ok_or(Error::StaleKey(self.key))
    }

    /// Calls `access` with the handler of the connection, by its type, and with the connection.
    ///
    /// The handler object need not be kept in the state of the loop to be reached from elsewhere. Of a
    /// [boxed](crate::BoxedHandler) handler `H` is the type in the box, or the box itself. Writes are sent as those by
    /// [`with`](Self::with). O(1), no allocation.
    ///
    /// # Errors
    /// [`Error::OtherType`] if the handler is not of this type: nothing is called then. [`Error::StaleKey`] and
    /// [`Error::Running`] as by [`with`](Self::with).
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
    ///     fn on_data(&mut self, data: &[u8], _: &mut Connection<'_, ()>, _: &mut Context<'_, ()>) -> io::Result<usize> {
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
    pub fn with_handler<H, R>(
        self,
        cx: &mut Context<'_, S>,
        access: impl FnOnce(&mut H, &mut Connection<'_, S>, &mut Context<'_, S>) -> R,
    ) -> Result<R, Error>
    where
        H: ConnectionHandler<S>,
    {
        // As long as no handler was met there is none: the connection has ended as it opened for this.
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

    /// Returns the type of the handler, as it was opened.
    pub(super) fn handler_type(self) -> Option<TypeId> {
        let mut handler_type = None;
        let _ = (self.pass)(self.key, Request::HandlerType(&mut handler_type)); // which looks at no registration
        handler_type
    }

    /// Has the connection do what can be done now: open, deliver what was left, send what is queued.
    pub(super) fn run(self, cx: &mut Context<'_, S>) {
        let _ = (self.pass)(self.key, Request::Run(cx)); // one that is gone was notified, one that runs needs no call
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

/// As the [`Key`] of its registration.
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
