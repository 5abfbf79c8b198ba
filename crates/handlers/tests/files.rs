//! Files: watched by their paths, read and written by a pool. On a real file system, in a folder for each test.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests")]

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use handlers::files::{self, Change, FolderChange};
use handlers::{Refusal, WorkerPool};
use reactor::{Key, Next, Reactor};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use tempfile::{TempDir, tempdir};

use Change::{Appeared, Changed, Gone};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(20);

/// Who has no privileges: `nobody`.
const NOBODY: u32 = 65534;

/// A loop that watches, and what its callbacks note.
struct Watcher<C: 'static> {
    reactor: Reactor<Vec<C>>,
    key: Key,
}

impl<C> Watcher<C> {
    /// What is told of the changes made so far. The kernel queues what it has seen within the call that does it, so
    /// there is nothing to wait for.
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
    Watcher { reactor, key: key.unwrap() }
}

/// A folder with a file `conf`, and the path of that.
fn folder_with_conf() -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let conf = folder.path().join("conf");
    fs::write(&conf, "first").unwrap();
    (folder, conf)
}

/// Runs a test as a user whom permissions concern, with a folder of its own.
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

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

// ---- files ----

#[test]
fn a_file_that_is_written_in_place_is_told_when_it_is_closed_and_not_in_the_middle() -> Result {
    let (_folder, conf) = folder_with_conf();
    let mut watcher = watch(&conf);
    assert_eq!(watcher.told(), [], "what is there at first is not told");
    let mut file = File::create(&conf)?;
    file.write_all(b"half")?;
    assert_eq!(watcher.told(), []);
    file.write_all(b" and half")?;
    drop(file);
    assert_eq!(watcher.told(), [Changed]);
    assert_eq!(fs::read(&conf)?, b"half and half", "reading changes nothing");
    assert_eq!(watcher.told(), []);
    Ok(())
}

#[test]
fn what_happens_to_its_neighbours_is_not_told() -> Result {
    let (folder, conf) = folder_with_conf();
    let mut watcher = watch(&conf);
    let neighbour = folder.path().join("conf.bak");
    fs::write(&neighbour, "")?;
    fs::create_dir(folder.path().join("conf.d"))?;
    fs::write(folder.path().join("conf.d/conf"), "")?;
    set_mode(&neighbour, 0o600)?;
    fs::rename(&neighbour, folder.path().join("other"))?;
    fs::remove_file(folder.path().join("other"))?;
    assert_eq!(watcher.told(), []);
    Ok(())
}

#[test]
fn a_file_that_is_renamed_over_is_told_and_its_successor_is_watched() -> Result {
    let (folder, conf) = folder_with_conf();
    let mut watcher = watch(&conf);
    for round in 0..3 {
        let new = folder.path().join("conf.new");
        fs::write(&new, format!("round {round}"))?;
        fs::rename(&new, &conf)?;
        assert_eq!(watcher.told(), [Changed]);
        fs::write(&conf, "in place")?;
        assert_eq!(watcher.told(), [Changed]);
    }
    Ok(())
}

#[test]
fn a_file_that_is_deleted_is_told_and_so_is_the_next_one_of_that_name() -> Result {
    let (_folder, conf) = folder_with_conf();
    let mut watcher = watch(&conf);
    for _ in 0..3 {
        fs::remove_file(&conf)?;
        assert_eq!(watcher.told(), [Gone]);
        fs::write(&conf, "again")?;
        assert_eq!(watcher.told(), [Appeared]);
        fs::write(&conf, "and written")?;
        assert_eq!(watcher.told(), [Changed]);
        fs::remove_file(&conf)?;
        fs::write(&conf, "before the loop has turned")?;
        assert_eq!(watcher.told(), [Changed]);
    }
    Ok(())
}

#[test]
fn a_file_that_is_renamed_away_is_gone_and_what_happens_to_it_there_is_not_told() -> Result {
    let (folder, conf) = folder_with_conf();
    let mut watcher = watch(&conf);
    let away = folder.path().join("away");
    fs::rename(&conf, &away)?;
    assert_eq!(watcher.told(), [Gone]);
    fs::write(&away, "not ours")?;
    assert_eq!(watcher.told(), []);
    fs::rename(&away, &conf)?;
    assert_eq!(watcher.told(), [Appeared]);
    Ok(())
}

#[test]
fn a_file_that_did_not_exist_nor_its_folders_is_told_when_it_appears() -> Result {
    let folder = tempdir()?;
    let deep = folder.path().join("a/b/c");
    let conf = deep.join("conf");
    let (mut one, mut other) = (watch(&conf), watch(&conf));
    fs::create_dir(folder.path().join("a"))?;
    assert_eq!(one.told(), []);
    fs::create_dir_all(&deep)?;
    assert_eq!(one.told(), []);
    fs::write(&conf, "first")?;
    assert_eq!(one.told(), [Appeared]);
    assert_eq!(other.told(), [Appeared], "all of it since its last turn");
    fs::write(&conf, "second")?;
    assert_eq!((one.told(), other.told()), (vec![Changed], vec![Changed]));
    Ok(())
}

