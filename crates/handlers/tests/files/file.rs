//! The changes of a file that are reported for events at its path.

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use handlers::files;
use handlers::files::Change::{Appeared, Changed, Gone};
use reactor::{Next, Reactor};

use crate::{Result, folder_with_conf, overflow, set_mode, watch, without_privileges};

#[test]
fn a_file_written_in_place_is_reported_when_it_is_closed_and_not_before() -> Result {
    let (_folder, conf) = folder_with_conf();
    let mut watcher = watch(&conf);
    assert_eq!(watcher.told(), [], "what is there at first is not told");
    let mut file = File::create(&conf)?;
    file.write_all(b"half")?;
    assert_eq!(watcher.told(), []);
    file.write_all(b" and half")?;
    drop(file);
    assert_eq!(watcher.told(), [Changed]);
    assert_eq!(
        fs::read(&conf)?,
        b"half and half",
        "reading changes nothing"
    );
    assert_eq!(watcher.told(), []);
    Ok(())
}

#[test]
fn changes_of_neighbouring_files_are_not_reported() -> Result {
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
fn a_file_replaced_by_rename_is_reported_and_its_successor_is_watched() -> Result {
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
fn a_deleted_file_is_reported_and_so_is_the_next_one_of_that_name() -> Result {
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

/// This concerns changes under its new name.
#[test]
fn a_file_that_is_renamed_is_gone_and_later_changes_are_not_reported() -> Result {
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
fn attributes_and_writes_through_another_hard_link_are_reported() -> Result {
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
fn a_folder_at_the_path_is_reported_and_its_content_is_not() -> Result {
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
    assert_eq!(
        told,
        [(conf.clone(), Changed), (conf, Changed)],
        "what came and went meanwhile is not told"
    );
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
            watcher
                .reactor
                .turn(&mut told, Some(Duration::ZERO))
                .unwrap();
        });
        assert_eq!(allocations.count_total, 0);
    }
    assert_eq!(told, [Changed; 3]);
    Ok(())
}

#[test]
fn when_the_kernels_queue_overflows_a_file_counts_as_changed() -> Result {
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
