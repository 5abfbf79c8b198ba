//! Watching of files by their paths.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use reactor::{Context, Interest, Io, Key, Next, Registry};

use super::end_call;
use super::inotify::{Inotify, Queue};
use super::path_watch::{PathEvents, PathWatch, Update, WatchFor};
use crate::error;

/// What has happened at a path that is watched by [`watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Something was there, and something is: its content may be another, since it was written to and closed, replaced
    /// by another file, or got other attributes. Also said when the kernel's queue has overflowed.
    Changed,
    /// Nothing was there, and now there is.
    Appeared,
    /// Nothing is there any more, or nothing that we can get at.
    Gone,
}

/// Calls `callback` on the loop when the content at one of `paths` may have changed, is gone or is there again.
///
/// *The path is watched, whatever comes to be there*: a file that is written in place, replaced by a rename over it,
/// deleted and made again; whose folder, or any folder on the way, is moved away and comes back, or is deleted and made
/// again; that does not exist at first, nor its folder. Symbolic links are followed, and each of them is watched as the
/// folders are: a swap of Kubernetes' `..data` is a change of every file behind it.
///
/// What is there at first is not told: register, then read, and nothing is lost. When the callback runs, all that was
/// to be watched anew is watched, so what it reads is as new as the last call for it. The path is told as it was given.
/// A burst of changes is one call for each path, of what it comes to; there may be a call more than there were changes,
/// and never one less. In particular:
/// - A file that is written to is told when who writes closes it, not in the middle; who never closes it, writes
///   through `mmap(2)`, or calls `truncate(2)` by path, is not seen. A new file may be told twice, made and written.
/// - `chmod`, `touch` and another hard link are told as [`Change::Changed`], since they may make it readable or be
///   meant as a sign.
/// - A folder at the path is there, but what is in it is not told: see [`watch_folder`](super::watch_folder).
/// - What is mounted is not seen, only what is unmounted; nor is what another machine does to a network file system,
///   and what `/proc` and `/sys` show. Folders that may not be read cannot be watched; what is renamed there is not
///   seen.
///
/// Its paths are those that it began with. To watch others, too, begin another one with all of them, and then
/// [remove](Registry::remove) this one: in that order no change is lost, and one in between is told twice.
///
/// A watcher does not keep [`Reactor::run`](reactor::Reactor::run) alive: use
/// [`set_foreground`](Registry::set_foreground) if watching is all there is to do. An outcome of [`Next::Remove`], an
/// error or [`Registry::remove`] ends it, for all its paths; `WouldBlock` and `Interrupted` are [`Next::Keep`].
///
/// An inotify instance, of which a user may have few (`fs.inotify.max_user_instances`, 128 by default): watch many
/// paths by one call. Two system calls for each name on the way, now and each time one of these changes; a folder on
/// the way in which others create files all the time costs a read for each wake, and no call. Loop thread only.
///
/// # Errors
/// `EMFILE` at the limit of instances; `QuotaExceeded` at the limit of watches, which names
/// `fs.inotify.max_user_watches`; `InvalidInput` for an empty path; what `lstat(2)` says but that nothing is there;
/// what [`Registry::add`] gives. Nothing is watched then. Those of the kernel may also come when a path is watched
/// anew, and end the watcher: they are logged.
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
///         Change::Gone => println!("{} is gone: going on with what was in it", path.display()),
///         _ => *cx.state += 1, // read it again
///     }
///     Ok(Next::Keep)
/// })?;
/// reactor.run(&mut 0)?; // ends at once: a watcher alone keeps nothing alive
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

/// Reports the change of each path that the events of one call amount to, until the watcher ends.
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

/// Some paths that are watched by one inotify instance.
#[derive(Debug)]
struct Files {
    inotify: Inotify,
    watches: Vec<PathWatch>,
    /// The paths as they were given, one for each watch.
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

    /// Updates the watches of a path, and returns the change to report.
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
