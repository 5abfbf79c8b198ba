//! Replacing the handler of an open connection.
//!
//! A key knows the type of the handler for which it was made, and keys are copied. So what is replaced is the content
//! of a box, whose type stays.

use std::any::{Any, TypeId};
use std::io;
use std::mem::replace;

use reactor::{Context, Error};

use super::connection::Connection;
use super::dispatch::Dispatch;
use super::handler::ConnectionHandler;
use super::reason::CloseReason;
use super::state::{Flags, Phase};
use super::stream::Stream;
use super::times::Timeout;

/// A handler of any type, which can be [replaced](Connection::replace_handler) while its connection is open.
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

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        (**self).on_close(reason, cx);
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        &mut **self
    }
}

impl<S: 'static> Connection<'_, S> {
    /// Replaces the handler of this connection when this callback, or this call by its key, returns.
    ///
    /// For a change of protocol: HTTP to WebSocket, STARTTLS. The connection must have been opened with a
    /// [`BoxedHandler`]. The new handler is notified by [`on_open`](ConnectionHandler::on_open), later this turn or
    /// next, before any other callback. Then it is given the bytes that the old one has not consumed, and an end of the
    /// peer's direction that has come already. The old handler is dropped without
    /// [`on_close`](ConnectionHandler::on_close). The new one is notified too if the connection is to
    /// [finish](Connection::close_gracefully), or has [failed](ConnectionHandler::on_failure). The key, the options, a pause of
    /// reading, the timeouts, what is queued and the pending responses stay. Of several calls the last one counts.
    ///
    /// # Errors
    /// [`Error::OtherType`] if the connection was not opened with a [`BoxedHandler`].
    ///
    /// ```
    /// use std::io;
    /// use handlers::{BoxedHandler, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, on_data};
    /// use reactor::{Context, Registry};
    ///
    /// struct Http;
    ///
    /// impl ConnectionHandler<()> for Http {
    ///     fn on_data(&mut self, data: &[u8], connection: &mut Connection<'_, ()>, _: &mut Context<'_, ()>) -> io::Result<usize> {
    ///         let Some(end) = data.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(0) };
    ///         let _ = connection.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")?;
    ///         let echo = on_data(|data, connection: &mut Connection<'_, ()>, _cx: &mut Context<'_, ()>| {
    ///             connection.write(data).map(|_flow| data.len())
    ///         });
    ///         connection.replace_handler(Box::new(echo))?;
    ///         Ok(end + 4) // what follows the request is given to the new handler
    ///     }
    /// }
    ///
    /// fn serve(registry: &mut Registry<()>, client: std::net::TcpStream) -> io::Result<ConnectionKey<()>> {
    ///     let handler: BoxedHandler<()> = Box::new(Http);
    ///     Ok(Connection::open(registry, client, &ConnectionOptions::new(), handler)?)
    /// }
    /// ```
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
    /// Puts the handler that the callback wants into the place of the one that has run.
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
