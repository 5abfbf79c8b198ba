//! The phases of a connection.

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Phase {
    /// No peer has answered yet.
    Connecting,
    /// The handler was not notified of the connection yet.
    Opening,
    Open,
    /// Sends the queue and discards input. If the input were not read, a peer that writes before it
    /// reads would never read.
    Flushing,
    /// Has sent everything, and the end of the stream. Discards input until the peer's stream ends:
    /// if a socket is closed with unread input, bytes that the peer has not read yet are dropped.
    Lingering,
    Over,
}

/// The state of the write side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Writing {
    Open,
    /// The write side is closed when everything has been sent.
    Ending,
    Ended,
    /// The socket takes no more bytes. `State::failure` holds the reason. Bytes that have arrived
    /// are still read.
    Failed,
}

/// The progress of a step that waits until the kernel was asked once more for input. The step is a
/// [graceful close](crate::Connection::close_gracefully), or the end of a connection that cannot be
/// written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Pending {
    No,
    Asked,
    /// Waits until the kernel was asked, because the input of a new connection is not known yet.
    Awaited,
    /// The step follows once the handler was called with the input that has arrived.
    Due,
}

impl Pending {
    /// Records that the kernel was asked.
    pub(super) fn advance(&mut self) {
        if *self == Self::Awaited {
            *self = Self::Due;
        }
    }
}
