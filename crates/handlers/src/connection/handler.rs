//! The handler of a connection: the trait that a user implements, and a handler made of a closure.

use std::any::Any;
use std::fmt;
use std::io;

use reactor::Context;

use super::connection::Connection;
use super::reason::CloseReason;
use super::times::Timeout;

/// Handles the events of a connection. Implement it to give a connection its behaviour.
///
/// All callbacks run on the thread of the loop. If a callback returns an error, its connection
/// ends. Other connections go on. The errors `WouldBlock` and `Interrupted` do not end the
/// connection: they count as nothing done.
///
/// ```
/// use std::io;
/// use handlers::{Connection, ConnectionHandler};
/// use reactor::Context;
///
/// struct Echo;
///
/// impl<S> ConnectionHandler<S> for Echo {
///     fn on_data(
///         &mut self,
///         data: &[u8],
///         connection: &mut Connection<'_, S>,
///         _cx: &mut Context<'_, S>,
///     ) -> io::Result<usize> {
///         // The result may be ignored here: a connection with a full queue does not read.
///         let _ = connection.write(data)?;
///         Ok(data.len())
///     }
/// }
/// ```
#[doc(alias("ReadCallback", "bufferevent_setcb", "uv_read_cb"))]
pub trait ConnectionHandler<S>: Any {
    /// Called first, when the connection is open. Only [`on_close`](Self::on_close) can be called
    /// without it. Does nothing by default.
    ///
    /// # Errors
    /// Any error except `WouldBlock` and `Interrupted` ends the connection.
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (connection, cx);
        Ok(())
    }

    /// Called when bytes have arrived. Returns how many bytes of `data` the handler has consumed.
    ///
    /// `data` begins with the bytes that the last call did not consume. If a message is not
    /// complete, leave its bytes unconsumed: reading continues. If more than
    /// [`ConnectionOptions::max_buffered_input`](crate::ConnectionOptions::max_buffered_input)
    /// bytes are left, the connection ends.
    ///
    /// Leaving bytes is not flow control. If the handler cannot take more bytes for now, it must
    /// also call [`Connection::pause_reading`]. It is called with the rest after
    /// [`Connection::resume_reading`].
    ///
    /// # Errors
    /// Any error except `WouldBlock` and `Interrupted` ends the connection.
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize>;

    /// Called when the write queue was [full](crate::Flow::Full) and has room again. Does nothing
    /// by default.
    ///
    /// # Errors
    /// Any error except `WouldBlock` and `Interrupted` ends the connection.
    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (connection, cx);
        Ok(())
    }

    /// Called when the peer has closed its write side. `rest` holds the bytes that
    /// [`on_data`](Self::on_data) did not consume. Writing is still possible.
    ///
    /// By default this calls [`Connection::shutdown_after_responses`]. Our write side is closed
    /// once everything is sent and no response is [pending](Connection::begin_response). The
    /// connection ends then.
    ///
    /// # Errors
    /// Any error except `WouldBlock` and `Interrupted` ends the connection.
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

    /// Called when a [graceful close](Connection::close_gracefully) begins, for example because the
    /// server [stops](crate::ServerKey::stop).
    ///
    /// It is called once, before anything is closed. A handler with a queue of its own writes the
    /// content of that queue here, or [announces](Connection::begin_response) that it will write it
    /// later. Does nothing by default.
    ///
    /// # Errors
    /// Any error except `WouldBlock` and `Interrupted` ends the connection.
    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (connection, cx);
        Ok(())
    }

    /// Called when the socket fails while reading is [paused](Connection::pause_reading) and bytes
    /// that arrived before are unread. A reset by the peer is such a failure.
    ///
    /// Nothing can be sent any more. The connection stays open until the handler resumes reading or
    /// closes it. If the handler resumes reading, the connection ends with this error after the
    /// last byte. Called once. Does nothing by default.
    ///
    /// This method is not called in two cases. In both, [`on_close`](Self::on_close) reports the
    /// error:
    /// - If nothing is unread, the connection ends at once.
    /// - If reading is not paused, the handler is first called with the bytes that have arrived.
    ///
    /// # Errors
    /// Any error except `WouldBlock` and `Interrupted` ends the connection.
    fn on_failure(
        &mut self,
        error: &io::Error,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (error, connection, cx);
        Ok(())
    }

    /// Called when a timeout expires. Closes the connection by default. If the connection is not
    /// closed, the timeout starts again.
    ///
    /// ```
    /// use std::io;
    /// use handlers::{Connection, ConnectionHandler, Timeout};
    /// use reactor::Context;
    ///
    /// struct Chat;
    ///
    /// impl ConnectionHandler<()> for Chat {
    ///     fn on_timeout(
    ///         &mut self,
    ///         timeout: Timeout,
    ///         connection: &mut Connection<'_, ()>,
    ///         _cx: &mut Context<'_, ()>,
    ///     ) -> io::Result<()> {
    ///         match timeout {
    ///             Timeout::Idle => connection.write(b"PING\n").map(|_flow| ()),
    ///             _ => Ok(connection.close()),
    ///         }
    ///     }
    /// #   fn on_data(&mut self, data: &[u8], _: &mut Connection<'_, ()>, _: &mut Context<'_, ()>)
    /// #       -> io::Result<usize> { Ok(data.len()) }
    /// }
    /// ```
    ///
    /// # Errors
    /// Any error except `WouldBlock` and `Interrupted` ends the connection.
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

    /// Called exactly once, as the last callback, when the connection has ended or could not be
    /// established. Does nothing by default.
    ///
    /// If the reactor itself is dropped, the handler is dropped without this call.
    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        let _ = (reason, cx);
    }

    /// Returns the handler that [`with_handler`](crate::ConnectionKey::with_handler) finds by its
    /// type. Override it in a handler that wraps another one and return the inner handler. Default:
    /// this handler.
    fn as_any_mut(&mut self) -> &mut dyn Any
    where
        Self: Sized,
    {
        self
    }
}

/// A connection handler made of a closure, for connections that only need
/// [`on_data`](ConnectionHandler::on_data). Made by the function [`on_data`].
pub struct OnData<F>(F);

impl<F> fmt::Debug for OnData<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnData").finish_non_exhaustive()
    }
}

/// Makes a handler of a closure. The closure is called as [`ConnectionHandler::on_data`]. All other
/// callbacks keep their defaults.
///
/// ```
/// use handlers::{Connection, ConnectionOptions, on_data};
/// use std::os::unix::net::UnixStream;
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = reactor::Reactor::<usize>::new()?;
/// let (near, far) = UnixStream::pair()?;
/// let count = on_data(|data, _connection, cx| {
///     *cx.state += data.len();
///     Ok(data.len())
/// });
/// Connection::open(&mut reactor, near, &ConnectionOptions::new(), count)?;
/// std::io::Write::write_all(&mut &far, b"seven b")?;
/// drop(far);
/// let mut bytes = 0;
/// reactor.run(&mut bytes)?; // returns when the connection has ended
/// assert_eq!(bytes, 7);
/// # Ok(())
/// # }
/// ```
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
