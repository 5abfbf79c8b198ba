//! The watch of a path. It covers every name that decides which file is at the path. The folder of
//! each such name is watched.
//!
//! The path is resolved as by the kernel, one name after the other. If a name is missing,
//! resolution ends there, and the watch of its folder reports when the name appears.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use super::inotify::{Event, EventFlags, Inotify, WatchDescriptor, WatchFlags, Watched};
use super::named;

/// The events of a name in a folder on the way. Attributes are included, since they decide whether
/// this process may search the folder.
const NAMES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR);

/// The events of the content of a file. Single writes are left out: the writer closes the file when
/// it is complete.
const CONTENT: WatchFlags = WatchFlags::CLOSE_WRITE.union(WatchFlags::ATTRIB);

/// The events in a folder that is watched for its entries.
const ENTRIES: WatchFlags = NAMES.union(WatchFlags::CLOSE_WRITE);

/// The events after which a name refers to something else.
const RENAMING: EventFlags = EventFlags::CREATE
    .union(EventFlags::DELETE)
    .union(EventFlags::MOVED_FROM)
    .union(EventFlags::MOVED_TO);

/// `path_resolution(7)`: a path with more symbolic links is an error.
const LINKS_MAX: usize = 40;

/// A path that is watched.
#[derive(Debug)]
pub(super) struct PathWatch {
    path: PathBuf,
    watch_for: WatchFor,
    // INVARIANT (lookups): each name that was looked up to find `target`, with the watch of its
    // folder. Kept by `resolve`. `classify` relies on it: if a name were missing, its changes would
    // never be reported.
    lookups: Vec<Lookup>,
    target: Target,
    /// The combined meaning of the events since the last update.
    events: PathEvents,
}

/// The purpose of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchFor {
    /// Any object, for its content.
    Content,
    /// A folder, for its entries.
    Entries,
}

/// A name that was looked up to resolve the path.
#[derive(Debug)]
struct Lookup {
    folder: WatchDescriptor,
    name: OsString,
}

/// The object that the path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Absent,
    Watched(WatchDescriptor),
    /// The object exists, but is watched by its name only. It is a file that may not be read, or a
    /// folder where a file was expected.
    ByName,
}

impl Target {
    pub(super) fn is_there(self) -> bool {
        self != Self::Absent
    }
}

/// The meaning of events for a path, the stronger ones last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathEvents {
    None,
    /// Permissions on the way have changed, so the path may lead elsewhere.
    Access,
    /// The content may have changed.
    Content,
    /// A name on the way refers to something else.
    Names,
}

/// The result of [`PathWatch::update`].
#[derive(Debug)]
pub(super) struct Update {
    pub(super) before: Target,
    pub(super) after: Target,
    pub(super) events: PathEvents,
    /// Watches that this path no longer needs.
    pub(super) unused: Vec<WatchDescriptor>,
}

impl PathWatch {
    /// Resolves `path` for the first time. A relative path is resolved by the present working
    /// directory.
    pub(super) fn new(path: &Path, watch_for: WatchFor, inotify: &Inotify) -> io::Result<Self> {
        let absolute = std::path::absolute(path).map_err(|error| named("watch", path, error))?;
        let mut watch = Self {
            path: absolute,
            watch_for,
            lookups: Vec::new(),
            target: Target::Absent,
            events: PathEvents::None,
        };
        watch.resolve(inotify)?;
        Ok(watch)
    }

    pub(super) const fn target(&self) -> Target {
        self.target
    }

    /// Returns `true` if this path needs `watch`.
    pub(super) fn uses(&self, watch: WatchDescriptor) -> bool {
        self.target == Target::Watched(watch)
            || self.lookups.iter().any(|lookup| lookup.folder == watch)
    }

    /// Records an event, which may not concern this path.
    pub(super) fn record(&mut self, event: &Event<'_>) {
        self.events = self.events.max(self.classify(event));
    }

    fn classify(&self, event: &Event<'_>) -> PathEvents {
        if event.flags.contains(EventFlags::QUEUE_OVERFLOW) {
            return PathEvents::Names;
        }
        let Some(name) = event.name else {
            return self.classify_own(event);
        };
        let Some(place) = self
            .lookups
            .iter()
            .position(|lookup| lookup.folder == event.watch && lookup.name == name)
        else {
            return PathEvents::None;
        };
        if event.flags.intersects(RENAMING) {
            return PathEvents::Names;
        }
        // The event is a change of content or attributes, reported by name. If the target has a
        // watch of its own, that watch reports the change.
        let is_target = place + 1 == self.lookups.len() && self.target == Target::ByName;
        if is_target {
            PathEvents::Content
        } else if event.flags.contains(EventFlags::ATTRIB) {
            PathEvents::Access
        } else {
            PathEvents::None
        }
    }

