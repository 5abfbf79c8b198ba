//! The numbers of an upstream.

/// The numbers of an upstream since its start. Returned by
/// [`Upstream::metrics`](crate::Upstream::metrics).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamMetrics {
    /// The number of connections that have opened.
    pub connections: u64,
    /// The number of attempts that have failed, by an error, a time limit or the
    /// [handshake](crate::Stream#layered-streams) of the stream.
    pub failures: u64,
    /// The number of messages that the kernel has taken whole. A message that was
    /// [sent again](crate::Upstream::resend) is counted again.
    pub sent: u64,
    /// The number of messages that were [acknowledged](crate::Upstream::acknowledge).
    pub acknowledged: u64,
    /// The number of messages that were dropped for want of room, under
    /// [`Overflow::DropOldest`](crate::Overflow::DropOldest).
    pub displaced: u64,
    /// The number of messages of which the kernel had taken only a part when the connection ended.
    /// With [`acknowledged`](crate::UpstreamOptions::acknowledged) it stays 0, because such
    /// messages are kept.
    pub lost: u64,
}

/// The state of an upstream. Returned by [`Upstream::state`](crate::Upstream::state).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamState {
    /// An attempt to connect is in progress.
    Connecting,
    /// A connection is open.
    Up,
    /// The last connection, or the last attempt, has ended. The next attempt starts after a delay.
    Waiting,
    /// The upstream has ended: it was [stopped](crate::Upstream::stop), or its loop was dropped.
    Ended,
}
