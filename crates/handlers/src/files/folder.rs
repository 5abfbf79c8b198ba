//! Watching of what is in a folder.
//!
//! The two ends of a rename are two events, which are put together where both are seen. The first one may be read
//! before the kernel has queued the second: so one at the end of the queue waits for the next turn before it is told
//! alone.

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

/// What has happened in a folder that is watched by [`watch_folder`]. The names are those of its entries, without a
/// path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FolderChange {
    /// An entry was made, perhaps as a hard link. A file that is made is empty at first, or half:
    /// [`Written`](Self::Written) follows.
    Created(OsString),
    /// An entry was moved here from another folder, by `rename(2)`. A file that is delivered so is whole, and
    /// [`Written`](Self::Written) does not follow. If there was another entry of that name, it is gone.
    MovedIn(OsString),
    /// A file that was open for writing was closed: what is in it may be another.
    Written(OsString),
    /// An entry was deleted, or moved elsewhere.
    Removed(OsString),
    /// An entry has another name. If there was another entry of that name, it is gone.
    Renamed {
        /// The name it had.
        from: OsString,
        /// The name it has.
        to: OsString,
    },
    /// More has happened than the kernel keeps: anything may have changed, so list the folder anew.
    Overflow,
    /// The folder is there, for the first time or again, or another one in its place: list it.
    Appeared,
    /// The folder is not there any more, or may not be read.
    Gone,
}

/// Calls `callback` on the loop for each change among the entries of the folder at `path`: made, written, removed,
/// renamed.
///
/// *Not recursive*: what is in folders below is not told. In the order of the changes; what was written several times
/// among what is told in one turn is told once. Both ends of a rename within the folder are told together, with any
/// other change between them after both; where the kernel was too slow with the second one, or one end is in another
/// folder, as [removed](FolderChange::Removed) and [moved in](FolderChange::MovedIn). An entry may be gone again when
/// its change is told. Changes of attributes are not told.
///
/// The path is watched, as with [`watch`](super::watch): when the folder is moved away or deleted, that is told, and
/// when there is one again, or for the first time. What it has then is to be listed. What it has at first is not told:
/// register, then list, and nothing is lost. The kernel keeps 16 384 events (`fs.inotify.max_queued_events`) while the
/// loop does not turn; if there are more, [`FolderChange::Overflow`] is told where they are missing.
///
/// *A spool*, whose files are to be taken when they are whole, waits for three changes: `Written` for those that are
/// written in place, `MovedIn` for those that are written elsewhere and renamed into it, as a maildir does, and
/// `Renamed` for those that are written here under another name, as `rsync` does. `Created` says nothing of the
/// content. A spool whose files come by `link(2)` is told by `Created` alone: its senders and it have to agree on
/// names. The first listing may find files that are told once more, or are half: a spool that is written in place has
/// to recognise them.
///
/// In the background, ended and limited as [`watch`](super::watch) is; one allocation for each name. Some thousand
/// changes a turn at most, the rest next turn. Loop thread only.
///
/// # Errors
/// As [`watch`](super::watch). A path where no folder is, or one that we may not read, is no error.
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
///         FolderChange::Written(name) | FolderChange::MovedIn(name) | FolderChange::Renamed { to: name, .. } => {
///             println!("{name:?} is whole");
///         }
///         FolderChange::Overflow | FolderChange::Appeared => println!("looking through all of it"),
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

/// The first end of a rename, whose second has not been seen.
#[derive(Debug)]
struct MovedFrom {
    cookie: u32,
    name: OsString,
}

impl Folder {
    /// Reads the events that the kernel has queued, and returns the changes to report, and whether there is more to
    /// come.
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
            queue = Queue::More; // looked for next turn
        }
        Ok((batch.changes, queue))
    }

    /// Updates the watches, and returns the change of the folder itself.
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
    /// The first ends of renames, with their places among the changes.
    leaving: Vec<(u32, usize)>,
    /// Of which entries the last change is that they were written.
    written: HashSet<OsString>,
    /// How many changes are from the call before.
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

    /// Adds an entry that is moved away, as far as is known.
    fn push_moved_from(&mut self, cookie: u32, name: OsString) {
        self.leaving.push((cookie, self.changes.len()));
        self.changes.push(FolderChange::Removed(name));
    }

    /// Adds an entry that is moved here: from a name in this folder, if that event was seen.
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

    /// Removes the last change, if it is the first end of a rename that has not waited yet.
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

    /// A batch that begins with what was held back, and its events: what was seen, the cookie, the name.
    fn batch(held: Option<MovedFrom>, events: &[(EventFlags, u32, &str)]) -> ChangeBatch {
        let inotify = Inotify::new().unwrap();
        let root = PathWatch::new(Path::new("/"), WatchFor::Entries, &inotify).unwrap();
        let Target::Watched(watch) = root.target() else {
            panic!("the root is not there")
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
            "its second end would be here by now"
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
