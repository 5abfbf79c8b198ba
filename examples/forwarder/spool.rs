//! The spool: lines in a file, each with its length and a checksum. All calls block.
//!
//! A record is `LENGTH CHECKSUM LINE`, in text, and ends with a line feed. If the process is killed
//! in a write, the file ends within a record. If the machine crashes, the end of a file that was
//! not written through may be anything. Both are recognized by the length and the checksum: the
//! records before are whole, and the rest is cut off. A file without a whole record may be no spool
//! at all, so it is moved to `FILE.torn`.
//!
//! A lock on `FILE.lock` keeps other forwarders away. It is not on the spool itself, because the
//! spool is replaced by a new file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::ValueEnum;
use rustix::fs::{FlockOperation, flock};

/// When the spool is written through to the disk.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SyncPolicy {
    /// Before a line is acknowledged.
    Always,
    /// When the kernel likes.
    Never,
}

pub(crate) struct Spool {
    path: PathBuf,
    file: File,
    /// The length of the whole records in the file.
    length: u64,
    sync: SyncPolicy,
    _lock: File,
}

impl Spool {
    /// Opens the file. Returns the spool, its lines, and the length of their records. Cuts off a
    /// torn end.
    pub(crate) fn open(path: &Path, sync: SyncPolicy) -> io::Result<(Self, Vec<Bytes>, usize)> {
        let lock = named(path, lock(path))?;
        let mut file = named(path, open_regular(path))?;
        let mut content = Vec::new();
        named(path, file.read_to_end(&mut content))?;
        let content = Bytes::from(content);
        let (mut lines, mut whole) = (Vec::new(), 0);
        while let Some((line, length)) = first_record(&content.slice(whole..)) {
            lines.push(line);
            whole += length;
        }
        if whole < content.len() {
            let bytes = content.len() - whole;
            tracing::warn!(bytes, "the end of the spool is torn");
            if whole == 0 {
                let torn = beside(path, ".torn");
                named(&torn, fs::rename(path, &torn))?;
                file = named(path, open(path))?;
            }
            named(path, file.set_len(whole as u64))?;
        }
        let spool = Self {
            path: path.to_owned(),
            file,
            length: whole as u64,
            sync,
            _lock: lock,
        };
        named(path, spool.write_folder_through())?; // the file may be new
        Ok((spool, lines, whole))
    }

    /// Adds records at the end. After an error none of them is there.
    pub(crate) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        self.file.set_len(self.length)?; // in case a cut has failed
        let added = self
            .file
            .write_all(records)
            .and_then(|()| self.write_through(&self.file));
        match &added {
            Ok(()) => self.length += records.len() as u64,
            // The next records must not come after a part of these.
            Err(_) => self.file.set_len(self.length)?,
        }
        added
    }

    /// Replaces all records. After an error they are as before, or replaced.
    pub(crate) fn replace(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            self.length = 0;
            self.file.set_len(0)?;
            return self.write_through(&self.file);
        }
        let new = beside(&self.path, ".new");
        let mut file = open(&new)?;
        file.set_len(0)?; // a forwarder that was killed may have left it
        file.write_all(records)?;
        self.write_through(&file)?;
        fs::rename(&new, &self.path)?;
        (self.file, self.length) = (file, records.len() as u64);
        self.write_folder_through()
    }

    fn write_through(&self, file: &File) -> io::Result<()> {
        match self.sync {
            SyncPolicy::Always => file.sync_all(),
            SyncPolicy::Never => Ok(()),
        }
    }

    /// Writes the name of the file through to the disk.
    fn write_folder_through(&self) -> io::Result<()> {
        let folder = self.path.parent().filter(|path| *path != Path::new(""));
        self.write_through(&File::open(folder.unwrap_or(Path::new(".")))?)
    }
}

/// Returns the path with an ending.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Locks the spool against other processes. The kernel ends the lock with this process.
fn lock(path: &Path) -> io::Result<File> {
    let file = open(&beside(path, ".lock"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(io::Error::other("another process uses this spool"))
        }
        result => Ok(result.map(|()| file)?),
    }
}

fn open_regular(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)
}

fn named<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Adds the record of a line to `records`.
pub(crate) fn push_record(line: &[u8], records: &mut Vec<u8>) {
    let head = format!("{} {:016x} ", line.len(), checksum(line));
    records.extend(head.as_bytes());
    records.extend(line);
    records.push(b'\n');
}

/// Returns the line of the first record, and the length of that record. Returns `None` if there is
/// no whole record.
fn first_record(content: &Bytes) -> Option<(Bytes, usize)> {
    let head_end = content
        .iter()
        .take(64)
        .enumerate()
        .filter(|(_, byte)| **byte == b' ')
        .nth(1)?
        .0;
    let head = std::str::from_utf8(content.get(..head_end)?).ok()?;
    let (length, sum) = head.split_once(' ')?;
    let length: usize = length.parse().ok()?;
    let begin = head_end + 1;
    let line_end = begin.checked_add(length)?;
    let line = content.get(begin..line_end)?;
    let is_whole = content.get(line_end) == Some(&b'\n')
        && u64::from_str_radix(sum, 16).ok()? == checksum(line);
    is_whole.then(|| (content.slice(begin..line_end), line_end + 1))
}

/// Returns the checksum FNV-1a of 64 bits. It finds accidents, not attacks.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
