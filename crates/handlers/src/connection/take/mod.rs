//! Taking a stream back: its registration ends, and the stream goes on elsewhere.
//!
//! Ground rule: no byte is lost or changes its place. Bytes that were read and not consumed, and
//! bytes that were written and not sent, go with the stream.

mod taken;

use std::any::Any;
use std::io::{self, ErrorKind};
use std::time::Duration;

use reactor::{Context, Error, Io, Key, Registry, Then, TimerKey};

pub use self::taken::{Taken, TakenParts};
use super::connection::Connection;
use super::dispatch::Dispatch;
use super::handler::ConnectionHandler;
use super::key::{ConnectionKey, Request};
use super::reason::CloseReason;
use super::registration::Registration;
use super::state::{Flags, Phase};
use super::stream::Stream;
use super::times::Timeout;

impl<S> ConnectionKey<S> {
    /// Takes the stream of the connection back. The registration ends, the stream stays open, and
    /// the handler's [`on_close`](ConnectionHandler::on_close) is called with
    /// [`CloseReason::Taken`], with the deferred callbacks. Use it to move a connection to another
    /// loop, or to go on with a stream of another type.
    ///
    /// The result holds the bytes that were read and not consumed, and the bytes that were written
    /// and not sent. It keeps the place of the connection below its
    /// [limit](crate::ConnectionLimit), and belongs to the same [server](crate::ServerKey) as the
    /// connection. The options, the timeouts, a pause of reading, the counters and [pending
    /// responses](Connection::begin_response) are not kept. A [graceful
    /// close](Connection::close_gracefully) that has not begun to close is dropped, except that of
    /// a server that stops.
    ///
    /// In a callback of the connection itself use
    /// [`take_after_flush`](Connection::take_after_flush).
    ///
    /// ```
    /// use std::io;
    /// use std::net::TcpStream;
    /// use handlers::{ConnectionKey, ConnectionOptions, on_data};
    /// use reactor::{Context, Remote};
    ///
    /// /// Moves a connection to another loop, which echoes its input from now on.
    /// fn move_to(
    ///     other: &Remote<()>,
    ///     connection: ConnectionKey<()>,
    ///     cx: &mut Context<'_, ()>,
    /// ) -> io::Result<()> {
    ///     let taken = connection.take::<TcpStream>(cx)?;
    ///     let posted = other.post(move |cx| {
    ///         let echo = on_data(|data, connection, _cx| {
    ///             let _flow = connection.write(data)?;
    ///             Ok(data.len())
    ///         });
    ///         if let Err(error) = taken.open(cx.registry, &ConnectionOptions::new(), echo) {
    ///             eprintln!("a connection is dropped: {error}");
    ///         }
    ///     });
    ///     Ok(posted?)
    /// }
    /// ```
    ///
    /// # Cost
    /// O(1): one `epoll_ctl`, one allocation. No byte is copied.
    ///
    /// # Errors
    /// The connection is unchanged if one of these is returned:
    /// - `NotFound` if the connection has ended.
    /// - `ResourceBusy` while a callback of this connection is running.
    /// - `InvalidInput` if the stream does not have type `T`.
    /// - `NotConnected` while the connection is still connecting.
    /// - `BrokenPipe` if the connection is closing.
    /// - The error of the socket, if the socket has failed. The handler is notified of it.
    #[doc(alias("detach", "into_inner", "bufferevent_setfd", "detachNetworkSocket"))]
    pub fn take<T: Stream>(self, cx: &mut Context<'_, S>) -> io::Result<Taken<T>> {
        let mut place = None::<io::Result<Taken<T>>>;
        self.request(Request::Take(cx, &mut place))?;
        place.unwrap_or_else(|| Err(Error::StaleKey(self.key()).into()))
    }

    /// Ends [`take_after_flush`](Connection::take_after_flush): takes the stream if everything has
    /// been sent. Otherwise its deadline has passed, and the connection ends.
    fn take_flushed<T: Stream>(self, cx: &mut Context<'_, S>) -> io::Result<Taken<T>> {
        let is_flushed = self.with(cx, |connection, _cx| connection.ends_flush())?;
        if !is_flushed {
            let text = "cannot take the stream: its peer has not taken all bytes in time";
            return Err(io::Error::new(ErrorKind::TimedOut, text));
        }
        self.take(cx)
    }
}

/// Takes the stream of the connection `key`, which has these types, into `place`.
pub(super) fn take_into<S, T, H>(
    key: Key,
    place: &mut dyn Any,
    cx: &mut Context<'_, S>,
) -> Result<(), Error>
where
    T: Stream,
    H: ConnectionHandler<S>,
{
    let place = place
        .downcast_mut::<Option<io::Result<Taken<T>>>>()
        .ok_or(Error::OtherType(key))?;
    let carried = cx.with_handler(key, |_: &mut Io<T>, from: &mut Registration<H>, _| {
        from.state.carry()
    })?;
    *place = Some(match carried {
        Ok(carried) => Ok(Taken::new(cx.registry.take_source(key)?, carried)),
        Err(error) => Err(error),
    });
    Ok(())
}

