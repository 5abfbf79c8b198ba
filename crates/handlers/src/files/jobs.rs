//! Reads and writes of whole files. They are jobs of a worker pool, since regular files have no
//! readiness to wait for.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use reactor::Context;

use super::named;
use crate::pool::{Job, JobPanic, PoolHandle, Refused};

/// The maximum number of names that are tried for a temporary file. A name may be taken by a file
/// that an earlier process with the same pid has left behind.
const NAMES_TRIED_MAX: usize = 100;

/// Reads the file at `path` on a worker, and calls `done` on the loop with the whole content. You
/// can call this function on any thread.
///
/// If the file has more than `limit` bytes, `done` gets an error. At most `limit` + 1 bytes are
/// read, so that a huge file cannot use up all memory. If another process writes to the file in
/// place during the read, the content may be partly old and partly new. Use this function for
/// regular files only, since it does not wait for the bytes of a FIFO or a device. A relative
/// `path` starts at the working directory that the process has when the job runs.
///
/// The job keeps [`Reactor::run`](reactor::Reactor::run) alive until `done` has run. You can
/// [cancel](Job::cancel) the job until it starts.
///
/// # Cost
/// A few system calls on the worker, and memory for the content.
///
/// # Errors
/// [`Refused`] if the queue of the pool is full, or the pool is closed. The error returns `path`
/// and `done`.
///
/// If the job fails, `done` gets one of these errors, with the call and the path:
/// - `FileTooLarge` if the file has more than `limit` bytes. The error names the limit.
/// - `OutOfMemory` if there is no memory for the content.
/// - The errors of `open(2)`, `fstat(2)` and `read(2)`.
///
/// ```
/// use handlers::{WorkerPool, files};
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = Reactor::<usize>::new()?;
/// let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
/// files::read(&pool, "Cargo.toml", 1024 * 1024, |content, cx| match content {
///     Ok(bytes) => *cx.state = bytes.len(),
///     Err(error) => eprintln!("going on without: {error}"),
/// })?;
/// let mut len = 0;
/// reactor.run(&mut len)?; // returns after the callback of the last job
/// assert!(len > 0);
/// # Ok(())
/// # }
/// ```
#[doc(alias("uv_fs_read"))]
#[track_caller]
pub fn read<S, W, D>(
    pool: &PoolHandle<S, W>,
    path: impl Into<PathBuf>,
    limit: usize,
    done: D,
) -> Result<Job, Refused<PathBuf, D>>
where
    D: FnOnce(io::Result<Vec<u8>>, &mut Context<'_, S>) + Send + 'static,
{
    submit(pool, path.into(), move |path| read_all(&path, limit), done)
}

/// Replaces the file at `path` by a file with the content `bytes`, on a worker, and calls `done` on
/// the loop when the new file is on disk. You can call this function on any thread.
///
/// *All or nothing*: a reader of the path gets the whole old content or the whole new content, even
/// after a power failure. The worker writes and syncs a temporary file in the same folder, renames
/// it to the path, and then syncs the folder. If a file exists at the path, its mode, owner and
/// group are kept. The access control lists, other attributes and hard links of the existing file
/// are not kept. If no file exists, the new file gets the mode 0666, restricted by the umask. If
/// `path` is a symbolic link, the link stays and its target is replaced.
///
/// If two writes to one path run on two workers, either may finish last. To keep an order, start
/// the second write in the `done` of the first. If the process or the machine stops during a write,
/// a file named `.handlers-PID-NUMBER.tmp` is left behind. If the write fails with an error, this
/// file is removed. To avoid a copy, pass a shared type such as `bytes::Bytes` or `Arc<[u8]>`.
///
/// A write beyond the file size limit (`ulimit -f`) fails with `FileTooLarge`. By default the
/// kernel would instead end the process by `SIGXFSZ`. To prevent this, the first write of the
/// process installs an empty handler for `SIGXFSZ`.
///
/// # Cost
/// About ten system calls on the worker. Two of them wait for the disk.
///
/// # Errors
/// [`Refused`] if the queue of the pool is full, or the pool is closed. The error returns `path`,
/// `bytes` and `done`.
///
/// If the job fails, `done` gets one of these errors, with the call and the path:
/// - The errors of the system calls, such as `EPERM` if the owner or group of the existing file
///   cannot be kept.
/// - `InvalidInput` if something other than a regular file is at `path`.
/// - `NotFound` if `path` is a dangling symbolic link.
///
/// After an error the old file is unchanged, with one exception: if `open` or `fsync` fails on the
/// folder, the new file is already at the path, but may be lost in a power failure.
///
/// # Source
/// `rename(2)`, `fsync(2)`.
///
/// ```
/// # use handlers::{WorkerPool, files};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut reactor = reactor::Reactor::<()>::new()?;
/// # let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
/// # let path = std::env::temp_dir().join(format!("handlers-example-{}", std::process::id()));
/// files::write_atomically(&pool, &path, b"limit = 7\n", |written, _cx| {
///     if let Err(error) = written {
///         eprintln!("the old settings stay: {error}");
///     }
/// })?;
/// # reactor.run(&mut ())?;
/// # assert_eq!(std::fs::read(&path)?, b"limit = 7\n");
/// # std::fs::remove_file(path)?;
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn write_atomically<S, W, B, D>(
    pool: &PoolHandle<S, W>,
    path: impl Into<PathBuf>,
    bytes: B,
    done: D,
) -> Result<Job, Refused<(PathBuf, B), D>>
where
    B: AsRef<[u8]> + Send + 'static,
    D: FnOnce(io::Result<()>, &mut Context<'_, S>) + Send + 'static,
{
    submit(
        pool,
        (path.into(), bytes),
        |(path, bytes)| replace(&path, bytes.as_ref()),
        done,
    )
}

/// Appends `bytes` to the file at `path`, on a worker, and calls `done` on the loop when the bytes
/// are on disk. You can call this function on any thread.
///
/// If the file does not exist, it is created with mode 0666, restricted by the umask. In this case
/// the folder is synced too: the folder holds the name of the file, and without the name the file
/// cannot be found after a power failure. Bytes that another process appends come before or after
/// all of `bytes`. They can come in between only if the disk is full. If two appends run on two
/// workers, either may come first. To avoid a copy, pass a shared type such as `bytes::Bytes` or
/// `Arc<[u8]>`.
///
/// After an error, a part of `bytes` may have been written. If `path` is a dangling symbolic link,
/// the target of the link is created. A write beyond the file size limit (`ulimit -f`) fails with
/// `FileTooLarge`. To make this possible, the first call of this module that writes installs an
/// empty handler for `SIGXFSZ` in the process: see [`write_atomically`].
///
/// # Errors
/// [`Refused`] if the queue of the pool is full, or the pool is closed. The error returns `path`,
/// `bytes` and `done`.
///
/// If the job fails, `done` gets one of these errors, with the call and the path:
/// - The errors of `open(2)`, `write(2)` and `fdatasync(2)`.
/// - If the file was created, the errors of `open(2)` and `fsync(2)` on its folder. The file then
///   holds all of `bytes`, but it may be lost in a power failure.
///
/// ```
/// # use handlers::{WorkerPool, files};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut reactor = reactor::Reactor::<()>::new()?;
/// # let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
/// # let path = std::env::temp_dir().join(format!("handlers-append-{}", std::process::id()));
/// files::append(&pool, &path, b"one more line\n", |appended, _cx| {
///     if let Err(error) = appended {
///         eprintln!("the line may be lost: {error}");
///     }
/// })?;
/// # reactor.run(&mut ())?;
/// # assert_eq!(std::fs::read(&path)?, b"one more line\n");
/// # std::fs::remove_file(path)?;
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn append<S, W, B, D>(
    pool: &PoolHandle<S, W>,
    path: impl Into<PathBuf>,
    bytes: B,
    done: D,
) -> Result<Job, Refused<(PathBuf, B), D>>
where
    B: AsRef<[u8]> + Send + 'static,
    D: FnOnce(io::Result<()>, &mut Context<'_, S>) + Send + 'static,
{
    submit(
        pool,
        (path.into(), bytes),
        |(path, bytes)| add_to_end(&path, bytes.as_ref()),
        done,
    )
}

/// Submits a job whose panic is reported as an error.
#[track_caller]
fn submit<S, W, I, R, D>(
    pool: &PoolHandle<S, W>,
    input: I,
    job: impl FnOnce(I) -> io::Result<R> + Send + 'static,
    done: D,
) -> Result<Job, Refused<I, D>>
where
    I: Send + 'static,
    R: Send + 'static,
    D: FnOnce(io::Result<R>, &mut Context<'_, S>) + Send + 'static,
{
    pool.submit_made((input, done), |(input, done)| {
        (
            move || job(input),
            |result: Result<io::Result<R>, JobPanic>, cx: &mut Context<'_, S>| {
                done(result.unwrap_or_else(|panic| Err(panic.into())), cx);
            },
        )
    })
    .map_err(Refused::from_parts)
}

/// Makes a write beyond the file size limit (`RLIMIT_FSIZE`, `ulimit -f`) fail. Without this it
/// would end the process.
///
/// In addition to the error, the kernel sends SIGXFSZ, whose default action ends the process. An
/// empty handler is enough to prevent this. Unlike an ignored signal, a handler is not inherited by
/// programs that a child executes. An existing handler is called as before.
fn survive_the_size_limit() -> io::Result<()> {
    static REGISTERED: Mutex<bool> = Mutex::new(false);
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*registered {
        signal_hook::flag::register(libc::SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        *registered = true;
    }
    Ok(())
}

/// Reads the whole file, if it has at most `limit` bytes.
fn read_all(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let failed = |call| move |error: io::Error| named(call, path, error);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(failed("open"))?;
    let size = file.metadata().map_err(failed("fstat"))?.len();
    let room = usize::try_from(size)
        .unwrap_or(limit)
        .min(limit)
        // One byte more, so that the end of the file is found without growing the buffer.
        .saturating_add(1);
    let mut content = Vec::new();
    content
        .try_reserve_exact(room)
        // The allocation is checked, since a sparse file may have any size.
        .map_err(|error| failed("read")(error.into()))?;
    let limit_and_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit_and_more)
        .read_to_end(&mut content)
        .map_err(failed("read"))?;
    if content.len() > limit {
        let text = format!(
            "read({}): more than {limit} bytes (the limit)",
            path.display()
        );
        return Err(io::Error::new(ErrorKind::FileTooLarge, text));
    }
    Ok(content)
}

/// Appends and syncs. If the file did not exist before, its folder is synced too.
fn add_to_end(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let failed = |call| move |error: io::Error| named(call, path, error);
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(libc::O_NONBLOCK);
    let opened = options.open(path);
    let is_new = matches!(&opened, Err(error) if error.kind() == ErrorKind::NotFound);
    let opened = if is_new {
        options.create(true).open(path)
    } else {
        opened
    };
    let mut file = opened.map_err(failed("open"))?;
    survive_the_size_limit()?;
    file.write_all(bytes).map_err(failed("write"))?;
    file.sync_data().map_err(failed("fdatasync"))?;
    if is_new {
        sync_folder_of(&end_of_links(path)?)
    } else {
        Ok(())
    }
}

/// Writes a temporary file in the same folder, and renames it to `path`.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = &end_of_links(path)?;
    let failed = |call| move |error: io::Error| named(call, path, error);
    let before = regular_file_at(path)?;
    let mut new = Temporary::create_in(
        folder_of(path),
        if before.is_some() { 0o600 } else { 0o666 },
    )?;
    survive_the_size_limit()?;
    new.file.write_all(bytes).map_err(failed("write"))?;
    if let Some(before) = before {
        keep_owner_and_mode(&new.file, &before).map_err(failed("fchown, fchmod"))?;
    }
    new.file.sync_all().map_err(failed("fsync"))?;
    new.rename_to(path).map_err(failed("rename"))?;
    sync_folder_of(path)
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Syncs the folder of a file. The folder holds the file's name.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    File::open(folder)
        .map_err(|error| named("open", folder, error))?
        .sync_all()
        .map_err(|error| named("fsync", folder, error))
}

/// Resolves the symbolic links at the end of `path`.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        // Nothing exists at the path yet. A dangling link must not be replaced by a file, and the
        // place of its target is unknown.
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => {
            Ok(path.to_owned())
        }
        Err(error) => Err(named("realpath", path, error)),
    }
}

