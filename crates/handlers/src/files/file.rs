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
    /// A file existed before and exists now, and its content may have changed. The file was written
    /// to and closed, was replaced by another file, or got other attributes. This is also reported
    /// if the kernel's queue of events has overflowed, since a change may then have been lost.
    Changed,
    /// No file existed before, and a file exists now.
    Appeared,
    /// The file no longer exists, or can no longer be accessed.
    Gone,
}

/// Calls `callback` on the loop when the content of the file at one of `paths` may have changed,
/// when the file disappears, and when it appears again. The callback gets the path in the form in
/// which you have passed it to this function.
///
/// *The path is watched, and not only the file that is at the path now.* These changes are
/// reported:
/// - The file is written in place, is replaced by another file that is renamed over it, or is
///   deleted and created again.
/// - The folder of the file, or any other folder on the way to the file, is moved away and comes
///   back, or is deleted and created again.
/// - The file does not exist at first, or its folder does not exist, and is created later.
/// - A symbolic link on the way to the file is changed. Each link on the way is watched like a
///   folder. For example, when Kubernetes swaps the link `..data` of a volume, every watched file
///   of the volume is reported.
///
/// The initial content is not reported. Start the watcher before you read the files, so that no
/// change is lost. All watches are set up again before the callback runs, so any later change leads
/// to another call. Several changes in quick succession lead to one call for each path, which
/// reports their combined effect. The callback may also be called without a change. But no change
/// of the kinds above is missed.
///
/// In detail:
/// - A write is reported when the writer closes the file, not before. If the writer never closes
///   the file, the write is not reported. A write through `mmap(2)` and a `truncate(2)` by path are
///   not reported either. A new file may be reported twice: when it is created, and when it is
///   written.
/// - `chmod`, `touch` and a new hard link to the file are reported as [`Change::Changed`]. The
///   reasons are that `chmod` may make the file readable, and that `touch` may be meant as a sign
///   to read the file again.
/// - If a folder is at the path, it counts as an existing file, but changes of the folder's entries
///   are not reported. To watch the entries, use [`watch_folder`](super::watch_folder).
/// - If a file system is mounted on a folder on the way, this is not reported. An unmount is
///   reported.
/// - Changes that another machine makes on a network file system are not reported. Changes of files
///   in `/proc` and `/sys` are not reported either.
/// - If this process has no permission to read a folder on the way, a rename in this folder is not
///   reported.
///
/// The paths of a watcher are fixed. To watch more paths, first start another watcher with all
/// paths, and then [remove](Registry::remove) the old watcher. In this order no change is lost, but
/// a change between the two steps is reported twice.
///
/// A watcher does not keep [`Reactor::run`](reactor::Reactor::run) alive. If your program does
/// nothing else than watch, pass the returned key to [`set_foreground`](Registry::set_foreground).
/// The watcher ends, for all its paths, when the callback returns [`Next::Remove`] or an error, or
/// when you pass the key to [`Registry::remove`]. The errors `WouldBlock` and `Interrupted` do not
/// end the watcher: they have the same effect as [`Next::Keep`]. Call this function on the loop's
/// thread.
///
/// # Cost
/// A watcher costs an inotify instance. The kernel limits the number of instances of a user
/// (`fs.inotify.max_user_instances`, 128 by default), so pass many paths to one call. At the start,
/// each name on the way to a file costs two system calls. The same calls are made again each time
/// one of these names changes. If other programs often create files in a folder on the way, the
/// loop wakes up for them, and each wakeup costs a read. The callback is not called for these
/// files.
///
/// # Errors
/// If an error is returned, nothing is watched.
/// - `EMFILE` at the limit of inotify instances, or of open files.
/// - `QuotaExceeded` at the limit of inotify watches. The error names the setting,
///   `fs.inotify.max_user_watches`.
/// - `InvalidInput` for an empty path.
/// - The errors of `lstat(2)`. It is not an error that the path does not exist.
/// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop, or
///   [`Error::Os`](reactor::Error::Os) from `epoll_ctl(2)`; see [`Registry::add`].
///
/// The kernel may also return these errors later, when watches are set up again after a change.
/// Such an error ends the watcher and is logged.
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
