//! The options of connections. All connections with the same options share one copy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::rate::RateLimit;
use super::write::buffer::BUFFER_MAX;
#[cfg(feature = "names")]
use crate::names::Resolver;
use crate::sockets::SocketOptions;

/// The options of connections: watermarks, limits, timeouts and rates. One value can be used for
/// any number of connections. A clone is cheap, since all clones share one copy of the options.
///
/// ```
/// use handlers::ConnectionOptions;
/// use std::time::Duration;
///
/// let options = ConnectionOptions::new()
///     .idle_timeout(Duration::from_secs(60))
///     .watermarks(16 * 1024, 64 * 1024);
/// ```
///
/// # Options of the socket
/// These options are set on the socket itself: [`no_delay`](Self::no_delay),
/// [`keepalive`](Self::keepalive), [`user_timeout`](Self::user_timeout),
/// [`receive_buffer`](Self::receive_buffer), [`send_buffer`](Self::send_buffer),
/// [`mark`](Self::mark), [`bind_device`](Self::bind_device), and every option that you set in
/// [`prepare`](Self::prepare).
///
/// - A socket of [`Connection::connect`](crate::Connection::connect) and
///   [`connect_to`](crate::Connection::connect_to) gets them after `socket(2)`
///   and before `bind(2)` and `connect(2)`. If one of them cannot be set, the attempt fails.
/// - An accepted socket gets them when it is opened, by
///   [`Listener::serve`](crate::Listener::serve) or [`Accepted::open`](crate::Accepted::open). If
///   one of them cannot be set, the connection is dropped, with the error that `Accepted::open`
///   returns and `Listener::serve` logs. An option that is not set has the value of the listening
///   socket, since the kernel copies the options of that socket.
/// - A Unix socket gets only `send_buffer`, and is passed to `prepare`.
/// - [`Connection::open`](crate::Connection::open) and
///   [`Connection::set_options`](crate::Connection::set_options) leave the socket as it is.
///
/// The error names the option and the fd, for example "setsockopt(SO_MARK) on fd 7: Operation not
/// permitted (os error 1): needs CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17".
///
/// Each option costs one `setsockopt` for each socket, and `keepalive` two to four. An option that
/// is not set costs nothing, except `no_delay`, which is set with either value.
#[derive(Clone, Debug, Default)]
pub struct ConnectionOptions(pub(super) Arc<Settings>);

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) low_watermark: usize,
    pub(super) high_watermark: usize,
    pub(super) max_write_queue: usize,
    pub(super) max_buffered_input: usize,
    pub(super) max_bytes_per_turn: usize,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) handshake_timeout: Option<Duration>,
    pub(super) max_handshakes: usize,
    pub(super) max_handshakes_per_turn: usize,
    pub(super) local_addr: Option<SocketAddr>,
    pub(super) read_rate: Option<RateLimit>,
    pub(super) write_rate: Option<RateLimit>,
    pub(super) shared_read_rate: Option<RateLimit>,
    pub(super) shared_write_rate: Option<RateLimit>,
    #[cfg(feature = "names")]
    pub(super) resolver: Resolver,
    pub(super) no_delay: bool,
    /// `None` until one of these options is set.
    pub(super) socket: Option<Box<SocketOptions>>,
    /// While the write buffer holds fewer bytes than this, no other limit on writing is reached.
    /// Derived from those limits.
    pub(super) buffer_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            low_watermark: 64 * 1024,
            high_watermark: 256 * 1024,
            max_write_queue: 16 * 1024 * 1024,
            max_buffered_input: 1024 * 1024,
            max_bytes_per_turn: 256 * 1024,
            idle_timeout: None,
            read_timeout: None,
            write_timeout: None,
            connect_timeout: Some(Duration::from_secs(30)),
            handshake_timeout: Some(Duration::from_secs(10)),
            max_handshakes: usize::MAX,
            max_handshakes_per_turn: 16,
            local_addr: None,
            read_rate: None,
            write_rate: None,
            shared_read_rate: None,
            shared_write_rate: None,
            #[cfg(feature = "names")]
            resolver: Resolver::default(),
            no_delay: true,
            socket: None,
            buffer_max: BUFFER_MAX,
        }
    }
}

impl Settings {
    /// Returns `true` if any of these options needs the time.
    pub(super) const fn watch_time(&self) -> bool {
        self.idle_timeout.is_some()
            || self.read_timeout.is_some()
            || self.write_timeout.is_some()
            || self.read_rate.is_some()
            || self.write_rate.is_some()
            || self.shared_read_rate.is_some()
            || self.shared_write_rate.is_some()
    }
}

