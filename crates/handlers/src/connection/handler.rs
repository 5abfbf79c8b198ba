//! The handler of a connection: the trait that a user implements, and a handler made of a closure.

use std::any::Any;
use std::fmt;
use std::io;

use reactor::Context;

use super::connection::Connection;
use super::reason::CloseReason;
use super::state::ConnectionMetrics;
use super::times::Timeout;

/// Handles the events of a connection. Implement it to give a connection its behaviour.
///
/// All callbacks run on the thread of the loop. If a callback returns an error, its connection
/// ends, and other connections continue. The errors `WouldBlock` and `Interrupted` are exceptions:
/// they mean that the callback has done nothing, and the connection continues. If
/// [`on_data`](Self::on_data) returns one of these two errors, it has consumed no bytes.
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
///
/// # Contexts of requests
/// With the feature `request-context`, all callbacks of a connection run in the context of the
/// connection. This is the context that was current when the connection was opened, accepted or
/// connected. It is current also in a callback that another request causes, for example in
/// [`on_drain`](Self::on_drain) after a write through the [key](crate::ConnectionKey).
///
/// A connection that serves many requests gives each of them a context of its own: it calls
/// `cx.set_context(..)` when it has read a request. The context is current from then on, also in
/// the jobs and the timers that the callback hands on. With `RequestContext::NONE` after the last
/// request, the open connection keeps no context.
///
#[cfg_attr(feature = "request-context", doc = "```")]
#[cfg_attr(not(feature = "request-context"), doc = "```ignore")]
/// use std::io;
/// use handlers::{Connection, ConnectionHandler, PoolHandle};
/// use reactor::{Context, RequestContext};
/// use tracing::info_span;
///
/// /// Each byte is a request. Its answer is computed by a job.
/// struct Server {
///     pool: PoolHandle<()>,
///     requests: u64,
/// }
///
/// impl ConnectionHandler<()> for Server {
///     fn on_data(
///         &mut self,
///         data: &[u8],
///         connection: &mut Connection<'_, ()>,
///         cx: &mut Context<'_, ()>,
///     ) -> io::Result<usize> {
///         for &byte in data {
///             self.requests += 1;
///             let span = info_span!(parent: None, "request", id = self.requests);
///             cx.set_context(RequestContext::NONE.with_span(span));
///             let key = connection.key();
///             let answer = move || {
///                 tracing::info!("computing"); // on a worker, within the span of the request
///                 byte.to_ascii_uppercase()
///             };
///             let submitted = self.pool.submit(answer, move |answer, cx| {
///                 tracing::info!("answered"); // on the loop, within the same span
///                 // An error means that the client is gone.
///                 let _ = key.write(cx, &[answer.unwrap_or(b'!')]);
///             });
///             submitted.map_err(|refused| refused.reason)?;
///         }
///         cx.set_context(RequestContext::NONE);
///         Ok(data.len())
///     }
/// }
/// ```
#[doc(alias("ReadCallback", "bufferevent_setcb", "uv_read_cb"))]
pub trait ConnectionHandler<S>: Any {
    /// Called when the connection is open, before all other callbacks. A connection on a
    /// [layered stream](crate::Stream#layered-streams) is open when the handshake is complete. If
    /// the connection ends before it is open, only [`on_close`](Self::on_close) is called. Does
    /// nothing by default.
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
    /// complete, leave its bytes unconsumed: `on_data` is called again when more bytes have
    /// arrived. If the handler leaves more than
    /// [`ConnectionOptions::max_buffered_input`](crate::ConnectionOptions::max_buffered_input)
    /// bytes unconsumed, the connection ends with an error of kind `QuotaExceeded`.
    ///
    /// Do not return more than the length of `data`. A debug build panics at a greater number.
    /// Other builds treat a greater number as the length of `data`.
    ///
    /// Unconsumed bytes do not stop reading. If the handler cannot take more bytes for now, it must
    /// also call [`Connection::pause_reading`]. After [`Connection::resume_reading`] the handler is
    /// called with the unconsumed bytes.
    ///
    /// # Errors
    /// Any error except `WouldBlock` and `Interrupted` ends the connection.
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize>;

    /// Called when the write queue was [full](crate::Flow::Full) and has drained to the low
    /// [watermark](crate::ConnectionOptions::watermarks). Does nothing by default.
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

