//! The connection as handlers see it: its state, its options, and reading. A handler gets the
//! connection in each callback. Other callbacks get it through the key of the connection.
//!
//! Writing is in [`write`](super::write). All ways to close a connection are in
//! [`close`](super::close).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::key::ConnectionKey;
use super::options::ConnectionOptions;
use super::state::{ConnectionMetrics, Flags, State};
use super::stream::{DynStream, Stream};
use super::write::buffer::WriteBuffer;
#[cfg(feature = "futures")]
use crate::limit::ConnectionLimit;
use crate::sockets::{self, plain};

/// A connection. The [handler](crate::ConnectionHandler) of the connection gets it in every
/// callback except [`on_close`](crate::ConnectionHandler::on_close). Other code on the loop gets it
/// through [`ConnectionKey::with`].
#[doc(alias("bufferevent", "AsyncSocket", "uv_stream_t", "TcpStream"))]
pub struct Connection<'a, S> {
    pub(super) stream: &'a mut dyn DynStream,
    pub(super) state: &'a mut State,
    /// The bytes that this callback has written and that are not sent yet. Empty while the write
    /// queue is not empty.
    pub(super) buffer: &'a mut WriteBuffer,
    pub(super) key: ConnectionKey<S>,
    /// `true` if the connection was reached through its key. Writes of the handler are sent when
    /// its callback returns. Small writes from outside are sent with the deferred callbacks,
    /// together with other writes from outside.
    pub(super) from_outside: bool,
}

