//! Threads that are started for a loop.

use std::io;
use std::thread::{Builder, JoinHandle};

use crate::error::Error;

/// Starts a thread named `name`, which runs `body`.
///
/// # Errors
/// `EAGAIN` at a limit of threads, `ENOMEM`; names the call. `body` is dropped then.
pub(crate) fn spawn<R, F>(name: String, body: F) -> io::Result<JoinHandle<R>>
where
    R: Send + 'static,
    F: FnOnce() -> R + Send + 'static,
{
    Builder::new().name(name).spawn(body).map_err(|source| Error::Call { call: "clone", source }.into())
}
