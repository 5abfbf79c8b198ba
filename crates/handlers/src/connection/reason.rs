//! The reason why a connection has ended.

use std::fmt;
use std::io;

use super::times::Timeout;

/// The reason why a connection has ended, passed to
/// [`on_close`](crate::ConnectionHandler::on_close). Displays as a short phrase, for example
/// “finished” or “idle timeout expired”. A failure displays as “failed: ” followed by the error.
///
/// Registrations that are not connections end with a reason of another type:
/// [`reactor::CloseReason`]. If a source file uses both types, write the type of `reactor` with its
/// path.
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
    /// The connection has ended as intended. Everything that was written has been sent, and our
    /// write side is closed. In addition, one of these is true:
    /// - The peer has closed its write side too.
    /// - A graceful close, for example [`close_after_flush`](crate::Connection::close_after_flush),
    ///   had sent everything, and then reading failed, for example because the peer reset the
    ///   connection. In this case the peer may not have read everything.
    /// - A graceful close ended a stream that can only be read.
    /// - The stream [cannot](crate::Shutdown::Unsupported) close its write side alone, so the whole
    ///   stream was closed.
    Finished,
    /// The connection was closed by one of these:
    /// - [`Connection::close`](crate::Connection::close) or
    ///   [`ConnectionKey::close`](crate::ConnectionKey::close).
    /// - The removal of its registration, by [`Registry::remove`](reactor::Registry::remove).
    /// - The [cancellation](crate::Connecting::cancel) of the attempt to connect.
    Closed,
    /// The stream was [taken](crate::ConnectionKey::take) from the connection, and is open.
    Taken,
    /// The connection was reset by [`Connection::abort`](crate::Connection::abort),
    /// [`ConnectionKey::abort`](crate::ConnectionKey::abort) or
    /// [`Connection::abort_after_flush`](crate::Connection::abort_after_flush).
    Aborted,
    /// This timeout expired, and the handler's [`on_timeout`](crate::ConnectionHandler::on_timeout)
    /// closed the connection by [`Connection::close`](crate::Connection::close).
    /// [`Timeout::Connect`] and [`Timeout::Close`] end the connection without a call of
    /// `on_timeout`.
    TimedOut(Timeout),
    /// Reading, writing or connecting failed with this error, or the handler returned it. An error
    /// of the kernel names the failed call and the fd or the address, for example “read on fd 7:
    /// Connection reset by peer (os error 104)”, and [`errno`](crate::errno) finds its errno. The
    /// connection itself fails with the kind `QuotaExceeded` in two cases:
    /// - The handler left more than
    ///   [`max_buffered_input`](crate::ConnectionOptions::max_buffered_input) bytes unconsumed.
    /// - A [write by key](crate::ConnectionKey::write) had to wait for a running callback, and its
    ///   bytes then did not fit into
    ///   [`max_write_queue`](crate::ConnectionOptions::max_write_queue).
    Failed(io::Error),
    /// The handler panicked with this message, and the policy is
    /// [`PanicPolicy::RemoveHandler`](reactor::PanicPolicy::RemoveHandler).
    Panicked(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Closed => f.write_str("closed"),
            Self::Taken => f.write_str("taken"),
            Self::Aborted => f.write_str("aborted"),
            Self::TimedOut(timeout) => write!(f, "{timeout} expired"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}
