//! Jobs that read, replace and append to whole files.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use handlers::files::Change::{Appeared, Changed};
use handlers::{Refusal, WorkerPool, files};
use reactor::Reactor;
use rustix::process::{Resource, Rlimit, Signal, geteuid, getrlimit, setrlimit};
use support::or_skipped;
use tempfile::tempdir;

use crate::{Result, folder_with_conf, set_mode, watch, without_privileges};

/// The notes of the callbacks of jobs.
type Results<R> = Vec<io::Result<R>>;

/// A loop and its pool.
type Pooled<R> = (Reactor<Results<R>>, WorkerPool<Results<R>>);

fn with_pool<R>(workers: usize) -> Result<Pooled<R>> {
    let mut reactor = Reactor::new()?;
    let pool = WorkerPool::builder().workers(workers).build(&mut reactor)?;
    Ok((reactor, pool))
}

/// Returns the result of a read.
fn read(path: &Path, limit: usize) -> Result<io::Result<Vec<u8>>> {
    let (mut reactor, pool) = with_pool(1)?;
    files::read(&pool, path, limit, |content, cx| cx.state.push(content))?;
    let mut results = Vec::new();
    reactor.run(&mut results)?; // returns with the last job
    Ok(results.pop().ok_or("not called")?)
}

/// Returns the result of an atomic write.
fn replace(path: &Path, content: &'static str) -> Result<io::Result<()>> {
    let (mut reactor, pool) = with_pool(1)?;
    files::write_atomically(&pool, path, content, |written, cx| cx.state.push(written))?;
    let mut results = Vec::new();
    reactor.run(&mut results)?;
    Ok(results.pop().ok_or("not called")?)
}

#[track_caller]
fn expect_error<R>(result: io::Result<R>, kind: ErrorKind, text: &str) {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().starts_with(text), "{error}");
}

/// Returns the names in a folder.
fn names(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort_unstable();
    names
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn written_and_appended_bytes_are_read_back() -> Result {
    let folder = tempdir()?;
    let conf = folder.path().join("conf");
    replace(&conf, "the beginning, ")??;
    for _ in 0..2 {
        let (mut reactor, pool) = with_pool(1)?;
        files::append(&pool, &conf, "the end", |appended, cx| {
            cx.state.push(appended)
        })?;
        let mut results = Vec::new();
        reactor.run(&mut results)?;
        results.remove(0)?;
    }
    assert_eq!(read(&conf, 100)??, b"the beginning, the endthe end");
    replace(&conf, "all new")??;
    assert_eq!(read(&conf, 100)??, b"all new");
    assert_eq!(names(folder.path()), ["conf"], "no temporary file is left");
    Ok(())
}

#[test]
fn an_append_that_makes_its_file_syncs_the_folder_too_and_no_other_does() {
    without_privileges(|folder| {
        let (real, link) = (folder.join("real"), folder.join("link"));
        fs::create_dir(&real)?;
        symlink(real.join("conf"), &link)?;
        set_mode(&real, 0o300)?; // a folder that may not be opened for reading cannot be synced
        let append = |bytes: &'static str| -> Result<io::Result<()>> {
            let (mut reactor, pool) = with_pool(1)?;
            files::append(&pool, &link, bytes, |appended, cx| cx.state.push(appended))?;
            let mut results = Vec::new();
            reactor.run(&mut results)?;
            Ok(results.remove(0))
        };
        expect_error(
            append("new, ")?,
            ErrorKind::PermissionDenied,
            &format!("open({})", real.display()),
        );
        append("and more")??;
        assert_eq!(read(&real.join("conf"), 100)??, b"new, and more");
        fs::remove_file(real.join("conf"))?;
        set_mode(&real, 0o700)?;
        append("new")??;
        Ok(())
    });
}

#[test]
fn an_atomic_write_is_one_change_to_a_watch() -> Result {
    let folder = tempdir()?;
    let conf = folder.path().join("conf");
    let mut watcher = watch(&conf);
    for expected in [Appeared, Changed, Changed] {
        replace(&conf, "new")??;
        assert_eq!(watcher.told(), [expected]);
    }
    Ok(())
}

#[test]
fn a_file_at_the_limit_is_read_and_a_larger_one_is_an_error_that_names_it() -> Result {
    let (folder, conf) = folder_with_conf();
    assert_eq!(read(&conf, 5)??, b"first");
    let text = format!("read({}): more than 4 bytes", conf.display());
    expect_error(read(&conf, 4)?, ErrorKind::FileTooLarge, &text);
    expect_error(
        read(Path::new("/dev/zero"), 100_000)?,
        ErrorKind::FileTooLarge,
        "read(/dev/zero): more than 100000 bytes",
    );
    assert!(
        !read(Path::new("/proc/self/status"), 1 << 20)??.is_empty(),
        "also where the size is not known before"
    );
    let empty = folder.path().join("empty");
    fs::write(&empty, "")?;
    assert_eq!(read(&empty, 0)??, b"");
    Ok(())
}

