//! The handler of a connection: what a user implements, and the closure that is one.

use std::any::Any;
use std::io;

use reactor::Context;

use super::connection::Connection;
use super::reason::CloseReason;
use super::times::Timeout;

/// What a user does with a connection. Every method runs on the loop's thread.
///
/// An error that a method returns ends the connection, and no other; `WouldBlock` and `Interrupted` count as nothing done.
///
/// ```
/// use std::io;
/// use handlers::{Connection, ConnectionHandler};
/// use reactor::Context;
///
/// struct Echo;
///
/// impl<S> ConnectionHandler<S> for Echo {
///     fn on_data(&mut self, data: &[u8], connection: &mut Connection<'_, S>, _cx: &mut Context<'_, S>) -> io::Result<usize> {
///         let _ = connection.write(data)?; // full or not: a connection with a full queue does not read
///         Ok(data.len())
///     }
/// }
/// ```
pub trait ConnectionHandler<S>: Any {
    /// The connection is there; called before any other method but [`on_close`](Self::on_close). Nothing is done by default.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_open(&mut self, connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) -> io::Result<()> {
        let _ = (connection, cx);
        Ok(())
    }

    /// Bytes have come. `data` begins with what the last call left; gives how many of them are done with.
    ///
    /// To leave bytes is for a message that is not complete: reading goes on, and more than
    /// [`ConnectionOptions::unconsumed_max`](crate::ConnectionOptions::unconsumed_max) left ends the connection. It is no flow control. A handler that can take no more for now
    /// calls [`Connection::pause_reading`] too; it is given the rest after [`Connection::resume_reading`].
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize>;

    /// The queue, which was [full](crate::Flow::Full), has room again. Nothing is done by default.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_drain(&mut self, connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) -> io::Result<()> {
        let _ = (connection, cx);
        Ok(())
    }

    /// The peer has ended its direction; `rest` is what [`on_data`](Self::on_data) has left. Writing is still possible.
    ///
    /// By default ours ends too, once everything has been sent and every answer that was
    /// [announced](Connection::answer_later) has been given, and with it the connection.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_end(&mut self, rest: &[u8], connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) -> io::Result<()> {
        let _ = (rest, cx);
        connection.shutdown_when_answered();
        Ok(())
    }

    /// The connection is to [finish](Connection::finish), its server is [stopping](crate::ServerKey::stop) for example. Called
    /// once, before anything is closed: for a handler that keeps a queue of its own to write what is in it, or to
    /// [announce](Connection::answer_later) that it will. Does nothing by default.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_finish(&mut self, connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) -> io::Result<()> {
        let _ = (connection, cx);
        Ok(())
    }

    /// The socket has failed while the handler [pauses](Connection::pause_reading), by a reset of the peer for example, and
    /// bytes that had come before are unread. Nothing can be sent any more. The connection stays until the handler resumes
    /// reading, and then ends with this error after the last byte, or until it closes the connection. Called once. Does
    /// nothing by default.
    ///
    /// Where nothing is unread, the connection ends at once. A handler that reads is given what has come first. Both are told the
    /// error by [`on_close`](Self::on_close).
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_failure(
        &mut self,
        error: &io::Error,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (error, connection, cx);
        Ok(())
    }

    /// A timeout has passed. By default the connection is closed; if it is not, the timeout begins anew.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_timeout(
        &mut self,
        timeout: Timeout,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (timeout, cx);
        connection.close();
        Ok(())
    }

    /// The connection has ended, the last call; also for one that never came about. Nothing is done by default.
    ///
    /// Where the reactor itself is dropped, the handler is only dropped.
    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        let _ = (reason, cx);
    }

    /// Returns the handler that [`with_handler`](crate::ConnectionKey::with_handler) finds by its type, if that is not this one.
    /// Override it in a handler that wraps another. Default: this handler.
    fn as_any_mut(&mut self) -> &mut dyn Any
    where
        Self: Sized,
    {
        self
    }
}

/// A handler that is a closure: for connections where what comes is all that matters. [`on_data`] makes one.
#[derive(Debug)]
pub struct OnData<F>(F);

/// Makes a handler of a closure, which is its [`ConnectionHandler::on_data`]; the rest is done by default.
pub fn on_data<S, F>(closure: F) -> OnData<F>
where
    F: FnMut(&[u8], &mut Connection<'_, S>, &mut Context<'_, S>) -> io::Result<usize> + 'static,
{
    OnData(closure)
}

impl<S, F> ConnectionHandler<S> for OnData<F>
where
    F: FnMut(&[u8], &mut Connection<'_, S>, &mut Context<'_, S>) -> io::Result<usize> + 'static,
{
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        (self.0)(data, connection, cx)
    }
}
