//! The entries of a watched folder.

use std::fs;
use std::time::Duration;

use handlers::files::FolderChange;
use tempfile::tempdir;

use crate::{Result, folder_with_conf, overflow, removed, set_mode, watch_folder};

fn created(name: &str) -> FolderChange {
    FolderChange::Created(name.into())
}

fn written(name: &str) -> FolderChange {
    FolderChange::Written(name.into())
}

fn renamed(from: &str, to: &str) -> FolderChange {
    FolderChange::Renamed {
        from: from.into(),
        to: to.into(),
    }
}

#[test]
fn changes_of_a_folder_are_reported_in_order_with_both_names_of_a_rename() -> Result {
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
fn moves_into_and_out_of_a_folder_are_reported_as_moves_or_removals() -> Result {
    let (folder, elsewhere) = (tempdir()?, tempdir()?);
    let (here, there) = (folder.path().join("file"), elsewhere.path().join("file"));
    fs::write(&there, "")?;
    let (mut watcher, mut other) = (watch_folder(folder.path()), watch_folder(elsewhere.path()));
    fs::rename(&there, &here)?;
    assert_eq!(
        (watcher.told(), other.told()),
        (
            vec![FolderChange::MovedIn("file".into())],
            vec![removed("file")]
        )
    );
    fs::rename(&here, &there)?;
    fs::write(&here, "another")?;
    assert_eq!(
        watcher.told(),
        [removed("file"), created("file"), written("file")]
    );
    assert_eq!(other.told(), [FolderChange::MovedIn("file".into())]);
    Ok(())
}

#[test]
fn repeated_writes_are_reported_once_per_turn() -> Result {
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
fn a_folder_that_goes_and_comes_back_is_reported_and_watched_again() -> Result {
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
    assert_eq!(
        watcher.told(),
        [created("other"), written("other"), FolderChange::Gone]
    );
    fs::write(away.join("unseen"), "")?;
    assert_eq!(watcher.told(), []);
    fs::rename(&away, &spool)?;
    assert_eq!(watcher.told(), [FolderChange::Appeared]);
    fs::remove_dir_all(&spool)?;
    fs::create_dir(&spool)?;
    let told = watcher.told();
    assert_eq!(
        (told.len(), told.last()),
        (4, Some(&FolderChange::Appeared)),
        "three entries, and another folder"
    );
    fs::write(spool.join("job"), "")?;
    assert_eq!(watcher.told(), [created("job"), written("job")]);
    Ok(())
}

#[test]
fn when_the_kernels_queue_overflows_a_folder_is_to_be_listed_again() -> Result {
    let folder = tempdir()?;
    let mut watcher = watch_folder(folder.path());
    overflow(folder.path())?;
    fs::write(folder.path().join("unseen"), "")?;
    let mut first = Vec::new();
    watcher.reactor.turn(&mut first, Some(Duration::ZERO))?;
    assert!(
        (100..5000).contains(&first.len()),
        "a turn has a bound: {}",
        first.len()
    );
    let rest = watcher.told();
    assert_eq!(rest.last(), Some(&FolderChange::Overflow));
    assert_eq!(
        rest.iter()
            .filter(|change| **change == FolderChange::Overflow)
            .count(),
        1
    );
    assert!(!rest.contains(&created("unseen")));
    fs::write(folder.path().join("seen"), "")?;
    assert_eq!(watcher.told(), [created("seen"), written("seen")]);
    Ok(())
}

#[test]
fn a_file_that_is_moved_in_is_distinguished_from_one_that_is_created() -> Result {
    let folder = tempdir()?;
    let (spool, elsewhere) = (folder.path().join("new"), folder.path().join("tmp"));
    [&spool, &elsewhere]
        .into_iter()
        .try_for_each(fs::create_dir)?;
    let mut watcher = watch_folder(&spool);
    let mut other = watch_folder(&elsewhere);
    let moved_in = |name: &str| FolderChange::MovedIn(name.into());
    fs::write(elsewhere.join("mail"), "whole")?;
    fs::rename(elsewhere.join("mail"), spool.join("mail"))?;
    assert_eq!(watcher.told(), [moved_in("mail")]);
    assert_eq!(
        other.told(),
        [created("mail"), written("mail"), removed("mail")]
    );
    // The file replaces an existing one, and a folder is moved in. A rename within the folder stays
    // a rename, and a hard link is a created entry.
    fs::write(elsewhere.join("mail"), "again")?;
    fs::rename(elsewhere.join("mail"), spool.join("mail"))?;
    fs::create_dir(elsewhere.join("folder"))?;
    fs::rename(elsewhere.join("folder"), spool.join("folder"))?;
    fs::rename(spool.join("mail"), spool.join("read"))?;
    fs::write(elsewhere.join("linked"), "whole")?;
    fs::hard_link(elsewhere.join("linked"), spool.join("linked"))?;
    let expected = [
        moved_in("mail"),
        moved_in("folder"),
        renamed("mail", "read"),
        created("linked"),
    ];
    assert_eq!(watcher.told(), expected);
    Ok(())
}
