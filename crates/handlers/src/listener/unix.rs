//! Unix sockets at a path: one that is left over is replaced, and one that is served never is.
//!
//! Ground rule: what is at a path is looked at, and then changed, only by the holder of its lock. Two servers that
//! start at once would else both find the socket that is left over, and the second would remove the one that the first
//! has just bound; or find one that is bound and does not listen yet, which is refused like one that is left over.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::address::BindOptions;
use crate::error::named;

/// So often the lock of a path is tried. Its holders have it for some ten system calls.
const LOCK_TRIES_MAX: usize = 10_000;

/// The pause between two tries: a second for all of them.
const LOCK_PAUSE: Duration = Duration::from_micros(100);

/// Binds to a path. A socket that is left over from a process that has ended, so that nobody answers there, is
/// replaced.
pub(super) fn bind(path: &Path, options: BindOptions) -> io::Result<UnixSocket> {
    UnixAddr::from_pathname(path)?; // too long, or with a NUL
    let lock = PathLock::take(path)?;
    let listener = bind_locked(path, options)?;
    let socket = UnixSocket {
        _file: Some(SocketFile::of(path)?),
        listener,
    };
    let listens = listen(&socket, path, options);
    drop(lock); // before the socket, which needs it to remove its file
    listens.map(|()| socket)
}

fn bind_locked(path: &Path, options: BindOptions) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Some(mode) = options.mode {
        fchmod(&socket, Mode::from_raw_mode(mode))?; // bind(2) makes the file with it, less the umask: it never has more
    }
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path) => {
            tracing::info!(path = %path.display(), "a socket that nobody listens to is replaced");
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        other => other?,
    }
    Ok(socket.into())
}

/// Gives the file its mode, also where the umask took bits away, and then lets clients in.
fn listen(socket: &UnixSocket, path: &Path, options: BindOptions) -> io::Result<()> {
    if let Some(mode) = options.mode {
        fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    }
    SockRef::from(socket).listen(options.backlog)
}

/// Whether `path` is a socket to which connections are refused. Anything else is left alone: a file of that name is the
/// user's. Does not wait, as connecting to a busy server with a full queue would.
fn is_stale(path: &Path) -> bool {
    let is_socket =
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket && try_connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn try_connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// A listening Unix socket and its file, if that is ours to remove.
///
/// Fields drop in this order: the kernel keeps the inode for as long as the socket is open, so that until then no file
/// that has taken the place of ours can have its number.
#[derive(Debug)]
pub(super) struct UnixSocket {
    _file: Option<SocketFile>,
    pub(super) listener: UnixListener,
}

impl From<UnixListener> for UnixSocket {
    fn from(listener: UnixListener) -> Self {
        Self {
            _file: None,
            listener,
        }
    }
}

impl AsFd for UnixSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// The file of a Unix socket, which is removed with the listener: unless another has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    id: FileId,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        // The path as it is now: a daemon may change its folder.
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
            tracing::warn!(path = %self.path.display(), %error, "the file of a socket is left behind");
        }
    }
}

/// What tells one file from all others that are there at the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// That of what is at `path`, a symbolic link not followed.
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

/// The right to change what is at the path of a socket, among all who use this library: `flock(2)` on a file beside it.
///
/// The kernel ends the lock with its holder. The file that a killed one leaves is taken over, and goes with the next
/// holder.
#[derive(Debug)]
struct PathLock {
    path: PathBuf,
    _file: File,
}

impl PathLock {
    fn take(path: &Path) -> io::Result<Self> {
        let none = || io::Error::new(ErrorKind::InvalidInput, "the path names no file");
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
        Err(Errno::ADDRINUSE.into()) // its holder was stopped: it, too, is about to listen here
    }

    /// `None` if another has the lock, or has just removed its file.
    fn try_take(path: &Path) -> io::Result<Option<File>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK; // anything may be there
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
        // Under the lock: whoever has the file open and gets the lock next finds that it is not there any more.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the lock of a socket is left behind");
        }
    }
}
