//! The flags of a connection. They are one word, so that the fast path tests all of them at once.
//!
//! Ground rule: a connection is *steady* exactly if no flag of [`Flags::UNSTEADY`] is set. The
//! first five of these flags repeat a field of the state. Only the setters of
//! [`State`](super::State) change such a field, and each setter updates the flag.

/// A set of facts about a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::connection) struct Flags(u32);

impl Flags {
    /// Repeats that the phase is not [`Phase::Open`](super::Phase::Open).
    pub(super) const NOT_OPEN: Self = Self(1 << 0);
    /// Repeats that [`Writing`](super::Writing) is not `Open`.
    pub(super) const NOT_WRITING: Self = Self(1 << 1);
    /// Repeats that a graceful close was requested.
    pub(super) const CLOSES_GRACEFULLY: Self = Self(1 << 2);
    /// Repeats that there is a write queue.
    pub(in crate::connection) const QUEUED: Self = Self(1 << 3);
    /// Repeats that the interest registered with the loop is not `READABLE` alone.
    pub(super) const OTHER_INTEREST: Self = Self(1 << 4);
    /// The handler has paused reading.
    pub(in crate::connection) const PAUSED: Self = Self(1 << 5);
    /// The producer was notified that the queue is full, and not yet that it has room.
    pub(in crate::connection) const QUEUE_FULL: Self = Self(1 << 6);
    /// The peer has closed its write side.
    pub(in crate::connection) const READ_ENDED: Self = Self(1 << 7);
    /// The handler must be called again with its unconsumed bytes as soon as it takes data: reading
    /// was resumed, the queue has drained, or the handler is new.
    pub(in crate::connection) const REDELIVER: Self = Self(1 << 8);
    /// The registration must be updated at the end of this call, for example its timeout. With a
    /// rate limit this flag is set after every call. Bytes that come and go do not set it: see
    /// `times.rs`.
    pub(in crate::connection) const NEEDS_UPDATE: Self = Self(1 << 9);
    /// The handshake of a layered stream is not complete.
    pub(in crate::connection) const HANDSHAKING: Self = Self(1 << 10);
    /// A layered stream holds output that the kernel has not taken.
    pub(in crate::connection) const HOLDS_OUTPUT: Self = Self(1 << 11);

    /// The stream is taken from the connection once everything has been sent. Until then the
    /// connection reads no more.
    pub(in crate::connection) const TAKEN_WHEN_FLUSHED: Self = Self(1 << 12);

    /// The handler is notified once the kernel has taken the bytes before a mark.
    pub(in crate::connection) const AWAITS_MARK: Self = Self(1 << 13);

    /// The connection cannot be read, so only an error shows that its peer is gone.
    pub(super) const WRITE_ONLY: Self = Self(1 << 16);
    /// The connection cannot be written to, so the peer need not be notified of its end.
    pub(in crate::connection) const READ_ONLY: Self = Self(1 << 17);
    /// A full write queue does not stop reading.
    pub(in crate::connection) const READS_WHILE_FULL: Self = Self(1 << 18);
    /// The handler is running.
    pub(in crate::connection) const IN_CALLBACK: Self = Self(1 << 19);
    /// Bytes were queued from outside the handler's callbacks. They are sent with the deferred
    /// callbacks.
    pub(in crate::connection) const FLUSH_DEFERRED: Self = Self(1 << 20);
    /// Our write side is closed once no response is pending.
    pub(in crate::connection) const SHUTDOWN_WHEN_ANSWERED: Self = Self(1 << 21);
    /// The stream breaks off and must not look complete. Once all of its bytes were sent, the
    /// connection is reset.
    pub(in crate::connection) const CUT: Self = Self(1 << 22);
    /// The write queue is empty, but the send queue of the kernel may not be.
    pub(in crate::connection) const AWAITS_SENT: Self = Self(1 << 23);
    /// The paused handler was notified of the failure of its socket.
    pub(in crate::connection) const FAILURE_NOTIFIED: Self = Self(1 << 24);
    /// The callback has asked for another handler.
    pub(in crate::connection) const REPLACED: Self = Self(1 << 25);
    /// The end of the input was reported to a handler that was replaced since. The new handler must
    /// be called with it again.
    pub(in crate::connection) const END_AGAIN: Self = Self(1 << 26);
    /// The listener has accepted only the other side of this relay. When it stops, it sets a
    /// deadline here, and closes nothing.
    pub(in crate::connection) const OTHER_SIDE: Self = Self(1 << 27);
    /// The stream is [layered](crate::Stream#layered-streams).
    pub(in crate::connection) const LAYERED: Self = Self(1 << 28);
    /// The handshake of the stream has begun and not ended.
    pub(in crate::connection) const HANDSHAKE_RUNS: Self = Self(1 << 30);
    /// The handshake waits because of the limits of the loop.
    pub(in crate::connection) const HANDSHAKE_WAITS: Self = Self(1 << 31);
    /// The end of a layered stream is not sent completely.
    pub(in crate::connection) const AWAITS_SHUTDOWN: Self = Self(1 << 29);

    /// The flags of a connection that needs more work than a read, a callback and a write.
    pub(super) const UNSTEADY: Self = Self::NOT_OPEN
        .union(Self::NOT_WRITING)
        .union(Self::CLOSES_GRACEFULLY)
        .union(Self::QUEUED)
        .union(Self::OTHER_INTEREST)
        .union(Self::PAUSED)
        .union(Self::QUEUE_FULL)
        .union(Self::READ_ENDED)
        .union(Self::REDELIVER)
        .union(Self::NEEDS_UPDATE)
        .union(Self::HANDSHAKING)
        .union(Self::HOLDS_OUTPUT)
        .union(Self::TAKEN_WHEN_FLUSHED)
        .union(Self::AWAITS_MARK);

    /// The flags that the user sets and that stop reading.
    pub(super) const STOPS_READING: Self = Self::PAUSED.union(Self::TAKEN_WHEN_FLUSHED);

    /// Returns the flags of both sets.
    pub(in crate::connection) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns `true` if any flag of `other` is set.
    #[inline]
    pub(in crate::connection) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[inline]
    pub(in crate::connection) const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    #[inline]
    pub(in crate::connection) const fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    /// Sets or clears `other`.
    pub(in crate::connection) const fn set(&mut self, other: Self, value: bool) {
        if value {
            self.insert(other)
        } else {
            self.remove(other)
        }
    }

    /// Clears `other`. Returns `true` if it was set.
    pub(in crate::connection) const fn take(&mut self, other: Self) -> bool {
        let was = self.has(other);
        self.remove(other);
        was
    }
}