impl<S: 'static> Connection<'_, S> {
    /// Takes the stream back as [`ConnectionKey::take`] does, once all bytes that were written have
    /// been sent. Use it for a change of protocol, for example at STARTTLS: the handler writes the
    /// response that announces the change, and calls this method.
    ///
    /// From this call on the connection reads no more, and the handler gets no further input. When
    /// everything has been sent, `then` is called with the stream. It is called exactly once, after
    /// the running callback has returned. If the loop is dropped, it is dropped.
    ///
    /// If the peer does not take the bytes within `deadline`, the connection ends with
    /// [`Timeout::Close`], and is reset.
    ///
    /// ```
    /// use std::io;
    /// use std::net::TcpStream;
    /// use std::time::Duration;
    /// use handlers::{Connection, ConnectionHandler, ConnectionOptions, Stream, Taken};
    /// use reactor::Context;
    ///
    /// /// A protocol that goes on in plain text or protected.
    /// struct Session {
    ///     protect: fn(TcpStream) -> io::Result<TcpStream>,
    /// }
    ///
    /// impl ConnectionHandler<()> for Session {
    ///     fn on_data(
    ///         &mut self,
    ///         data: &[u8],
    ///         connection: &mut Connection<'_, ()>,
    ///         cx: &mut Context<'_, ()>,
    ///     ) -> io::Result<usize> {
    ///         let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
    ///             return Ok(0);
    ///         };
    ///         if !data.starts_with(b"STARTTLS") {
    ///             let _ = connection.write(b"500 what?\r\n")?;
    ///             return Ok(end + 1);
    ///         }
    ///         let _ = connection.write(b"220 go ahead\r\n")?;
    ///         let protect = self.protect;
    ///         let deadline = Duration::from_secs(30);
    ///         connection.take_after_flush(cx, deadline, move |taken: io::Result<Taken<_>>, cx| {
    ///             let protected = taken.and_then(|taken| taken.upgrade(protect));
    ///             let opened = protected.and_then(|stream| {
    ///                 stream.open(cx.registry, &ConnectionOptions::new(), Session { protect })
    ///             });
    ///             if let Err(error) = opened {
    ///                 eprintln!("a connection is dropped: {error}");
    ///             }
    ///         })?;
    ///         Ok(end + 1) // bytes after this line were injected, and `upgrade` refuses them
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// The connection is unchanged if one of these is returned, and `then` is dropped:
    /// - `InvalidInput` if the stream does not have type `T`.
    /// - `ResourceBusy` if this method was called before.
    /// - `NotConnected` while the connection is still connecting.
    /// - `BrokenPipe` if the connection is closing.
    /// - The error of the socket, if the socket has failed.
    ///
    /// `then` is called with one of these:
    /// - `NotFound` if the connection has ended before. Its
    ///   [`on_close`](ConnectionHandler::on_close) has the reason.
    /// - `BrokenPipe` if the connection is being closed.
    /// - `TimedOut` if `deadline` has passed.
    #[doc(alias("starttls", "upgrade"))]
    #[track_caller]
    pub fn take_after_flush<T: Stream>(
        &mut self,
        cx: &mut Context<'_, S>,
        deadline: Duration,
        then: impl FnOnce(io::Result<Taken<T>>, &mut Context<'_, S>) + 'static,
    ) -> io::Result<()> {
        self.state.expect_open()?;
        if self.stream::<T>().is_none() {
            return Err(Error::OtherType(self.key.key()).into());
        }
        if self.state.flags.has(Flags::TAKEN_WHEN_FLUSHED) {
            return Err(Error::Running(self.key.key()).into());
        }
        let (key, mut then) = (self.key, Some(then));
        let timer = cx.registry.after(deadline, move |cx| {
            if let Some(then) = then.take() {
                then(key.take_flushed(cx), cx);
            }
            Ok(Then::Done)
        });
        // In the background: the connection keeps `run` alive, and its end runs the timer.
        cx.registry.set_timer_background(timer)?;
        self.state.flags.insert(Flags::TAKEN_WHEN_FLUSHED);
        self.state.take_timer = Some(timer);
        Ok(())
    }
}

impl<S> Connection<'_, S> {
    /// Returns `true` if everything has been sent. Otherwise ends the connection.
    fn ends_flush(&mut self) -> bool {
        self.state.take_timer = None; // it is running
        self.send_queued(); // the peer may have made room since
        let is_flushed = self.state.is_flushed();
        let closes = self.state.phase() != Phase::Open;
        if !is_flushed && !closes {
            self.state.end(CloseReason::TimedOut(Timeout::Close));
        }
        is_flushed || closes
    }
}

impl<S, T: Stream, H: ConnectionHandler<S>> Dispatch<'_, S, T, H> {
    /// Lets [`take_after_flush`](Connection::take_after_flush) take the stream, if everything has
    /// been sent.
    pub(super) fn take_if_flushed(&mut self, cx: &mut Context<'_, S>) {
        if self.state.is_flushed() {
            run_timer(cx.registry, self.state.take_timer.take());
        }
    }
}

/// Runs the timer of [`take_after_flush`](Connection::take_after_flush) now, if there is one.
pub(super) fn run_timer<S>(registry: &mut Registry<S>, timer: Option<TimerKey>) {
    if let Some(timer) = timer {
        // An error means that the deadline has passed, and the timer has run.
        let _ = registry.set_timer_foreground(timer);
        let _ = registry.reset(timer, Duration::ZERO);
    }
}
