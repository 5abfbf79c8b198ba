//! Why a connection has ended.

use std::fmt;
use std::io;

use super::times::Timeout;

/// Why a connection has ended. Displays as “finished”, “idle timeout has passed”, or “failed: ” with the error.
///
/// The one of a registration is [`reactor::CloseReason`]: a file that needs both names that one by its path.
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both directions have come to their end, and everything that was written has been sent.
    Finished,
    /// By [`Connection::close`](crate::Connection::close), or its registration was removed by its key.
    Closed,
    /// By [`Connection::abort`](crate::Connection::abort).
    Aborted,
    /// A timeout had passed, and [`on_timeout`](crate::ConnectionHandler::on_timeout) closed it, or was not asked.
    TimedOut(Timeout),
    /// Reading, writing, connecting or the handler failed with this error.
    Failed(io::Error),
    /// The handler panicked with this message.
    Panicked(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Closed => f.write_str("closed"),
            Self::Aborted => f.write_str("aborted"),
            Self::TimedOut(timeout) => write!(f, "{timeout} has passed"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}
