//! How a session reads from its stream and writes to it.

use std::io::{self, ErrorKind, IoSlice};

use super::scratch::{SCRATCH, Scratch};
use super::{RECORD_MAX, Session, UNDECRYPTED_MAX};
use crate::Shutdown;
use crate::error::is_nothing_done;
use crate::tls::error::{TlsError, TlsErrorKind, protocol_of};
use reactor::Interest;

/// The plaintext of a full record, in bytes: RFC 8446 section 5.1.
const FRAGMENT: usize = 1 << 14;

/// The most plaintext that is encrypted before it is sent, in bytes. So much output is held at
/// most, apart from the overhead of its records.
const BATCH: usize = 4 * FRAGMENT;

/// The most output that is sent together with the records of a write, in bytes: the tickets at the
/// end of a handshake, not the rest of a batch.
const JOINED_MAX: usize = 2048;

const _: () = assert!(UNDECRYPTED_MAX + RECORD_MAX <= SCRATCH);

/// The stream below a session. Its calls are those of a non-blocking stream.
pub(in crate::tls) trait Below {
    /// Reads once. Returns 0 at the end of the stream.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes once.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Closes the write side of the stream.
    fn shutdown(&mut self) -> io::Result<Shutdown>;
}

impl Session {
    /// Continues the handshake as far as the stream allows.
    ///
    /// # Errors
    /// `WouldBlock` if the stream must become ready first: see
    /// [`wants_of_handshake`](Self::wants_of_handshake). Any other error ends the session. The
    /// alert for the peer was sent before, if the stream took it.
    pub(in crate::tls) fn handshake(&mut self, below: &mut impl Below) -> io::Result<()> {
        loop {
            if self.is_established() && self.has_plaintext() && self.failure.is_none() {
                return Ok(()); // the answer of the handler takes the output along
            }
            let flushed = self.flush(below);
            self.check()?;
            if self.is_established() {
                return Ok(()); // the output that is left is sent with the next flush
            }
            match flushed {
                Err(error) if !is_nothing_done(&error) => return Err(self.cause(below, error)),
                flushed => flushed?,
            }
            match self.receive(below, &mut []) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => drop(received?),
            }
        }
    }

    /// Returns the reason for a handshake that cannot be sent: the alert of the peer, if it came
    /// before the peer closed the stream.
    #[cold]
    fn cause(&mut self, below: &mut impl Below, error: io::Error) -> io::Error {
        let _ = self.receive(below, &mut []);
        match &self.failure {
            Some(failure) if failure.kind() == TlsErrorKind::Alert => failure.clone().into(),
            _ => error,
        }
    }

    /// Reads plaintext, with at most one read of the stream. Returns 0 after the close_notify of
    /// the peer.
    ///
    /// # Errors
    /// - `WouldBlock` if the stream has nothing to read.
    /// - `Interrupted` if the stream was read and no plaintext came of it.
    /// - `UnexpectedEof` if the stream ended without close_notify.
    pub(in crate::tls) fn read(
        &mut self,
        below: &mut impl Below,
        buf: &mut [u8],
    ) -> io::Result<usize> {
        if self.has_plaintext() {
            return Ok(self.plaintext.move_to(buf));
        }
        if !self.is_at_end()? {
            let count = self.receive(below, buf)?;
            // An alert, or the answer to a key update. A stream that does not take it now is
            // asked again by `flush`, which also reports its error.
            let _ = self.flush(below);
            if count > 0 {
                return Ok(count);
            }
            if !self.is_at_end()? {
                return Err(ErrorKind::Interrupted.into());
            }
        }
        Ok(0)
    }

    /// Encrypts and sends. Returns how many bytes of `bufs` were encrypted: the stream has taken
    /// all of them, or [`output_len`](Self::output_len) is not 0.
    ///
    /// # Errors
    /// `WouldBlock` if nothing was encrypted, because more output waits than is sent with records.
    pub(in crate::tls) fn write(
        &mut self,
        below: &mut impl Below,
        bufs: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.check()?;
        if self.output.len() > JOINED_MAX {
            self.flush(below)?;
        }
        let mut source = Source::of(bufs);
        let (mut gathered, mut out) = (None, Scratch::borrow());
        if !self.output.is_empty() {
            let len = self.encrypt_batch(&mut source, &mut gathered, &mut out)?;
            self.send_joined(below, &out[..len])?;
        }
        while self.output.is_empty() {
            let len = self.encrypt_batch(&mut source, &mut gathered, &mut out)?;
            if len == 0 {
                break;
            }
            self.send(below, &out[..len])?;
        }
        Ok(source.taken)
    }

    /// Sends the output that waits.
    ///
    /// # Errors
    /// `WouldBlock` if output is left.
    pub(in crate::tls) fn flush(&mut self, below: &mut impl Below) -> io::Result<()> {
        while !self.output.is_empty() {
            match below.write(self.output.bytes()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.output.take(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends close_notify, and then closes the write side of the stream. Plaintext of the peer can
    /// still be read. A session whose handshake is not done has no close_notify to send.
    ///
    /// # Errors
    /// `WouldBlock` if the stream must become writable first. Call this again then.
    pub(in crate::tls) fn shutdown(&mut self, below: &mut impl Below) -> io::Result<Shutdown> {
        self.queue_close_notify();
        self.flush(below)?;
        below.shutdown()
    }

    /// Returns what the stream must be watched for while the handshake is not done.
    pub(in crate::tls) const fn wants_of_handshake(&self) -> Interest {
        if self.output.is_empty() {
            Interest::READABLE
        } else {
            Interest::WRITABLE
        }
    }

    fn check(&self) -> io::Result<()> {
        match &self.failure {
            Some(error) => Err(error.clone().into()),
            None => Ok(()),
        }
    }

    /// Returns `true` after the close_notify of the peer.
    fn is_at_end(&self) -> io::Result<bool> {
        self.check()?;
        Ok(self.peer_closed)
    }

    /// Reads ciphertext once, and decrypts it.
    fn receive(&mut self, below: &mut impl Below, buf: &mut [u8]) -> io::Result<usize> {
        let mut ciphertext = Scratch::borrow();
        let held = self.undecrypted.len();
        ciphertext[..held].copy_from_slice(&self.undecrypted);
        // Plaintext is shorter than its ciphertext, so that much of it fits into `buf`.
        let end = buf.len().clamp(held + RECORD_MAX, SCRATCH);
        let count = below.read(&mut ciphertext[held..end])?;
        if count == 0 {
            let error = TlsError::cut(self.is_established(), self.has_spoken_tls());
            return Err(self.fail(error).into());
        }
        Ok(self.decrypt(&mut ciphertext[..held + count], buf))
    }

    /// Returns `true` if the peer has sent at least the beginning of a record.
    fn has_spoken_tls(&self) -> bool {
        let begun = &self.undecrypted;
        self.speaks_tls || !begun.is_empty() && protocol_of(begun).is_none()
    }

    /// Encrypts records until a batch is full. Returns the number of bytes in `out`.
    fn encrypt_batch(
        &mut self,
        source: &mut Source<'_>,
        gathered: &mut Option<Scratch>,
        out: &mut [u8],
    ) -> io::Result<usize> {
        let (start, mut len) = (source.taken, 0);
        while source.taken - start < BATCH {
            let plaintext = source.next(gathered);
            if plaintext.is_empty() {
                break;
            }
            match self.encrypt(plaintext, &mut out[len..])? {
                Some(count) => len += count,
                None => break, // after these records
            }
            let count = plaintext.len();
            source.take(count);
        }
        Ok(len)
    }

    /// Sends the output that waits, and ciphertext after it. Holds what the stream does not take.
    fn send_joined(&mut self, below: &mut impl Below, bytes: &[u8]) -> io::Result<()> {
        self.output.push(bytes);
        match self.flush(below) {
            Err(error) if !bytes.is_empty() && is_nothing_done(&error) => Ok(()),
            flushed => flushed,
        }
    }

    /// Sends ciphertext, and holds what the stream does not take.
    fn send(&mut self, below: &mut impl Below, bytes: &[u8]) -> io::Result<()> {
        let count = match below.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => count,
            Err(error) if is_nothing_done(&error) => 0,
            Err(error) => return Err(error),
        };
        self.output.push(&bytes[count..]);
        Ok(())
    }
}

/// The plaintext of a write.
struct Source<'a> {
    bufs: &'a [IoSlice<'a>],
    /// How much of the first slice is taken.
    offset: usize,
    /// The number of bytes taken.
    taken: usize,
}