impl<S> Connection<'_, S> {
    /// Returns the key of this connection. Use it to reach the connection from other callbacks.
    pub const fn key(&self) -> ConnectionKey<S> {
        self.key
    }

    /// Returns how many bytes this connection has read and written.
    pub const fn metrics(&self) -> ConnectionMetrics {
        self.state.metrics()
    }

    /// Stops reading until [`resume_reading`](Self::resume_reading) is called. The peer can still
    /// send until the kernel's buffer is full.
    ///
    /// No byte is lost: bytes of the peer, and the end of its stream, wait in the kernel until
    /// reading is resumed. They wait even if the peer closes or resets the connection during the
    /// pause.
    ///
    /// If the peer resets the connection during the pause and bytes are unread,
    /// [`on_failure`](crate::ConnectionHandler::on_failure) is called at once. If no bytes are
    /// unread, the connection ends at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use handlers::{Connection, on_data};
    /// use reactor::Then;
    ///
    /// // Takes at most one piece of input every 100 ms.
    /// let slow = on_data(|data, connection: &mut Connection<'_, ()>, cx| {
    ///     connection.pause_reading();
    ///     let key = connection.key();
    ///     cx.registry.after(Duration::from_millis(100), move |cx| {
    ///         // An error means that the connection has ended meanwhile.
    ///         let _ = key.with(cx, |connection, _cx| connection.resume_reading());
    ///         Ok(Then::Done)
    ///     });
    ///     Ok(data.len())
    /// });
    /// # let _: handlers::OnData<_> = slow;
    /// ```
    #[doc(alias("bufferevent_disable", "uv_read_stop"))]
    pub const fn pause_reading(&mut self) {
        self.state.flags.insert(Flags::PAUSED);
    }

    /// Resumes reading after [`pause_reading`](Self::pause_reading). In this turn or the next one,
    /// the handler is called with the bytes that it has not consumed yet. Does nothing if reading
    /// is not paused.
    #[doc(alias("bufferevent_enable", "uv_read_start"))]
    pub fn resume_reading(&mut self) {
        if self.state.flags.take(Flags::PAUSED) {
            self.state.begin_reading();
        }
    }

    /// Makes the connection read even while its write queue is full. By default a full queue stops
    /// reading, because input usually leads to more output on the same connection. Use this method
    /// if the handler writes the input to other connections instead, so that reading does not fill
    /// this queue. The effect lasts until the connection ends.
    pub const fn read_while_full(&mut self) {
        self.state.flags.insert(Flags::READS_WHILE_FULL);
    }

    /// Returns the connection limit that this connection counts for.
    #[cfg(feature = "futures")]
    pub(crate) fn limit(&self) -> Option<ConnectionLimit> {
        self.state.limit()
    }

    /// Returns `true` if the handler can be called with more bytes.
    #[cfg(feature = "child")]
    pub(crate) const fn takes_data(&self) -> bool {
        self.state.delivers()
    }

    /// Returns `true` if reading is [paused](Self::pause_reading).
    pub const fn is_paused(&self) -> bool {
        self.state.flags.has(Flags::PAUSED)
    }

    /// Returns `true` once the connection has read the end of the stream: the peer has closed its
    /// write side. For a stream that can only be written, it always returns `true`.
    pub const fn is_read_ended(&self) -> bool {
        self.state.flags.has(Flags::READ_ENDED)
    }

    /// Replaces the options of this connection. All timeouts start again, except the
    /// [deadline](Self::set_deadline) of the handler and that of a close. Rate limits of this
    /// connection alone start again with full token buckets. Shared rate limits keep their state.
    ///
    /// These options have no effect on an open connection:
    /// [`connect_timeout`](ConnectionOptions::connect_timeout),
    /// [`local_addr`](ConnectionOptions::local_addr), and the [options of the
    /// socket](ConnectionOptions#options-of-the-socket), which you can set through
    /// [`as_fd`](Self::as_fd).
    ///
    /// ```
    /// use std::time::Duration;
    /// use handlers::{Connection, ConnectionOptions, on_data};
    ///
    /// // A peer that has logged in may be idle for longer.
    /// let options = ConnectionOptions::new().idle_timeout(Duration::from_secs(3600));
    /// let login = on_data(move |data, connection: &mut Connection<'_, ()>, _cx| {
    ///     if data.starts_with(b"LOGIN ") {
    ///         connection.set_options(&options);
    ///     }
    ///     Ok(data.len())
    /// });
    /// # let _: handlers::OnData<_> = login;
    /// ```
    pub fn set_options(&mut self, options: &ConnectionOptions) {
        self.state.set_options(options);
    }

    /// Sets a deadline for the work of the handler, for example for the rest of a request or for a
    /// response. It replaces the deadline that was set before. When the deadline has passed,
    /// [`on_timeout`](crate::ConnectionHandler::on_timeout) is called once with
    /// [`Timeout::Deadline`](crate::Timeout::Deadline), and by default closes the connection.
    /// `None` clears the deadline. Default: none.
    ///
    /// The deadline runs from this turn. Bytes that come and go do not extend it, so a peer that
    /// sends a byte now and then cannot keep its request open. It also runs while reading is
    /// paused, while a response is [pending](Self::begin_response), and while a rate limit holds
    /// bytes back. Input that has arrived in time is handled before the deadline is checked.
    ///
    /// During a handshake and during a close, the deadline is not checked. The deadline stays when
    /// the options or the handler are replaced.
    ///
    /// ```
    /// use std::io;
    /// use std::time::Duration;
    /// use handlers::{Connection, ConnectionHandler, Timeout};
    /// use reactor::Context;
    ///
    /// const REQUEST_TIME: Duration = Duration::from_secs(30);
    ///
    /// struct Http;
    ///
    /// impl ConnectionHandler<()> for Http {
    ///     fn on_data(
    ///         &mut self,
    ///         data: &[u8],
    ///         connection: &mut Connection<'_, ()>,
    ///         _cx: &mut Context<'_, ()>,
    ///     ) -> io::Result<usize> {
    ///         let Some(end) = data.windows(4).position(|end| end == b"\r\n\r\n") else {
    ///             if !connection.has_deadline() {
    ///                 connection.set_deadline(REQUEST_TIME); // from its first byte
    ///             }
    ///             return Ok(0);
    ///         };
    ///         connection.set_deadline(None);
    ///         let _ = connection.write(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    ///         Ok(end + 4)
    ///     }
    ///
    ///     fn on_timeout(
    ///         &mut self,
    ///         timeout: Timeout,
    ///         connection: &mut Connection<'_, ()>,
    ///         _cx: &mut Context<'_, ()>,
    ///     ) -> io::Result<()> {
    ///         if timeout == Timeout::Deadline {
    ///             let _ = connection.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")?;
    ///             connection.close_after_flush(Duration::from_secs(5));
    ///         } else {
    ///             connection.close();
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Cost
    /// The first deadline of a connection takes an allocation of about 300 bytes, which is kept.
    /// A later deadline costs a store, and a timer is armed only if no earlier time is watched.
    pub fn set_deadline(&mut self, deadline: impl Into<Option<Duration>>) {
        let deadline = deadline.into();
        if deadline.is_none() && self.state.times.is_none() {
            return;
        }
        let times = self.state.times.get_or_insert_with(Box::default);
        if times.set_deadline(deadline) {
            self.state.flags.insert(Flags::NEEDS_UPDATE);
        }
    }

    /// Returns `true` if a [deadline](Self::set_deadline) is set and has not passed.
    pub fn has_deadline(&self) -> bool {
        let times = self.state.times.as_ref();
        times.is_some_and(|times| times.has_handler_deadline())
    }

    /// Returns the file descriptor. Use it to query or set socket options. Do not read from the
    /// descriptor or write to it, because the connection does not see those bytes.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.fd()
    }

    /// Returns the stream if it has type `T`, and `None` otherwise. Use it for a query or a setting
    /// that only the type `T` offers.
    ///
    /// Do not read from the stream or write to it, because the connection does not see those bytes.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use std::os::unix::net::UnixStream;
    /// use handlers::Connection;
    ///
    /// /// Returns whether the peer is on this machine.
    /// fn is_local<S>(connection: &Connection<'_, S>) -> bool {
    ///     match connection.stream::<TcpStream>() {
    ///         Some(tcp) => tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()),
    ///         None => connection.stream::<UnixStream>().is_some(),
    ///     }
    /// }
    /// ```
    pub fn stream<T: Stream>(&self) -> Option<&T> {
        self.stream.as_any().downcast_ref()
    }

    /// Returns the stream mutably if it has type `T`, and `None` otherwise. Use it to change how a
    /// stream of your own treats its bytes.
    ///
    /// Do not replace the file descriptor of the stream, because the loop would continue to watch
    /// the old descriptor.
    pub fn stream_mut<T: Stream>(&mut self) -> Option<&mut T> {
        self.stream.as_any_mut().downcast_mut()
    }

    /// Returns the address of the peer of a TCP connection. An IPv4 address is in [plain
    /// form](crate::Peer::Tcp): `192.0.2.1`, never `::ffff:192.0.2.1`.
    ///
    /// ```
    /// use handlers::{Connection, on_data};
    ///
    /// let greet = on_data(|data, connection: &mut Connection<'_, ()>, _cx| {
    ///     let peer = connection.peer_addr()?;
    ///     let _ = connection.write(format!("hello {peer}\n").as_bytes())?;
    ///     Ok(data.len())
    /// });
    /// # let _: handlers::OnData<_> = greet;
    /// ```
    ///
    /// # Cost
    /// One system call.
    ///
    /// # Errors
    /// - `ENOTCONN` if the peer is gone.
    /// - `ENOTSOCK` if the stream is not a socket.
    /// - `InvalidInput` if the stream is a socket of another family, such as a Unix socket.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        sockets::peer_addr(self.stream.fd()).map(plain)
    }

    /// Returns the process, the user and the group of the peer of a Unix socket.
    /// [`PeerCredentials`](crate::PeerCredentials) describes the time at which they are recorded.
    ///
    /// # Cost
    /// Two system calls.
    ///
    /// # Errors
    /// - `InvalidInput` if the stream is a socket of another family, such as a TCP socket.
    /// - `ENOTSOCK` if the stream is not a socket.
    #[cfg(feature = "unix")]
    #[doc(alias("SO_PEERCRED", "getpeereid"))]
    pub fn peer_credentials(&self) -> io::Result<sockets::PeerCredentials> {
        sockets::credentials::peer_credentials(self.stream.fd())
    }

    /// Returns our own address of a TCP connection: the address that the client has connected to,
    /// if the connection was accepted. An IPv4 address is in [plain form](crate::Peer::Tcp).
    ///
    /// ```
    /// use handlers::{Connection, on_data};
    ///
    /// let answer = on_data(|data, connection: &mut Connection<'_, ()>, _cx| {
    ///     let host = connection.local_addr()?.ip();
    ///     let _ = connection.write(format!("this is {host}\n").as_bytes())?;
    ///     Ok(data.len())
    /// });
    /// # let _: handlers::OnData<_> = answer;
    /// ```
    ///
    /// # Cost
    /// One system call.
    ///
    /// # Errors
    /// - `ENOTSOCK` if the stream is not a socket.
    /// - `InvalidInput` if the stream is a socket of another family, such as a Unix socket.
    #[doc(alias("getsockname"))]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sockets::local_addr(self.stream.fd()).map(plain)
    }
}

impl<S> fmt::Debug for Connection<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("key", &self.key)
            .field("phase", &self.state.phase())
            .field("queued", &self.queued())
            .field("counters", &self.state.counters)
            .finish_non_exhaustive()
    }
}
