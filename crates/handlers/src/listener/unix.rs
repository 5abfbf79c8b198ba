//! Unix sockets at a path: a stale socket is replaced, a socket in use never is.
//!
//! Ground rule: only the holder of a path's lock looks at the file there and changes it. Without
//! the lock, two servers that start at the same time would both find the stale socket, and the
//! second would remove the socket that the first has just bound. The second could also find a
//! socket that is bound but does not listen yet. Such a socket refuses connections, like a stale
//! one.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::bind::BindOptions;
use crate::error::named;
use crate::sockets::address::of_path;
use crate::sockets::{self, SocketOptions, unix};

/// The maximum number of attempts to lock a path. A holder keeps the lock for about ten system
/// calls.
const LOCK_TRIES_MAX: usize = 10_000;

/// The pause between two attempts. All pauses together take one second.
const LOCK_PAUSE: Duration = Duration::from_micros(100);

/// Binds to a path. A stale socket, left over from a process that has ended, is replaced.
pub(super) fn bind(
    path: &Path,
    options: BindOptions,
    before_bind: &SocketOptions,
) -> io::Result<UnixSocket> {
    let address = of_path(path)?;
    #[cfg(feature = "simulation")]
    if let Some(bound) = unix::bind_simulated(&address, options.backlog, before_bind) {
        let listener = bound?;
        return Ok(UnixSocket {
            _simulated: Some(unix::SimulatedFile(path.to_owned())),
            ..listener.into()
        });
    }
    let lock = PathLock::take(path)?;
    let listener = bind_locked(path, &address, options, before_bind)?;
    let socket = UnixSocket {
        _file: Some(SocketFile::of(path)?),
        ..listener.into()
    };
    let listens = listen(&socket, path, options);
    drop(lock); // before the socket, whose drop takes the lock to remove its file
    listens.map(|()| socket)
}

fn bind_locked(
    path: &Path,
    address: &UnixAddr,
    options: BindOptions,
    before_bind: &SocketOptions,
) -> io::Result<UnixListener> {
    let socket = unix::unbound(options.mode, before_bind)?;
    match unix::bind(&socket, address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path, address) => {
            tracing::info!(path = %path.display(), "replacing a stale socket");
            fs::remove_file(path)?;
            unix::bind(&socket, address)?;
        }
        other => other?,
    }
    Ok(socket.into())
}

/// Sets the mode of the file, since the umask may have removed bits, and then lets clients in.
fn listen(socket: &UnixSocket, path: &Path, options: BindOptions) -> io::Result<()> {
    if let Some(mode) = options.mode {
        fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    }
    sockets::listen(socket.as_fd(), options.backlog)
}

/// Returns `true` if `path` is a socket that refuses connections. Any other file of that name is
/// the user's and is left alone. This does not block: an ordinary connect to a busy server with a
/// full queue would.
fn is_stale(path: &Path, address: &UnixAddr) -> bool {
    let is_socket =
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refuses = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
    is_socket && unix::connect(address, None).is_err_and(refuses)
}

/// A listening Unix socket, and its file if this process has to remove the file.
///
/// The fields are dropped in this order. The kernel keeps the inode while the socket is open. So
/// when the file is dropped, no other file can have the inode number of ours.
#[derive(Debug)]
pub(super) struct UnixSocket {
    _file: Option<SocketFile>,
    #[cfg(feature = "simulation")]
    _simulated: Option<unix::SimulatedFile>,
    pub(super) listener: UnixListener,
}

impl From<UnixListener> for UnixSocket {
    fn from(listener: UnixListener) -> Self {
        Self {
            _file: None,
            #[cfg(feature = "simulation")]
            _simulated: None,
            listener,
        }
    }
}

impl AsFd for UnixSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// The file of a Unix socket. It is removed with the listener, unless another file has replaced it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    id: FileId,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        // Made absolute now, since a daemon may change its working directory.
        Ok(Self {
            path: std::path::absolute(path)?,
            id: FileId::at(path)?,
        })
    }

    fn is_ours(&self) -> bool {
        FileId::at(&self.path).is_ok_and(|id| id == self.id)
    }

    fn remove(&self) -> io::Result<()> {
        let _lock = PathLock::take(&self.path)?;
        if self.is_ours() {
            fs::remove_file(&self.path)
        } else {
            Ok(())
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours()
            && let Err(error) = self.remove()
        {
            tracing::warn!(path = %self.path.display(), %error, "could not remove the file of a socket");
        }
    }
}

/// Identifies a file among all files that exist at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Returns the id of the file at `path`, without following a symbolic link.
    fn at(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|metadata| Self::of(&metadata))
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// The exclusive right to change the file of a socket, among all users of this library. It is an
/// `flock(2)` on a file beside the socket.
///
/// The kernel releases the lock when its holder ends. If a killed process leaves the lock file
/// behind, the next holder takes it over and removes it.
#[derive(Debug)]
struct PathLock {
    path: PathBuf,
    _file: File,
}

impl PathLock {
    fn take(path: &Path) -> io::Result<Self> {
        let none = || io::Error::new(ErrorKind::InvalidInput, "the path has no file name");
        let mut name = OsString::from(".handlers-");
        name.push(path.file_name().ok_or_else(none)?);
        name.push(".lock");
        let path = path.with_file_name(name);
        for _ in 0..LOCK_TRIES_MAX {
            match Self::try_take(&path)
                .map_err(|error| named(format_args!("lock {}", path.display()), error))?
            {
                Some(file) => return Ok(Self { path, _file: file }),
                None => thread::sleep(LOCK_PAUSE),
            }
        }
        // The holder is stopped. It is about to listen at this path, too.
        Err(Errno::ADDRINUSE.into())
    }

    /// Returns `None` if another process has the lock, or has just removed its file.
    fn try_take(path: &Path) -> io::Result<Option<File>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK; // there may be any file at the path
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed());
        let file = options.open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
        let is_there = FileId::at(path)
            .is_ok_and(|id| file.metadata().is_ok_and(|own| id == FileId::of(&own)));
        Ok(is_there.then_some(file))
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        // Removed under the lock. If another process has the file open and locks it next, that
        // process sees that the file is gone and tries again.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "could not remove the lock file of a socket");
        }
    }
}
