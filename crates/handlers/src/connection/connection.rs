//! What a handler may do with its connection, and so may everyone that reaches it by its key.
//!
//! Writing is in [`write`](super::write), and every way to end in [`close`](super::close).

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use socket2::SockRef;

use super::key::ConnectionKey;
use super::options::ConnectionOptions;
use super::state::{ConnectionMetrics, Flags, State};
use super::stream::{DynStream, Stream};
use super::write::buffer::WriteBuffer;
use crate::socket::plain;

/// A connection, as its handler has it in a callback, and others by [`ConnectionKey::with`].
#[doc(alias("bufferevent", "AsyncSocket", "uv_stream_t", "TcpStream"))]
pub struct Connection<'a, S> {
    pub(super) stream: &'a mut dyn DynStream,
    pub(super) state: &'a mut State,
    /// What was written in this callback, and is still to be tried. Empty while something is queued.
    pub(super) buffer: &'a mut WriteBuffer,
    pub(super) key: ConnectionKey<S>,
    /// Whether it was reached by its key. Writes of the handler are sent when its callback returns. Small writes from
    /// outside are sent with the deferred callbacks, together with those of others.
    pub(super) from_outside: bool,
}

impl<S> Connection<'_, S> {
    /// Returns the key by which this connection is reached from elsewhere.
    pub const fn key(&self) -> ConnectionKey<S> {
        self.key
    }

    /// Returns how many bytes have passed through the connection.
    pub const fn metrics(&self) -> ConnectionMetrics {
        self.state.counters
    }

    /// Stops reading until [`resume_reading`](Self::resume_reading). The peer is held up once the kernel's buffer is
    /// full.
    ///
    /// Nothing is lost by it: what the peer has sent, and its end, wait in the kernel until reading is resumed, also
    /// where the peer has closed the connection or reset it. A reset is reported at once: by
    /// [`on_failure`](crate::ConnectionHandler::on_failure), or where nothing is unread by the end of the connection.
    #[doc(alias("bufferevent_disable", "uv_read_stop"))]
    pub const fn pause_reading(&mut self) {
        self.state.flags.insert(Flags::PAUSED);
    }

    /// Reads again. What the handler has left is given to it anew, later this turn or next.
    #[doc(alias("bufferevent_enable", "uv_read_start"))]
    pub fn resume_reading(&mut self) {
        if self.state.flags.take(Flags::PAUSED) {
            self.state.begin_reading();
        }
    }

    /// Reads on while the queue is full: for a handler that does not fill it, since what comes goes elsewhere.
    pub const fn read_while_full(&mut self) {
        self.state.flags.insert(Flags::READS_WHILE_FULL);
    }

    /// Returns whether the handler is to be given more of what has come.
    #[cfg(feature = "child")]
    pub(crate) const fn takes_data(&self) -> bool {
        self.state.delivers()
    }

    /// Returns whether reading is [paused](Self::pause_reading).
    pub const fn is_paused(&self) -> bool {
        self.state.flags.has(Flags::PAUSED)
    }

    /// Returns whether the peer has ended its direction.
    pub const fn is_read_ended(&self) -> bool {
        self.state.flags.has(Flags::READ_ENDED)
    }

    /// Replaces the options of this connection. Restarts all timeouts except the deadline of a close, and the rate
    /// limits that are not shared.
    pub fn set_options(&mut self, options: &ConnectionOptions) {
        self.state.set_options(options);
    }

    /// Returns the file descriptor, to query or set socket options. Do not read from it or write to it: those bytes
    /// bypass the connection.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.fd()
    }

    /// Returns the stream, if it is of this type: to query or set what only that type knows. `None` otherwise.
    ///
    /// Do not read from it or write to it: those bytes bypass the connection.
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

    /// Returns the stream mutably, if it is of this type: to change how a stream of your own treats its bytes. `None`
    /// otherwise.
    ///
    /// Its file descriptor must stay the same: the loop watches that one.
    pub fn stream_mut<T: Stream>(&mut self) -> Option<&mut T> {
        self.stream.as_any_mut().downcast_mut()
    }

    /// Returns the address of the peer of a TCP connection, an IPv4 one in [plain form](crate::Peer::Tcp). One system
    /// call.
    ///
    /// # Errors
    /// `ENOTCONN` for a peer that has gone; `InvalidInput` for a stream that is no TCP.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(&self.stream.fd()).peer_addr()?;
        Ok(plain(address.as_socket().ok_or(ErrorKind::InvalidInput)?))
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
