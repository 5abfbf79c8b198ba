//! The phases of a connection.

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Phase {
    /// No peer has answered yet.
    Connecting,
    /// The handler was not notified of the connection yet.
    Opening,
    Open,
    /// Sends the queue and discards input. Without that, a peer that writes before it reads would
    /// never read.
    Flushing,
    /// Has sent everything, and the end of stream. Waits for the end of the peer's stream, and
    /// discards input until then. Closing a socket with unread input would drop bytes that the peer
    /// has not read yet.
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

/// The progress of a step that waits until the kernel was asked once more for input: a [graceful
/// close](crate::Connection::close_gracefully), or the end of a connection that cannot be written
/// to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Pending {
    No,
    Asked,
    /// Waits until the kernel was asked: nothing is known of a new connection yet.
    Awaited,
    /// The step happens once the handler was called with the input that has arrived.
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
