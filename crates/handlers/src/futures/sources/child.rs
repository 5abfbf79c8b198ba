//! Children within a future.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};

use reactor::Registry;

use super::feed::{Feed, feed, in_callback};
use crate::child::{self, Exit, Spawned};

/// Starts a process, as [`child::spawn`] does, and returns it with a future of its exit. Its pipes
/// can be read and written by [`Async`](crate::futures::Async). Turn a
/// [`ChildStdout`](std::process::ChildStdout) into an `OwnedFd` and then into a
/// [`PipeReader`](std::io::PipeReader) for that, since only a `PipeReader` is read by reference.
///
/// The child keeps [`Reactor::run`](reactor::Reactor::run) alive until it has ended. If the future
/// is dropped, the child continues to run, and the loop reaps it. To end it, use
/// [`Spawned::key`]. Within a future, call this function by
/// [`with_context`](crate::futures::with_context).
///
/// # Errors
/// Those of [`child::spawn`].
///
/// ```
/// use std::process::Command;
/// use handlers::futures;
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = Reactor::<()>::new()?;
/// let (_spawned, exit) = futures::spawn_child(&mut reactor, &mut Command::new("true"))?;
/// assert!(futures::block_on(&mut reactor, &mut (), exit)??.status.success());
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn spawn_child<S: 'static>(
    registry: &mut Registry<S>,
    command: &mut Command,
) -> io::Result<(Spawned, ChildExit)> {
    let (feeder, feed) = feed();
    let spawned = child::spawn(registry, command, move |exit, cx| {
        in_callback(cx.registry, &feeder, || feeder.push(exit));
        Ok(())
    })?;
    Ok((spawned, ChildExit { feed }))
}

/// The future of [`spawn_child`]: the exit of a child.
///
/// # Errors
/// Those that the callback of [`child::spawn`] gets, and `BrokenPipe` if the registration of the
/// child was removed.
#[must_use = "a future does nothing unless it is awaited"]
pub struct ChildExit {
    feed: Feed<io::Result<Exit>>,
}

impl Future for ChildExit {
    type Output = io::Result<Exit>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Exit>> {
        let removed = || {
            let text = "the registration of the child was removed";
            Err(io::Error::new(io::ErrorKind::BrokenPipe, text))
        };
        let exit = self.feed.poll_next(cx);
        exit.map(|exit| exit.unwrap_or_else(removed))
    }
}

impl fmt::Debug for ChildExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildExit").finish_non_exhaustive()
    }
}
