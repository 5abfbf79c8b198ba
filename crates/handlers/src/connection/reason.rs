//! Why a connection has ended.

use std::fmt;
use std::io;

use super::times::Timeout;

/// Why a connection has ended. Displays as “finished”, “idle timeout expired”, or “failed: ”
/// followed by the error.
///
/// The reason of a plain registration is [`reactor::CloseReason`]. A file that needs both can name
/// that one by its path.
///
/// ```
/// use std::io;
/// use handlers::{CloseReason, Connection, ConnectionHandler};
/// use reactor::Context;
///
/// struct Upload {
///     received: usize,
/// }
///
/// impl ConnectionHandler<()> for Upload {
///     fn on_data(
///         &mut self,
///         data: &[u8],
///         _connection: &mut Connection<'_, ()>,
///         _cx: &mut Context<'_, ()>,
///     ) -> io::Result<usize> {
///         self.received += data.len();
///         Ok(data.len())
///     }
///
///     fn on_close(&mut self, reason: CloseReason, _cx: &mut Context<'_, ()>) {
///         match reason {
///             CloseReason::Finished => println!("{} bytes, complete", self.received),
///             reason => println!("broken off after {} bytes: {reason}", self.received),
///         }
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both sides have closed their direction, and everything that was written has been sent.
    Finished,
    /// Closed by [`Connection::close`](crate::Connection::close), or its registration was removed
    /// by its key.
    Closed,
    /// Reset by [`Connection::abort`](crate::Connection::abort).
    Aborted,
    /// A timeout expired. [`on_timeout`](crate::ConnectionHandler::on_timeout) closed the
    /// connection, or was not called because the timeout closes the connection by itself.
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
            Self::TimedOut(timeout) => write!(f, "{timeout} expired"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}