#[test]
fn a_file_is_gone_with_any_folder_that_is_moved_away_and_there_again_with_it() -> Result {
    let folder = tempdir()?;
    fs::create_dir_all(folder.path().join("etc/app/conf.d"))?;
    let conf = folder.path().join("etc/app/conf.d/conf");
    fs::write(&conf, "first")?;
    let mut watcher = watch(&conf);
    let away = folder.path().join("away");
    for ancestor in ["etc", "etc/app", "etc/app/conf.d"] {
        let ancestor = folder.path().join(ancestor);
        fs::rename(&ancestor, &away)?;
        assert_eq!(watcher.told(), [Gone], "{}", ancestor.display());
        fs::rename(&away, &ancestor)?;
        assert_eq!(watcher.told(), [Appeared], "{}", ancestor.display());
        fs::write(&conf, "in place")?;
        assert_eq!(watcher.told(), [Changed], "{}", ancestor.display());
    }
    Ok(())
}

/// How many watches the only watcher of a loop has.
fn watches<C>(watcher: &Watcher<C>) -> usize {
    let fd = watcher.reactor.registrations().next().unwrap().fd;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    info.lines().filter(|line| line.starts_with("inotify ")).count()
}

#[test]
fn what_is_no_more_on_the_way_is_watched_no_more() -> Result {
    let folder = tempdir()?;
    let (app, away) = (folder.path().join("app"), folder.path().join("away"));
    fs::create_dir_all(&away)?;
    fs::write(away.join("conf"), "first")?;
    let mut watcher = watch(app.join("conf"));
    let before = watches(&watcher);
    for _ in 0..3 {
        fs::rename(&away, &app)?;
        assert_eq!(watcher.told(), [Appeared]);
        assert_eq!(watches(&watcher), before + 2, "the folder and the file");
        for _ in 0..10 {
            fs::write(app.join("new"), "second")?;
            fs::rename(app.join("new"), app.join("conf"))?;
            assert_eq!(watcher.told(), [Changed]);
            assert_eq!(watches(&watcher), before + 2);
        }
        fs::rename(&app, &away)?;
        assert_eq!(watcher.told(), [Gone]);
        assert_eq!(watches(&watcher), before);
        fs::write(away.join("conf"), "not ours")?;
        assert_eq!(watcher.reactor.turn(&mut Vec::new(), Some(Duration::ZERO))?, 0);
    }
    Ok(())
}

#[test]
fn what_one_path_needs_no_more_is_still_watched_for_another() -> Result {
    let (folder, conf) = folder_with_conf();
    let link = folder.path().join("link");
    symlink(&conf, &link)?;
    let mut reactor = Reactor::<Vec<_>>::new()?;
    let key = files::watch(&mut reactor, [&link, &conf], |path, change, cx| {
        cx.state.push((path.file_name().map(ToOwned::to_owned), change));
        Ok(Next::Keep)
    })?;
    let mut watcher = Watcher { reactor, key };
    let (link_told, conf_told) = (Some("link".into()), Some("conf".into()));
    fs::remove_file(&link)?;
    assert_eq!(watcher.told(), [(link_told.clone(), Gone)]);
    fs::write(&conf, "second")?;
    assert_eq!(watcher.told(), [(conf_told.clone(), Changed)]);
    symlink(&conf, &link)?;
    assert_eq!(watcher.told(), [(link_told.clone(), Appeared)]);
    fs::remove_file(&conf)?;
    assert_eq!(watcher.told(), [(link_told, Gone), (conf_told, Gone)]);
    Ok(())
}

#[test]
fn a_folder_that_is_deleted_and_made_again_is_found_again_also_if_somebody_sits_in_the_old_one() -> Result {
    let folder = tempdir()?;
    let app = folder.path().join("app");
    fs::create_dir(&app)?;
    fs::write(app.join("conf"), "first")?;
    let mut watcher = watch(app.join("conf"));
    for _ in 0..3 {
        let _held = File::open(&app)?; // the kernel keeps the old one, and says nothing of its end
        fs::remove_dir_all(&app)?;
        assert_eq!(watcher.told(), [Gone]);
        fs::create_dir(&app)?;
        assert_eq!(watcher.told(), []);
        fs::write(app.join("conf"), "again")?;
        assert_eq!(watcher.told(), [Appeared]);
        fs::remove_dir_all(&app)?;
        fs::create_dir(&app)?;
        fs::write(app.join("conf"), "before the loop has turned")?;
        assert_eq!(watcher.told(), [Changed]);
    }
    Ok(())
}

#[test]
fn a_swap_of_a_symbolic_link_on_the_way_is_told_as_kubernetes_does_it() -> Result {
    let folder = tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("..first"))?;
    fs::write(at("..first/conf"), "first")?;
    symlink("..first", at("..data"))?;
    symlink("..data/conf", at("conf"))?;
    let mut watcher = watch(at("conf"));
    for (old, new) in [("..first", "..second"), ("..second", "..third")] {
        fs::create_dir(at(new))?;
        fs::write(at(new).join("conf"), new)?;
        symlink(new, at("..data_tmp"))?;
        assert_eq!(watcher.told(), []);
        fs::rename(at("..data_tmp"), at("..data"))?;
        assert_eq!(watcher.told(), [Changed]);
        assert_eq!(fs::read_to_string(at("conf"))?, new);
        fs::remove_dir_all(at(old))?;
        assert_eq!(watcher.told(), [], "the old one is of no concern");
        fs::write(at(new).join("conf"), "in place")?;
        assert_eq!(watcher.told(), [Changed]);
    }
    Ok(())
}

