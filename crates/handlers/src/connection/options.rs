//! The options of a connection, shared by all connections that have the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::rate::RateLimit;
use super::write::buffer::BUFFER_MAX;

/// The options of connections: watermarks, limits, timeouts, rates. Cheap to clone, and one serves any number of
/// connections.
///
/// ```
/// use handlers::ConnectionOptions;
/// use std::time::Duration;
///
/// let options = ConnectionOptions::new().idle_timeout(Duration::from_secs(60)).watermarks(16 * 1024, 64 * 1024);
/// ```
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
    pub(super) local_addr: Option<SocketAddr>,
    pub(super) read_rate: Option<RateLimit>,
    pub(super) write_rate: Option<RateLimit>,
    pub(super) shared_read_rate: Option<RateLimit>,
    pub(super) shared_write_rate: Option<RateLimit>,
    pub(super) no_delay: bool,
    /// As long as less than this is buffer, no other limit of writing is met. Follows from those.
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
            local_addr: None,
            read_rate: None,
            write_rate: None,
            shared_read_rate: None,
            shared_write_rate: None,
            no_delay: true,
            buffer_max: BUFFER_MAX,
        }
    }
}

impl Settings {
    /// Whether any of them needs the time.
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
    /// Returns the defaults, which each of the methods below names.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        let settings = Arc::make_mut(&mut self.0);
        change(settings);
        settings.buffer_max = BUFFER_MAX
            .min(settings.high_watermark)
            .min(settings.max_write_queue.saturating_add(1));
        self
    }

    /// Sets the watermarks of the write queue. From `high` queued bytes on, `write` returns
    /// [`Flow::Full`](crate::Flow::Full) and the connection reads no more. Both go on when the queue has drained to
    /// `low`. Default: 64 KiB and 256 KiB. `low` is at most `high`, and `high` is at least 1.
    #[doc(alias("bufferevent_setwatermark"))]
    #[must_use]
    pub fn watermarks(self, low: usize, high: usize) -> Self {
        self.with(|settings| {
            (settings.low_watermark, settings.high_watermark) = (low.min(high), high.max(1))
        })
    }

    /// Sets how many bytes may be queued. A write beyond that is an error. Default: 16 MiB.
    #[must_use]
    pub fn max_write_queue(self, bytes: usize) -> Self {
        self.with(|settings| settings.max_write_queue = bytes)
    }

    /// Sets how many bytes a handler may leave unconsumed. More of them end the connection with an error, so this must
    /// exceed the longest message. Default: 1 MiB.
    #[must_use]
    pub fn max_buffered_input(self, bytes: usize) -> Self {
        self.with(|settings| settings.max_buffered_input = bytes)
    }

    /// Sets how many bytes a connection reads at most in one turn, and sends from its queue, so that a fast one does
    /// not hold up others. Default: 256 KiB. At least 1.
    #[must_use]
    pub fn max_bytes_per_turn(self, bytes: usize) -> Self {
        self.with(|settings| settings.max_bytes_per_turn = bytes.max(1))
    }

    /// Sets the idle timeout: [`on_timeout`](crate::ConnectionHandler::on_timeout) is called when no byte has gone in
    /// either direction for this long. It does not run while a rate limit holds back reading. Default: none.
    ///
    /// For every timeout of a connection: bytes that had come, or room that the peer had made, by the time it expires
    /// are served first, also where the process was stopped until long after that, or a callback was slow.
    #[doc(alias("bufferevent_set_timeouts"))]
    #[must_use]
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.idle_timeout = timeout.into())
    }

    /// Sets the read timeout: [`on_timeout`](crate::ConnectionHandler::on_timeout) is called when no byte has come for
    /// this long. It does not run while reading is paused, the write queue is full, or a rate limit holds back reading.
    /// Default: none.
    #[must_use]
    pub fn read_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.read_timeout = timeout.into())
    }

    /// Sets the write timeout: [`on_timeout`](crate::ConnectionHandler::on_timeout) is called when the peer has taken
    /// no byte of what is queued for this long. It does not run while a rate limit holds back writing. Default: none.
    #[must_use]
    pub fn write_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.write_timeout = timeout.into())
    }

    /// Sets how long all attempts to connect may take together. An attempt that the kernel has completed by then
    /// becomes a connection, also where the loop learns of it later. Default: 30 s.
    #[must_use]
    pub fn connect_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.connect_timeout = timeout.into())
    }

    /// Sets the address to connect from. It is ignored for addresses of another family. Default: chosen by the kernel.
    #[must_use]
    pub fn local_addr(self, address: impl Into<Option<SocketAddr>>) -> Self {
        self.with(|settings| settings.local_addr = address.into())
    }

    /// Limits the rate at which each connection reads. Each has a bucket of its own. Default: no limit.
    #[must_use]
    pub fn read_rate(self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.with(|settings| settings.read_rate = limit.into())
    }

    /// Limits the rate at which each connection writes. Each has a bucket of its own. Default: no limit.
    #[must_use]
    pub fn write_rate(self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.with(|settings| settings.write_rate = limit.into())
    }

    /// Limits the rate at which all connections that share this limit read together. Default: no limit.
    #[must_use]
    pub fn shared_read_rate(self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.with(|settings| settings.shared_read_rate = limit.into())
    }

    /// Limits the rate at which all connections that share this limit write together. Default: no limit.
    #[must_use]
    pub fn shared_write_rate(self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.with(|settings| settings.shared_write_rate = limit.into())
    }

    pub(crate) fn no_delays(&self) -> bool {
        self.0.no_delay
    }

    /// Sets `TCP_NODELAY`: whether small packets leave at once. The small writes of one callback are merged in any
    /// case. Default: `true`.
    #[must_use]
    pub fn no_delay(self, no_delay: bool) -> Self {
        self.with(|settings| settings.no_delay = no_delay)
    }
}
