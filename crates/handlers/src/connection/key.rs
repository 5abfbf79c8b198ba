//! Keys of connections: how one is reached from anywhere on its loop.

use std::fmt;
use std::hash::{Hash, Hasher};

use reactor::{Context, Error, Io, Key};

use super::ConnectionHandler;
use super::driver::Driver;
use super::lent::Connection;
use super::stream::Stream;

pub(super) type Visitor<'v, S> = &'v mut dyn FnMut(&mut Connection<'_, S>, &mut Context<'_, S>);

type Visit<S> = fn(&mut Context<'_, S>, Key, Option<Visitor<'_, S>>) -> Result<(), Error>;

/// The name of a connection, whatever its stream and its handler are: `Copy`, and checked at every use like a [`Key`].
pub struct ConnectionKey<S> {
    key: Key,
    visit: Visit<S>,
}

impl<S> ConnectionKey<S> {
    pub(super) fn of<T: Stream, H: ConnectionHandler<S>>(key: Key) -> Self {
        Self { key, visit: visit::<S, T, H> }
    }

    /// The key of its registration.
    pub const fn key(self) -> Key {
        self.key
    }

    /// Lends the connection: to write to it, pause it or close it from the callback of another, or of a timer.
    ///
    /// Writes leave with the deferred callbacks, all of this turn by one system call: in this turn, or in the next where those
    /// have run already. They are tried before that where the queue reaches the
    /// [high watermark](crate::ConnectionOptions::watermarks), so that [`Flow::Full`](crate::Flow) means a peer that does not
    /// read. [`Connection::flush`] tries them at once, and so does a piece of 16 KiB or more with nothing queued before it. O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended, be it as it opened for this; [`Error::Running`] while its own handler runs, which has it in its hands.
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
        visitor: impl FnOnce(&mut Connection<'_, S>, &mut Context<'_, S>) -> R,
    ) -> Result<R, Error> {
        let (mut visitor, mut result) = (Some(visitor), None);
        let visit: Visitor<'_, S> =
            &mut |connection, cx| result = visitor.take().map(|visitor| visitor(connection, cx));
        (self.visit)(cx, self.key, Some(visit))?;
        result.ok_or(Error::StaleKey(self.key))
    }

    /// Has it do what can be done now: to open, to deliver what was left.
    pub(super) fn run(self, cx: &mut Context<'_, S>) {
        let _ = (self.visit)(cx, self.key, None); // one that is gone has been told so, one that runs needs no call
    }
}

fn visit<S, T, H>(cx: &mut Context<'_, S>, key: Key, visitor: Option<Visitor<'_, S>>) -> Result<(), Error>
where
    T: Stream,
    H: ConnectionHandler<S>,
{
    cx.visit(key, |io: &mut Io<T>, driver: &mut Driver<H>, cx| driver.visited(io, cx, visitor))
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