impl<'a> Source<'a> {
    const fn of(bufs: &'a [IoSlice<'a>]) -> Self {
        Self {
            bufs,
            offset: 0,
            taken: 0,
        }
    }

    /// Returns the plaintext of the next record. Slices that are too short for a record are
    /// gathered in `gathered`, which is borrowed for the first of them.
    fn next<'b>(&'b self, gathered: &'b mut Option<Scratch>) -> &'b [u8] {
        let Some((first, others)) = self.bufs.split_first() else {
            return &[];
        };
        let first = &first[self.offset..];
        if first.len() >= FRAGMENT || others.is_empty() {
            return &first[..first.len().min(FRAGMENT)];
        }
        let gathered = gathered.get_or_insert_with(Scratch::borrow);
        let mut len = 0;
        for slice in std::iter::once(first).chain(others.iter().map(|slice| &**slice)) {
            let count = slice.len().min(FRAGMENT - len);
            gathered[len..len + count].copy_from_slice(&slice[..count]);
            len += count;
            if len == FRAGMENT {
                break;
            }
        }
        &gathered[..len]
    }

    fn take(&mut self, count: usize) {
        self.taken += count;
        self.offset += count;
        while let Some((first, others)) = self.bufs.split_first()
            && self.offset >= first.len()
        {
            self.offset -= first.len();
            self.bufs = others;
        }
    }
}
