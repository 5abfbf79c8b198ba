//! Unix sockets at a path, and several processes that want it at the same time.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Barrier};

use handlers::{Address, ListenOptions, Listener};
use rustix::fs::{FlockOperation, flock};
use tempfile::{TempDir, tempdir};

use crate::{Result, any_port};

/// More than ten times as many rounds as it takes to see two listeners at one stale socket when
/// nothing keeps them apart.
const ROUNDS: usize = 1000;

fn bind(path: &Path) -> io::Result<Listener> {
    ListenOptions::new().bind(&Address::Unix(path.to_owned()))
}

fn names_in(folder: &TempDir) -> Result<Vec<std::ffi::OsString>> {
    let names = fs::read_dir(folder.path())?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<_>>()?;
    Ok(names)
}

/// Binds from two threads at once.
fn bind_twice(path: &Path) -> Vec<io::Result<Listener>> {
    let together = Arc::new(Barrier::new(2));
    let bind_together = || {
        together.wait();
        bind(path)
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(bind_together), scope.spawn(bind_together)];
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    })
}

#[test]
fn one_of_two_simultaneous_binds_over_a_stale_socket_listens() -> Result {
    let folder = tempdir()?;
    let path = folder.path().join("socket");
    for round in 0..ROUNDS {
        drop(UnixListener::bind(&path)?); // leaves its file
        // A child that another test forks at this moment has the listener too, until it executes.
        while UnixStream::connect(&path).is_ok() {
            std::thread::yield_now();
        }
        let results = bind_twice(&path);
        let errors: Vec<_> = results
            .iter()
            .filter_map(|bound| bound.as_ref().err().map(io::Error::kind))
            .collect();
        assert_eq!(errors, [ErrorKind::AddrInUse], "round {round}");
        UnixStream::connect(&path)?;
    }
    assert!(names_in(&folder)?.is_empty());
    Ok(())
}

#[test]
fn the_lock_of_a_killed_server_is_taken_over_and_removed() -> Result {
    let folder = tempdir()?;
    let path = folder.path().join("socket");
    // As a process leaves it that is killed while it binds.
    fs::write(folder.path().join(".handlers-socket.lock"), "")?;
    drop(UnixListener::bind(&path)?);
    let listener = bind(&path)?;
    assert_eq!(names_in(&folder)?, ["socket"]);
    drop(listener);
    assert!(names_in(&folder)?.is_empty());
    Ok(())
}

#[test]
fn while_another_binds_a_stale_socket_is_not_touched() -> Result {
    let folder = tempdir()?;
    let (path, lock) = (
        folder.path().join("socket"),
        folder.path().join(".handlers-socket.lock"),
    );
    drop(UnixListener::bind(&path)?);
    let stopped = fs::File::create(&lock)?;
    flock(&stopped, FlockOperation::LockExclusive)?;
    assert_eq!(
        bind(&path).map(drop).map_err(|error| error.kind()),
        Err(ErrorKind::AddrInUse)
    );
    assert!(path.exists() && lock.exists());
    drop(stopped);
    bind(&path)?;
    Ok(())
}

#[test]
fn while_another_binds_the_file_of_one_that_ends_is_not_touched() -> Result {
    let folder = tempdir()?;
    let path = folder.path().join("socket");
    let listener = bind(&path)?;
    let stopped = fs::File::create(folder.path().join(".handlers-socket.lock"))?;
    flock(&stopped, FlockOperation::LockExclusive)?;
    drop(listener);
    assert!(path.exists(), "it may be that of the other by now");
    drop(stopped);
    bind(&path)?;
    Ok(())
}

#[test]
fn a_lock_file_that_is_a_link_is_not_followed() -> Result {
    let folder = tempdir()?;
    std::os::unix::fs::symlink(
        folder.path().join("precious"),
        folder.path().join(".handlers-socket.lock"),
    )?;
    let error = bind(&folder.path().join("socket")).expect_err("no lock");
    assert!(
        error.to_string().contains(".handlers-socket.lock"),
        "{error}"
    );
    assert!(!folder.path().join("precious").exists());
    Ok(())
}

#[test]
fn a_path_that_no_socket_can_have_is_refused() {
    let long = "x".repeat(200);
    for path in ["", "/", "..", &long, "nul\0byte"] {
        assert_eq!(
            bind(Path::new(path))
                .map(drop)
                .map_err(|error| error.kind()),
            Err(ErrorKind::InvalidInput),
            "{path:?}"
        );
    }
}

#[test]
fn a_unix_socket_refuses_to_share_its_address() -> Result {
    let folder = tempdir()?;
    let path = folder.path().join("socket");
    for address in [
        Address::Unix(path.clone()),
        "unix:@shared-by-several".parse()?,
    ] {
        let error = ListenOptions::new()
            .reuse_port(true)
            .bind(&address)
            .expect_err("it cannot");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("reuse_port"), "{error}");
    }
    assert!(!path.exists());
    Ok(())
}

#[test]
fn the_file_of_a_socket_has_the_mode_that_was_asked_for() -> Result {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir()?;
    let path = folder.path().join("socket");
    // 0 admits root alone, 0o666 is more than a usual umask leaves, and 0o777 is the greatest mode.
    for mode in [0, 0o600, 0o660, 0o666, 0o777] {
        let listener = ListenOptions::new()
            .mode(mode)
            .bind(&Address::Unix(path.clone()))?;
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o7777, mode);
        drop(listener);
        drop(UnixListener::bind(&path)?); // the next one replaces it
    }
    Ok(())
}

#[test]
fn a_mode_without_a_file_and_a_too_great_mode_are_refused() -> Result {
    let folder = tempdir()?;
    let path = Address::Unix(folder.path().join("socket"));
    for (mode, address) in [
        (0o600, any_port()),
        (0o600, "unix:@name".parse()?),
        (0o1000, path.clone()),
        (u32::MAX, path),
    ] {
        let error = ListenOptions::new()
            .mode(mode)
            .bind(&address)
            .expect_err("it cannot have it");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("mode"), "{error}");
    }
    assert!(names_in(&folder)?.is_empty());
    Ok(())
}
