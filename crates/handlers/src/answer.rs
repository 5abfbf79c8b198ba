//! What the callbacks of all handlers may answer.

use std::io::{self, ErrorKind};

use reactor::Next;

/// Errors that only say that nothing was done, and end nothing: so `?` may be used on what would block.
pub(crate) fn is_nothing_done(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// What becomes of a registration after its callback has answered.
pub(crate) fn next(answer: io::Result<Next>) -> io::Result<Next> {
    match answer {
        Err(error) if is_nothing_done(&error) => Ok(Next::Keep),
        answer => answer,
    }
}
