//! A stream around the stream that is checked. It notes each result that breaks a rule by itself.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use reactor::{Interest, IoState};

use super::fault::StreamRule;
use crate::error::is_nothing_done;
use crate::{Shutdown, Stream};

/// The notes of the calls of a stream.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The first rule that a result has broken, and the result.
    pub(super) broken: RefCell<Option<(StreamRule, String)>>,
    /// `try_shutdown` was called, and all output is with the kernel.
    pub(super) has_ended: Cell<bool>,
    /// The stream can be read only once its output is sent.
    pub(super) writes_first: Cell<bool>,
    /// The most output that the stream has held.
    pub(super) most_held: Cell<usize>,
    /// Claims input for the stream, until it is read.
    pub(super) claims_input: Cell<bool>,
    /// Claims output for the stream, until it is flushed.
    pub(super) claims_output: Cell<bool>,
}

impl Notes {
    fn note(&self, rule: StreamRule, found: String) {
        self.broken.borrow_mut().get_or_insert((rule, found));
    }
}

pub(super) struct Observed<T> {
    pub(super) inner: T,
    pub(super) notes: Rc<Notes>,
}

impl<T: Stream> Observed<T> {
    fn note_held(&self) {
        let most = self.notes.most_held.get().max(self.inner.buffered_output());
        self.notes.most_held.set(most);
    }
}

impl<T: AsFd> AsFd for Observed<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<T: Stream> Stream for Observed<T> {
    const READS: bool = T::READS;
    const WRITES: bool = T::WRITES;
    const LAYERED: bool = T::LAYERED;

    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        let claims = T::LAYERED && self.inner.has_buffered_input();
        self.notes.claims_input.set(false);
        let read = self.inner.try_read(io, buf);
        self.note_held();
        match &read {
            Ok(count) if *count > buf.len() => {
                let found = format!("try_read returned {count} for {} bytes", buf.len());
                self.notes.note(StreamRule::Count, found);
                return Ok(buf.len());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && claims => {
                let found = "has_buffered_input returned true, and try_read WouldBlock";
                self.notes.note(StreamRule::BufferedInput, found.to_owned());
            }
            _ => {}
        }
        read
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let most = bufs.iter().map(|buf| buf.len()).sum();
        let written = self.inner.try_write(io, bufs);
        self.note_held();
        match written {
            Ok(count) if count == 0 || count > most => {
                let found = format!("try_write returned {count} for {most} bytes");
                self.notes.note(StreamRule::Count, found);
                Ok(most)
            }
            written => written,
        }
    }

    fn try_handshake(&mut self, io: &mut IoState) -> io::Result<()> {
        self.inner.try_handshake(io)
    }

    fn try_flush(&mut self, io: &mut IoState) -> io::Result<()> {
        self.notes.claims_output.set(false);
        let flushed = self.inner.try_flush(io);
        let left = self.inner.buffered_output();
        if flushed.is_ok() && left > 0 {
            let found = format!("try_flush returned Ok, and {left} bytes are left");
            self.notes.note(StreamRule::BufferedOutput, found);
        }
        flushed
    }

    fn try_shutdown(&mut self, io: &mut IoState) -> io::Result<Shutdown> {
        let shut = self.inner.try_shutdown(io);
        let left = self.inner.buffered_output();
        if shut.is_ok() && left > 0 {
            let found = format!("try_shutdown returned Ok, and {left} bytes are left");
            self.notes.note(StreamRule::Shutdown, found);
        }
        let is_sent = match &shut {
            Ok(_) => true,
            Err(error) => left == 0 && is_nothing_done(error),
        };
        self.notes.has_ended.set(is_sent);
        shut
    }

    fn wants(&self, interest: Interest) -> Interest {
        let wanted = self.inner.wants(interest);
        let reads = |interest: Interest| interest.contains(Interest::READABLE);
        self.notes
            .writes_first
            .set(reads(interest) && !reads(wanted));
        wanted
    }

    fn has_buffered_input(&self) -> bool {
        self.notes.claims_input.get() || self.inner.has_buffered_input()
    }

    fn buffered_output(&self) -> usize {
        let claimed = usize::from(self.notes.claims_output.get());
        self.inner.buffered_output().max(claimed)
    }

    fn has_sent_reason(&self) -> bool {
        self.inner.has_sent_reason()
    }

    fn has_unread(&self) -> bool {
        self.inner.has_unread()
    }
}