#[test]
fn errors_of_reading_and_writing_name_call_and_path() -> Result {
    let folder = tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let text = |call: &str, path: &Path| format!("{call}({}", path.display());
    expect_error(
        read(&at("missing"), 10)?,
        ErrorKind::NotFound,
        &text("open", &at("missing")),
    );
    expect_error(
        read(folder.path(), 10)?,
        ErrorKind::IsADirectory,
        &text("read", folder.path()),
    );
    expect_error(
        replace(&at("no/file"), "")?,
        ErrorKind::NotFound,
        &text("open", &at("no")),
    );
    fs::create_dir(at("folder"))?;
    expect_error(
        replace(&at("folder"), "")?,
        ErrorKind::InvalidInput,
        &text("rename", &at("folder").canonicalize()?),
    );
    symlink("nowhere", at("dangling"))?;
    expect_error(
        replace(&at("dangling"), "")?,
        ErrorKind::NotFound,
        &text("realpath", &at("dangling")),
    );
    let (mut reactor, pool) = with_pool(1)?;
    files::append(&pool, at("folder"), "", |appended, cx| {
        cx.state.push(appended)
    })?;
    let mut results = Vec::new();
    reactor.run(&mut results)?;
    expect_error(
        results.remove(0),
        ErrorKind::IsADirectory,
        &text("open", &at("folder")),
    );
    assert_eq!(names(folder.path()), ["dangling", "folder"]);
    Ok(())
}

#[test]
fn a_fifo_is_not_waited_for() -> Result {
    let folder = tempdir()?;
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )?;
    assert_eq!(read(&fifo, 10)??, b"");
    assert_eq!(
        replace(&fifo, "")?.err().map(|error| error.kind()),
        Some(ErrorKind::InvalidInput)
    );
    Ok(())
}

#[test]
fn a_file_without_permission_is_an_error_and_leaves_nothing_behind() {
    without_privileges(|folder| {
        let conf = folder.join("conf");
        fs::write(&conf, "first")?;
        set_mode(&conf, 0o000)?;
        expect_error(
            read(&conf, 10)?,
            ErrorKind::PermissionDenied,
            &format!("open({})", conf.display()),
        );
        set_mode(folder, 0o500)?;
        expect_error(
            replace(&conf, "second")?,
            ErrorKind::PermissionDenied,
            &format!("open({}/.", folder.display()),
        );
        set_mode(folder, 0o700)?;
        assert_eq!(names(folder), ["conf"]);
        Ok(())
    });
}

#[test]
fn a_write_that_cannot_keep_the_owner_leaves_only_the_old_file() -> Result {
    if !or_skipped(geteuid().is_root(), "a file of another owner needs root") {
        return Ok(());
    }
    let (other, conf) = folder_with_conf();
    set_mode(other.path(), 0o777)?;
    let text = format!("fchown, fchmod({})", conf.canonicalize()?.display());
    without_privileges(|_| {
        expect_error(
            replace(&conf, "second")?,
            ErrorKind::PermissionDenied,
            &text,
        );
        Ok(())
    });
    assert_eq!(fs::read(&conf)?, b"first");
    assert_eq!(names(other.path()), ["conf"]);
    Ok(())
}

#[test]
fn mode_and_owner_of_a_file_are_kept_and_a_symbolic_link_stays() -> Result {
    let (folder, conf) = folder_with_conf();
    let link = folder.path().join("link");
    symlink("conf", &link)?;
    if geteuid().is_root() {
        chown(&conf, Some(1234), Some(5678))?;
    }
    for mode_kept in [0o640, 0o604, 0o4711] {
        set_mode(&conf, mode_kept)?;
        let before = fs::metadata(&conf)?;
        replace(&link, "second")??;
        let after = fs::metadata(&conf)?;
        assert_eq!(
            (mode(&conf), after.uid(), after.gid()),
            (mode_kept, before.uid(), before.gid())
        );
        assert!(link.is_symlink());
    }
    let plain = folder.path().join("plain");
    fs::write(&plain, "")?;
    let new = folder.path().join("new");
    replace(&new, "first")??;
    assert_eq!(
        mode(&new),
        mode(&plain),
        "a new file is what the umask makes it"
    );
    assert_eq!(
        (fs::read(&conf)?, fs::read(&new)?),
        (b"second".to_vec(), b"first".to_vec())
    );
    Ok(())
}

