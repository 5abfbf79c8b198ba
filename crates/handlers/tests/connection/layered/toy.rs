//! A layered stream for the tests: records, a handshake, an end of its own. It protects nothing. It
//! asserts that its caller keeps the contract of [`Stream`].
//!
//! A record is a kind, a length of two bytes, and its payload.

use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::take;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use handlers::{Shutdown, Stream};
use reactor::{Interest, IoState};

/// The most payload of a record.
pub(super) const RECORD_MAX: usize = 4096;

pub(super) const HELLO: u8 = b'H';
pub(super) const DATA: u8 = b'D';
/// Must be answered by an [`ANSWER`].
pub(super) const QUESTION: u8 = b'Q';
pub(super) const ANSWER: u8 = b'A';
pub(super) const END: u8 = b'E';

/// Appends a record to `out`.
pub(super) fn encode(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    out.extend_from_slice(payload);
}

pub(super) fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(kind, payload, &mut out);
    out
}

/// `bytes` as records of [`DATA`].
pub(super) fn records(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in bytes.chunks(RECORD_MAX) {
        encode(DATA, piece, &mut out);
    }
    out
}

/// Removes the first record of `bytes`.
pub(super) fn decode(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let header = bytes.first_chunk::<3>()?;
    let (kind, length) = (header[0], u16::from_be_bytes([header[1], header[2]]));
    let end = 3 + usize::from(length);
    let payload = bytes.get(3..end)?.to_vec();
    bytes.drain(..end);
    Some((kind, payload))
}

/// The number of calls of a [`Toy`].
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) handshakes: Cell<usize>,
    pub(super) shutdowns: Cell<usize>,
    pub(super) reads: Cell<usize>,
    pub(super) flushes: Cell<usize>,
}

fn count(calls: &Cell<usize>) {
    calls.set(calls.get() + 1);
}

/// The stream.
#[derive(Debug, Default)]
pub(super) struct Toy<T> {
    pub(super) inner: T,
    /// Bytes that are no whole record yet.
    received: Vec<u8>,
    input: Vec<u8>,
    output: Vec<u8>,
    stage: Stage,
    has_peer_ended: bool,
    /// The handshake waits for something that is not the socket.
    pub(super) is_held_back: bool,
    /// The shutdown is complete only when the peer has ended too.
    pub(super) awaits_end: bool,
    /// A read returns no more bytes than this.
    pub(super) max_read: usize,
    /// So often the shutdown is blocked, although nothing is in the output.
    pub(super) blocked_shutdowns: usize,
    pub(super) fault: Option<Fault>,
    /// The socket takes nothing.
    pub(super) stalls: Rc<Cell<bool>>,
    pub(super) calls: Rc<Calls>,
}

/// How the stream breaks its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Wants to write and never does.
    WantsToWrite,
    /// Says that it has input, and returns none.
    ClaimsInput,
    /// The handshake reads nothing.
    Dozes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Has said nothing yet.
    #[default]
    New,
    /// Waits for the hello of the peer.
    Greeted,
    Open,
    /// The end is in the output, or sent.
    Ended,
}

impl<T: Stream> Toy<T> {
    pub(super) fn new(inner: T) -> Self
    where
        T: Stream,
    {
        Self {
            inner,
            received: Vec::new(),
            input: Vec::new(),
            output: Vec::new(),
            stage: Stage::New,
            has_peer_ended: false,
            is_held_back: false,
            awaits_end: false,
            max_read: usize::MAX,
            blocked_shutdowns: 0,
            fault: None,
            stalls: Rc::default(),
            calls: Rc::default(),
        }
    }

    fn is_handshaking(&self) -> bool {
        matches!(self.stage, Stage::New | Stage::Greeted)
    }

    /// Reads from the inner stream until `WouldBlock`, or until `done`.
    fn fill(&mut self, io: &mut IoState, done: fn(&Self) -> bool) -> io::Result<()> {
        let mut buf = [0; 2 * RECORD_MAX];
        while !done(self) {
            let count = self.inner.try_read(io, &mut buf)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&buf[..count]);
            while let Some((kind, payload)) = decode(&mut self.received) {
                self.take(kind, &payload)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        match (kind, self.stage) {
            (HELLO, Stage::Greeted) => self.stage = Stage::Open,
            (DATA, Stage::Open | Stage::Ended) => self.input.extend_from_slice(payload),
            (QUESTION, Stage::Open) => encode(ANSWER, payload, &mut self.output),
            (QUESTION, Stage::Ended) => {} // our end was sent, so nothing follows
            (END, Stage::Open | Stage::Ended) => self.has_peer_ended = true,
            _ => return Err(io::Error::new(ErrorKind::InvalidData, "no such record")),
        }
        Ok(())
    }
}

impl<T: AsFd> AsFd for Toy<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<T: Stream> Stream for Toy<T> {
    const LAYERED: bool = true;