#[test]
fn what_a_symbolic_link_leads_to_is_watched_wherever_it_is() -> Result {
    let folder = tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("etc/enabled"))?;
    symlink("../available/conf", at("etc/enabled/conf"))?;
    let mut watcher = watch(at("etc/enabled/conf"));
    fs::create_dir(at("etc/available"))?;
    assert_eq!(watcher.told(), []);
    fs::write(at("etc/available/conf"), "first")?;
    assert_eq!(watcher.told(), [Appeared]);
    fs::write(at("new"), "second")?;
    fs::rename(at("new"), at("etc/available/conf"))?;
    assert_eq!(watcher.told(), [Changed]);
    fs::write(at("etc/available/conf"), "third")?;
    assert_eq!(watcher.told(), [Changed]);
    fs::remove_file(at("etc/enabled/conf"))?;
    assert_eq!(watcher.told(), [Gone]);
    symlink(at("etc/available/conf"), at("etc/enabled/conf"))?;
    assert_eq!(watcher.told(), [Appeared], "by an absolute link");
    Ok(())
}

#[test]
fn a_loop_of_symbolic_links_leads_nowhere_until_it_is_broken() -> Result {
    let folder = tempdir()?;
    let at = |name: &str| folder.path().join(name);
    symlink("b", at("a"))?;
    symlink("a", at("b"))?;
    let mut watcher = watch(at("a"));
    fs::write(at("c"), "")?;
    assert_eq!(watcher.told(), []);
    fs::rename(at("c"), at("b"))?;
    assert_eq!(watcher.told(), [Appeared]);
    Ok(())
}

#[test]
fn attributes_and_writes_through_another_hard_link_are_told() -> Result {
    let (folder, conf) = folder_with_conf();
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere)?;
    fs::hard_link(&conf, elsewhere.join("link"))?;
    let mut watcher = watch(&conf);
    fs::write(elsewhere.join("link"), "second")?;
    assert_eq!(watcher.told(), [Changed]);
    set_mode(&conf, 0o600)?;
    assert_eq!(watcher.told(), [Changed]);
    Ok(())
}

#[test]
fn a_folder_at_the_path_is_there_and_what_is_in_it_is_not_told() -> Result {
    let (_folder, conf) = folder_with_conf();
    let mut watcher = watch(&conf);
    fs::remove_file(&conf)?;
    fs::create_dir(&conf)?;
    assert_eq!(watcher.told(), [Changed]);
    fs::write(conf.join("conf"), "")?;
    assert_eq!(watcher.told(), []);
    fs::remove_dir_all(&conf)?;
    assert_eq!(watcher.told(), [Gone]);
    let mut root = watch("/");
    fs::write(&conf, "")?;
    assert_eq!(root.told(), [], "also for a path without a name");
    Ok(())
}

#[test]
fn many_changes_are_one_call_for_each_path() -> Result {
    let (folder, conf) = folder_with_conf();
    let key = folder.path().join("key");
    let mut reactor = Reactor::<Vec<_>>::new()?;
    files::watch(&mut reactor, [&conf, &key, &conf], |path, change, cx| {
        cx.state.push((path.to_owned(), change));
        Ok(Next::Keep)
    })?;
    for round in 0..100 {
        fs::write(&conf, format!("{round}"))?;
        fs::write(&key, "")?;
        fs::rename(&key, folder.path().join("gone"))?;
    }
    let mut told = Vec::new();
    reactor.turn(&mut told, Some(Duration::ZERO))?;
    assert_eq!(told, [(conf.clone(), Changed), (conf, Changed)], "what came and went meanwhile is not told");
    fs::write(&key, "")?;
    reactor.turn(&mut told, Some(Duration::ZERO))?;
    assert_eq!(told[2..], [(key, Appeared)]);
    Ok(())
}

#[test]
fn a_change_of_content_and_of_neighbours_allocates_nothing() -> Result {
    let (folder, conf) = folder_with_conf();
    let mut watcher = watch(&conf);
    let mut told = Vec::with_capacity(10);
    for _ in 0..3 {
        fs::write(&conf, "second")?;
        fs::write(folder.path().join("neighbour"), "")?;
        let allocations = allocation_counter::measure(|| {
            watcher.reactor.turn(&mut told, Some(Duration::ZERO)).unwrap();
        });
        assert_eq!(allocations.count_total, 0);
    }
    assert_eq!(told, [Changed; 3]);
    Ok(())
}

#[test]
fn a_file_that_is_made_while_the_loop_looks_at_its_new_folder_is_not_missed() -> Result {
    let folder = tempdir()?;
    let app = folder.path().join("app");
    let mut watcher = watch(app.join("conf"));
    let mut told = Vec::new();
    let mut turn_until = |is_there| {
        let began = Instant::now();
        while told.last().is_some_and(|change| *change != Gone) != is_there {
            assert!(began.elapsed() < PATIENCE, "missed");
            watcher.reactor.turn(&mut told, Some(Duration::ZERO)).unwrap();
        }
    };
    for round in 0..2000 {
        thread::scope(|scope| {
            scope.spawn(|| {
                fs::create_dir(&app).unwrap();
                (0..round % 500 * 10).for_each(|_| std::hint::spin_loop()); // at all points of the look
                fs::write(app.join("conf"), "").unwrap();
            });
            turn_until(true);
        });
        fs::remove_dir_all(&app)?;
        turn_until(false);
    }
    Ok(())
}

