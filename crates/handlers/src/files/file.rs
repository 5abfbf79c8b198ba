//! Watches of files by their paths.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use reactor::{Context, Interest, Io, Key, Next, Registry};

use super::end_call;
use super::inotify::{Inotify, Queue};
use super::path_watch::{PathEvents, PathWatch, Update, WatchFor};
use crate::error;

/// A change at a path that is watched by [`watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A file existed before and exists now, and its content may have changed: the file was written
    /// to and closed, was replaced by another file, or got other attributes. This is also reported
    /// when the kernel's queue has overflowed, so that events may be lost.
    Changed,
    /// No file existed before, and a file exists now.
    Appeared,
    /// The file no longer exists, or can no longer be accessed.
    Gone,
}

/// Calls `callback` on the loop when the content of the file at one of `paths` may have changed,
/// when the file disappears, and when it appears again. The callback gets the path as you have
/// passed it to this function.
///
/// *The path is watched, and not only the file that is at the path now.* These changes are seen:
/// - A file is written in place, replaced by a rename over it, or deleted and created again.
/// - Its folder, or any folder on the way, is moved away and comes back, or is deleted and created
///   again.
/// - A file, or its folder, that does not exist at first is created.
/// - A symbolic link on the way is changed. Each link on the way is watched like a folder. For
///   example, when Kubernetes swaps the link `..data` of a volume, every watched file of the volume
///   is reported.
///
/// The initial content is not reported. Start the watcher before you read the files, so that no
/// change is lost. All watches are re-established before the callback runs, so any later change
/// leads to another call. A burst of changes is coalesced into one call for each path, which
/// reports the net effect. There may be a call without a change, but no change of the kinds above
/// is missed.
///
/// These details matter:
/// - A write is reported when the writer closes the file, not before. A writer that never closes
///   the file is not seen. Neither a write through `mmap(2)` nor a `truncate(2)` by path is seen. A
///   new file may be reported twice: when it is created, and when it is written.
/// - `chmod`, `touch` and another hard link are reported as [`Change::Changed`], since they may
///   make the file readable, or may be meant as a sign to read the file again.
/// - If a folder is at the path, it counts as an existing file, but changes of its entries are not
///   reported. For these use [`watch_folder`](super::watch_folder).
/// - A mount on the way is not seen, but an unmount is.
/// - Changes that another machine makes on a network file system are not seen. The same holds for
///   changes of `/proc` and `/sys`.
/// - If this process has no permission to read a folder on the way, a rename in this folder is not
///   seen.
///
/// The paths of a watcher are fixed. To watch more paths, first start another watcher with all
/// paths, and then [remove](Registry::remove) the old watcher. In this order no change is lost. A
/// change between the two steps is reported twice.
///
/// A watcher does not keep [`Reactor::run`](reactor::Reactor::run) alive. If the program only
/// watches, pass the returned key to [`set_foreground`](Registry::set_foreground). The watcher
/// ends, for all its paths, when the callback returns [`Next::Remove`] or an error, or when you
/// pass the key to [`Registry::remove`]. The errors `WouldBlock` and `Interrupted` end nothing:
/// they count as [`Next::Keep`]. Call this function on the loop's thread.
///
/// # Cost
/// A watcher costs an inotify instance. The kernel limits the instances of a user
/// (`fs.inotify.max_user_instances`, 128 by default), so watch many paths by one call. Each name on
/// the way to a file costs two system calls at the start, and again each time one of these names
/// changes. If other programs often create files in a folder on the way, each wakeup costs a read,
/// but no call of the callback.
///
/// # Errors
/// Nothing is watched after an error.
/// - `EMFILE` at the limit of inotify instances, or of open files.
/// - `QuotaExceeded` at the limit of watches; the error names `fs.inotify.max_user_watches`.
/// - `InvalidInput` for an empty path.
/// - The errors of `lstat(2)`, except that the path does not exist.
/// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop, or
///   [`Error::Os`](reactor::Error::Os) from `epoll_ctl(2)`; see [`Registry::add`].
///
/// The kernel may also return these errors later, when watches are re-established. Such an error
/// ends the watcher and is logged.
///
/// # Source
/// `inotify(7)`.
///
/// ```
/// use handlers::files::{self, Change};
/// use reactor::{Next, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::<u32>::new()?;
/// files::watch(&mut reactor, ["/etc/app/app.conf", "/etc/app/key.pem"], |path, change, cx| {
///     match change {
///         Change::Gone => println!("{} is gone: keeping the old settings", path.display()),
///         _ => *cx.state += 1, // read it again
///     }
///     Ok(Next::Keep)
/// })?;
/// reactor.run(&mut 0)?; // returns at once: a watcher does not keep it alive
/// # Ok(())
/// # }
/// ```
#[doc(alias("ev_stat", "uv_fs_event_start", "inotify"))]
#[track_caller]
pub fn watch<S, F>(
    registry: &mut Registry<S>,
    paths: impl IntoIterator<Item = impl AsRef<Path>>,
    mut callback: F,
) -> io::Result<Key>
where
    F: FnMut(&Path, Change, &mut Context<'_, S>) -> io::Result<Next> + 'static,
{
    let source = Files::watch(paths)?;
    let key = registry.add(source, Interest::READABLE, move |io, cx| {
        deliver(io, &mut callback, cx)
    })?;
    registry.set_background(key)?;
    Ok(key)
}

/// Reports the net change of each path after the events of one call, until the watcher ends.
fn deliver<S>(
    io: &mut Io<Files>,
    callback: &mut impl FnMut(&Path, Change, &mut Context<'_, S>) -> io::Result<Next>,
    cx: &mut Context<'_, S>,
) -> io::Result<Next> {
    let queue = io.get_mut().collect()?;
    for index in 0..io.get_ref().watches.len() {
        let Some(change) = io.get_mut().update(index)? else {
            continue;
        };
        match error::next(callback(&io.get_ref().given[index], change, cx)) {
            Ok(Next::Keep) if cx.registry.contains(cx.key()) => {}
            end => return end,
        }
    }
    end_call(io, queue)
}

/// Paths that are watched by one inotify instance.
#[derive(Debug)]
struct Files {
    inotify: Inotify,
    watches: Vec<PathWatch>,
    /// The paths as the user passed them, one for each watch.
    given: Vec<PathBuf>,
}

impl Files {
    fn watch(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> io::Result<Self> {
        let mut files = Self {
            inotify: Inotify::new()?,
            watches: Vec::new(),
            given: Vec::new(),
        };
        for path in paths {
            files.watches.push(PathWatch::new(
                path.as_ref(),
                WatchFor::Content,
                &files.inotify,
            )?);
            files.given.push(path.as_ref().to_owned());
        }
        Ok(files)
    }

    /// Reads the events that the kernel has queued.
    fn collect(&mut self) -> io::Result<Queue> {
        self.inotify
            .read(|event| self.watches.iter_mut().for_each(|path| path.record(event)))
    }

    /// Updates the watches of a path. Returns the change to report.
    fn update(&mut self, index: usize) -> io::Result<Option<Change>> {
        let Some(Update {
            before,
            after,
            events,
            unused,
        }) = self.watches[index].update(&self.inotify)?
        else {
            return Ok(None);
        };
        for watch in unused {
            if !self.watches.iter().any(|path| path.uses(watch)) {
                self.inotify.forget(watch);
            }
        }
        Ok(match (before.is_there(), after.is_there()) {
            (true, false) => Some(Change::Gone),
            (false, true) => Some(Change::Appeared),
            (true, true) if events >= PathEvents::Content || before != after => {
                Some(Change::Changed)
            }
            _ => None,
        })
    }
}

impl AsFd for Files {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
