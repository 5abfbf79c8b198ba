//! Files: watchers that report the changes at a path, and functions that read and write files
//! without blocking the loop.
//!
//! Ground rule of the watches: *a path is watched, not a file*. For each folder on the way to the
//! file, a watcher first watches the folder, and then looks up the next name of the path in it. If
//! the name is a symbolic link, the folders on the way to the target of the link are watched too.
//! Therefore any change after the lookup causes an event. All watches are set up again before the
//! callback runs. So the callback reads the present content, and each later change leads to another
//! call.
//!
//! inotify itself watches inodes, and not paths. Therefore a plain inotify watch of a configuration
//! file ends when an editor renames another file over the configuration file. Source: `inotify(7)`,
//! "Limitations and caveats", and `path_resolution(7)` for the names on the way.

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

/// Returns an error with its call and its path.
fn named(call: &str, path: &Path, error: io::Error) -> io::Error {
    error::named(format_args!("{call}({})", path.display()), error)
}

/// Returns the result of a call of the handler. If the queue is empty, this clears the readiness,
/// so that the next event wakes the loop.
fn end_call<T>(io: &mut Io<T>, queue: Queue) -> io::Result<Next> {
    match queue {
        // The source stays readable, so the handler is called again next turn.
        Queue::More => Ok(Next::Keep),
        Queue::Empty => io.try_io(Interest::READABLE, |_| Err(ErrorKind::WouldBlock.into())),
    }
}
