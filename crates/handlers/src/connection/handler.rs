//! The handler of a connection: what a user implements, and the closure that is one.

use std::any::Any;
use std::io;

use reactor::Context;

use super::connection::Connection;
use super::reason::CloseReason;
use super::times::Timeout;

/// The handler of a connection: the callbacks that a user implements. All of them run on the thread of the loop.
///
/// An error that a method returns ends the connection, and no other; `WouldBlock` and `Interrupted` count as nothing
/// done.
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
#[doc(alias("ReadCallback", "bufferevent_setcb", "uv_read_cb"))]
pub trait ConnectionHandler<S>: Any {
    /// Called first, when the connection is open. Only [`on_close`](Self::on_close) may come without it. Does nothing
    /// by default.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (connection, cx);
        Ok(())
    }

    /// Called when bytes have come. `data` begins with those that the last call has left. Returns how many bytes are
    /// consumed.
    ///
    /// Leave bytes if a message is not complete: reading goes on, and more than
    /// [`ConnectionOptions::max_buffered_input`](crate::ConnectionOptions::max_buffered_input) left end the connection. That is
    /// not flow control. A handler that can take no more for now also calls [`Connection::pause_reading`], and is given
    /// the rest after [`Connection::resume_reading`].
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize>;

    /// Called when the write queue, which was [full](crate::Flow::Full), has room again. Does nothing by default.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (connection, cx);
        Ok(())
    }

    /// Called when the peer has ended its direction. `rest` is what [`on_data`](Self::on_data) has left. Writing is
    /// still possible.
    ///
    /// By default our direction ends too, and with it the connection, once everything was sent and no response is
    /// [pending](Connection::begin_response).
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (rest, cx);
        connection.shutdown_after_responses();
        Ok(())
    }

    /// Called when the connection is to [finish](Connection::close_gracefully), because its server
    /// [stops](crate::ServerKey::stop) for example.
    ///
    /// Called once, before anything is closed. A handler that keeps a queue of its own writes what is in it, or
    /// [announces](Connection::begin_response) that it will. Does nothing by default.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (connection, cx);
        Ok(())
    }

    /// Called when the socket fails while reading is [paused](Connection::pause_reading), by a reset of the peer for
    /// example, and bytes that had come before are unread.
    ///
    /// Nothing can be sent any more. The connection stays until the handler resumes reading, and ends with this error
    /// after the last byte, or until the handler closes it. Called once. Does nothing by default.
    ///
    /// Where nothing is unread, the connection ends at once. A handler that reads is first given what has come. In both
    /// cases the error comes with [`on_close`](Self::on_close).
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

    /// Called when a timeout expires. By default it closes the connection. If the connection is not closed, the timeout
    /// starts again.
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

    /// Called exactly once, as the last callback, when the connection has ended or could not be established. Does
    /// nothing by default.
    ///
    /// If the reactor itself is dropped, the handler is dropped without this call.
    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        let _ = (reason, cx);
    }

    /// Returns the handler that [`with_handler`](crate::ConnectionKey::with_handler) finds by its type, if that is not
    /// this one. Override it in a handler that wraps another. Default: this handler.
    fn as_any_mut(&mut self) -> &mut dyn Any
    where
        Self: Sized,
    {
        self
    }
}

/// A handler that is a closure, for connections where only their data matters. [`on_data`] makes one.
#[derive(Debug)]
pub struct OnData<F>(F);

/// Makes a handler of a closure, which is its [`ConnectionHandler::on_data`]. The other callbacks do what is their
/// default.
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