/// Does something to the path `etc/app/conf` in `folder`, which may or may not work.
fn meddle(folder: &Path, number: u64, content: &str) {
    let at = |name: &str| folder.join(name);
    let _ = match number % 10 {
        0 => fs::remove_file(at("etc/app/conf")),
        1 | 2 => fs::write(at("etc/app/conf"), content),
        3 => fs::write(at("new"), content).and_then(|()| fs::rename(at("new"), at("etc/app/conf"))),
        4 => fs::rename(at("etc/app"), at("etc/away")),
        5 => fs::rename(at("etc/away"), at("etc/app")),
        6 => fs::remove_dir_all(at("etc/app")),
        7 => fs::create_dir_all(at("etc/app")),
        8 => symlink("away", at("link")).or(Ok(())).and_then(|()| fs::rename(at("link"), at("etc/app"))),
        _ => fs::write(at("content"), content).and_then(|()| symlink(at("content"), at("etc/app/conf"))),
    };
}

#[test]
fn who_reads_at_each_change_has_at_last_what_is_there_whatever_happens_meanwhile() -> Result {
    for seed in 0..10_u64 {
        let folder = tempdir()?;
        let conf = folder.path().join("etc/app/conf");
        let mut reactor = Reactor::<Option<String>>::new()?;
        files::watch(&mut reactor, [&conf], |path, _, cx| {
            *cx.state = fs::read_to_string(path).ok();
            Ok(Next::Keep)
        })?;
        let path = folder.path().to_owned();
        let others = thread::spawn(move || {
            let mut random = seed;
            for step in 0..500 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                meddle(&path, random >> 33, &format!("step {step}"));
            }
        });
        let mut content = None;
        while !others.is_finished() {
            reactor.turn(&mut content, Some(Duration::from_millis(1)))?;
        }
        others.join().map_err(|_| "panicked")?;
        while reactor.turn(&mut content, Some(Duration::ZERO))? > 0 {}
        assert_eq!(content, fs::read_to_string(&conf).ok(), "seed {seed}");
    }
    Ok(())
}

/// A file system in memory, mounted until this is dropped.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    /// `None` where we may not.
    fn on(folder: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(folder).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(self.0).status().is_ok_and(|status| status.success()));
    }
}

#[test]
fn what_is_unmounted_is_gone_and_what_was_below_is_watched() -> Result {
    let (folder, conf) = folder_with_conf();
    let Some(mount) = Mount::on(folder.path()) else { return Ok(()) };
    fs::write(&conf, "above")?;
    let (mut watcher, mut entries) = (watch(&conf), watch_folder(folder.path()));
    drop(mount);
    assert_eq!(watcher.told(), [Changed], "the one below");
    assert_eq!(entries.told(), [FolderChange::Appeared]);
    fs::remove_file(&conf)?;
    assert_eq!(watcher.told(), [Gone]);
    assert_eq!(entries.told(), [removed("conf")]);
    Ok(())
}

/// Makes more events in `folder` than the kernel keeps.
fn overflow(folder: &Path) -> Result {
    let events: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")?.trim().parse()?;
    let (one, other) = (folder.join("one"), folder.join("other"));
    fs::write(&one, "")?;
    for _ in 0..events / 4 + 1 {
        fs::rename(&one, &other)?; // two events
        fs::rename(&other, &one)?;
    }
    Ok(())
}

#[test]
fn when_the_kernel_s_queue_overflows_a_file_counts_as_changed() -> Result {
    let (folder, conf) = folder_with_conf();
    let gone = folder.path().join("gone");
    fs::write(&gone, "")?;
    let (mut watcher, mut other) = (watch(&conf), watch(&gone));
    overflow(folder.path())?;
    fs::write(&conf, "of this the kernel says nothing")?;
    fs::remove_file(&gone)?;
    assert_eq!(watcher.told(), [Changed]);
    assert_eq!(other.told(), [Gone]);
    fs::write(&conf, "of this again")?;
    assert_eq!(watcher.told(), [Changed]);
    Ok(())
}

#[test]
fn all_watchers_of_a_file_are_told_also_when_one_has_been_removed() -> Result {
    let (_folder, conf) = folder_with_conf();
    let mut watcher = watch(&conf);
    add_watch(&mut watcher.reactor, &conf)?;
    let mut other = watch(&conf);
    fs::write(&conf, "second")?;
    assert_eq!(watcher.told(), [Changed; 2]);
    assert_eq!(other.told(), [Changed]);
    watcher.reactor.remove(watcher.key)?;
    fs::write(&conf, "third")?;
    assert_eq!(watcher.told(), [Changed]);
    assert_eq!(other.told(), [Changed]);
    Ok(())
}

