//! Watches of the entries of a folder.
//!
//! The kernel reports a rename by two events: one for the old name (the first end), one for the new
//! name (the second end). They are combined if both are seen. The first event may be read before
//! the kernel has queued the second. Therefore a first end that is the last event of the queue is
//! held until the next turn, before it is reported alone.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use reactor::{Context, Interest, Io, Key, Next, Registry};

use super::end_call;
use super::inotify::{Event, EventFlags, Inotify, Queue};
use super::path_watch::{PathWatch, Target, Update, WatchFor};
use crate::error;

/// A change in a folder that is watched by [`watch_folder`]. Each `OsString` in a variant is the
/// name of an entry of the folder, without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FolderChange {
    /// An entry was created. A new file is empty or incomplete at first, and
    /// [`Written`](Self::Written) follows when it was written and closed. If the entry is a hard
    /// link to an existing file, `Written` need not follow.
    Created(OsString),
    /// An entry was moved here from another folder, by `rename(2)`. A file that a program delivers
    /// in this way is complete, and [`Written`](Self::Written) does not follow. If another entry
    /// had this name before, the other entry is gone.
    MovedIn(OsString),
    /// A file was closed that a program had opened for writing, so the content of the file may have
    /// changed.
    Written(OsString),
    /// An entry was deleted, or moved to another folder.
    Removed(OsString),
    /// An entry was renamed. If another entry had the new name before, the other entry is gone.
    Renamed {
        /// The old name.
        from: OsString,
        /// The new name.
        to: OsString,
    },
    /// The kernel's queue of events has overflowed, and events are lost. Anything may have changed,
    /// so list the folder again.
    Overflow,
    /// A folder has appeared at the path, for the first time or again, or in place of the former
    /// folder. List its entries.
    Appeared,
    /// The folder no longer exists, or this process may no longer read it.
    Gone,
}