impl ConnectionOptions {
    /// Returns the limit that [`max_write_queue`](Self::max_write_queue) has set.
    pub(crate) fn max_write_queue_set(&self) -> usize {
        self.0.max_write_queue
    }

    /// Returns the default options. The default of each option is stated at the method that sets
    /// it.
    ///
    /// ```
    /// use handlers::{Connection, ConnectionOptions, on_data};
    /// use std::os::unix::net::UnixStream;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let options = ConnectionOptions::new().max_buffered_input(8 * 1024);
    /// let (stream, _peer) = UnixStream::pair()?;
    /// let discard = on_data(|data, _connection, _cx| Ok(data.len()));
    /// Connection::open(&mut reactor, stream, &options, discard)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        let settings = Arc::make_mut(&mut self.0);
        change(settings);
        settings.buffer_max = BUFFER_MAX
            .min(settings.high_watermark)
            .min(settings.max_write_queue.saturating_add(1));
        self
    }

    /// Sets the watermarks of the write queue. If `high` bytes or more are queued,
    /// [`Connection::write`](crate::Connection::write) returns [`Flow::Full`](crate::Flow::Full),
    /// and the connection stops reading. When at most `low` bytes are left in the queue,
    /// [`on_drain`](crate::ConnectionHandler::on_drain) is called, and the connection reads again.
    /// `low` is clamped to `high`, and `high` is at least 1. Default: 64 KiB low, 256 KiB high.
    #[doc(alias("bufferevent_setwatermark"))]
    #[must_use]
    pub fn watermarks(self, low: usize, high: usize) -> Self {
        self.with(|settings| {
            (settings.low_watermark, settings.high_watermark) = (low.min(high), high.max(1))
        })
    }

    /// Sets the maximum number of bytes in the write queue. A write that would exceed this number
    /// fails with an error of kind `QuotaExceeded`. Default: 16 MiB.
    #[must_use]
    pub fn max_write_queue(self, bytes: usize) -> Self {
        self.with(|settings| settings.max_write_queue = bytes)
    }

    /// Sets the maximum number of bytes that a handler can leave unconsumed. If a handler leaves
    /// more bytes, the connection ends with an error of kind `QuotaExceeded`. Set this to the
    /// length of the longest message or more. Default: 1 MiB.
    #[must_use]
    pub fn max_buffered_input(self, bytes: usize) -> Self {
        self.with(|settings| settings.max_buffered_input = bytes)
    }

    /// Sets the maximum number of bytes that a connection reads in one turn, so that a fast
    /// connection does not hold up others. This is also the maximum number of bytes that a
    /// connection sends from its queue in one turn. The minimum is 1. Default: 256 KiB.
    #[must_use]
    pub fn max_bytes_per_turn(self, bytes: usize) -> Self {
        self.with(|settings| settings.max_bytes_per_turn = bytes.max(1))
    }

    /// Sets the idle timeout: [`on_timeout`](crate::ConnectionHandler::on_timeout) is called when
    /// no byte was read or written for this long. The timeout does not run while a rate limit holds
    /// back reading. Default: none.
    ///
    /// Even if the process was stopped or a callback was slow, no timeout of a connection expires
    /// wrongly: bytes that arrived in time are handled before the timeout is checked. If the socket
    /// could take more bytes in time, the queued bytes are also sent before the check.
    ///
    /// ```
    /// use handlers::ConnectionOptions;
    /// use std::time::Duration;
    ///
    /// let options = ConnectionOptions::new().idle_timeout(Duration::from_secs(60));
    /// let without = options.idle_timeout(None);
    /// ```
    #[doc(alias("bufferevent_set_timeouts"))]
    #[must_use]
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.idle_timeout = timeout.into())
    }

    /// Sets the read timeout: [`on_timeout`](crate::ConnectionHandler::on_timeout) is called when
    /// no byte was read for this long. The timeout does not run while reading is paused, while the
    /// write queue is full, or while a rate limit holds back reading. Default: none.
    #[must_use]
    pub fn read_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.read_timeout = timeout.into())
    }

    /// Sets the write timeout: [`on_timeout`](crate::ConnectionHandler::on_timeout) is called when
    /// bytes are queued and the peer has taken none of them for this long. The timeout does not run
    /// while a rate limit holds back writing. Default: none.
    #[must_use]
    pub fn write_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.write_timeout = timeout.into())
    }

    /// Sets the time limit for all attempts of one
    /// [`Connection::connect`](crate::Connection::connect) or
    /// [`connect_to`](crate::Connection::connect_to) together. The time runs from that call, and
    /// includes the lookup of a name. If the kernel completes an attempt within the time, the
    /// attempt becomes a connection, even if the loop is notified of it later. With `None` the time
    /// is not limited. Default: 30 s.
    #[must_use]
    pub fn connect_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.connect_timeout = timeout.into())
    }

    /// Sets the time limit for the handshake of a
    /// [layered stream](crate::Stream#layered-streams), such as TLS. The time runs from the turn in
    /// which the connection is opened. If the handshake is not complete in time, the connection
    /// ends with [`Timeout::Handshake`](crate::Timeout::Handshake). During the handshake no other
    /// timeout runs, except the deadline of a close. A bare stream has no handshake. With `None`
    /// the time is not limited. Default: 10 s.
    #[must_use]
    pub fn handshake_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.handshake_timeout = timeout.into())
    }

    /// Sets how many handshakes of [layered streams](crate::Stream#layered-streams) a loop works on
    /// at once. A connection whose handshake has not begun waits until enough others have completed
    /// theirs or have ended. The [timeout](Self::handshake_timeout) runs meanwhile. The limit
    /// counts all handshakes of the loop, also those of connections with other options. The minimum
    /// is 1. Default: no limit.
    #[must_use]
    pub fn max_handshakes(self, count: impl Into<Option<usize>>) -> Self {
        let count = count.into().unwrap_or(usize::MAX);
        self.with(|settings| settings.max_handshakes = count.max(1))
    }

    /// Sets how many steps of handshakes a loop takes in a turn. A step is a call of
    /// [`Stream::try_handshake`](crate::Stream::try_handshake). The other connections continue in
    /// the next turns, in order. So if many peers connect at once, connections that talk are still
    /// served after a few steps: with TLS a step of a server can take a millisecond, for example to
    /// sign with a key of 2048 bits (RSA). The [timeout](Self::handshake_timeout) of a connection
    /// does not expire while its step waits for its turn. The minimum is 1. Default: 16.
    #[must_use]
    pub fn max_handshakes_per_turn(self, count: usize) -> Self {
        self.with(|settings| settings.max_handshakes_per_turn = count.max(1))
    }

    /// Sets the local address that the sockets of
    /// [`Connection::connect`](crate::Connection::connect) are bound to. For a target of another
    /// address family, or a Unix socket, this option has no effect. By default the kernel chooses
    /// the address.
    #[must_use]
    pub fn local_addr(self, address: impl Into<Option<SocketAddr>>) -> Self {
        self.with(|settings| settings.local_addr = address.into())
    }

    /// Sets the resolver that looks up the names of
    /// [`Connection::connect_to`](crate::Connection::connect_to). Default: the resolver of the
    /// process, [`Resolver::default`].
    #[cfg(feature = "names")]
    #[must_use]
    pub fn resolver(self, resolver: Resolver) -> Self {
        self.with(|settings| settings.resolver = resolver)
    }

    /// Limits the rate at which each connection reads. Each connection gets a token bucket of its
    /// own, with the rate and the burst of `limit`. Default: no limit.
    ///
    /// ```
    /// use handlers::{ConnectionOptions, RateLimit};
    ///
    /// let slow = RateLimit::new(100 * 1024, 16 * 1024); // 100 KiB a second, bursts of 16 KiB
    /// let options = ConnectionOptions::new().read_rate(slow);
    /// ```
    #[must_use]
    pub fn read_rate(self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.with(|settings| settings.read_rate = limit.into())
    }

    /// Limits the rate at which each connection writes. Each connection gets a token bucket of its
    /// own, with the rate and the burst of `limit`. Default: no limit.
    #[must_use]
    pub fn write_rate(self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.with(|settings| settings.write_rate = limit.into())
    }

    /// Limits the rate at which several connections read together. All connections whose options
    /// have a clone of the same `limit` take their bytes from one token bucket. Default: no limit.
    ///
    /// ```
    /// use handlers::{ConnectionOptions, RateLimit};
    ///
    /// // Clients and mirrors together read at most 10 MiB a second.
    /// let total = RateLimit::new(10 * 1024 * 1024, 1024 * 1024);
    /// let clients = ConnectionOptions::new().shared_read_rate(total.clone());
    /// let mirrors = ConnectionOptions::new().shared_read_rate(total);
    /// ```
    #[must_use]
    pub fn shared_read_rate(self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.with(|settings| settings.shared_read_rate = limit.into())
    }

    /// Limits the rate at which several connections write together. All connections whose options
    /// have a clone of the same `limit` take their bytes from one token bucket. Default: no limit.
    #[must_use]
    pub fn shared_write_rate(self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.with(|settings| settings.shared_write_rate = limit.into())
    }
}