#[test]
fn a_watcher_may_be_removed_in_its_own_callback_and_tells_nothing_more() -> Result {
    let (folder, conf) = folder_with_conf();
    let key = folder.path().join("key");
    type Ending = fn(&mut reactor::Context<'_, Vec<Change>>) -> io::Result<Next>;
    let endings: [Ending; 3] = [
        |_| Ok(Next::Remove),
        |cx| {
            cx.registry.remove(cx.key())?;
            Ok(Next::Keep)
        },
        |_| Err(ErrorKind::InvalidData.into()),
    ];
    for ending in endings {
        let mut reactor = Reactor::<Vec<_>>::new()?;
        files::watch(&mut reactor, [&conf, &key], move |_, change, cx| {
            cx.state.push(change);
            ending(cx)
        })?;
        files::watch_folder(&mut reactor, folder.path(), move |_, cx| {
            cx.state.push(Changed);
            ending(cx)
        })?;
        fs::write(&conf, "second")?;
        fs::write(&key, "first")?;
        let mut told = Vec::new();
        reactor.turn(&mut told, Some(Duration::ZERO))?;
        assert_eq!(told, [Changed; 2], "one of two changes each");
        assert!(reactor.is_empty());
        fs::remove_file(&key)?;
        assert_eq!(reactor.turn(&mut told, Some(Duration::ZERO))?, 0);
    }
    Ok(())
}

#[test]
fn would_block_in_a_callback_costs_no_change() -> Result {
    let (folder, conf) = folder_with_conf();
    let key = folder.path().join("key");
    let mut reactor = Reactor::<Vec<_>>::new()?;
    files::watch(&mut reactor, [&conf, &key], |_, change, cx| {
        cx.state.push(change);
        Err(ErrorKind::WouldBlock.into())
    })?;
    let mut told = Vec::new();
    for _ in 0..2 {
        fs::write(&conf, "second")?;
        fs::write(&key, "first")?;
        reactor.turn(&mut told, Some(Duration::ZERO))?;
    }
    assert_eq!(told, [Changed, Appeared, Changed, Changed]);
    Ok(())
}

/// How many inotify instances this process has.
fn instances() -> io::Result<usize> {
    let links = fs::read_dir("/proc/self/fd")?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(links.filter(|link| link.as_os_str() == "anon_inode:inotify").count())
}

#[test]
fn a_watcher_keeps_no_loop_alive_and_ends_with_its_key_or_its_reactor() -> Result {
    let (folder, conf) = folder_with_conf();
    let (told, dropped) = (Rc::new(Cell::new(0)), Rc::new(()));
    let mut reactor = Reactor::<()>::new()?;
    let add = |reactor: &mut Reactor<()>| {
        let (told, captured) = (Rc::clone(&told), Rc::clone(&dropped));
        let other = (Rc::clone(&told), Rc::clone(&dropped));
        let key = files::watch(reactor, [&conf], move |_, _, _| {
            told.set(told.get() + Rc::strong_count(&captured));
            Ok(Next::Keep)
        })?;
        files::watch_folder(reactor, folder.path(), move |_, _| {
            other.0.set(other.0.get() + Rc::strong_count(&other.1));
            Ok(Next::Keep)
        })
        .map(|other| [key, other])
    };
    let before = instances()?;
    for _ in 0..60 {
        let keys = add(&mut reactor)?;
        fs::write(&conf, "second")?;
        for key in keys {
            reactor.remove(key)?;
        }
    }
    assert!(instances()? < before + 40, "those of other tests come and go");
    add(&mut reactor)?;
    reactor.run(&mut ())?;
    fs::write(&conf, "third")?;
    drop(reactor);
    assert_eq!((told.get(), Rc::strong_count(&dropped)), (0, 1));
    Ok(())
}

#[test]
fn a_relative_path_counts_from_the_working_directory_and_is_told_as_it_was_given() -> Result {
    let (_folder, conf) = folder_with_conf();
    let up: PathBuf = std::env::current_dir()?.components().skip(1).map(|_| "..").collect();
    let relative = up.join(conf.strip_prefix("/")?);
    let mut reactor = Reactor::<Vec<PathBuf>>::new()?;
    files::watch(&mut reactor, [&relative], |path, _, cx| {
        cx.state.push(path.to_owned());
        Ok(Next::Keep)
    })?;
    fs::write(&conf, "second")?;
    let mut told = Vec::new();
    reactor.turn(&mut told, Some(PATIENCE))?;
    assert_eq!(told, [relative]);
    Ok(())
}

#[test]
fn a_path_that_cannot_be_is_an_error_that_names_call_and_path() -> Result {
    let mut reactor = Reactor::<Vec<Change>>::new()?;
    let empty = add_watch(&mut reactor, "").err().ok_or("accepted")?;
    assert_eq!(empty.kind(), ErrorKind::InvalidInput);
    let long = format!("/tmp/{}", "x".repeat(256));
    let error = add_watch(&mut reactor, &long).err().ok_or("accepted")?;
    assert_eq!(error.kind(), ErrorKind::InvalidFilename);
    assert!(error.to_string().starts_with(&format!("lstat({long}): File name too long")), "{error}");
    assert!(reactor.is_empty());
    Ok(())
}

#[test]
fn a_file_that_may_not_be_read_is_seen_by_its_name() {
    without_privileges(|folder| {
        let conf = folder.join("conf");
        fs::write(&conf, "first")?;
        set_mode(&conf, 0o200)?;
        let mut watcher = watch(&conf);
        fs::write(&conf, "second")?;
        assert_eq!(watcher.told(), [Changed]);
        set_mode(&conf, 0o600)?;
        assert_eq!(watcher.told(), [Changed], "it can be read now");
        fs::hard_link(&conf, folder.join("link"))?;
        assert_eq!(watcher.told(), [Changed]);
        fs::write(folder.join("link"), "third")?;
        assert_eq!(watcher.told(), [Changed], "and is watched itself");
        Ok(())
    });
}

#[test]
fn what_may_not_be_reached_is_gone_until_it_may() {
    without_privileges(|folder| {
        let app = folder.join("app");
        fs::create_dir(&app)?;
        fs::write(app.join("conf"), "first")?;
        let (mut file, mut entries) = (watch(app.join("conf")), watch_folder(&app));
        set_mode(&app, 0o000)?;
        assert_eq!(file.told(), [Gone]);
        assert_eq!(entries.told(), [FolderChange::Gone]);
        set_mode(&app, 0o100)?;
        assert_eq!(file.told(), [Appeared], "who may pass, but not look, sees the file itself");
        fs::write(app.join("conf"), "second")?;
        assert_eq!(file.told(), [Changed]);
        set_mode(&app, 0o700)?;
        assert_eq!(entries.told(), [FolderChange::Appeared]);
        Ok(())
    });
}

// ---- folders ----

fn created(name: &str) -> FolderChange {
    FolderChange::Created(name.into())
}

fn written(name: &str) -> FolderChange {
    FolderChange::Written(name.into())
}

fn removed(name: &str) -> FolderChange {
    FolderChange::Removed(name.into())
}

fn renamed(from: &str, to: &str) -> FolderChange {
    FolderChange::Renamed { from: from.into(), to: to.into() }
}

#[test]
fn the_changes_of_a_folder_are_told_in_their_order_with_both_ends_of_a_rename() -> Result {
    let folder = tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let mut watcher = watch_folder(folder.path());
    fs::write(at("a"), "1")?;
    fs::create_dir(at("below"))?;
    fs::write(at("below/deep"), "not told")?;
    fs::rename(at("a"), at("b"))?;
    fs::write(at("c"), "")?;
    fs::rename(at("b"), at("c"))?;
    set_mode(at("c"), 0o600)?;
    fs::remove_file(at("c"))?;
    let expected = [
        created("a"),
        written("a"),
        created("below"),
        renamed("a", "b"),
        created("c"),
        written("c"),
        renamed("b", "c"),
        removed("c"),
    ];
    assert_eq!(watcher.told(), expected);
    Ok(())
}

#[test]
fn what_is_moved_in_or_out_is_created_or_removed() -> Result {
    let (folder, elsewhere) = (tempdir()?, tempdir()?);
    let (here, there) = (folder.path().join("file"), elsewhere.path().join("file"));
    fs::write(&there, "")?;
    let (mut watcher, mut other) = (watch_folder(folder.path()), watch_folder(elsewhere.path()));
    fs::rename(&there, &here)?;
    assert_eq!((watcher.told(), other.told()), (vec![created("file")], vec![removed("file")]));
    fs::rename(&here, &there)?;
    fs::write(&here, "another")?;
    assert_eq!(watcher.told(), [removed("file"), created("file"), written("file")]);
    assert_eq!(other.told(), [created("file")]);
    Ok(())
}

#[test]
fn what_is_written_again_and_again_is_told_once_a_turn() -> Result {
    let (folder, conf) = folder_with_conf();
    let mut watcher = watch_folder(folder.path());
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    for _ in 0..100 {
        fs::write(&conf, "x")?;
        fs::write(&one, "x")?;
        set_mode(&one, 0o600)?;
    }
    fs::rename(&one, &other)?;
    fs::write(&one, "y")?;
    fs::write(&other, "y")?;
    let expected = [
        written("conf"),
        created("one"),
        written("one"),
        renamed("one", "other"),
        created("one"),
        written("one"),
        written("other"),
    ];
    assert_eq!(watcher.told(), expected);
    Ok(())
}

#[test]
fn a_folder_that_goes_and_comes_is_told_and_watched_again() -> Result {
    let folder = tempdir()?;
    let (spool, away) = (folder.path().join("spool"), folder.path().join("away"));
    let mut watcher = watch_folder(&spool);
    fs::write(&spool, "this is no folder")?;
    assert_eq!(watcher.told(), []);
    fs::remove_file(&spool)?;
    fs::create_dir(&spool)?;
    assert_eq!(watcher.told(), [FolderChange::Appeared]);
    fs::write(spool.join("job"), "")?;
    assert_eq!(watcher.told(), [created("job"), written("job")]);
    fs::rename(&spool, &away)?;
    fs::write(away.join("other"), "")?;
    assert_eq!(watcher.told(), [created("other"), written("other"), FolderChange::Gone]);
    fs::write(away.join("unseen"), "")?;
    assert_eq!(watcher.told(), []);
    fs::rename(&away, &spool)?;
    assert_eq!(watcher.told(), [FolderChange::Appeared]);
    fs::remove_dir_all(&spool)?;
    fs::create_dir(&spool)?;
    let told = watcher.told();
    assert_eq!((told.len(), told.last()), (4, Some(&FolderChange::Appeared)), "three entries, and another folder");
    fs::write(spool.join("job"), "")?;
    assert_eq!(watcher.told(), [created("job"), written("job")]);
    Ok(())
}

#[test]
fn when_the_kernel_s_queue_overflows_a_folder_is_to_be_listed_anew() -> Result {
    let folder = tempdir()?;
    let mut watcher = watch_folder(folder.path());
    overflow(folder.path())?;
    fs::write(folder.path().join("unseen"), "")?;
    let mut first = Vec::new();
    watcher.reactor.turn(&mut first, Some(Duration::ZERO))?;
    assert!((100..5000).contains(&first.len()), "a turn has a bound: {}", first.len());
    let rest = watcher.told();
    assert_eq!(rest.last(), Some(&FolderChange::Overflow));
    assert_eq!(rest.iter().filter(|change| **change == FolderChange::Overflow).count(), 1);
    assert!(!rest.contains(&created("unseen")));
    fs::write(folder.path().join("seen"), "")?;
    assert_eq!(watcher.told(), [created("seen"), written("seen")]);
    Ok(())
}

// ---- reading and writing ----

/// What the callbacks of jobs note.
type Results<R> = Vec<io::Result<R>>;

/// A loop and its pool.
type Pooled<R> = (Reactor<Results<R>>, WorkerPool<Results<R>>);

fn with_pool<R>(workers: usize) -> Result<Pooled<R>> {
    let mut reactor = Reactor::new()?;
    let pool = WorkerPool::builder().workers(workers).build(&mut reactor)?;
    Ok((reactor, pool))
}

/// What a read gives.
fn read(path: &Path, limit: usize) -> Result<io::Result<Vec<u8>>> {
    let (mut reactor, pool) = with_pool(1)?;
    files::read(&pool, path, limit, |content, cx| cx.state.push(content))?;
    let mut results = Vec::new();
    reactor.run(&mut results)?; // ends with its last job
    Ok(results.pop().ok_or("not called")?)
}

/// What an atomic write gives.
fn replace(path: &Path, content: &'static str) -> Result<io::Result<()>> {
    let (mut reactor, pool) = with_pool(1)?;
    files::write_atomically(&pool, path, content, |written, cx| cx.state.push(written))?;
    let mut results = Vec::new();
    reactor.run(&mut results)?;
    Ok(results.pop().ok_or("not called")?)
}

#[track_caller]
fn expect_error<R>(result: io::Result<R>, kind: ErrorKind, text: &str) {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().starts_with(text), "{error}");
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort_unstable();
    names
}

