//! Replacing the handler of an open connection.
//!
//! A key is bound to the type of the handler that it was made for, and keys are copied. So the type
//! of the handler must stay the same. It is the type of a box, and only the content of the box is
//! replaced.

use std::any::{Any, TypeId};
use std::io;
use std::mem::replace;

use reactor::{Context, Error};

use super::connection::Connection;
use super::dispatch::Dispatch;
use super::handler::ConnectionHandler;
use super::reason::CloseReason;
use super::state::{ConnectionMetrics, Flags, Phase};
use super::stream::Stream;
use super::times::Timeout;

/// A handler of any type, in a box. It can be [replaced](Connection::replace_handler) while its
/// connection is open.
///
/// ```
/// use handlers::{BoxedHandler, on_data};
///
/// let discard: BoxedHandler<()> = Box::new(on_data(|data, _connection, _cx| Ok(data.len())));
/// ```
pub type BoxedHandler<S> = Box<dyn ConnectionHandler<S>>;

impl<S: 'static> ConnectionHandler<S> for BoxedHandler<S> {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        (**self).on_open(connection, cx)
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        (**self).on_data(data, connection, cx)
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        (**self).on_drain(connection, cx)
    }

    fn on_sent(
        &mut self,
        position: u64,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        (**self).on_sent(position, connection, cx)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        (**self).on_end(rest, connection, cx)
    }

    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        (**self).on_graceful_close(connection, cx)
    }

    fn on_failure(
        &mut self,
        error: &io::Error,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        (**self).on_failure(error, connection, cx)
    }

    fn on_timeout(
        &mut self,
        timeout: Timeout,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        (**self).on_timeout(timeout, connection, cx)
    }

    fn on_final_metrics(&mut self, metrics: ConnectionMetrics, cx: &mut Context<'_, S>) {
        (**self).on_final_metrics(metrics, cx);
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        (**self).on_close(reason, cx);
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        &mut **self
    }
}

impl<S: 'static> Connection<'_, S> {
    /// Replaces the handler of this connection when the running callback, or the closure of
    /// [`with`](crate::ConnectionKey::with), returns. Use it for a change of protocol, for example
    /// from HTTP to WebSocket, or at STARTTLS.
    ///
    /// The connection must have been opened with a [`BoxedHandler`]. The old handler is dropped
    /// without [`on_close`](ConnectionHandler::on_close). The new handler is called in this order:
    /// 1. [`on_open`](ConnectionHandler::on_open), in this turn or the next one, before any other
    ///    callback.
    /// 2. [`on_data`](ConnectionHandler::on_data) with the bytes that the old handler has not
    ///    consumed.
    /// 3. [`on_end`](ConnectionHandler::on_end), if the peer has already closed its write side.
    ///
    /// If the connection is [closing gracefully](Connection::close_gracefully),
    /// [`on_graceful_close`](ConnectionHandler::on_graceful_close) of the new handler is called. If
    /// the connection has failed, [`on_failure`](ConnectionHandler::on_failure) of the new handler
    /// is called.
    ///
    /// The replacement does not change the key, the options, a pause of reading, the timeouts, the
    /// write queue and the pending responses. [Marks](Connection::notify_sent) of the old handler
    /// are removed. If `replace_handler` is called several times before
    /// the callback returns, the handler of the last call is used.
    ///
    /// ```
    /// use std::io;
    /// use handlers::{
    ///     BoxedHandler, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, on_data,
    /// };
    /// use reactor::{Context, Registry};
    ///
    /// struct Http;
    ///
    /// impl ConnectionHandler<()> for Http {
    ///     fn on_data(
    ///         &mut self,
    ///         data: &[u8],
    ///         connection: &mut Connection<'_, ()>,
    ///         _: &mut Context<'_, ()>,
    ///     ) -> io::Result<usize> {
    ///         let Some(end) = data.windows(4).position(|end| end == b"\r\n\r\n") else {
    ///             return Ok(0);
    ///         };
    ///         let _ = connection.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")?;
    ///         let echo = on_data(|data, connection: &mut Connection<'_, ()>, _cx| {
    ///             connection.write(data).map(|_flow| data.len())
    ///         });
    ///         connection.replace_handler(Box::new(echo))?;
    ///         Ok(end + 4) // the new handler is called with the bytes after the request
    ///     }
    /// }
    ///
    /// fn serve(
    ///     registry: &mut Registry<()>,
    ///     client: std::net::TcpStream,
    /// ) -> io::Result<ConnectionKey<()>> {
    ///     let handler: BoxedHandler<()> = Box::new(Http);
    ///     Ok(Connection::open(registry, client, &ConnectionOptions::new(), handler)?)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::OtherType`] if the connection was not opened with a [`BoxedHandler`].
    pub fn replace_handler(&mut self, handler: BoxedHandler<S>) -> Result<(), Error> {
        if self.key.handler_type() != Some(TypeId::of::<BoxedHandler<S>>()) {
            return Err(Error::OtherType(self.key.key()));
        }
        self.state.flags.insert(Flags::REPLACED);
        self.state.replacement = Some(Box::new(handler));
        Ok(())
    }
}

impl<S, T: Stream, H: ConnectionHandler<S>> Dispatch<'_, S, T, H> {
    /// Replaces the handler whose callback has run by the handler that this callback has passed on.
    #[cold]
    #[inline(never)]
    pub(super) fn replace_handler(&mut self) {
        self.state.flags.remove(Flags::REPLACED);
        let Some(new) = self
            .state
            .replacement
            .take()
            .and_then(|new| new.downcast::<H>().ok())
        else {
            return;
        };
        let Some(handler) = &mut self.handler else {
            return;
        };
        let old = replace(*handler, *new);
        if self.state.phase() == Phase::Open {
            self.state.reopen();
        }
        drop(old); // which may panic
    }
}
