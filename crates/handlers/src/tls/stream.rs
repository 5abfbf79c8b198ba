//! The stream of a session.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use reactor::{Interest, IoState};

use super::info::TlsInfo;
use super::session::{Below, Session};
use crate::error::is_nothing_done;
use crate::{Shutdown, Stream};

/// The most reads of the file descriptor in a turn that bring no plaintext. Records without
/// plaintext do not count as bytes of the connection, so a peer could keep the loop busy with them.
const FRUITLESS_READS_MAX: usize = 4;

/// A TLS session over a stream: made by [`accept`](super::TlsServerConfig::accept) or
/// [`connect`](super::TlsClientConfig::connect).
///
/// While nothing is in transit, the session holds no buffer. Records are decrypted and encrypted in
/// buffers of the thread.
///
/// A stream that ends without close_notify is an error of kind
/// [`Truncated`](super::TlsErrorKind::Truncated), and not an end: bytes may be missing. If the
/// messages of your protocol have a length of their own, a message that is complete is safe to use.
pub struct Tls<T> {
    stream: T,
    session: Session,
    /// The handshake of the stream below is complete.
    is_below_open: bool,
}

impl<T> Tls<T> {
    pub(super) const fn new(stream: T, session: Session) -> Self {
        Self {
            stream,
            session,
            is_below_open: false,
        }
    }

    /// Returns the facts of the session.
    pub const fn info(&self) -> TlsInfo<'_> {
        TlsInfo::of(&self.session)
    }

    /// Returns the stream below. Bytes that are written to it, or read from it, break the session.
    pub const fn get_ref(&self) -> &T {
        &self.stream
    }

    /// Returns the stream, and the session that reads and writes it.
    #[cfg(test)]
    pub(super) fn into_parts(self) -> (T, Session) {
        (self.stream, self.session)
    }

    fn parts<'a>(&'a mut self, io: &'a mut IoState) -> (&'a mut Session, Inner<'a, T>) {
        let stream = &mut self.stream;
        (&mut self.session, Inner { stream, io })
    }
}

impl<T: Stream> Tls<T> {
    /// Takes the steps of the handshake of the stream below. After it, sends the output that this
    /// stream holds.
    fn open_below(&mut self, io: &mut IoState) -> io::Result<()> {
        if !self.is_below_open {
            self.stream.try_handshake(io)?;
            self.is_below_open = true;
        }
        match self.stream.try_flush(io) {
            Err(error) if !is_nothing_done(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The stream below, with its readiness.
struct Inner<'a, T> {
    stream: &'a mut T,
    io: &'a mut IoState,
}

impl<T: Stream> Below for Inner<'_, T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(self.io, buf)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(self.io, &[IoSlice::new(bytes)])
    }

    fn shutdown(&mut self) -> io::Result<Shutdown> {
        self.stream.try_shutdown(self.io)
    }
}

impl<T: Stream> Stream for Tls<T> {
    const READS: bool = T::READS;
    const WRITES: bool = T::WRITES;
    const LAYERED: bool = true;

    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        let (session, mut inner) = self.parts(io);
        let mut reads = 0;
        loop {
            // No event reports the input that the stream below holds, so all of it is read.
            if !inner.stream.has_buffered_input() {
                if reads == FRUITLESS_READS_MAX {
                    return Err(ErrorKind::WouldBlock.into());
                }
                reads += 1;
            }
            match session.read(&mut inner, buf) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let (session, mut inner) = self.parts(io);
        session.write(&mut inner, bufs)
    }

    fn try_handshake(&mut self, io: &mut IoState) -> io::Result<()> {
        self.open_below(io)?;
        let (session, mut inner) = self.parts(io);
        session.handshake(&mut inner)
    }

    fn try_flush(&mut self, io: &mut IoState) -> io::Result<()> {
        let (session, mut inner) = self.parts(io);
        session.flush(&mut inner)?;
        self.stream.try_flush(io)
    }

    fn try_shutdown(&mut self, io: &mut IoState) -> io::Result<Shutdown> {
        let (session, mut inner) = self.parts(io);
        session.shutdown(&mut inner)
    }

    fn wants(&self, interest: Interest) -> Interest {
        let wanted = if !self.is_below_open {
            Interest::NONE
        } else if self.session.is_established() {
            interest
        } else if self.stream.buffered_output() > 0 {
            self.session.wants_of_handshake() | Interest::WRITABLE
        } else {
            self.session.wants_of_handshake()
        };
        self.stream.wants(wanted)
    }

    fn has_buffered_input(&self) -> bool {
        self.session.can_read() || self.stream.has_buffered_input()
    }

    fn buffered_output(&self) -> usize {
        self.session.output_len() + self.stream.buffered_output()
    }

    fn has_sent_reason(&self) -> bool {
        let is_told = self.session.has_alerted() || self.stream.has_sent_reason();
        is_told && self.buffered_output() == 0
    }

    fn has_unread(&self) -> bool {
        self.stream.has_unread() // an incomplete record is never delivered
    }
}

impl<T: AsFd> AsFd for Tls<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<T: fmt::Debug> fmt::Debug for Tls<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("stream", &self.stream)
            .field("info", &self.info())
            .finish()
    }
}
