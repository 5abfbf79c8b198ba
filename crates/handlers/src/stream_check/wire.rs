//! The wire between the two streams. It is two socket pairs, whose middle ends are read and written
//! here, between two turns of the loop.
//!
//! The sockets of a pair pass their bytes on within the call that writes them, so a wire that moves
//! nothing has nothing to move. Only a reset needs TCP, whose bytes may take some time, as those of
//! a simulation do.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use super::observed::Notes;
use super::{SIDES, other};
use crate::sockets::{self, pair};
use crate::splitmix;

/// The most bytes that are passed on at once.
const PIECE_MAX: usize = 64 * 1024;

/// The most bytes of a drawn piece.
const DRAWN_MAX: u64 = 4096;

/// In which pieces the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Whole,
    Single,
    /// Drawn from this seed.
    Drawn(u64),
}

/// How the wire breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// Both sockets are closed.
    Cut,
    /// Both sockets are reset.
    Reset,
    /// One direction ends.
    HalfClose,
    /// Nothing more is passed on, and both sockets stay open.
    Stall,
}

/// A break after some bytes of one side.
#[derive(Clone, Copy, Debug)]
pub(super) struct BreakAfter {
    pub(super) kind: Break,
    pub(super) from: usize,
    pub(super) bytes: u64,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// Bytes that were read and not passed on.
    pending: Vec<u8>,
    passed: u64,
    /// No more bytes than this are passed on.
    limit: Option<u64>,
    /// All bytes were read.
    has_ended: bool,
    /// The end was passed on, or cannot be.
    is_over: bool,
    /// The bytes are read and dropped.
    drops: bool,
    /// Bytes were dropped, or the side had more to send.
    is_cut: bool,
}

pub(super) struct Wire {
    /// The socket towards each side. `None` after a break.
    ends: [Option<Arc<UnixStream>>; 2],
    ways: [Way; 2],
    notes: [Rc<Notes>; 2],
    pace: Pace,
    break_after: Option<BreakAfter>,
}

impl Wire {
    /// Makes the wire, and the sockets of the two sides.
    pub(super) fn new(
        pace: Pace,
        break_after: Option<BreakAfter>,
        notes: [Rc<Notes>; 2],
    ) -> io::Result<(Self, [OwnedFd; 2])> {
        let is_reset = break_after.is_some_and(|broken| broken.kind == Break::Reset);
        let ([near, to_near], [far, to_far]) = (pair::pair(is_reset)?, pair::pair(is_reset)?);
        let end = |fd| -> io::Result<_> {
            let socket = UnixStream::from(fd); // reads and writes are the same for both families
            socket.set_nonblocking(true)?;
            Ok(Some(Arc::new(socket)))
        };
        let wire = Self {
            ends: [end(to_near)?, end(to_far)?],
            ways: Default::default(),
            notes,
            pace,
            break_after,
        };
        Ok((wire, [near, far]))
    }

    pub(super) fn sockets(&self) -> Vec<Weak<UnixStream>> {
        self.ends.iter().flatten().map(Arc::downgrade).collect()
    }

    /// Passes on no more than `limit` bytes of a side from now on. `None` removes the limit.
    pub(super) const fn limit(&mut self, from: usize, limit: Option<u64>) {
        self.ways[from].limit = limit;
    }

    /// Returns how many bytes of each side were passed on.
    pub(super) fn passed(&self) -> [u64; 2] {
        SIDES.map(|side| self.ways[side].passed)
    }

    /// Returns `true` if the other side has got all bytes of `from`, and its end.
    pub(super) fn is_whole(&self, from: usize) -> bool {
        self.notes[from].has_ended.get() && !self.ways[from].is_cut
    }

    /// Moves what can be moved now. Returns `true` if anything was.
    pub(super) fn pump(&mut self) -> io::Result<bool> {
        let mut has_moved = self.break_if_due()?;
        for from in SIDES {
            has_moved |= self.pump_from(from)?;
        }
        Ok(has_moved)
    }