#[test]
fn what_is_written_and_appended_is_read_again() -> Result {
    let folder = tempdir()?;
    let conf = folder.path().join("conf");
    replace(&conf, "the beginning, ")??;
    for _ in 0..2 {
        let (mut reactor, pool) = with_pool(1)?;
        files::append(&pool, &conf, "the end", |appended, cx| cx.state.push(appended))?;
        let mut results = Vec::new();
        reactor.run(&mut results)?;
        results.remove(0)?;
    }
    assert_eq!(read(&conf, 100)??, b"the beginning, the endthe end");
    replace(&conf, "all new")??;
    assert_eq!(read(&conf, 100)??, b"all new");
    assert_eq!(names(folder.path()), ["conf"], "no temporary file is left");
    Ok(())
}

#[test]
fn an_append_that_makes_its_file_syncs_the_folder_too_and_no_other_does() {
    without_privileges(|folder| {
        let (real, link) = (folder.join("real"), folder.join("link"));
        fs::create_dir(&real)?;
        symlink(real.join("conf"), &link)?;
        set_mode(&real, 0o300)?; // what may not be opened for reading cannot be synced
        let append = |bytes: &'static str| -> Result<io::Result<()>> {
            let (mut reactor, pool) = with_pool(1)?;
            files::append(&pool, &link, bytes, |appended, cx| cx.state.push(appended))?;
            let mut results = Vec::new();
            reactor.run(&mut results)?;
            Ok(results.remove(0))
        };
        expect_error(append("new, ")?, ErrorKind::PermissionDenied, &format!("fsync({})", real.display()));
        append("and more")??;
        assert_eq!(read(&real.join("conf"), 100)??, b"new, and more");
        fs::remove_file(real.join("conf"))?;
        set_mode(&real, 0o700)?;
        append("new")??;
        Ok(())
    });
}

