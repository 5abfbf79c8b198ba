//! What becomes of a registration after a call, and why one has ended.

use std::fmt;
use std::io;

/// What becomes of a registration after its handler, or hook, has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It stays. A source that is still ready and wanted is called again next turn.
    Keep,
    /// It ends: the source is closed, the handler dropped.
    Remove,
}

/// Why a registration has ended, told to [`Handler::closed`]. Displays as “removed by its key”, or “failed: ” with the error.
#[derive(Debug)]
#[non_exhaustive]
pub enum Closed {
    /// Its handler returned [`Next::Remove`].
    ByHandler,
    /// [`Registry::remove`](crate::Registry::remove) was called with its key.
    ByKey,
    /// Its handler returned this error.
    Failed(io::Error),
    /// Its handler panicked with this message, and the policy is
    /// [`PanicPolicy::RemoveHandler`](crate::PanicPolicy::RemoveHandler).
    Panicked(String),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByHandler => f.write_str("removed by its handler"),
            Self::ByKey => f.write_str("removed by its key"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}
