//! The way to a path: every name that decides what is there, each in a folder that is watched.
//!
//! The way is gone as the kernel would go it, one name after the other. It ends early at the nearest folder that
//! exists, whose watch tells when the missing name appears.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use super::inotify::{Event, Inotify, Seen, Want, Watch, Watched};
use super::named;

/// What may happen to a name in a folder on the way. Attributes, since they decide who may go that way.
const NAMES: Want = Want::CREATE
    .union(Want::DELETE)
    .union(Want::MOVED_FROM)
    .union(Want::MOVED_TO)
    .union(Want::ATTRIB)
    .union(Want::ONLYDIR);

/// What may happen to the content of a file. Not each `write`: who writes closes the file when all is there.
const CONTENT: Want = Want::CLOSE_WRITE.union(Want::ATTRIB);

/// What may happen in a folder that is watched for what is in it.
const ENTRIES: Want = NAMES.union(Want::CLOSE_WRITE);

/// The events after which a name leads elsewhere.
const RENAMING: Seen = Seen::CREATE.union(Seen::DELETE).union(Seen::MOVED_FROM).union(Seen::MOVED_TO);

/// `path_resolution(7)`: more symbolic links than that are an error.
const LINKS_MAX: usize = 40;

/// A path that is watched.
#[derive(Debug)]
pub(super) struct Way {
    path: PathBuf,
    goal: Goal,
    // INVARIANT (steps): each name that was looked at to find `target`, with the watch of the folder that has it.
    // Kept by `go`. `heed` relies on it: a name that is missing loses a change for ever.
    steps: Vec<Step>,
    target: Target,
    /// What has been seen since the last look.
    news: News,
}

/// What a path is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Anything at all, for its content.
    File,
    /// A folder, for what is in it.
    Entries,
}

/// A name that was looked up on the way.
#[derive(Debug)]
struct Step {
    folder: Watch,
    name: OsString,
}

/// What is at the end of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Absent,
    Watched(Watch),
    /// There, and seen by its name alone: a file that we may not read, a folder where a file was expected.
    ByName,
}

impl Target {
    pub(super) fn is_there(self) -> bool {
        self != Self::Absent
    }
}

/// What events make of a way, the stronger ones last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    None,
    /// Who may go the way has changed, so it may lead elsewhere.
    Look,
    /// The content may have changed.
    Content,
    /// A name on the way has come to mean something else.
    Names,
}

/// What [`Way::renew`] has found.
#[derive(Debug)]
pub(super) struct Renewed {
    pub(super) before: Target,
    pub(super) after: Target,
    pub(super) news: News,
    /// Watches that this way needs no more.
    pub(super) left: Vec<Watch>,
}

impl Way {
    /// Goes the way to `path` for the first time. A relative path counts from the working directory of this moment.
    pub(super) fn to(path: &Path, goal: Goal, inotify: &Inotify) -> io::Result<Self> {
        let absolute = std::path::absolute(path).map_err(|error| named("watch", path, error))?;
        let mut way = Self { path: absolute, goal, steps: Vec::new(), target: Target::Absent, news: News::None };
        way.go(inotify)?;
        Ok(way)
    }

    pub(super) const fn target(&self) -> Target {
        self.target
    }

    /// Whether this way needs `watch`.
    pub(super) fn uses(&self, watch: Watch) -> bool {
        self.target == Target::Watched(watch) || self.steps.iter().any(|step| step.folder == watch)
    }

    /// Takes notice of an event, which may have nothing to do with this way.
    pub(super) fn heed(&mut self, event: &Event<'_>) {
        self.news = self.news.max(self.meaning(event));
    }

    fn meaning(&self, event: &Event<'_>) -> News {
        if event.seen.contains(Seen::QUEUE_OVERFLOW) {
            return News::Names;
        }
        let Some(name) = event.name else { return self.meaning_to_itself(event) };
        let Some(place) = self.steps.iter().position(|step| step.folder == event.watch && step.name == name) else {
            return News::None;
        };
        if event.seen.intersects(RENAMING) {
            return News::Names;
        }
        // Content and attributes, by name. Where the target is watched itself, that tells of it.
        let is_target = place + 1 == self.steps.len() && self.target == Target::ByName;
        if is_target {
            News::Content
        } else if event.seen.contains(Seen::ATTRIB) {
            News::Look
        } else {
            News::None
        }
    }

