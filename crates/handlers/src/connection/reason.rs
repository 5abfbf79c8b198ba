//! Why a connection has ended.

use std::fmt;
use std::io;

use super::times::Timeout;

/// Why a connection has ended. Displays as a short phrase, for example “finished”, “idle timeout
/// expired”, or “failed: ” followed by the error.
///
/// The reason of a plain registration is another type, [`reactor::CloseReason`]. If a source file
/// uses both, write that type with its path.
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
    /// Both sides have closed their write side, and everything that was written has been sent.
    Finished,
    /// The connection was closed by [`Connection::close`](crate::Connection::close), its
    /// registration was removed through the key, or the attempt to connect was
    /// [cancelled](crate::Connecting::cancel).
    Closed,
    /// Reset by [`Connection::abort`](crate::Connection::abort).
    Aborted,
    /// A timeout expired, and [`on_timeout`](crate::ConnectionHandler::on_timeout) closed the
    /// connection. [`Timeout::Connect`] and [`Timeout::Close`] close the connection without a call
    /// of `on_timeout`.
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
