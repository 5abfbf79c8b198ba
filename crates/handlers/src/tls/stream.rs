//! The stream of a session.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use super::info::TlsInfo;
use super::session::Session;

/// A TLS session over a stream: made by [`accept`](super::TlsServerConfig::accept) or
/// [`connect`](super::TlsClientConfig::connect).
///
/// While nothing is in transit, the session holds no buffer. Records are decrypted and encrypted in
/// buffers of the thread.
///
/// A stream that ends without close_notify is an error of kind
/// [`Truncated`](super::TlsErrorKind::Truncated), and not an end: bytes may be missing. If the
/// messages of your protocol have a length of their own, a message that is complete is safe to use.
pub struct Tls<T> {
    stream: T,
    session: Session,
}

impl<T> Tls<T> {
    pub(super) const fn new(stream: T, session: Session) -> Self {
        Self { stream, session }
    }

    /// Returns the facts of the session.
    pub const fn info(&self) -> TlsInfo<'_> {
        TlsInfo::of(&self.session)
    }

    /// Returns the stream below. Bytes that are written to it, or read from it, break the session.
    pub const fn get_ref(&self) -> &T {
        &self.stream
    }

    /// Returns the stream, and the session that reads and writes it.
    #[cfg(test)]
    pub(super) fn into_parts(self) -> (T, Session) {
        (self.stream, self.session)
    }
}

impl<T: AsFd> AsFd for Tls<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<T: fmt::Debug> fmt::Debug for Tls<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("stream", &self.stream)
            .field("info", &self.info())
            .finish()
    }
}
