//! Files: watched by their paths, read and written by a pool. The tests use a real file system, in
//! a folder for each test.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests")]

mod file;
mod folder;
mod jobs;
mod links;
mod path;
mod watcher;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use handlers::files::{self, Change, FolderChange};
use reactor::{Key, Next, Reactor};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use support::{PATIENCE, Result};
use tempfile::{TempDir, tempdir};

/// The user without privileges, `nobody`.
const NOBODY: u32 = 65534;

/// A loop with a watch, and the notes of its callbacks.
struct Watcher<C: 'static> {
    reactor: Reactor<Vec<C>>,
    key: Key,
}

impl<C> Watcher<C> {
    /// Returns the reported changes so far. The kernel queues an event within the call that causes
    /// it, so there is nothing to wait for.
    #[track_caller]
    fn told(&mut self) -> Vec<C> {
        let mut told = Vec::new();
        let began = Instant::now();
        while self.reactor.turn(&mut told, Some(Duration::ZERO)).unwrap() > 0 {
            assert!(began.elapsed() < PATIENCE, "it does not come to rest");
        }
        told
    }
}

fn watch(path: impl AsRef<Path>) -> Watcher<Change> {
    let mut reactor = Reactor::new().unwrap();
    let key = add_watch(&mut reactor, path).unwrap();
    Watcher { reactor, key }
}

fn add_watch(reactor: &mut Reactor<Vec<Change>>, path: impl AsRef<Path>) -> io::Result<Key> {
    files::watch(reactor, [path], |_, change, cx| {
        cx.state.push(change);
        Ok(Next::Keep)
    })
}

fn watch_folder(path: impl AsRef<Path>) -> Watcher<FolderChange> {
    let mut reactor = Reactor::<Vec<_>>::new().unwrap();
    let key = files::watch_folder(&mut reactor, path, |change, cx| {
        cx.state.push(change.clone());
        Ok(Next::Keep)
    });
    Watcher {
        reactor,
        key: key.unwrap(),
    }
}

/// Returns a folder with a file `conf`, and the path of that file.
fn folder_with_conf() -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let conf = folder.path().join("conf");
    fs::write(&conf, "first").unwrap();
    (folder, conf)
}

fn removed(name: &str) -> FolderChange {
    FolderChange::Removed(name.into())
}

/// Causes more events in `folder` than the kernel keeps.
fn overflow(folder: &Path) -> Result {
    let events: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")?
        .trim()
        .parse()?;
    let (one, other) = (folder.join("one"), folder.join("other"));
    fs::write(&one, "")?;
    for _ in 0..events / 4 + 1 {
        fs::rename(&one, &other)?; // two events
        fs::rename(&other, &one)?;
    }
    Ok(())
}

/// Runs a test as a user without privileges, with a folder of its own.
fn without_privileges(test: impl FnOnce(&Path) -> Result + Send) {
    let folder = tempdir().unwrap();
    let path = folder.path();
    let run = || {
        if geteuid().is_root() {
            set_thread_groups(&[]).unwrap();
            set_thread_gid(Gid::from_raw(NOBODY)).unwrap();
            set_thread_uid(Uid::from_raw(NOBODY)).unwrap();
        }
        test(path).map_err(|error| error.to_string())
    };
    if geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    thread::scope(|scope| scope.spawn(run).join().unwrap()).unwrap();
}

fn set_mode(path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}