/// Calls `callback` on the loop for each change among the entries of the folder at `path`. An entry
/// can be created, written, removed or renamed.
///
/// *Not recursive*: changes in subfolders are not reported. Changes are reported in their order,
/// with these details:
/// - Several writes of a file within one turn are reported once.
/// - A rename within the folder is reported as one [`Renamed`](FolderChange::Renamed). The kernel
///   reports the rename by two events, which may have other events between them. `Renamed` takes
///   the place of the first of the two. The loop waits for the second event until the next turn at
///   most. If it has not read the event by then, the rename is reported as
///   [`Removed`](FolderChange::Removed) and [`MovedIn`](FolderChange::MovedIn).
/// - If an entry moves to another folder, only `Removed` is reported. If it comes from another
///   folder, only `MovedIn` is reported.
/// - When the change of an entry is reported, the entry may already be gone.
/// - Changes of attributes are not reported.
///
/// As with [`watch`](super::watch), the path is watched, and not only the folder that is at the
/// path now. When the folder is moved away or deleted, [`Gone`](FolderChange::Gone) is reported.
/// When a folder appears at the path, for the first time or again,
/// [`Appeared`](FolderChange::Appeared) is reported. List the entries of the folder at this event.
/// The entries that exist when the watcher starts are not reported. To lose no change, start the
/// watcher before you list these entries.
///
/// While the loop is busy, the kernel keeps up to 16 384 events (the default of
/// `fs.inotify.max_queued_events`). Further events are lost, and [`FolderChange::Overflow`] is
/// reported in place of them.
///
/// *Spool folders*: to take only complete files from a spool folder, handle these three changes:
/// - `Written` for files that are written in place.
/// - `MovedIn` for files that are written elsewhere and renamed into the folder, as in a maildir.
/// - `Renamed` for files that are written in the folder under another name, as by `rsync`.
///
/// `Created` does not mean that the content is complete. A file that arrives by `link(2)` is
/// complete, but only `Created` reports it. So if senders use `link(2)`, your program must
/// recognise such files by their names.
///
/// The first listing of your program may contain files that the watcher reports too. If files are
/// written in place, the listing may also contain incomplete files. Your program must recognise
/// both kinds of files.
///
/// A watcher does not keep [`Reactor::run`](reactor::Reactor::run) alive. The watcher ends when the
/// callback returns [`Next::Remove`] or an error, or when you pass the returned key to
/// [`Registry::remove`]. The errors `WouldBlock` and `Interrupted` do not end the watcher: they
/// have the same effect as [`Next::Keep`]. Call this function on the loop's thread.
///
/// # Cost
/// The costs and limits of [`watch`](super::watch), and one allocation for each reported name. In
/// one turn at most about a thousand changes are reported, and the remaining changes next turn.
///
/// # Errors
/// If an error is returned, nothing is watched. It is not an error if the folder does not exist, or
/// if this process may not read it.
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
/// use handlers::files::{self, FolderChange};
/// use reactor::{Next, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::<()>::new()?;
/// files::watch_folder(&mut reactor, "/var/spool/app", |change, _cx| {
///     match change {
///         FolderChange::Written(name)
///         | FolderChange::MovedIn(name)
///         | FolderChange::Renamed { to: name, .. } => println!("{name:?} is complete"),
///         FolderChange::Overflow | FolderChange::Appeared => println!("listing the folder"),
///         _ => {}
///     }
///     Ok(Next::Keep)
/// })?;
/// # reactor.run(&mut ())?;
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn watch_folder<S, F>(
    registry: &mut Registry<S>,
    path: impl AsRef<Path>,
    mut callback: F,
) -> io::Result<Key>
where
    F: FnMut(&FolderChange, &mut Context<'_, S>) -> io::Result<Next> + 'static,
{
    let inotify = Inotify::new()?;
    let watch = PathWatch::new(path.as_ref(), WatchFor::Entries, &inotify)?;
    let source = Folder {
        inotify,
        watch,
        held: None,
    };
    let key = registry.add(source, Interest::READABLE, move |io, cx| {
        deliver(io, &mut callback, cx)
    })?;
    registry.set_background(key)?;
    Ok(key)
}

/// Reports the changes of one call, until the watcher ends.
fn deliver<S>(
    io: &mut Io<Folder>,
    callback: &mut impl FnMut(&FolderChange, &mut Context<'_, S>) -> io::Result<Next>,
    cx: &mut Context<'_, S>,
) -> io::Result<Next> {
    let (changes, queue) = io.get_mut().collect()?;
    for change in &changes {
        match error::next(callback(change, cx)) {
            Ok(Next::Keep) if cx.registry.contains(cx.key()) => {}
            end => return end,
        }
    }
    end_call(io, queue)
}

/// A folder that is watched.
#[derive(Debug)]
struct Folder {
    inotify: Inotify,
    watch: PathWatch,
    held: Option<MovedFrom>,
}

/// The first end of a rename, without its second end.
#[derive(Debug)]
struct MovedFrom {
    cookie: u32,
    name: OsString,
}

impl Folder {
    /// Reads the events that the kernel has queued. Returns the changes to report, and the state of
    /// the queue.
    fn collect(&mut self) -> io::Result<(Vec<FolderChange>, Queue)> {
        let target = self.watch.target();
        let mut batch = ChangeBatch::beginning_with(self.held.take());
        let mut queue = self.inotify.read(|event| {
            if target == Target::Watched(event.watch)
                || event.flags.contains(EventFlags::QUEUE_OVERFLOW)
            {
                batch.push(event);
            }
            self.watch.record(event);
        })?;
        match self.update()? {
            Some(change) => batch.changes.push(change),
            None if queue == Queue::Empty => self.held = batch.take_last_moved_from(),
            None => {}
        }
        if self.held.is_some() {
            queue = Queue::More; // the second end is looked for next turn
        }
        Ok((batch.changes, queue))
    }

    /// Updates the watches. Returns the change of the folder itself.
    fn update(&mut self) -> io::Result<Option<FolderChange>> {
        let Some(Update {
            before,
            after,
            unused,
            ..
        }) = self.watch.update(&self.inotify)?
        else {
            return Ok(None);
        };
        unused
            .into_iter()
            .for_each(|watch| self.inotify.forget(watch));
        Ok(match after {
            _ if before == after => None, // moved away and back: no event was lost
            Target::Absent => Some(FolderChange::Gone),
            _ => Some(FolderChange::Appeared),
        })
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The changes of one call.
#[derive(Debug, Default)]
struct ChangeBatch {
    changes: Vec<FolderChange>,
    /// The first ends of renames, with their indices in `changes`.
    leaving: Vec<(u32, usize)>,
    /// The entries whose last change is `Written`.
    written: HashSet<OsString>,
    /// The number of changes at the beginning that were held from the last call.
    held: usize,
}

impl ChangeBatch {
    fn beginning_with(held: Option<MovedFrom>) -> Self {
        let mut batch = Self::default();
        if let Some(MovedFrom { cookie, name }) = held {
            batch.push_moved_from(cookie, name);
            batch.held = 1;
        }
        batch
    }

    fn push(&mut self, event: &Event<'_>) {
        if event.flags.contains(EventFlags::QUEUE_OVERFLOW) {
            self.changes.push(FolderChange::Overflow);
        }
        let Some(name) = event.name else { return };
        if event.flags.contains(EventFlags::CLOSE_WRITE) {
            if self.written.insert(name.to_owned()) {
                self.changes.push(FolderChange::Written(name.to_owned()));
            }
            return;
        }
        if event.flags.contains(EventFlags::ATTRIB) {
            return;
        }
        self.written.remove(name);
        if event.flags.contains(EventFlags::CREATE) {
            self.changes.push(FolderChange::Created(name.to_owned()));
        } else if event.flags.contains(EventFlags::DELETE) {
            self.changes.push(FolderChange::Removed(name.to_owned()));
        } else if event.flags.contains(EventFlags::MOVED_FROM) {
            self.push_moved_from(event.cookie, name.to_owned());
        } else if event.flags.contains(EventFlags::MOVED_TO) {
            self.push_moved_to(event.cookie, name);
        }
    }

    /// Adds the removal of an entry that was moved away. It becomes a rename if the second end
    /// follows.
    fn push_moved_from(&mut self, cookie: u32, name: OsString) {
        self.leaving.push((cookie, self.changes.len()));
        self.changes.push(FolderChange::Removed(name));
    }

    /// Adds an entry that was moved here. It becomes a rename if the first end was seen in this
    /// folder.
    fn push_moved_to(&mut self, cookie: u32, to: &OsStr) {
        let first_end = self.leaving.iter().position(|(other, _)| *other == cookie);
        let change = first_end.map(|index| &mut self.changes[self.leaving.swap_remove(index).1]);
        match change {
            Some(change @ FolderChange::Removed(_)) => {
                let FolderChange::Removed(from) = change else {
                    return;
                };
                *change = FolderChange::Renamed {
                    from: std::mem::take(from),
                    to: to.to_owned(),
                };
            }
            _ => self.changes.push(FolderChange::MovedIn(to.to_owned())),
        }
    }

    /// Removes and returns the last change, if it is the first end of a rename and was not held
    /// before.
    fn take_last_moved_from(&mut self) -> Option<MovedFrom> {
        let last = self
            .changes
            .len()
            .checked_sub(1)
            .filter(|last| *last >= self.held)?;
        let (cookie, _) = *self.leaving.iter().find(|(_, place)| *place == last)?;
        match self.changes.pop() {
            Some(FolderChange::Removed(name)) => Some(MovedFrom { cookie, name }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a batch that begins with a held first end, if there is one, and continues with
    /// `events`: the flags, the cookie and the name of each.
    fn batch(held: Option<MovedFrom>, events: &[(EventFlags, u32, &str)]) -> ChangeBatch {
        let inotify = Inotify::new().unwrap();
        let root = PathWatch::new(Path::new("/"), WatchFor::Entries, &inotify).unwrap();
        let Target::Watched(watch) = root.target() else {
            panic!("the root is not watched")
        };
        let mut batch = ChangeBatch::beginning_with(held);
        for &(flags, cookie, name) in events {
            batch.push(&Event {
                watch,
                flags,
                cookie,
                name: Some(OsStr::new(name)),
            });
        }
        batch
    }

    #[test]
    fn a_rename_whose_two_events_are_read_apart_is_reported_as_one() {
        let mut first = batch(
            None,
            &[
                (EventFlags::CREATE, 0, "new"),
                (EventFlags::MOVED_FROM, 7, "old"),
            ],
        );
        let held = first.take_last_moved_from();
        assert_eq!(first.changes, [FolderChange::Created("new".into())]);
        let second = batch(
            held,
            &[
                (EventFlags::CREATE, 0, "another"),
                (EventFlags::MOVED_TO, 7, "young"),
            ],
        );
        let renamed = FolderChange::Renamed {
            from: "old".into(),
            to: "young".into(),
        };
        assert_eq!(
            second.changes,
            [renamed, FolderChange::Created("another".into())]
        );
    }

    #[test]
    fn the_first_end_of_a_rename_waits_once_and_only_at_the_end() {
        let mut first = batch(
            None,
            &[
                (EventFlags::MOVED_FROM, 7, "old"),
                (EventFlags::CREATE, 0, "new"),
            ],
        );
        assert!(
            first.take_last_moved_from().is_none(),
            "the second end would already be in the queue"
        );
        assert_eq!(first.changes.len(), 2);
        let held = batch(None, &[(EventFlags::MOVED_FROM, 7, "old")]).take_last_moved_from();
        let mut second = batch(held, &[]);
        assert!(second.take_last_moved_from().is_none());
        assert_eq!(second.changes, [FolderChange::Removed("old".into())]);
        let held = batch(None, &[(EventFlags::MOVED_FROM, 7, "old")]).take_last_moved_from();
        let mut third = batch(
            held,
            &[
                (EventFlags::MOVED_TO, 8, "other"),
                (EventFlags::MOVED_FROM, 9, "next"),
            ],
        );
        assert!(
            third
                .take_last_moved_from()
                .is_some_and(|next| next.cookie == 9)
        );
        assert_eq!(
            third.changes,
            [
                FolderChange::Removed("old".into()),
                FolderChange::MovedIn("other".into())
            ]
        );
    }
}
