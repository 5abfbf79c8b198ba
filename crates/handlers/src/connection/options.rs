//! Options: how a connection is treated, shared by all that are treated alike.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::rate::RateLimit;
use super::write::BUFFER_MAX;

/// How connections are treated: watermarks, limits, timeouts, rates. Cheap to clone; one serves any number of connections.
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
    pub(super) queue_max: usize,
    pub(super) unconsumed_max: usize,
    pub(super) bytes_per_turn: usize,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) local_address: Option<SocketAddr>,
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
            queue_max: 16 * 1024 * 1024,
            unconsumed_max: 1024 * 1024,
            bytes_per_turn: 256 * 1024,
            idle_timeout: None,
            read_timeout: None,
            write_timeout: None,
            connect_timeout: Some(Duration::from_secs(30)),
            local_address: None,
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
    /// The defaults, as each of the methods below tells them.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        let settings = Arc::make_mut(&mut self.0);
        change(settings);
        settings.buffer_max = BUFFER_MAX.min(settings.high_watermark).min(settings.queue_max.saturating_add(1));
        self
    }

    /// From `high` queued bytes on the producer is told to pause, and the connection itself reads no more; once no more than
    /// `low` are left, both go on. 64 KiB and 256 KiB; `low` is at most `high`.
    pub fn watermarks(self, low: usize, high: usize) -> Self {
        self.with(|settings| (settings.low_watermark, settings.high_watermark) = (low.min(high), high.max(1)))
    }

    /// A write that would make the queue longer than so many bytes is an error, whoever writes. 16 MiB.
    pub fn queue_max(self, bytes: usize) -> Self {
        self.with(|settings| settings.queue_max = bytes)
    }

    /// A handler that leaves more than so many bytes unconsumed ends its connection with an error: more than its longest
    /// message. 1 MiB.
    pub fn unconsumed_max(self, bytes: usize) -> Self {
        self.with(|settings| settings.unconsumed_max = bytes)
    }

    /// What a connection reads at most in one turn, so that one that is fast does not hold up the others. 256 KiB.
    pub fn bytes_per_turn(self, bytes: usize) -> Self {
        self.with(|settings| settings.bytes_per_turn = bytes.max(1))
    }

    /// After so long without a byte in either direction, [`on_timeout`](super::ConnectionHandler::on_timeout): not while a rate
    /// holds back reading. None.
    ///
    /// For each timeout of a connection: bytes that had come, or room that the peer had made, by the time it passes are served first, also
    /// where the process was stopped until long after that, or a callback was slow.
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.idle_timeout = timeout.into())
    }

    /// After so long without a byte from the peer while we would read, [`on_timeout`](super::ConnectionHandler::on_timeout): not
    /// while the handler pauses, the queue is full, or a rate holds us back. None.
    pub fn read_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.read_timeout = timeout.into())
    }

    /// After so long without the peer taking a byte of what is queued, [`on_timeout`](super::ConnectionHandler::on_timeout): not
    /// while a rate holds us back. None.
    pub fn write_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.write_timeout = timeout.into())
    }

    /// How long all attempts to connect may take together. 30 s. An attempt that the kernel has brought to its end by then is a
    /// connection, also where the loop learns of it later.
    pub fn connect_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.connect_timeout = timeout.into())
    }

    /// The address to connect from; attempts to addresses of another family take any. Any.
    pub fn local_address(self, address: impl Into<Option<SocketAddr>>) -> Self {
        self.with(|settings| settings.local_address = address.into())
    }

    /// What each connection reads at most; each has a bucket of its own. None.
    pub fn read_rate(self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.with(|settings| settings.read_rate = limit.into())
    }

    /// What each connection writes at most; each has a bucket of its own. None.
    pub fn write_rate(self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.with(|settings| settings.write_rate = limit.into())
    }

    /// What all connections that share this limit read together. None.
    pub fn shared_read_rate(self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.with(|settings| settings.shared_read_rate = limit.into())
    }

    /// What all connections that share this limit write together. None.
    pub fn shared_write_rate(self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.with(|settings| settings.shared_write_rate = limit.into())
    }

    pub(crate) fn no_delays(&self) -> bool {
        self.0.no_delay
    }

    /// Whether small writes of TCP leave at once (`TCP_NODELAY`); they are merged here already. Yes.
    pub fn no_delay(self, no_delay: bool) -> Self {
        self.with(|settings| settings.no_delay = no_delay)
    }
}
