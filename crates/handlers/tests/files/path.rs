//! The folders on the way to a path: made, moved, deleted, mounted over, out of reach, and all of
//! it at the same time.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use handlers::files::Change::{Appeared, Changed, Gone};
use handlers::files::{self, FolderChange};
use reactor::{Next, Reactor};
use support::or_skipped;
use tempfile::tempdir;

use crate::{
    PATIENCE, Result, Watcher, folder_with_conf, removed, set_mode, watch, watch_folder,
    without_privileges,
};

#[test]
fn a_file_is_reported_when_it_appears_with_its_folders() -> Result {
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
fn a_file_goes_and_comes_back_with_any_folder_above_it_that_is_moved() -> Result {
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

/// Returns the number of watches of the only watcher of a loop.
fn watches<C>(watcher: &Watcher<C>) -> usize {
    let fd = watcher.reactor.registrations().next().unwrap().fd;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    info.lines()
        .filter(|line| line.starts_with("inotify "))
        .count()
}

#[test]
fn a_folder_that_is_no_longer_on_the_way_is_not_watched() -> Result {
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
        // Others may write to the folders on the way meanwhile, which wakes the loop.
        assert_eq!(watcher.told(), []);
    }
    Ok(())
}

/// This includes a folder that is still open somewhere.
#[test]
fn a_folder_that_is_deleted_and_made_again_is_found_again() -> Result {
    let folder = tempdir()?;
    let app = folder.path().join("app");
    fs::create_dir(&app)?;
    fs::write(app.join("conf"), "first")?;
    let mut watcher = watch(app.join("conf"));
    for _ in 0..3 {
        // The kernel keeps the old folder, and does not report its end.
        let _held = File::open(&app)?;
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
fn a_file_made_while_its_new_folder_is_being_looked_at_is_not_missed() -> Result {
    let folder = tempdir()?;
    let app = folder.path().join("app");
    let mut watcher = watch(app.join("conf"));
    let mut told = Vec::new();
    let mut turn_until = |is_there| {
        let began = Instant::now();
        while told.last().is_some_and(|change| *change != Gone) != is_there {
            assert!(began.elapsed() < PATIENCE, "missed");
            watcher
                .reactor
                .turn(&mut told, Some(Duration::ZERO))
                .unwrap();
        }
    };
    for round in 0..2000 {
        thread::scope(|scope| {
            scope.spawn(|| {
                fs::create_dir(&app).unwrap();
                // At all points of the loop's look.
                (0..round % 500 * 10).for_each(|_| std::hint::spin_loop());
                fs::write(app.join("conf"), "").unwrap();
            });
            turn_until(true);
        });
        fs::remove_dir_all(&app)?;
        turn_until(false);
    }
    Ok(())
}

/// Changes the path `etc/app/conf` in `folder`. The change may fail.
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
        8 => symlink("away", at("link"))
            .or(Ok(()))
            .and_then(|()| fs::rename(at("link"), at("etc/app"))),
        _ => fs::write(at("content"), content)
            .and_then(|()| symlink(at("content"), at("etc/app/conf"))),
    };
}

/// This holds for any sequence of changes to the path.
#[test]
fn reading_at_each_change_ends_with_the_present_content() -> Result {
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
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
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
    /// Returns `None` without the privilege to mount: the test is skipped.
    fn on(folder: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "none"])
            .arg(folder)
            .output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        or_skipped(is_mounted, "no privilege to mount").then_some(Self(folder))
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        assert!(
            Command::new("umount")
                .arg(self.0)
                .status()
                .is_ok_and(|status| status.success())
        );
    }
}

#[test]
fn after_an_unmount_the_file_below_the_mount_is_watched() -> Result {
    let (folder, conf) = folder_with_conf();
    let Some(mount) = Mount::on(folder.path()) else {
        return Ok(());
    };
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

#[test]
fn a_file_without_permission_to_reach_it_is_gone_until_granted() {
    without_privileges(|folder| {
        let app = folder.join("app");
        fs::create_dir(&app)?;
        fs::write(app.join("conf"), "first")?;
        let (mut file, mut entries) = (watch(app.join("conf")), watch_folder(&app));
        set_mode(&app, 0o000)?;
        assert_eq!(file.told(), [Gone]);
        assert_eq!(entries.told(), [FolderChange::Gone]);
        set_mode(&app, 0o100)?;
        assert_eq!(
            file.told(),
            [Appeared],
            "with search permission alone, the file itself is seen"
        );
        fs::write(app.join("conf"), "second")?;
        assert_eq!(file.told(), [Changed]);
        set_mode(&app, 0o700)?;
        assert_eq!(entries.told(), [FolderChange::Appeared]);
        Ok(())
    });
}
