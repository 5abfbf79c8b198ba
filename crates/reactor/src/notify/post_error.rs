//! Errors of closures that were not posted.

use std::fmt;
use std::io;

/// The error of [`Remote::try_post`](crate::Remote::try_post). It holds the closure that was not
/// posted.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryPostError<F> {
    /// The number of [pending](crate::Remote::pending) closures has reached the limit of
    /// [`Builder::max_pending_posts`](crate::Builder::max_pending_posts).
    #[non_exhaustive]
    Full {
        /// The closure that was not posted.
        callback: F,
        /// The limit.
        max_pending_posts: usize,
    },
    /// The loop is gone: see [`LoopGone`].
    Gone(F),
}

/// The error of a post to a loop that is *gone*. A loop is gone when its reactor has been dropped.
/// It is also gone when the registration "remote" was removed, which
/// [`Registry::remote`](crate::Registry::remote) makes for the posted closures. The closure that
/// was to be posted has been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopGone;

impl fmt::Display for LoopGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the loop is gone: its reactor, or its registration \"remote\", has been dropped",
        )
    }
}

impl std::error::Error for LoopGone {}

impl<F> TryPostError<F> {
    /// Returns the closure that was not posted.
    pub fn into_inner(self) -> F {
        match self {
            Self::Full { callback, .. } | Self::Gone(callback) => callback,
        }
    }

    /// Returns the kind of the [`io::Error`] that `?` converts this error to.
    pub const fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Full { .. } => io::ErrorKind::ResourceBusy,
            Self::Gone(_) => io::ErrorKind::BrokenPipe,
        }
    }
}

impl<F> fmt::Debug for TryPostError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full {
                max_pending_posts, ..
            } => f
                .debug_struct("Full")
                .field("max_pending_posts", max_pending_posts)
                .finish_non_exhaustive(),
            Self::Gone(_) => f.write_str("Gone(..)"),
        }
    }
}

impl<F> fmt::Display for TryPostError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full {
                max_pending_posts, ..
            } => {
                write!(
                    f,
                    "the loop has {max_pending_posts} pending closures, as many as its limit allows"
                )
            }
            Self::Gone(_) => LoopGone.fmt(f),
        }
    }
}

impl<F> std::error::Error for TryPostError<F> {}

/// Lets `?` pass the error on from a handler. The closure is dropped.
impl<F> From<TryPostError<F>> for io::Error {
    fn from(error: TryPostError<F>) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

/// Lets `?` pass the error on from a handler, as [`BrokenPipe`](io::ErrorKind::BrokenPipe).
impl From<LoopGone> for io::Error {
    fn from(gone: LoopGone) -> Self {
        Self::new(io::ErrorKind::BrokenPipe, gone)
    }
}
