//! Symbolic links on the way to a path, and at its end.

use std::fs;
use std::os::unix::fs::symlink;

use handlers::files;
use handlers::files::Change::{Appeared, Changed, Gone};
use reactor::{Next, Reactor};
use tempfile::tempdir;

use crate::{Result, Watcher, folder_with_conf, watch};

#[test]
fn a_folder_that_one_path_no_longer_needs_stays_watched_for_another() -> Result {
    let (folder, conf) = folder_with_conf();
    let link = folder.path().join("link");
    symlink(&conf, &link)?;
    let mut reactor = Reactor::<Vec<_>>::new()?;
    let key = files::watch(&mut reactor, [&link, &conf], |path, change, cx| {
        cx.state
            .push((path.file_name().map(ToOwned::to_owned), change));
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

/// It is swapped as Kubernetes does it.
#[test]
fn a_swap_of_a_symbolic_link_on_the_way_is_reported() -> Result {
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
fn the_target_of_a_symbolic_link_is_watched_wherever_it_is() -> Result {
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
