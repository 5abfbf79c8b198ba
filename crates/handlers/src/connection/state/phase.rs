//! How far a connection has come.

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Phase {
    /// No peer has answered yet.
    Connecting,
    /// Its handler does not know of it yet.
    Opening,
    Open,
    /// Sends what is queued. Discards what comes: a peer that writes before it reads would never read otherwise.
    Flushing,
    /// Has sent everything, and the end of it. Waits for the peer's end, and discards what comes until then: to close a
    /// socket with something unread would take back what the peer has not read yet.
    Lingering,
    Over,
}

/// How far the direction of writing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Writing {
    Open,
    /// It ends when everything has been sent.
    Ending,
    Ended,
    /// The socket takes no more: the failure of the state says why. What has come is still read.
    Failed,
}

/// How far something has come that waits until the kernel was asked once more what has come: a
/// [graceful close](crate::Connection::close_gracefully), and the end of a connection that cannot be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Pending {
    No,
    Asked,
    /// Until the kernel was asked: of a new connection nothing is known yet.
    Awaited,
    /// It happens once what has come has been given to the handler.
    Due,
}

impl Pending {
    /// The kernel was asked.
    pub(super) fn advance(&mut self) {
        if *self == Self::Awaited {
            *self = Self::Due;
        }
    }
}