/// Returns the metadata of the file at `path`, or `None` if nothing exists there. Fails if it is
/// not a regular file.
fn regular_file_at(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(_) => Err(named(
            "rename",
            path,
            io::Error::new(ErrorKind::InvalidInput, "not a regular file"),
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named("lstat", path, error)),
    }
}

/// Gives `file` the owner, the group and then the mode of another file. The mode is set last, since
/// a change of the owner clears bits of the mode.
fn keep_owner_and_mode(file: &File, other: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (other.uid(), other.gid()) {
        fchown(file, Some(other.uid()), Some(other.gid()))?;
    }
    file.set_permissions(other.permissions())
}

/// A file with a temporary name. It is removed when this is dropped.
struct Temporary {
    file: File,
    path: PathBuf,
    renamed: bool,
}

impl Temporary {
    fn create_in(folder: &Path, mode: u32) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut tried = 0;
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".handlers-{}-{number}.tmp", process::id()));
            tried += 1;
            match OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&path)
            {
                Ok(file) => {
                    return Ok(Self {
                        file,
                        path,
                        renamed: false,
                    });
                }
                Err(error)
                    if error.kind() == ErrorKind::AlreadyExists && tried < NAMES_TRIED_MAX => {}
                Err(error) => return Err(named("open", &path, error)),
            }
        }
    }

    fn rename_to(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "could not remove a temporary file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_that_were_left_behind_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let create = || Temporary::create_in(folder.path(), 0o600);
        let name = |number| format!(".handlers-{}-{number}.tmp", process::id());
        for (taken, has_room) in [(NAMES_TRIED_MAX - 1, true), (NAMES_TRIED_MAX, false)] {
            let path = create().unwrap().path.clone();
            let used = (0..).find(|number: &u64| path.ends_with(name(*number)));
            for number in (used.unwrap() + 1..).take(taken) {
                File::create(folder.path().join(name(number))).unwrap();
            }
            assert_eq!(create().is_ok(), has_room, "{taken} names are taken");
        }
    }
}