    /// Called when the kernel has taken all bytes that were written before a
    /// [mark](Connection::notify_sent). `position` is the position of the mark. If several marks
    /// are reached in one turn, this is called once, with the position of the last of them. Does
    /// nothing by default.
    ///
    /// Bytes that the kernel has taken can still be lost on their way. Only an answer of the peer
    /// shows that it has read them.
    ///
    /// # Errors
    /// Any error except `WouldBlock` and `Interrupted` ends the connection.
    fn on_sent(
        &mut self,
        position: u64,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (position, connection, cx);
        Ok(())
    }

    /// Called when the peer has closed its write side. `rest` holds the bytes that
    /// [`on_data`](Self::on_data) did not consume. The handler can still write.
    ///
    /// The default calls [`Connection::shutdown_after_responses`], which closes our write side once
    /// everything is sent and no response is [pending](Connection::begin_response). The connection
    /// then ends, since both sides are closed.
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
    /// This callback is called once, before anything is closed. If the handler has a queue of its
    /// own, it must write the content of that queue in this callback. If the content can only be
    /// written later, the handler must [announce](Connection::begin_response) it as a response.
    /// Does nothing by default.
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
    /// of the peer are unread. A socket fails, for example, when the peer resets the connection.
    ///
    /// After this call nothing can be sent any more. The connection stays open until the handler
    /// resumes reading or closes the connection. If the handler resumes reading, the connection
    /// ends with this error after the last unread byte. `on_failure` is called at most once for a
    /// connection. Does nothing by default.
    ///
    /// In these cases `on_failure` is not called, and only [`on_close`](Self::on_close) reports the
    /// error:
    /// - No byte is unread. The connection then ends at once.
    /// - Reading is not paused. The handler is then called with the bytes that have arrived, before
    ///   the connection ends.
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

    /// Called when a timeout of the connection expires. The default closes the connection. If the
    /// callback does not close the connection, the timeout starts again. A
    /// [deadline](Connection::set_deadline) does not start again.
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

    /// Called just before [`on_close`](Self::on_close) with the final numbers of bytes. Use it to
    /// learn which messages the peer may have got. A message that was written from position `start`
    /// to position `end` (see [`Connection::write_position`]) has one of three fates:
    ///
    /// - If `start >= metrics.written`, the kernel has taken no byte of it. It can be sent again on
    ///   another connection.
    /// - If `end <= metrics.sent`, the kernel has taken all of it. The peer may have read it.
    /// - Otherwise the kernel has, or may have, taken a part of it.
    ///
    /// If it panics, `on_close` is called all the same. Does nothing by default. Not called if no
    /// connection was made.
    fn on_final_metrics(&mut self, metrics: ConnectionMetrics, cx: &mut Context<'_, S>) {
        let _ = (metrics, cx);
    }

    /// Called exactly once, as the last callback, when the connection has ended or could not be
    /// established. The stream is already closed at this call, unless it was
    /// [taken](CloseReason::Taken). Does nothing by default.
    ///
    /// In three cases a handler is dropped, and its `on_close` is not called:
    /// - The reactor is dropped.
    /// - The handler is [replaced](Connection::replace_handler).
    /// - A panic of another callback than [`on_final_metrics`](Self::on_final_metrics) unwinds
    ///   through the loop, under [`PanicPolicy::Propagate`](reactor::PanicPolicy::Propagate).
    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        let _ = (reason, cx);
    }

    /// Returns the handler that [`with_handler`](crate::ConnectionKey::with_handler) finds by its
    /// type. If your handler wraps another handler, override this method and return the wrapped
    /// handler. By default this handler itself is returned.
    fn as_any_mut(&mut self) -> &mut dyn Any
    where
        Self: Sized,
    {
        self
    }
}

/// A connection handler made of a closure, for connections that need no callback but
/// [`on_data`](ConnectionHandler::on_data). The function [`on_data`] makes it.
pub struct OnData<F>(F);

impl<F> fmt::Debug for OnData<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnData").finish_non_exhaustive()
    }
}

/// Makes a handler of a closure. The closure is called in place of [`ConnectionHandler::on_data`].
/// All other callbacks do what they do by default.
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
