//! Commands to a connection through its key. They are applied even if its callback is running.
//!
//! A callback has its connection by `&mut`, so nothing else can reach the connection meanwhile. But
//! a command can come from inside that callback, for example if a publisher is one of its own
//! subscribers. Such a command waits until the callback returns. It is applied after the writes of
//! the callback, and before anything else is done with the connection.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use reactor::{Context, Error, Key, Registry};

use super::connection::Connection;
use super::key::ConnectionKey;
use super::reason::CloseReason;
use super::state::Writing;
use super::write::Flow;

pub(super) enum Command {
    Write(Bytes),
    Shutdown,
    CloseAfterFlush(Duration),
    Close,
    Abort,
}

thread_local! {
    /// The number of commands that wait on this thread, for all its loops. It is read after each
    /// callback.
    static WAITING: Cell<usize> = const { Cell::new(0) };
}

/// The commands that wait on a loop, in order.
#[derive(Default)]
struct Commands(Vec<(Key, Command)>);

impl Commands {
    fn push(&mut self, key: Key, command: Command) {
        self.0.push((key, command));
        WAITING.set(WAITING.get() + 1);
    }

    /// Removes and returns the commands to one connection.
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

/// Returns `true` if commands wait on this thread.
#[inline(always)]
pub(super) fn are_waiting() -> bool {
    WAITING.get() > 0
}

/// Removes and returns the commands that wait for a connection, in order.
pub(super) fn take<S>(registry: &mut Registry<S>, key: Key) -> Vec<Command> {
    let taken = registry.local::<Commands>().take(key);
    if taken.is_empty() {
        drop_stale(registry);
    }
    taken
}

/// Drops commands to connections that have ended. This is only needed if a panic has unwound
/// through a callback and through the loop: nothing else removes such commands.
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

/// Commands. A command is applied at once, unless a callback of the connection, or a closure of
/// [`with`](Self::with) for this connection, is running. In that case the command is applied when
/// the callback or the closure returns.
///
/// Several waiting commands are applied in the order of their calls: after everything that the
/// callback or closure has written, and before the next callback. Writes are sent even if the
/// callback or closure has closed the connection meanwhile. Waiting commands that can have no
/// effect any more are dropped: for example writes after a command that closes the connection, or
/// writes after the write side was closed.
impl<S> ConnectionKey<S> {
    /// Sends `bytes` after all bytes that were written earlier, as [`Connection::write`] does
    /// inside [`with`](Self::with).
    ///
    /// You can call this method even while a callback of the connection itself is running. So you
    /// can send a message to all subscribers, even to the subscriber whose callback publishes it.
    /// While such a callback is running, this method returns [`Flow::Open`], and the bytes are sent
    /// when the callback returns, after the callback's own writes. If the write queue has no room
    /// for the bytes at that time, the connection ends with an error of kind `QuotaExceeded`. If
    /// the connection went on instead, a part of the stream would be missing, and the peer would
    /// not notice.
    ///
    /// ```
    /// use handlers::ConnectionKey;
    /// use reactor::Context;
    ///
    /// /// Sends a message to all subscribers, also to its sender, and removes those that are gone.
    /// fn publish(
    ///     subscribers: &mut Vec<ConnectionKey<()>>,
    ///     message: &[u8],
    ///     cx: &mut Context<'_, ()>,
    /// ) {
    ///     subscribers.retain(|subscriber| subscriber.write(cx, message).is_ok());
    /// }
    /// ```
    ///
    /// # Cost
    /// O(length). If a callback of the connection is running, one more copy of the bytes is made.
    ///
    /// # Errors
    /// - `NotFound` if the connection has ended.
    /// - `BrokenPipe` if our write side is closed, for example after [`shutdown`](Self::shutdown).
    /// - `QuotaExceeded` if more than
    ///   [`ConnectionOptions::max_write_queue`](crate::ConnectionOptions::max_write_queue) bytes
    ///   would be queued.
    /// - The error of the socket, if the socket has failed and the connection is not reading. If it
    ///   is reading, this call returns no error, and
    ///   [`on_close`](crate::ConnectionHandler::on_close) reports the failure later.
    ///
    /// [`Connection::write`] describes these errors in detail.
    pub fn write(self, cx: &mut Context<'_, S>, bytes: &[u8]) -> io::Result<Flow> {
        match self.with(cx, |connection, _cx| connection.write(bytes)) {
            Err(Error::Running(_)) => {
                Ok(self.wait_with(cx, Command::Write(Bytes::copy_from_slice(bytes))))
            }
            written => written?,
        }
    }

    /// Sends `bytes`, as [`write`](Self::write) does. If `bytes` has 1 KiB or more, it is usually
    /// not copied: [`Connection::write_bytes`] lists the exceptions. If a callback of the
    /// connection is running and `bytes` is shorter than 16 KiB, it may be copied when that
    /// callback returns.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use handlers::ConnectionKey;
    /// use reactor::Context;
    ///
    /// /// Sends one picture to all viewers. They share its bytes.
    /// fn show(viewers: &[ConnectionKey<()>], picture: &Bytes, cx: &mut Context<'_, ()>) {
    ///     for viewer in viewers {
    ///         // An error means that this viewer is gone or too slow.
    ///         let _ = viewer.write_bytes(cx, picture.clone());
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// - `NotFound` if the connection has ended.
    /// - `BrokenPipe` if our write side is closed, for example after [`shutdown`](Self::shutdown).
    /// - `QuotaExceeded` if more than
    ///   [`ConnectionOptions::max_write_queue`](crate::ConnectionOptions::max_write_queue) bytes
    ///   would be queued.
    /// - The error of the socket, if the socket has failed and the connection is not reading. If it
    ///   is reading, this call returns no error, and
    ///   [`on_close`](crate::ConnectionHandler::on_close) reports the failure later.
    ///
    /// [`Connection::write`] describes these errors in detail.
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

    /// Closes our write side, as [`Connection::shutdown`] does.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the connection has ended.
    pub fn shutdown(self, cx: &mut Context<'_, S>) -> Result<(), Error> {
        self.command(cx, Command::Shutdown)
    }

    /// Closes the connection gracefully, as [`Connection::close_after_flush`] does.
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

    /// Closes the connection, as [`Connection::close`] does.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the connection has ended.
    pub fn close(self, cx: &mut Context<'_, S>) -> Result<(), Error> {
        self.command(cx, Command::Close)
    }

    /// Resets the connection, as [`Connection::abort`] does.
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

    /// Writes bytes of a command that has waited. Its caller believes that they are queued already.
    fn write_late(&mut self, bytes: Bytes) {
        match self.write_bytes(bytes) {
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                self.state.end(CloseReason::Failed(error))
            }
            // No other error needs handling, because its cause has an effect of its own: the
            // connection's callback has closed the write side, or the socket has failed.
            Ok(_) | Err(_) => {}
        }
    }

    /// Sends bytes that were accepted before [`close`](Self::close). As with other writes before
    /// it, the connection is reset if the socket does not take them at once.
    pub(super) fn write_closed(&mut self, bytes: Bytes) {
        if self.state.writing() == Writing::Open && !bytes.is_empty() {
            self.state.queue_or_new().push_shared(bytes);
            self.send_queued();
        }
    }
}
