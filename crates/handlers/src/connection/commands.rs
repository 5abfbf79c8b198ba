//! Commands to a connection by its key, which are applied also while its callback is running.
//!
//! A callback has its connection by `&mut`, so nothing else can reach it meanwhile. A command that comes from within,
//! of a publisher that is one of its own subscribers for example, waits until the callback returns, and is applied
//! before anything else is done with the connection: after what the callback has written, before anything written
//! later.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use reactor::{Context, Error, Key, Registry};

use super::connection::Connection;
use super::key::ConnectionKey;
use super::reason::CloseReason;
use super::write::Flow;

pub(super) enum Command {
    Write(Bytes),
    Shutdown,
    CloseAfterFlush(Duration),
    Close,
    Abort,
}

thread_local! {
    /// How many commands wait on this thread, of whichever loop: asked after each callback.
    static WAITING: Cell<usize> = const { Cell::new(0) };
}

/// The commands that wait on a loop, in their order.
#[derive(Default)]
struct Commands(Vec<(Key, Command)>);

impl Commands {
    fn push(&mut self, key: Key, command: Command) {
        self.0.push((key, command));
        WAITING.set(WAITING.get() + 1);
    }

    /// Removes the commands to one connection.
    fn take(&mut self, key: Key) -> Vec<Command> {
        let taken: Vec<_> = self
            .0
            .extract_if(.., |(to, _)| *to == key)
            .map(|(_, command)| command)
            .collect();
        WAITING.set(WAITING.get() - taken.len());
        taken
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        WAITING.set(WAITING.get() - self.0.len());
    }
}

/// Returns whether commands wait on this thread.
#[inline(always)]
pub(super) fn are_waiting() -> bool {
    WAITING.get() > 0
}

/// Removes the commands that wait for a connection, in their order.
pub(super) fn take<S>(registry: &mut Registry<S>, key: Key) -> Vec<Command> {
    let taken = registry.local::<Commands>().take(key);
    if taken.is_empty() {
        drop_stale(registry);
    }
    taken
}

/// Drops commands to connections that are gone: where a panic has unwound through a callback, and through the loop, nothing
/// else does.
#[cold]
fn drop_stale<S>(registry: &mut Registry<S>) {
    let mut keys: Vec<_> = registry
        .local::<Commands>()
        .0
        .iter()
        .map(|(to, _)| *to)
        .collect();
    keys.retain(|to| !registry.contains(*to));
    let stale: Vec<_> = keys
        .into_iter()
        .map(|to| registry.local::<Commands>().take(to))
        .collect();
    drop(stale);
}

/// Commands, which are applied at once, or when the running callback of the connection returns.
///
/// Within that callback, and within a closure of [`with`](Self::with) for the same connection, several commands are
/// applied in their order, after everything that the callback has written, and before the next callback. A command that
/// then has no effect any more, since the callback has closed the connection, is dropped.
impl<S> ConnectionKey<S> {
    /// Sends `bytes` after everything that was written before: by [`Connection::write`], in a call of
    /// [`with`](Self::with).
    ///
    /// So a message to all subscribers needs no special case for the one that publishes it: to the connection whose
    /// callback is running the bytes are sent when that returns, after what it has written itself, and the answer is
    /// [`Flow::Open`] meanwhile. If its queue cannot take them then, the connection ends with that error, since its
    /// peer must not miss a part unnoticed. O(length), and a copy of the bytes where they wait.
    ///
    /// # Errors
    /// `NotFound` if the connection has ended; those of [`Connection::write`].
    ///
    /// ```
    /// use handlers::ConnectionKey;
    /// use reactor::Context;
    ///
    /// /// Sends a message to all subscribers, also to the one that sends it, and forgets those that have gone.
    /// fn publish(subscribers: &mut Vec<ConnectionKey<()>>, message: &[u8], cx: &mut Context<'_, ()>) {
    ///     subscribers.retain(|subscriber| subscriber.write(cx, message).is_ok());
    /// }
    /// ```
    pub fn write(self, cx: &mut Context<'_, S>, bytes: &[u8]) -> io::Result<Flow> {
        match self.with(cx, |connection, _cx| connection.write(bytes)) {
            Err(Error::Running(_)) => {
                Ok(self.wait_with(cx, Command::Write(Bytes::copy_from_slice(bytes))))
            }
            written => written?,
        }
    }

    /// Sends shared bytes as [`write`](Self::write) does, without a copy of a piece of 1 KiB or more.
    ///
    /// # Errors
    /// `NotFound` if the connection has ended; those of [`Connection::write_bytes`].
    pub fn write_bytes(self, cx: &mut Context<'_, S>, bytes: Bytes) -> io::Result<Flow> {
        let mut bytes = Some(bytes);
        match self.with(cx, |connection, _cx| {
            connection.write_bytes(bytes.take().unwrap_or_default())
        }) {
            Err(Error::Running(_)) => {
                Ok(self.wait_with(cx, Command::Write(bytes.take().unwrap_or_default())))
            }
            written => written?,
        }
    }

    /// Ends our direction by [`Connection::shutdown`].
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the connection has ended.
    pub fn shutdown(self, cx: &mut Context<'_, S>) -> Result<(), Error> {
        self.command(cx, Command::Shutdown)
    }

    /// Closes the connection by [`Connection::close_after_flush`].
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the connection has ended.
    pub fn close_after_flush(
        self,
        cx: &mut Context<'_, S>,
        deadline: Duration,
    ) -> Result<(), Error> {
        self.command(cx, Command::CloseAfterFlush(deadline))
    }

    /// Closes the connection by [`Connection::close`].
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the connection has ended.
    pub fn close(self, cx: &mut Context<'_, S>) -> Result<(), Error> {
        self.command(cx, Command::Close)
    }

    /// Closes the connection by [`Connection::abort`].
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the connection has ended.
    pub fn abort(self, cx: &mut Context<'_, S>) -> Result<(), Error> {
        self.command(cx, Command::Abort)
    }

    fn command(self, cx: &mut Context<'_, S>, command: Command) -> Result<(), Error> {
        let mut command = Some(command);
        let applied = self.with(cx, |connection, _cx| {
            command.take().map(|command| connection.apply(command))
        });
        match (applied, command) {
            (Err(Error::Running(_)), Some(command)) => {
                let _ = self.wait_with(cx, command);
                Ok(())
            }
            (applied, _) => applied.map(drop),
        }
    }

    /// Keeps a command until the connection is no longer in use.
    fn wait_with(self, cx: &mut Context<'_, S>, command: Command) -> Flow {
        cx.registry.local::<Commands>().push(self.key(), command);
        Flow::Open
    }
}

impl<S> Connection<'_, S> {
    pub(super) fn apply(&mut self, command: Command) {
        match command {
            Command::Write(bytes) => self.write_late(bytes),
            Command::Shutdown => self.shutdown(),
            Command::CloseAfterFlush(deadline) => self.close_after_flush(deadline),
            Command::Close => self.close(),
            Command::Abort => self.abort(),
        }
    }

    /// Writes what its writer takes for queued already.
    fn write_late(&mut self, bytes: Bytes) {
        match self.write_bytes(bytes) {
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                self.state.end(CloseReason::Failed(error))
            }
            // Otherwise its own callback has ended the direction, or the socket has failed, which has consequences of
            // its own.
            Ok(_) | Err(_) => {}
        }
    }
}
