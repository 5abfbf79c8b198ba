//! The error of a message that an upstream does not accept.

use std::fmt;
use std::io;

use bytes::Bytes;

/// The error of a message that [`Upstream::send`](crate::Upstream::send) did not accept. It holds
/// the reason, and returns the message.
///
/// ```
/// use bytes::Bytes;
/// use handlers::{Upstream, UpstreamRefusal};
/// use reactor::Registry;
///
/// /// Sends a line. Returns it if the queue is full.
/// fn send(upstream: &Upstream<()>, registry: &mut Registry<()>, line: Bytes) -> Option<Bytes> {
///     match upstream.send(registry, line) {
///         Ok(_flow) => None,
///         Err(refused) if refused.reason == UpstreamRefusal::Full => Some(refused.message),
///         Err(_) => None,
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamRefused {
    /// The message.
    pub message: Bytes,
    /// The reason.
    pub reason: UpstreamRefusal,
}

/// The reason for which an upstream did not accept a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamRefusal {
    /// The queue has reached
    /// [`UpstreamOptions::max_messages`](crate::UpstreamOptions::max_messages) or
    /// [`UpstreamOptions::max_bytes`](crate::UpstreamOptions::max_bytes), and the policy is
    /// [`Overflow::Refuse`](crate::Overflow::Refuse), or the present connection has sent the
    /// messages that fill it.
    Full,
    /// The message is longer than [`UpstreamOptions::max_bytes`](crate::UpstreamOptions::max_bytes)
    /// or than [`ConnectionOptions::max_write_queue`](crate::ConnectionOptions::max_write_queue),
    /// so it can never be sent.
    TooLong,
    /// The upstream was stopped or has ended.
    Stopped,
}

impl UpstreamRefusal {
    /// Returns the kind of the [`io::Error`] into which `?` converts this refusal.
    pub const fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Full => io::ErrorKind::QuotaExceeded,
            Self::TooLong => io::ErrorKind::InvalidInput,
            Self::Stopped => io::ErrorKind::BrokenPipe,
        }
    }
}

impl fmt::Display for UpstreamRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue of the upstream is full: send the message later",
            Self::TooLong => {
                "the message is longer than max_bytes of the upstream \
                 or max_write_queue of its connections"
            }
            Self::Stopped => "the upstream was stopped or has ended",
        })
    }
}

impl std::error::Error for UpstreamRefusal {}

/// Lets `?` pass the refusal on from a handler, with the kind that [`UpstreamRefusal::kind`]
/// returns.
impl From<UpstreamRefusal> for io::Error {
    fn from(refusal: UpstreamRefusal) -> Self {
        Self::new(refusal.kind(), refusal)
    }
}

impl fmt::Debug for UpstreamRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamRefused")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for UpstreamRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl std::error::Error for UpstreamRefused {}

/// Lets `?` pass the reason on from a handler. The message is dropped.
impl From<UpstreamRefused> for io::Error {
    fn from(refused: UpstreamRefused) -> Self {
        refused.reason.into()
    }
}
