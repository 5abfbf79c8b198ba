//! Errors of sends that did not succeed within their time.

use std::fmt;
use std::io;

/// The error of [`Sender::send_within`](crate::Sender::send_within). It holds the value that was
/// not sent.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendTimeoutError<T> {
    /// The queue was full until the timeout.
    Timeout(T),
    /// The receiver was dropped or its registration has ended, before the call or while the call
    /// waited.
    Disconnected(T),
    /// The call came from the thread of the loop that handles the queue. The loop would wait for
    /// itself.
    OnLoopThread(T),
}

impl<T> SendTimeoutError<T> {
    /// Returns the value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Timeout(value) | Self::Disconnected(value) | Self::OnLoopThread(value) => value,
        }
    }

    /// Returns the kind of the [`io::Error`] that `?` converts this error to.
    pub const fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Timeout(_) => io::ErrorKind::TimedOut,
            Self::Disconnected(_) => io::ErrorKind::BrokenPipe,
            Self::OnLoopThread(_) => io::ErrorKind::Deadlock,
        }
    }

    const fn text(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "the queue was full until the timeout",
            Self::Disconnected(_) => "the receiver of the queue is gone",
            Self::OnLoopThread(_) => {
                "a blocking send from the loop's own thread would deadlock: \
                 use try_send, and on_room if the queue is full"
            }
        }
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => "Timeout(..)",
            Self::Disconnected(_) => "Disconnected(..)",
            Self::OnLoopThread(_) => "OnLoopThread(..)",
        })
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<T> std::error::Error for SendTimeoutError<T> {}

/// Lets `?` pass the error on from a handler. The value is dropped.
impl<T> From<SendTimeoutError<T>> for io::Error {
    fn from(error: SendTimeoutError<T>) -> Self {
        Self::new(error.kind(), error.text())
    }
}
