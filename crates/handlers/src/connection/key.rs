//! Keys of connections: how one is reached from anywhere on its loop.

use std::fmt;
use std::hash::{Hash, Hasher};

use reactor::{Context, Error, Key};

use super::connection::Connection;

/// A closure that is called with a connection.
pub(super) type Access<'a, S> = &'a mut dyn FnMut(&mut Connection<'_, S>, &mut Context<'_, S>);

/// Calls the closure with the connection that has this key; without one, has the connection do what can be done now.
pub(super) type AccessByKey<S> = fn(&mut Context<'_, S>, Key, Option<Access<'_, S>>) -> Result<(), Error>;

/// The key of a connection, whatever its stream and its handler are: `Copy`, and checked at every use like a [`Key`].
pub struct ConnectionKey<S> {
    key: Key,
    /// Knows the types of the connection.
    access: AccessByKey<S>,
}

impl<S> ConnectionKey<S> {
    pub(super) const fn new(key: Key, access: AccessByKey<S>) -> Self {
        Self { key, access }
    }

    /// Returns the key of its registration.
    pub const fn key(self) -> Key {
        self.key
    }

    /// Calls `access` with the connection: to write to it, pause it or close it from the callback of another, or of a timer.
    ///
    /// Writes are sent with the deferred callbacks, all of this turn by one system call: in this turn, or in the next where those
    /// have run already. They are tried before that where the queue reaches the
    /// [high watermark](crate::ConnectionOptions::watermarks), so that [`Flow::Full`](crate::Flow) means a peer that does not
    /// read. [`Connection::flush`] tries them at once, and so does a piece of 16 KiB or more with nothing queued before it. O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended, be it as it opened for this; [`Error::Running`] while its own handler runs, which has the
    /// connection already.
    ///
    /// ```
    /// # use handlers::ConnectionKey;
    /// # use reactor::Context;
    /// /// Sends a message to all subscribers, and forgets those that have gone.
    /// fn publish(subscribers: &mut Vec<ConnectionKey<()>>, message: &bytes::Bytes, cx: &mut Context<'_, ()>) {
    ///     subscribers.retain(|subscriber| {
    ///         let sent = subscriber.with(cx, |connection, _cx| connection.write_bytes(message.clone()));
    ///         matches!(sent, Ok(Ok(_)))
    ///     });
    /// }
    /// ```
    pub fn with<R>(
        self,
        cx: &mut Context<'_, S>,
        access: impl FnOnce(&mut Connection<'_, S>, &mut Context<'_, S>) -> R,
    ) -> Result<R, Error> {
        let (mut access, mut result) = (Some(access), None);
        let once: Access<'_, S> = &mut |connection, cx| result = access.take().map(|access| access(connection, cx));
        (self.access)(cx, self.key, Some(once))?;
        result.ok_or(Error::StaleKey(self.key))
    }

    /// Has the connection do what can be done now: open, deliver what was left, send what is queued.
    pub(super) fn run(self, cx: &mut Context<'_, S>) {
        let _ = (self.access)(cx, self.key, None); // one that is gone was notified, one that runs needs no call
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

impl<S> fmt::Debug for ConnectionKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionKey({})", self.key)
    }
}
