//! Files: to be told that what is at a path has changed, and to read and write without holding up the loop.
//!
//! Ground rule of the watching: *a path is watched, not a file*. Each folder on the way to it is watched before what is
//! in it is looked at, symbolic links included, so whatever changes after the look brings the next one. What is watched
//! is put right before the callback is called: it reads what is there then, and what comes later is told again.
//!
//! inotify itself watches inodes, which is why a watch of a configuration file is lost when an editor renames another
//! one over it. Source: `inotify(7)`, "Limitations and caveats", and `path_resolution(7)` for the way.

mod file;
mod folder;
mod inotify;
mod jobs;
mod path_watch;

use std::io::{self, ErrorKind};
use std::path::Path;

use reactor::{Interest, Io, Next};

use self::inotify::Queue;
use crate::error;

pub use self::file::{Change, watch};
pub use self::folder::{FolderChange, watch_folder};
pub use self::jobs::{append, read, write_atomically};

/// An error with the call that gave it and the path that it was made for.
fn named(call: &str, path: &Path, error: io::Error) -> io::Error {
    error::named(format_args!("{call}({})", path.display()), error)
}

/// Ends a call of the handler: where nothing is left in the queue, the next event wakes the loop.
fn end_call<T>(io: &mut Io<T>, queue: Queue) -> io::Result<Next> {
    match queue {
        Queue::More => Ok(Next::Keep), // still readable: called again next turn
        Queue::Empty => io.try_io(Interest::READABLE, |_| Err(ErrorKind::WouldBlock.into())),
    }
}
