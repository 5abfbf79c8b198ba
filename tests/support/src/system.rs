//! Terminals, files, waits, programs, and tests that are skipped.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use crate::Result;

/// Returns both ends of a new terminal: the keyboard, and the end that a program has.
///
/// # Errors
/// The errors of `posix_openpt(3)` and of the calls that go with it.
pub fn terminal() -> io::Result<(File, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    Ok((master.into(), slave))
}

/// Returns a file with `text`, open for reading, which is removed when it is closed.
///
/// # Errors
/// The errors of the file system.
pub fn file_with(text: &[u8]) -> io::Result<File> {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("support-{}-{number}", std::process::id()));
    fs::write(&path, text)?;
    let file = File::open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// Waits until `fd` is readable or hung up: a pidfd is readable when its process has ended. Returns
/// `false` after `timeout`.
///
/// # Errors
/// The errors of `poll(2)`, and `EINVAL` for a timeout that is too long for the kernel.
pub fn wait_until_readable(fd: impl AsFd, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(timeout).map_err(|_| Errno::INVAL)?;
    // poll(2) is not restarted after a signal: children of other tests end, and tests watch
    // signals.
    Ok(retry_on_intr(|| poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)))? > 0)
}

/// Returns `true` if a number is that of an open descriptor. Opens none.
#[must_use]
pub fn is_open(number: u64) -> bool {
    fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok()
}

/// A limit of the descriptors of this process, until it is dropped. It holds for all threads, so a
/// test that needs it runs in a process of its own.
#[derive(Debug)]
pub struct DescriptorLimit(Rlimit);

impl DescriptorLimit {
    /// Lets this process open `free` more descriptors.
    ///
    /// # Errors
    /// The errors of `setrlimit(2)`.
    pub fn leaving(free: usize) -> io::Result<Self> {
        let before = getrlimit(Resource::Nofile);
        let current = (0..).filter(|number| !is_open(*number)).nth(free);
        setrlimit(Resource::Nofile, Rlimit { current, ..before })?;
        Ok(Self(before))
    }
}

impl Drop for DescriptorLimit {
    fn drop(&mut self) {
        let _ = setrlimit(Resource::Nofile, self.0); // it may always be raised to what it was
    }
}

/// Returns the path of an example, next to the test that calls.
///
/// # Errors
/// The text of the error says how to build the example if it is missing.
pub fn example(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test
        .parent()
        .and_then(|deps| deps.parent())
        .ok_or("target/PROFILE/deps")?;
    let example = profile.join("examples").join(name);
    if example.exists() {
        Ok(example)
    } else {
        Err(format!("{example:?}: build it by `cargo build --examples`").into())
    }
}

/// Returns `true` if a program can be started. Without it the test that calls is
/// [skipped](or_skipped).
///
/// # Panics
/// If the program is missing and `NO_SKIPS` is in the environment.
pub fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    let version = command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    or_skipped(version.status().is_ok(), &format!("no {program}"))
}

/// Returns `is_possible`. If it is `false`, prints that the calling test is skipped.
///
/// # Panics
/// If a test would be skipped while `NO_SKIPS` is in the environment, as in `.ci/run`.
pub fn or_skipped(is_possible: bool, reason: &str) -> bool {
    if !is_possible {
        println!("skipped: {reason}");
        assert!(std::env::var_os("NO_SKIPS").is_none(), "skipped: {reason}");
    }
    is_possible
}
