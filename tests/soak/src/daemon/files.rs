//! Files: one that the checker replaces, which is watched and read again, and one that the daemon
//! itself writes, reads and compares.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handlers::files;
use reactor::{Key, Missed, Next, Then, TimerKey};

use super::Cx;
use crate::process::WATCHED;

const PAUSE: Duration = Duration::from_millis(300);
const SIZE_MAX: usize = 4096;

pub(super) struct Files {
    watched: PathBuf,
    own: PathBuf,
    watch: Key,
    pace: Option<TimerKey>,
    /// The number that was read last from the watched file.
    version: u64,
    /// The content of the daemon's own file, once it is written.
    written: u64,
    is_writing: bool,
}

impl Files {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            watched: folder.join(WATCHED),
            own: folder.join("own"),
            watch: Key::NULL,
            pace: None,
            version: 0,
            written: 0,
            is_writing: false,
        }
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) const fn written(&self) -> u64 {
        self.written
    }
}

pub(super) fn register(cx: &mut Cx<'_>) -> io::Result<()> {
    let watched = cx.state.files.watched.clone();
    cx.state.files.watch = files::watch(cx.registry, [watched], |_path, _change, cx| {
        read_watched(cx)?;
        Ok(Next::Keep)
    })?;
    cx.state.files.pace = Some(cx.registry.every(PAUSE, Missed::Skip, |cx| {
        if !cx.state.files.is_writing {
            write_own(cx)?;
        }
        Ok(Next::Keep)
    }));
    Ok(())
}

/// Reads the watched file. If no file descriptor is left, tries again later.
fn read_watched(cx: &mut Cx<'_>) -> io::Result<()> {
    let path = cx.state.files.watched.clone();
    files::read(&cx.state.pool, path, SIZE_MAX, |text, cx| {
        match number(text) {
            // Two readings may end in either order.
            Ok(version) => cx.state.files.version = cx.state.files.version.max(version),
            Err(error) => {
                cx.state.failed("the watched file", &error);
                if cx.state.files.pace.is_some() {
                    cx.registry
                        .after(PAUSE, |cx| read_watched(cx).map(|()| Then::Done));
                }
            }
        }
    })?;
    Ok(())
}

fn number(text: io::Result<Vec<u8>>) -> io::Result<u64> {
    let text = String::from_utf8(text?).map_err(io::Error::other)?;
    text.parse().map_err(io::Error::other)
}

fn write_own(cx: &mut Cx<'_>) -> io::Result<()> {
    let (path, next) = (cx.state.files.own.clone(), cx.state.files.written + 1);
    cx.state.files.is_writing = true;
    files::write_atomically(&cx.state.pool, path, next.to_string(), move |done, cx| {
        let read = done.and_then(|()| read_own(next, cx));
        if let Err(error) = read {
            cx.state.files.is_writing = false;
            cx.state.failed("writing a file", &error);
        }
    })?;
    Ok(())
}

fn read_own(written: u64, cx: &mut Cx<'_>) -> io::Result<()> {
    let path = cx.state.files.own.clone();
    files::read(&cx.state.pool, path, SIZE_MAX, move |text, cx| {
        cx.state.files.is_writing = false;
        match number(text) {
            Ok(read) if read == written => cx.state.files.written = written,
            Ok(read) => cx
                .state
                .deviate(format!("{written} was written, and {read} read")),
            Err(error) => cx.state.failed("reading a file", &error),
        }
    })?;
    Ok(())
}

pub(super) fn end(cx: &mut Cx<'_>) {
    let pace = cx.state.files.pace.take();
    let cancelled = pace.map_or(Ok(()), |pace| cx.registry.cancel(pace));
    let removed = cx.registry.remove(cx.state.files.watch);
    if let Some(error) = cancelled.and(removed).err() {
        cx.state.deviate(format!("files at the end: {error}"));
    }
}