    /// Returns the meaning of an event of the watched object itself, not of a name in it.
    fn classify_own(&self, event: &Event<'_>) -> PathEvents {
        if !self.uses(event.watch) {
            PathEvents::None // an event of a watch that has ended
        } else if event
            .flags
            .intersects(EventFlags::IGNORED | EventFlags::UNMOUNT)
        {
            PathEvents::Names
        } else if self.target == Target::Watched(event.watch) && self.watch_for == WatchFor::Content
        {
            PathEvents::Content
        } else {
            PathEvents::Access
        }
    }

    /// Resolves the path again if the events since the last update require this. Returns `None` if
    /// there were no events.
    pub(super) fn update(&mut self, inotify: &Inotify) -> io::Result<Option<Update>> {
        let events = std::mem::replace(&mut self.events, PathEvents::None);
        if events == PathEvents::None {
            return Ok(None);
        }
        let before = self.target;
        let mut unused = Vec::new();
        // A change of content does not require another resolution. A target that is watched by its
        // name only is the exception, since it may have become readable.
        if events != PathEvents::Content || before == Target::ByName {
            unused.extend(self.lookups.drain(..).map(|lookup| lookup.folder));
            if let Target::Watched(watch) = before {
                unused.push(watch);
            }
            self.resolve(inotify)?;
            unused.sort_unstable();
            unused.dedup();
            unused.retain(|watch| !self.uses(*watch));
        }
        Ok(Some(Update {
            before,
            after: self.target,
            events,
            unused,
        }))
    }

    /// Resolves the path. Watches each folder before it looks up the name in the folder.
    fn resolve(&mut self, inotify: &Inotify) -> io::Result<()> {
        self.lookups.clear();
        self.target = Target::Absent;
        let mut folder = PathBuf::from("/");
        let mut found = Some(EntryKind::Folder);
        let mut names = Vec::new(); // the next one last
        push_names(&self.path, &mut names);
        let mut links = 0;
        while let Some(name) = names.pop() {
            if found != Some(EntryKind::Folder) {
                return Ok(()); // a name after a non-folder leads nowhere
            }
            if name == ".." {
                folder.pop();
                continue;
            }
            match inotify.watch(&folder, NAMES)? {
                Watched::By(watch) => self.lookups.push(Lookup {
                    folder: watch,
                    name: name.clone(),
                }),
                Watched::Vanished => return Ok(()), // its own name is watched: an event will follow
                Watched::Unreadable => {
                    tracing::debug!(folder = %folder.display(), "cannot be watched")
                }
            }
            folder.push(&name);
            found = entry_kind(&folder)?;
            if found == Some(EntryKind::Link) {
                links += 1;
                let Ok(target) = fs::read_link(&folder) else {
                    return Ok(());
                    // The link has disappeared meanwhile, so an event will follow.
                };
                if links > LINKS_MAX {
                    return Ok(());
                }
                folder.pop();
                if target.is_absolute() {
                    folder = PathBuf::from("/");
                }
                push_names(&target, &mut names);
                found = Some(EntryKind::Folder);
            }
        }
        if let Some(found) = found {
            self.target = self.watch_target(inotify, &folder, found)?;
        }
        Ok(())
    }

    /// Watches the object that the path leads to.
    fn watch_target(&self, inotify: &Inotify, path: &Path, found: EntryKind) -> io::Result<Target> {
        let watched = match (self.watch_for, found) {
            (WatchFor::Entries, EntryKind::Folder) => inotify.watch(path, ENTRIES)?,
            (WatchFor::Entries, _) => return Ok(Target::Absent),
            (WatchFor::Content, EntryKind::Folder) => return Ok(Target::ByName),
            (WatchFor::Content, _) => inotify.watch(path, CONTENT)?,
        };
        match (watched, self.watch_for) {
            (Watched::By(watch), _) => Ok(Target::Watched(watch)),
            (Watched::Vanished, _) | (Watched::Unreadable, WatchFor::Entries) => Ok(Target::Absent),
            (Watched::Unreadable, WatchFor::Content) => {
                if let Some(folder) = path.parent() {
                    inotify.watch(folder, ENTRIES)?; // a close is reported by its name
                }
                Ok(Target::ByName)
            }
        }
    }
}

/// The kind of an entry on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    Folder,
    Link,
    Other,
}

/// Returns the kind of the entry at `path`, without following a link. Returns `None` if there is no
/// accessible entry.
fn entry_kind(path: &Path) -> io::Result<Option<EntryKind>> {
    let of = |metadata: Metadata| match metadata.file_type() {
        kind if kind.is_dir() => EntryKind::Folder,
        kind if kind.is_symlink() => EntryKind::Link,
        _ => EntryKind::Other,
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

/// Pushes the names of `path` on top of `names`.
fn push_names(path: &Path, names: &mut Vec<OsString>) {
    let of_path = path
        .components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
    names.extend(of_path);
}