#[test]
fn an_atomic_write_is_one_change_to_who_watches() -> Result {
    let folder = tempdir()?;
    let conf = folder.path().join("conf");
    let mut watcher = watch(&conf);
    for expected in [Appeared, Changed, Changed] {
        replace(&conf, "new")??;
        assert_eq!(watcher.told(), [expected]);
    }
    Ok(())
}

#[test]
fn a_file_of_as_many_bytes_as_the_limit_is_read_and_one_of_more_is_an_error_that_names_it() -> Result {
    let (folder, conf) = folder_with_conf();
    assert_eq!(read(&conf, 5)??, b"first");
    let text = format!("read({}): more than 4 bytes", conf.display());
    expect_error(read(&conf, 4)?, ErrorKind::FileTooLarge, &text);
    expect_error(
        read(Path::new("/dev/zero"), 100_000)?,
        ErrorKind::FileTooLarge,
        "read(/dev/zero): more than 100000 bytes",
    );
    assert!(!read(Path::new("/proc/self/status"), 1 << 20)??.is_empty(), "also where the size is not known before");
    let empty = folder.path().join("empty");
    fs::write(&empty, "")?;
    assert_eq!(read(&empty, 0)??, b"");
    Ok(())
}

#[test]
fn errors_of_reading_and_writing_name_call_and_path() -> Result {
    let folder = tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let text = |call: &str, path: &Path| format!("{call}({}", path.display());
    expect_error(read(&at("missing"), 10)?, ErrorKind::NotFound, &text("open", &at("missing")));
    expect_error(read(folder.path(), 10)?, ErrorKind::IsADirectory, &text("read", folder.path()));
    expect_error(replace(&at("no/file"), "")?, ErrorKind::NotFound, &text("open", &at("no")));
    fs::create_dir(at("folder"))?;
    expect_error(replace(&at("folder"), "")?, ErrorKind::InvalidInput, &text("rename", &at("folder").canonicalize()?));
    symlink("nowhere", at("dangling"))?;
    expect_error(replace(&at("dangling"), "")?, ErrorKind::NotFound, &text("realpath", &at("dangling")));
    let (mut reactor, pool) = with_pool(1)?;
    files::append(&pool, at("folder"), "", |appended, cx| cx.state.push(appended))?;
    let mut results = Vec::new();
    reactor.run(&mut results)?;
    expect_error(results.remove(0), ErrorKind::IsADirectory, &text("open", &at("folder")));
    assert_eq!(names(folder.path()), ["dangling", "folder"]);
    Ok(())
}

