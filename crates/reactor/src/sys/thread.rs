//! Other threads: how they are started, and the clock for their waits.

use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crate::error::Error;

/// Starts a thread named `name`, which runs `body`.
///
/// # Errors
/// `EAGAIN` at a limit of threads, `ENOMEM`. The error names the call. `body` is dropped then.
pub(crate) fn spawn<R, F>(name: String, body: F) -> io::Result<JoinHandle<R>>
where
    R: Send + 'static,
    F: FnOnce() -> R + Send + 'static,
{
    Builder::new().name(name).spawn(body).map_err(|source| {
        Error::Call {
            call: "clone",
            source,
        }
        .into()
    })
}

/// Returns the time of the system, by which a thread waits for a loop or for other threads.
pub(crate) fn now() -> Instant {
    Instant::now()
}
