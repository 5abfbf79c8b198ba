//! The options of an upstream.

use std::cell::RefCell;
use std::time::Duration;

use super::queue::Limits;
use super::targets::{TargetOrder, Targets};
use super::trust::Proof;
use crate::backoff::Backoff;
use crate::connection::ConnectionOptions;
use crate::names::Target;

/// The policy of an [`Upstream`](crate::Upstream) for a message that does not fit into its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// [`Upstream::send`](crate::Upstream::send) refuses the new message and returns it.
    ///
    /// A producer that pauses loses nothing: it stops when `send` returns
    /// [`Flow::Full`](crate::Flow::Full), at half of a limit, and continues at
    /// [`Upstream::on_room`](crate::Upstream::on_room).
    #[default]
    Refuse,
    /// The oldest messages make room, and are dropped and
    /// [counted](crate::UpstreamMetrics::displaced). First come the unacknowledged messages of
    /// earlier connections, then the messages that wait. Messages that the present connection has
    /// sent stay: if they alone fill the queue, the new message is refused.
    DropOldest,
}

/// The options of an [`Upstream`](crate::Upstream): back-off, queue, and the order of the targets.
///
/// ```
/// use std::time::Duration;
/// use handlers::{Backoff, Overflow, Proof, UpstreamOptions};
///
/// let options = UpstreamOptions::new()
///     .backoff(Backoff::new(Duration::from_millis(50), Duration::from_secs(5)))
///     .proof(Proof::Uptime(Duration::from_secs(3)))
///     .max_messages(1000)
///     .overflow(Overflow::DropOldest);
/// ```
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    pub(super) connection: ConnectionOptions,
    pub(super) backoff: Backoff,
    pub(super) proof: Proof,
    pub(super) overflow: Overflow,
    pub(super) max_messages: usize,
    pub(super) max_bytes: usize,
    pub(super) acknowledged: bool,
    pub(super) send_when_confirmed: bool,
    pub(super) order: TargetOrder,
    pub(super) seed: Option<u64>,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            connection: ConnectionOptions::new(),
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(25)),
            proof: Proof::Uptime(Duration::from_secs(10)),
            overflow: Overflow::Refuse,
            max_messages: 10_000,
            max_bytes: 16 * 1024 * 1024,
            acknowledged: false,
            send_when_confirmed: false,
            order: TargetOrder::InTurn,
            seed: None,
        }
    }
}

impl UpstreamOptions {
    /// Returns the default options. The default of each option is stated at the method that sets
    /// it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the options of each connection, for example its timeouts. To replace a connection whose
    /// peer hangs, set [`idle_timeout`](ConnectionOptions::idle_timeout) or
    /// [`write_timeout`](ConnectionOptions::write_timeout). Default: those of
    /// [`ConnectionOptions::new`].
    #[must_use]
    pub fn connection(mut self, options: &ConnectionOptions) -> Self {
        self.connection = options.clone();
        self
    }

    /// Sets the delays between the end of a connection, or of a failed attempt, and the next
    /// attempt. A delay below 1 ms counts as 1 ms, so that attempts that fail at once do not spin
    /// the loop. Default: 100 ms to 25 s, with [`Jitter::Full`](crate::Jitter::Full).
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the proof that a connection is of use. If a connection with this proof ends, the
    /// back-off begins again with its initial delay. Default: an uptime of 10 s.
    #[must_use]
    pub const fn proof(mut self, proof: Proof) -> Self {
        self.proof = proof;
        self
    }

    /// Sets the policy for a message that does not fit into the queue. Default:
    /// [`Overflow::Refuse`].
    #[must_use]
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sets the maximum number of messages in the queue. The limit counts all messages that the
    /// upstream keeps: those that wait, those that the kernel has not taken yet, and with
    /// [`acknowledged`](Self::acknowledged) those that were sent and not acknowledged. With 0 every
    /// message is refused. Default: 10 000.
    #[must_use]
    pub const fn max_messages(mut self, messages: usize) -> Self {
        self.max_messages = messages;
        self
    }

    /// Sets the maximum length of all messages in the queue together, in bytes. The limit counts
    /// the same messages as [`max_messages`](Self::max_messages). With 0 every message except an
    /// empty one is refused. Default: 16 MiB.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets whether sent messages are kept until
    /// [`Upstream::acknowledge`](crate::Upstream::acknowledge) is called for them. If a connection
    /// ends before, you can [take](crate::Upstream::take_unacknowledged) them or
    /// [send](crate::Upstream::resend) them again. Default: `false`, so a message is dropped as
    /// soon as the kernel has taken it whole.
    #[must_use]
    pub const fn acknowledged(mut self, acknowledged: bool) -> Self {
        self.acknowledged = acknowledged;
        self
    }

    /// Sets whether messages wait on each new connection until
    /// [`Upstream::confirm`](crate::Upstream::confirm) is called. Use it for a protocol that begins
    /// with a login: the handler writes the login itself, by
    /// [`Connection::write`](crate::Connection::write), and confirms the connection when the peer
    /// has accepted it. Default: `false`.
    #[must_use]
    pub const fn send_when_confirmed(mut self, confirmed: bool) -> Self {
        self.send_when_confirmed = confirmed;
        self
    }

    /// Sets the order in which targets are tried. Default: [`TargetOrder::InTurn`].
    #[must_use]
    pub const fn order(mut self, order: TargetOrder) -> Self {
        self.order = order;
        self
    }

    /// Sets the seed of [`TargetOrder::Random`], for tests. The jitter of the back-off has a
    /// [seed](Backoff::seed) of its own. Default: a random seed.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Returns the choice of the next target.
    pub(super) fn targets(
        &self,
        targets: impl IntoIterator<Item = impl Into<Target>>,
    ) -> RefCell<Targets<Target>> {
        let targets = targets.into_iter().map(Into::into).collect();
        RefCell::new(Targets::new(targets, self.order, self.seed))
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_messages: self.max_messages,
            max_bytes: self.max_bytes,
            max_message: self.connection.max_write_queue_set(),
        }
    }
}