    fn try_handshake(&mut self, io: &mut IoState) -> io::Result<()> {
        count(&self.calls.handshakes);
        assert!(self.is_handshaking(), "the handshake is complete");
        if self.is_held_back || self.fault == Some(Fault::Dozes) {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.stage == Stage::New {
            encode(HELLO, b"", &mut self.output);
            self.stage = Stage::Greeted;
        }
        self.try_flush(io)?;
        self.fill(io, |toy| toy.stage == Stage::Open)
    }

    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        count(&self.calls.reads);
        assert!(
            matches!(self.stage, Stage::Open | Stage::Ended),
            "a read outside of the stream"
        );
        if self.input.is_empty() && !self.has_peer_ended {
            let held = self.output.len();
            let filled = self.fill(io, |toy| !toy.input.is_empty() || toy.has_peer_ended);
            // The answers to questions. What the socket does not take is held, and the next flush
            // reports the error: input may wait in the socket.
            if self.output.len() > held {
                let _ = self.try_flush(io);
            }
            filled?;
        }
        let count = self.input.len().min(buf.len()).min(self.max_read);
        buf[..count].copy_from_slice(&self.input[..count]);
        self.input.drain(..count);
        Ok(count)
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        assert_eq!(self.stage, Stage::Open, "a write outside of the stream");
        self.try_flush(io)?;
        let bytes = bufs.iter().flat_map(|buf| buf.iter().copied());
        let payload: Vec<u8> = bytes.take(RECORD_MAX).collect();
        encode(DATA, &payload, &mut self.output);
        match self.try_flush(io) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(payload.len()),
        }
    }

    fn try_flush(&mut self, io: &mut IoState) -> io::Result<()> {
        count(&self.calls.flushes);
        while !self.output.is_empty() {
            if self.stalls.get() {
                return io.try_io(Interest::WRITABLE, || Err(ErrorKind::WouldBlock.into()));
            }
            let sent = self.inner.try_write(io, &[IoSlice::new(&self.output)])?;
            self.output.drain(..sent);
        }
        self.output = Vec::new();
        Ok(())
    }

    fn try_shutdown(&mut self, io: &mut IoState) -> io::Result<Shutdown> {
        count(&self.calls.shutdowns);
        if self.stage != Stage::Ended {
            encode(END, b"", &mut self.output);
            self.stage = Stage::Ended;
        }
        self.try_flush(io)?;
        if self.awaits_end && !self.has_peer_ended {
            self.fill(io, |toy| toy.has_peer_ended)?;
        }
        if self.blocked_shutdowns > 0 {
            self.blocked_shutdowns -= 1;
            return io.try_io(Interest::WRITABLE, || Err(ErrorKind::WouldBlock.into()));
        }
        self.inner.try_shutdown(io)
    }

    fn wants(&self, interest: Interest) -> Interest {
        if self.is_held_back {
            return Interest::NONE;
        }
        let holds_output = !self.output.is_empty();
        if self.is_handshaking() {
            assert_eq!(interest, Interest::NONE, "the handshake is not complete");
            return if holds_output {
                Interest::WRITABLE
            } else {
                Interest::READABLE
            };
        }
        let awaits_end = self.awaits_end && self.stage == Stage::Ended;
        match self.fault {
            Some(Fault::WantsToWrite) => interest | Interest::WRITABLE,
            _ if awaits_end && !holds_output => Interest::READABLE,
            _ => interest,
        }
    }

    fn has_buffered_input(&self) -> bool {
        !self.input.is_empty() || self.has_peer_ended || self.fault == Some(Fault::ClaimsInput)
    }

    fn buffered_output(&self) -> usize {
        self.output.len()
    }
}

/// The other end, which is a plain socket.
pub(super) struct Peer<T> {
    pub(super) socket: T,
    received: Vec<u8>,
}

impl<T: io::Read> Peer<T> {
    pub(super) const fn new(socket: T) -> Self {
        Self {
            socket,
            received: Vec::new(),
        }
    }

    /// Reads what has arrived. Returns the kinds of the records in order, and all data. The end of
    /// the socket is a record without a kind.
    pub(super) fn read(&mut self) -> io::Result<(String, Vec<u8>)> {
        let (mut kinds, mut data, mut buf) = (String::new(), Vec::new(), vec![0; 1 << 16]);
        let ended = loop {
            match self.socket.read(&mut buf) {
                Ok(0) => break true,
                Ok(count) => self.received.extend_from_slice(&buf[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) => return Err(error),
            }
        };
        let mut bytes = take(&mut self.received);
        while let Some((kind, payload)) = decode(&mut bytes) {
            if kind == DATA {
                data.extend_from_slice(&payload);
            }
            if kind != DATA || !kinds.ends_with(char::from(DATA)) {
                kinds.push(char::from(kind));
            }
        }
        self.received = bytes;
        if ended {
            kinds.push('.');
        }
        Ok((kinds, data))
    }
}