    /// The meaning of what has happened to a thing that is watched, not to a name in it.
    fn meaning_to_itself(&self, event: &Event<'_>) -> News {
        if !self.uses(event.watch) {
            News::None // of a watch that has been ended
        } else if event.seen.intersects(Seen::IGNORED | Seen::UNMOUNT) {
            News::Names
        } else if self.target == Target::Watched(event.watch) && self.goal == Goal::File {
            News::Content
        } else {
            News::Look
        }
    }

    /// Goes the way again, if the events since the last time ask for it, and tells what they meant; `None` if nothing.
    pub(super) fn renew(&mut self, inotify: &Inotify) -> io::Result<Option<Renewed>> {
        let news = std::mem::replace(&mut self.news, News::None);
        if news == News::None {
            return Ok(None);
        }
        let before = self.target;
        let mut left = Vec::new();
        // An event of the content needs no look, but where only the name tells of it: the file may be readable by now.
        if news != News::Content || before == Target::ByName {
            left.extend(self.steps.drain(..).map(|step| step.folder));
            if let Target::Watched(watch) = before {
                left.push(watch);
            }
            self.go(inotify)?;
            left.sort_unstable();
            left.dedup();
            left.retain(|watch| !self.uses(*watch));
        }
        Ok(Some(Renewed { before, after: self.target, news, left }))
    }

    /// Goes the way, and watches each folder before looking at the name in it.
    fn go(&mut self, inotify: &Inotify) -> io::Result<()> {
        self.steps.clear();
        self.target = Target::Absent;
        let mut folder = PathBuf::from("/");
        let mut found = Some(Looked::Folder);
        let mut names = Vec::new(); // the next one last
        push_names(&self.path, &mut names);
        let mut links = 0;
        while let Some(name) = names.pop() {
            if found != Some(Looked::Folder) {
                return Ok(()); // of what is no folder there is no further way
            }
            if name == ".." {
                folder.pop();
                continue;
            }
            match inotify.watch(&folder, NAMES)? {
                Watched::By(watch) => self.steps.push(Step { folder: watch, name: name.clone() }),
                Watched::Vanished => return Ok(()), // its own name is watched: an event is on its way
                Watched::Unreadable => tracing::debug!(folder = %folder.display(), "cannot be watched"),
            }
            folder.push(&name);
            found = look(&folder)?;
            if found == Some(Looked::Link) {
                links += 1;
                let Ok(target) = fs::read_link(&folder) else { return Ok(()) }; // gone since: likewise
                if links > LINKS_MAX {
                    return Ok(());
                }
                folder.pop();
                if target.is_absolute() {
                    folder = PathBuf::from("/");
                }
                push_names(&target, &mut names);
                found = Some(Looked::Folder);
            }
        }
        if let Some(found) = found {
            self.target = self.watch_target(inotify, &folder, found)?;
        }
        Ok(())
    }

    /// Watches what is at the end of the way.
    fn watch_target(&self, inotify: &Inotify, path: &Path, found: Looked) -> io::Result<Target> {
        let watched = match (self.goal, found) {
            (Goal::Entries, Looked::Folder) => inotify.watch(path, ENTRIES)?,
            (Goal::Entries, _) => return Ok(Target::Absent),
            (Goal::File, Looked::Folder) => return Ok(Target::ByName),
            (Goal::File, _) => inotify.watch(path, CONTENT)?,
        };
        match (watched, self.goal) {
            (Watched::By(watch), _) => Ok(Target::Watched(watch)),
            (Watched::Vanished, _) | (Watched::Unreadable, Goal::Entries) => Ok(Target::Absent),
            (Watched::Unreadable, Goal::File) => {
                if let Some(folder) = path.parent() {
                    inotify.watch(folder, ENTRIES)?; // whoever closes it is told of by its name
                }
                Ok(Target::ByName)
            }
        }
    }
}

/// What a name on the way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    Folder,
    Link,
    Other,
}

/// What is at `path`, not followed further; `None` if nothing that we can get at.
fn look(path: &Path) -> io::Result<Option<Looked>> {
    let of = |metadata: Metadata| match metadata.file_type() {
        kind if kind.is_dir() => Looked::Folder,
        kind if kind.is_symlink() => Looked::Link,
        _ => Looked::Other,
    };
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(of(metadata))),
        Err(error) => match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::PermissionDenied
            | ErrorKind::StaleNetworkFileHandle => Ok(None),
            _ => Err(named("lstat", path, error)),
        },
    }
}

/// Puts the names of `path` on top of those to come.
fn push_names(path: &Path, names: &mut Vec<OsString>) {
    let of_path = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.extend(of_path);
}