#[test]
fn a_fifo_is_not_waited_for() -> Result {
    let folder = tempdir()?;
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
    assert_eq!(read(&fifo, 10)??, b"");
    assert_eq!(replace(&fifo, "")?.err().map(|error| error.kind()), Some(ErrorKind::InvalidInput));
    Ok(())
}

#[test]
fn what_may_not_be_read_or_written_is_an_error_and_nothing_is_left() {
    without_privileges(|folder| {
        let conf = folder.join("conf");
        fs::write(&conf, "first")?;
        set_mode(&conf, 0o000)?;
        expect_error(read(&conf, 10)?, ErrorKind::PermissionDenied, &format!("open({})", conf.display()));
        set_mode(folder, 0o500)?;
        expect_error(replace(&conf, "second")?, ErrorKind::PermissionDenied, &format!("open({}/.", folder.display()));
        set_mode(folder, 0o700)?;
        assert_eq!(names(folder), ["conf"]);
        Ok(())
    });
}

#[test]
fn a_write_that_cannot_keep_the_owner_leaves_the_old_file_and_nothing_else() -> Result {
    if !geteuid().is_root() {
        return Ok(()); // only root can make a file that is another's
    }
    let (other, conf) = folder_with_conf();
    set_mode(other.path(), 0o777)?;
    let text = format!("fchown, fchmod({})", conf.canonicalize()?.display());
    without_privileges(|_| {
        expect_error(replace(&conf, "second")?, ErrorKind::PermissionDenied, &text);
        Ok(())
    });
    assert_eq!(fs::read(&conf)?, b"first");
    assert_eq!(names(other.path()), ["conf"]);
    Ok(())
}

#[test]
fn mode_and_owner_of_a_file_are_kept_and_a_symbolic_link_stays() -> Result {
    let (folder, conf) = folder_with_conf();
    let link = folder.path().join("link");
    symlink("conf", &link)?;
    if geteuid().is_root() {
        chown(&conf, Some(1234), Some(5678))?;
    }
    for mode_kept in [0o640, 0o604, 0o4711] {
        set_mode(&conf, mode_kept)?;
        let before = fs::metadata(&conf)?;
        replace(&link, "second")??;
        let after = fs::metadata(&conf)?;
        assert_eq!((mode(&conf), after.uid(), after.gid()), (mode_kept, before.uid(), before.gid()));
        assert!(link.is_symlink());
    }
    let plain = folder.path().join("plain");
    fs::write(&plain, "")?;
    let new = folder.path().join("new");
    replace(&new, "first")??;
    assert_eq!(mode(&new), mode(&plain), "a new file is what the umask makes it");
    assert_eq!((fs::read(&conf)?, fs::read(&new)?), (b"second".to_vec(), b"first".to_vec()));
    Ok(())
}

#[test]
fn who_reads_while_it_is_written_sees_the_old_content_or_the_new_one_and_never_half() -> Result {
    const LEN: usize = 300_000;
    let (folder, conf) = folder_with_conf();
    fs::write(&conf, vec![b'0'; LEN])?;
    let written = Arc::new(AtomicBool::new(false));
    let (done, path) = (Arc::clone(&written), conf.clone());
    let reader = thread::spawn(move || {
        let mut reads = 0;
        while !done.load(Ordering::Relaxed) {
            let content = fs::read(&path).unwrap();
            assert_eq!(content.len(), LEN);
            assert!(content.iter().all(|byte| *byte == content[0]));
            reads += 1;
        }
        reads
    });
    let (mut reactor, pool) = with_pool(2)?;
    for round in 1..=20 {
        files::write_atomically(&pool, &conf, vec![b'0' + round; LEN], |written, cx| cx.state.push(written))?;
    }
    let mut results = Vec::new();
    reactor.run(&mut results)?;
    written.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
    assert_eq!(results.into_iter().filter(|result| result.is_ok()).count(), 20);
    assert_eq!(names(folder.path()), ["conf"]);
    Ok(())
}

#[test]
fn a_pool_that_takes_no_more_refuses() -> Result {
    let folder = tempdir()?;
    let (_reactor, pool) = with_pool(1)?;
    let closed = pool.handle();
    pool.drain();
    let path = folder.path().join("conf");
    let refused = files::write_atomically(&closed, &path, "first", |written, cx| cx.state.push(written));
    assert_eq!(refused.err(), Some(Refusal::Closed));
    let refused = files::append(&closed, &path, "first", |written, cx| cx.state.push(written));
    assert_eq!(refused.err(), Some(Refusal::Closed));
    assert!(!path.exists());
    Ok(())
}
