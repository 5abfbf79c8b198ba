//! Watches: their reports, the freedom of their callbacks, and their ends.

use std::cell::Cell;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use handlers::files;
use handlers::files::Change::{self, Appeared, Changed};
use reactor::{Next, Reactor};

use crate::{PATIENCE, Result, add_watch, folder_with_conf, watch};

#[test]
fn all_watches_of_a_file_are_notified_also_when_one_was_removed() -> Result {
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
fn a_watch_removed_in_its_own_callback_reports_nothing_more() -> Result {
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

/// Returns the number of inotify instances of this process.
fn instances() -> io::Result<usize> {
    let links =
        fs::read_dir("/proc/self/fd")?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(links
        .filter(|link| link.as_os_str() == "anon_inode:inotify")
        .count())
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
    assert!(
        instances()? < before + 40,
        "those of other tests come and go"
    );
    add(&mut reactor)?;
    reactor.run(&mut ())?;
    fs::write(&conf, "third")?;
    drop(reactor);
    assert_eq!((told.get(), Rc::strong_count(&dropped)), (0, 1));
    Ok(())
}

/// It is reported as it was passed.
#[test]
fn a_relative_path_is_resolved_from_the_working_directory() -> Result {
    let (_folder, conf) = folder_with_conf();
    let up: PathBuf = std::env::current_dir()?
        .components()
        .skip(1)
        .map(|_| "..")
        .collect();
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
    assert!(
        error
            .to_string()
            .starts_with(&format!("lstat({long}): File name too long")),
        "{error}"
    );
    assert!(reactor.is_empty());
    Ok(())
}
