//! The trace of a run: a hash of everything that happened, and its lines if they are wanted.

use std::fmt::{self, Write};
use std::time::Duration;

/// The recorder of a run. Bytes are never part of it, only their number: keys of TLS differ from
/// run to run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    lines: Option<String>,
}

impl Trace {
    pub(crate) const fn new(keeps_lines: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325, // the offset of FNV-1a
            events: 0,
            lines: if keeps_lines {
                Some(String::new())
            } else {
                None
            },
        }
    }

    /// Records an event: its time, the thread or socket that it happened to, its name, a number.
    pub(crate) fn record(&mut self, at: u64, who: &str, what: &str, object: u64, number: i64) {
        self.events += 1;
        for word in [at, object, number as u64] {
            self.hash_bytes(&word.to_le_bytes());
        }
        self.hash_bytes(who.as_bytes());
        self.hash_bytes(what.as_bytes());
        if let Some(lines) = &mut self.lines {
            let time = Time(at);
            // Writing to a string does not fail.
            let _ = writeln!(lines, "{time} {who:<16} {what:<16} #{object:<4} {number}");
        }
    }

    /// Records a remark of the program.
    pub(crate) fn note(&mut self, at: u64, who: &str, text: &str) {
        self.events += 1;
        self.hash_bytes(text.as_bytes());
        if let Some(lines) = &mut self.lines {
            let _ = writeln!(lines, "{} {who:<16} {text}", Time(at));
        }
    }

    fn hash_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) const fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn take_lines(&mut self) -> Option<String> {
        self.lines.take()
    }
}

/// A time since the start of the run, in nanoseconds, as a timeline shows it.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Duration::from_nanos(self.0);
        write!(f, "{:>6}.{:06}", time.as_secs(), time.subsec_micros())
    }
}
