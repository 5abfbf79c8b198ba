//! The spool: lines in a file, each with its length and a checksum. All calls block.
//!
//! A record is `LENGTH CHECKSUM LINE`, in text, and ends with a line feed. If the process is killed
//! in a write, the file ends within a record. If the machine crashes, the end of a file that was
//! not written through may be anything. Both are recognized by the length and the checksum: the
//! records before are whole, and the rest is cut off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::ValueEnum;

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
    sync: SyncPolicy,
}

impl Spool {
    /// Opens the file. Returns the spool, its lines, and the length of their records. Cuts off a
    /// torn end.
    pub(crate) fn open(path: &Path, sync: SyncPolicy) -> io::Result<(Self, Vec<Bytes>, usize)> {
        let mut file = named(path, open(path))?;
        let mut content = Vec::new();
        named(path, file.read_to_end(&mut content))?;
        let content = Bytes::from(content);
        let (mut lines, mut whole) = (Vec::new(), 0);
        while let Some((line, length)) = first_record(&content.slice(whole..)) {
            lines.push(line);
            whole += length;
        }
        if whole < content.len() {
            tracing::warn!(
                bytes = content.len() - whole,
                "the end of the spool is torn"
            );
            named(path, file.set_len(whole as u64))?;
        }
        let path = path.to_owned();
        Ok((Self { path, file, sync }, lines, whole))
    }

    /// Adds records at the end. After an error none of them is there.
    pub(crate) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let end = self.file.metadata()?.len();
        let added = self
            .file
            .write_all(records)
            .and_then(|()| self.write_through(&self.file));
        if added.is_err() {
            // The next records must not come after a part of these.
            self.file.set_len(end)?;
        }
        added
    }

    /// Replaces all records. After an error they are as before.
    pub(crate) fn replace(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            self.file.set_len(0)?;
            return self.write_through(&self.file);
        }
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(records)?;
        self.write_through(&file)?;
        fs::rename(&new, &self.path)?;
        self.file = open(&self.path)?;
        Ok(())
    }

    fn write_through(&self, file: &File) -> io::Result<()> {
        match self.sync {
            SyncPolicy::Always => file.sync_all(),
            SyncPolicy::Never => Ok(()),
        }
    }
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