#[test]
fn a_reader_during_a_write_sees_the_old_content_or_the_new_never_half() -> Result {
    const LEN: usize = 300_000;
    let (folder, conf) = folder_with_conf();
    fs::write(&conf, vec![b'0'; LEN])?;
    let written = Arc::new(AtomicBool::new(false));
    let (done, path) = (Arc::clone(&written), conf.clone());
    let reader = thread::spawn(move || {
        let mut reads = 0;
        while !done.load(Ordering::Relaxed) {
            let content = fs::read(&path).unwrap();
            assert_eq!(content.len(), LEN);
            assert!(content.iter().all(|byte| *byte == content[0]));
            reads += 1;
        }
        reads
    });
    let (mut reactor, pool) = with_pool(2)?;
    for round in 1..=20 {
        files::write_atomically(&pool, &conf, vec![b'0' + round; LEN], |written, cx| {
            cx.state.push(written)
        })?;
    }
    let mut results = Vec::new();
    reactor.run(&mut results)?;
    written.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
    assert_eq!(
        results.into_iter().filter(|result| result.is_ok()).count(),
        20
    );
    assert_eq!(names(folder.path()), ["conf"]);
    Ok(())
}

#[test]
fn a_closed_pool_returns_the_arguments_of_the_job() -> Result {
    let folder = tempdir()?;
    let path = folder.path().join("file");
    let (_reactor, pool) = with_pool::<()>(1)?;
    let refusing = pool.handle();
    pool.shutdown_now();
    let whole = Arc::new(()); // each closure holds one, which shows that the closures came back
    let note = |mark: Arc<()>| {
        move |_: io::Result<()>, _: &mut reactor::Context<'_, Results<()>>| drop(mark)
    };
    let replaced = files::write_atomically(&refusing, &path, b"one".to_vec(), note(whole.clone()))
        .expect_err("closed");
    let appended =
        files::append(&refusing, &path, b"two".to_vec(), note(whole.clone())).expect_err("closed");
    let read = files::read(&refusing, &path, 1, |_content, _cx| {}).expect_err("closed");
    assert_eq!(Arc::strong_count(&whole), 3);
    assert_eq!(
        (replaced.reason, appended.reason, read.reason),
        (Refusal::Closed, Refusal::Closed, Refusal::Closed)
    );
    assert_eq!(
        (replaced.job, appended.job),
        (
            (path.clone(), b"one".to_vec()),
            (path.clone(), b"two".to_vec())
        )
    );
    assert_eq!(read.job, path);
    assert!(!path.exists());
    Ok(())
}

/// Set in this program started once more, which writes beyond its limit.
const CASE: &str = "HANDLERS_FILES_CASE";

#[test]
fn a_write_beyond_the_limit_of_file_sizes_is_an_error() -> Result {
    for case in ["append", "replace"] {
        let mut again = Command::new(std::env::current_exe()?);
        again
            .args(["--exact", "jobs::case", "--nocapture"])
            .env(CASE, case)
            .stdout(Stdio::null());
        let status = again.status()?;
        assert!(status.success(), "{case}: {status}");
    }
    Ok(())
}

#[test]
fn case() -> Result {
    // Started among the other tests, it does nothing.
    let Ok(case) = std::env::var(CASE) else {
        return Ok(());
    };
    let folder = tempdir()?;
    let path = folder.path().join("file");
    let limit = getrlimit(Resource::Fsize);
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: Some(4096),
            ..limit
        },
    )?;
    let (mut reactor, pool) = with_pool(1)?;
    for bytes in [4096, 1, 4097] {
        let bytes = vec![b'x'; bytes];
        match case.as_str() {
            "append" => files::append(&pool, &path, bytes, |result, cx| cx.state.push(result))?,
            _ => files::write_atomically(&pool, &path, bytes, |result, cx| cx.state.push(result))?,
        };
    }
    let mut results = Vec::new();
    reactor.run(&mut results)?;
    let kinds: Vec<_> = results
        .into_iter()
        .map(|result| result.err().map(|error| error.kind()))
        .collect();
    let too_large = Some(ErrorKind::FileTooLarge);
    assert_eq!(
        kinds,
        [
            None,
            if case == "append" { too_large } else { None },
            too_large
        ]
    );
    assert_eq!(names(folder.path()), ["file"], "nothing else is left");
    assert_eq!(
        fs::metadata(&path)?.len(),
        if case == "append" { 4096 } else { 1 }
    );
    let child = Command::new("sh").args(["-c", "kill -XFSZ $$"]).status()?;
    assert_eq!(
        child.signal(),
        Some(Signal::XFSZ.as_raw()),
        "what is executed has the default action"
    );
    Ok(())
}
