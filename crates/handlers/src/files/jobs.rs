//! Reading and writing of whole files, as jobs of a worker pool: a disk gives no readiness to wait for.

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

/// So many names of temporary files are tried, should they be taken by what a process of the same number left behind.
const NAMES_TRIED_MAX: usize = 100;

/// Reads the file at `path` on a worker, and calls `done` on the loop with all of its content.
///
/// A file of more than `limit` bytes is an error, so that nothing that somebody puts there takes up all memory; no more
/// than that is read. It is read as it is at that moment, also while others write to it in place. For regular files: a
/// FIFO or a device is not waited for. `path` may be relative to the working directory of the process when the job
/// runs.
///
/// As long as the job is on its way it keeps the loop alive; it can be [cancelled](Job::cancel) until it begins. A few
/// system calls on the worker, and memory for the content. Any thread.
///
/// # Errors
/// [`Refused`] if the pool takes no more jobs: it gives `path` and `done` back. To `done`: `FileTooLarge`, which names
/// the limit; what `open(2)` and `read(2)` say, with call and path.
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
/// reactor.run(&mut len)?; // ends with its last job
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

/// Replaces the file at `path` by one that holds `bytes`, on a worker, and calls `done` on the loop when that is on
/// disk.
///
/// *All or nothing*: who opens the path gets the old content or the new one, whole, also after the power has failed. A
/// temporary file in the same folder is written and synced, renamed to the path, and the folder synced. Mode, owner and
/// group of a file that is there are kept, not its access control lists, other attributes and hard links. A new file
/// gets mode 0666 less the umask. A symbolic link stays, and what it leads to is replaced.
///
/// Of two writes to one path, on two workers, either may be the later one: begin the second when the first is done. A
/// process that is killed meanwhile leaves a file named `.handlers-PID-NUMBER.tmp`, nothing else does. Some ten system
/// calls on the worker, two of them waiting for the disk. Any thread. `bytes` may be shared: `bytes::Bytes`,
/// `Arc<[u8]>`.
///
/// A write beyond the limit of file sizes (`ulimit -f`) is the error `FileTooLarge`. The first write of the process
/// installs a handler for SIGXFSZ that does nothing, since the kernel would end the process instead.
///
/// # Errors
/// [`Refused`] if the pool takes no more jobs: it gives `path`, `bytes` and `done` back. To `done`, with call and path:
/// what the system calls say, `EPERM` if the owner cannot be kept among that; `InvalidInput` if there is something that
/// is no regular file; `NotFound` if a symbolic link leads nowhere. The old file is untouched then. An error of `fsync`
/// on the folder is the exception: the new file is there, and may not survive that the power fails.
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

/// Adds `bytes` to the end of the file at `path`, on a worker, and calls `done` on the loop when that is on disk.
///
/// The file is made if there is none, and its folder is synced then as well: a file whose name is lost is lost. What
/// others append at the same time comes before or after, not between, as long as there is room on the disk; two appends
/// on two workers may change places. Otherwise like [`write_atomically`], but for two things: after an error a part of
/// `bytes` may be there, and of a symbolic link that leads nowhere the file is made to which it leads.
///
/// # Errors
/// [`Refused`] if the pool takes no more jobs: it gives `path`, `bytes` and `done` back. To `done`: what `open(2)`,
/// `write(2)` and `fdatasync(2)` say, with call and path; of a file that was made also what `fsync(2)` of its folder
/// says, when all of `bytes` is there and may not survive that the power fails.
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

/// Submits a job whose panic is an error like any other.
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

/// Has a write beyond the limit of file sizes (`RLIMIT_FSIZE`, `ulimit -f`) fail, instead of ending the process.
///
/// The kernel sends SIGXFSZ with the error, and the default of that is to end. A handler that does nothing is enough;
/// unlike an ignored signal it is not inherited by what a child executes, and a handler that is there already is called
/// as before.
fn survive_the_size_limit() -> io::Result<()> {
    static REGISTERED: Mutex<bool> = Mutex::new(false);
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*registered {
        signal_hook::flag::register(libc::SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        *registered = true;
    }
    Ok(())
}

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
        .saturating_add(1); // the end is found without growing
    let mut content = Vec::new();
    content
        .try_reserve_exact(room)
        .map_err(|error| failed("read")(error.into()))?; // a sparse file may be of any size
    let limit_and_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit_and_more)
        .read_to_end(&mut content)
        .map_err(failed("read"))?;
    if content.len() > limit {
        let text = format!(
            "read({}): more than {limit} bytes, the limit",
            path.display()
        );
        return Err(io::Error::new(ErrorKind::FileTooLarge, text));
    }
    Ok(content)
}

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

/// Sees to it that the name of a file is on disk: that is in its folder.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| named("fsync", folder, error))
}

/// `path` without symbolic links at its end.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        // Nothing is there yet; a link that leads nowhere is not to be replaced by a file, nor do we know where that
        // belongs.
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => {
            Ok(path.to_owned())
        }
        Err(error) => Err(named("realpath", path, error)),
    }
}

/// What is at `path`, if anything: a regular file, or this fails.
fn regular_file_at(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(_) => Err(named(
            "rename",
            path,
            io::Error::new(ErrorKind::InvalidInput, "there is no regular file"),
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named("lstat", path, error)),
    }
}

/// Gives `file` the owner, the group and then the mode of another: a change of owner takes bits of the mode away.
fn keep_owner_and_mode(file: &File, other: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (other.uid(), other.gid()) {
        fchown(file, Some(other.uid()), Some(other.gid()))?;
    }
    file.set_permissions(other.permissions())
}

/// A file under a name of its own, which it loses when this is dropped.
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
            tracing::warn!(path = %self.path.display(), %error, "a temporary file is left");
        }
    }
}