    fn pump_from(&mut self, from: usize) -> io::Result<bool> {
        let (Some(source), Some(sink)) = (&self.ends[from], &self.ends[other(from)]) else {
            return Ok(false);
        };
        let most = match &mut self.pace {
            Pace::Whole => PIECE_MAX,
            Pace::Single => 1,
            Pace::Drawn(seed) => 1 + (splitmix::next(seed) % DRAWN_MAX) as usize,
        };
        let way = &mut self.ways[from];
        let broken = self.break_after.filter(|broken| broken.from == from);
        let limits = [way.limit, broken.map(|broken| broken.bytes)];
        let most = limits.into_iter().flatten().fold(most, |most, limit| {
            most.min(limit.saturating_sub(way.passed) as usize)
        });
        let has_read = way.read(source, most)?;
        Ok(way.write(sink, most)? || has_read)
    }

    /// Breaks the wire if it is time.
    fn break_if_due(&mut self) -> io::Result<bool> {
        let is_due = |broken: &mut BreakAfter| self.ways[broken.from].passed >= broken.bytes;
        let Some(broken) = self.break_after.take_if(is_due) else {
            return Ok(false);
        };
        if broken.kind == Break::Stall {
            let passed = self.passed();
            SIDES
                .into_iter()
                .for_each(|from| self.limit(from, Some(passed[from])));
            return Ok(true);
        }
        for from in SIDES {
            if broken.kind != Break::HalfClose || from == broken.from {
                self.cut_way(from)?;
            }
        }
        match broken.kind {
            Break::HalfClose => self.end_way(broken.from),
            Break::Reset => {
                for socket in self.ends.iter().flatten() {
                    sockets::reset_on_close(socket.as_fd());
                }
                self.ends = [None, None];
            }
            Break::Cut | Break::Stall => self.ends = [None, None],
        }
        Ok(true)
    }

    /// Ends a direction, and drops what comes on it from now on.
    fn end_way(&mut self, from: usize) {
        if let Some(sink) = &self.ends[other(from)] {
            let _ = sockets::shutdown_write(sink.as_fd()); // an error says that the side is gone
        }
        (self.ways[from].drops, self.ways[from].is_over) = (true, true);
    }

    /// Notes whether a direction that breaks now had more to pass on.
    fn cut_way(&mut self, from: usize) -> io::Result<()> {
        let is_left = match &self.ends[from] {
            Some(source) => self.ways[from].read(source, 1)? && !self.ways[from].pending.is_empty(),
            None => false,
        };
        let has_ended = self.notes[from].has_ended.get();
        self.ways[from].is_cut |= is_left || !has_ended;
        Ok(())
    }
}

impl Way {
    /// Reads once, if nothing is pending. Returns `true` if it has found anything.
    fn read(&mut self, source: &UnixStream, most: usize) -> io::Result<bool> {
        if self.has_ended || !self.pending.is_empty() || most == 0 && !self.drops {
            return Ok(false);
        }
        let most = if self.drops { PIECE_MAX } else { most };
        self.pending.resize(most, 0);
        let read = pair::read(source, &mut self.pending);
        self.pending.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.has_ended = true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            // The side has closed its socket while bytes for it were unread.
            Err(_) => (self.has_ended, self.is_cut) = (true, true),
        }
        Ok(true)
    }

    /// Passes on the pending bytes, or the end after them. Returns `true` if it has.
    fn write(&mut self, sink: &UnixStream, most: usize) -> io::Result<bool> {
        if self.drops {
            self.is_cut |= !self.pending.is_empty();
            self.pending.clear();
            return Ok(false);
        }
        if self.pending.is_empty() {
            let ends = self.has_ended && !self.is_over;
            if ends {
                let _ = sockets::shutdown_write(sink.as_fd()); // an error says that the side is gone
                self.is_over = true;
            }
            return Ok(ends);
        }
        let piece = &self.pending[..most.min(self.pending.len())];
        if piece.is_empty() {
            return Ok(false); // at its limit
        }
        match pair::write(sink, piece) {
            Ok(count) => {
                self.passed += count as u64;
                self.pending.drain(..count);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            // The side has closed its socket, so nothing reaches it.
            Err(_) => self.drops = true,
        }
        Ok(true)
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("large pieces"),
            Self::Single => f.write_str("single bytes"),
            Self::Drawn(seed) => write!(f, "pieces drawn from seed {seed}"),
        }
    }
}

impl fmt::Display for BreakAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Break::Cut => "cut",
            Break::Reset => "reset",
            Break::HalfClose => "half-close",
            Break::Stall => "stall",
        };
        let side = super::name(self.from);
        write!(f, "a {kind} after {} bytes of {side}", self.bytes)
    }
}
