//! `Io<T>`: a source together with what is known of its readiness.
//!
//! The rule that makes level semantics possible on an edge-triggered epoll: *readiness is cleared only by proof that the
//! kernel will report the next change*. `EAGAIN` is such a proof on every source (`epoll(7)`, question 9). A short read or
//! write is one on stream sockets and pipes, "since this means the buffer is exhausted" (same place), with two
//! exceptions that would lose a wakeup, and for which readiness is kept:
//!
//! - the peer has ended its direction: that was reported once, and the 0 that ends the stream is still to be read;
//! - urgent data has been seen: `read(2)` stops short at the urgent mark of a TCP stream with more behind it.
//!
//! Other reads that stop short are left to the user, since nothing tells of them: those of a Unix stream socket behind
//! bytes that carry descriptors, or between writers under `SO_PASSCRED`, and those of a pipe in packet mode (`O_DIRECT`).
//! Who expects them reads by [`Io::try_io`], which knows no short reads.
//!
//! Where readiness must be forgotten without a proof, since a `WouldBlock` went past the `Io` or concerned one of several
//! directions, the kernel is asked anew, by one `epoll_ctl(MOD)`: it reports what still holds.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use crate::context::Context;
use crate::outcome::{CloseReason, Next};
use crate::source::kind::{Kind, TypeFacts};
use crate::source::readiness::{Interest, Readiness};
use crate::sys::fd;

/// An owned source and its readiness, lent to its handler at each call.
///
/// Reads and writes through it keep its readiness true, at no system call of its own. A read or write is not even tried
/// when it is known that it would block: it gives [`ErrorKind::WouldBlock`] at once, so "read until `WouldBlock`" costs
/// no system call to find the end.
pub struct Io<T> {
    source: T,
    kind: Kind,
    readiness: Readiness,
    /// The directions in which the kernel reports changes. In the others nothing is known, so everything is tried.
    armed: Interest,
    /// The facts beside which a short read or write does not prove that the kernel's buffer is exhausted: all of them where it
    /// never does.
    inconclusive: Readiness,
    /// It may prove it: that depends on the kind, which nobody has asked for yet.
    asks_kind: bool,
    always_ready: bool,
}

impl<T> Io<T> {
    pub(crate) fn new(source: T, always_ready: bool) -> Self
    where
        T: 'static,
    {
        let TypeFacts { kind, unbuffered } = TypeFacts::of::<T>();
        let (inconclusive, asks_kind) = (
            inconclusive_if(unbuffered && kind.short_io_means_drained()),
            unbuffered && kind == Kind::Unknown,
        );
        Self {
            source,
            kind,
            readiness: Readiness::EMPTY,
            armed: Interest::NONE,
            inconclusive,
            asks_kind,
            always_ready,
        }
    }

    /// The source itself.
    ///
    /// What is read or written through it is not seen by this `Io`: a `WouldBlock` met there and kept from the loop
    /// leaves the source looking ready, and its handler is called again; one that is returned to the loop costs an
    /// `epoll_ctl`. [`try_io`](Self::try_io) has no such trouble.
    #[inline]
    pub const fn get_ref(&self) -> &T {
        &self.source
    }

    /// The source itself, mutably.
    ///
    /// To replace it by another is a mistake: the watch ends with the fd that was registered, and the new one is not
    /// watched. Remove the registration and add the new source instead. A neighbour that gets the number of the old fd is not harmed; a
    /// `dup2` onto the number itself cannot be seen, and puts the new file into the place of the old.
    #[inline]
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.source
    }

    /// What is known of the source at this moment, after the reads and writes so far.
    #[inline]
    pub const fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// What sort of thing the source is. For types that do not tell what they are the kernel is asked, by up to two
    /// `getsockopt`, or one and a look into `/proc`.
    pub fn kind(&self) -> Kind
    where
        T: AsFd,
    {
        match self.kind {
            Kind::Unknown => fd::kind(self.source.as_fd()),
            kind => kind,
        }
    }

    /// Whether the kernel refuses to report readiness of this source (`EPERM` of `epoll_ctl(2)`: regular files, folders,
    /// `/dev/null`), because it is always ready: reads and writes of it never give `WouldBlock`. A handler that returns `WouldBlock` for
    /// one is called again later and later, up to a second: nothing tells the loop of more.
    #[inline]
    pub const fn is_always_ready(&self) -> bool {
        self.always_ready
    }

    /// Performs an operation that is not a plain read or write: `accept`, `recv_from`, `sendmsg`, ….
    ///
    /// `interest` is the direction that the operation depends on. When it gives `WouldBlock`, that direction is no longer
    /// ready; when the direction is known not to be ready, the operation is not tried and `WouldBlock` is given at once.
    ///
    /// An operation that can block in either of several directions, a TLS handshake, names them all: then the loop asks
    /// the kernel which of them are still ready, by one `epoll_ctl`. One whose `WouldBlock` says nothing of the
    /// readiness, `recvmsg` with `MSG_ERRQUEUE`, names [`Interest::NONE`]: it is always tried, and forgets nothing.
    ///
    /// # Errors
    /// Those of the operation.
    ///
    /// ```
    /// # use reactor::{Interest, Next, Reactor};
    /// # fn main() -> std::io::Result<()> {
    /// # let mut reactor = Reactor::<()>::new()?;
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// reactor.add(listener, Interest::READABLE, |listener, _cx| {
    ///     let (stream, peer) = listener.try_io(Interest::READABLE, |l| l.accept())?;
    ///     println!("{peer} on {stream:?}");
    ///     Ok(Next::Keep) // called again next turn if there is another one
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn try_io<R>(
        &mut self,
        interest: Interest,
        operation: impl FnOnce(&mut T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.expect_ready(interest)?;
        let result = operation(&mut self.source);
        if let Err(error) = &result {
            self.after_error(interest, error);
        }
        result
    }

    /// Begins a call of the handler: what the reactor knows becomes what this `Io` knows.
    #[inline]
    pub(crate) fn begin(&mut self, readiness: Readiness, armed: Interest) {
        self.readiness = readiness;
        self.armed = armed;
    }

    /// What is left for the next call: the levels that have not been disproved.
    #[inline]
    pub(crate) const fn left(&self) -> Readiness {
        self.readiness.without_bits(Readiness::OF_ONE_CALL)
    }

    /// What is left after a call with any other result than [`Next::Keep`], or why the registration ends.
    ///
    /// - `Interrupted`: as if the call had not been: everything is still so.
    /// - `WouldBlock`: nothing more for now. Where this `Io` has not met one, the operation went past it, and what the
    ///   handler was called for is over.
    #[cold]
    #[inline(never)]
    pub(crate) fn end<S>(
        &mut self,
        result: io::Result<Next>,
        cx: &mut Context<'_, S>,
    ) -> Readiness {
        match result {
            Ok(Next::Keep) => {}
            Ok(Next::Remove) => return cx.registry.turn.end_running(CloseReason::ByHandler),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => return Readiness::AS_BEFORE,
                // Nothing tells of more: it is asked again, and rests if it goes on so.
                ErrorKind::WouldBlock if self.always_ready => self.readiness |= Readiness::RECHECK,
                ErrorKind::WouldBlock if self.readiness.intersects(Readiness::MET_WOULD_BLOCK) => {}
                ErrorKind::WouldBlock => self.readiness = Readiness::RECHECK,
                _ => return cx.registry.turn.end_running(CloseReason::Failed(error)),
            },
        }
        self.left()
    }

    /// Checks before a call whether the source is hung up, and what was announced. Returns all the facts of this call.
    #[cold]
    pub(crate) fn check_before_call(&mut self) -> Readiness
    where
        T: AsFd + 'static,
    {
        if self.readiness.is_only_hang_up() {
            self.verify_hang_up();
        }
        self.apply_announcements()
    }

    /// Applies what an announcement means for the source, beyond itself. Returns all the facts of this call.
    #[cold]
    pub(crate) fn apply_announcements(&mut self) -> Readiness
    where
        T: AsFd,
    {
        if self.readiness.is_error() && self.kind().is_unread_by_error() {
            // epoll_ctl(2): EPOLLERR "is also reported for the write end of a pipe when the read end has been closed".
            self.readiness |= Readiness::WRITE_CLOSED;
        }
        if self.readiness.is_priority() {
            (self.inconclusive, self.asks_kind) = (inconclusive_if(false), false);
        }
        self.readiness
    }

    /// A stream socket that is not connected is hung up and writable, says the kernel, and neither is so once it is connected.
    ///
    /// tcp_poll and unix_poll of the kernel: what was connected and has ended is shut down for reading too.
    fn verify_hang_up(&mut self)
    where
        T: AsFd + 'static,
    {
        self.kind = self.kind();
        if self.kind != Kind::Stream {
            return;
        }
        let Ok(is) = fd::readiness_now(self.source.as_fd(), Interest::READABLE) else {
            return;
        };
        let hung_up = Readiness::READ_CLOSED_BITS | Readiness::WRITE_CLOSED_BITS;
        if is.is_only_hang_up() {
            // Of another type it may be a listener that was shut down, which has a name.
            if TypeFacts::of::<T>().kind == Kind::Stream || fd::was_never_named(self.source.as_fd())
            {
                self.readiness =
                    self.readiness.without_bits(hung_up | Readiness::WRITABLE) | Readiness::RECHECK;
            }
        } else if is.is_read_closed() {
            self.readiness |= Readiness::READ_CLOSED_BITS; // not to be asked again
        } else {
            self.readiness = self.readiness.without_bits(hung_up);
        }
    }

    /// Whether the kernel has reported nothing but that the source is not connected yet.
    pub(crate) fn is_unconnected(&self) -> bool {
        self.readiness.intersects(Readiness::RECHECK) && self.readiness.is_empty()
    }

    /// `WouldBlock`, without a system call, where `interest` is watched and none of its facts is known to hold.
    #[inline]
    fn expect_ready(&mut self, interest: Interest) -> io::Result<()> {
        if self.readiness.intersects(interest.facts()) {
            Ok(())
        } else {
            self.expect_unwatched(interest)
        }
    }

    /// The same where no fact is known to hold: apart, since the test of one word is all that most operations need.
    #[inline(never)]
    fn expect_unwatched(&mut self, interest: Interest) -> io::Result<()> {
        let watched = !interest.is_none() && self.armed.contains(interest);
        if watched {
            self.readiness |= Readiness::MET_WOULD_BLOCK;
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    /// A read or a write of at most `wanted` bytes.
    #[inline]
    fn transfer(
        &mut self,
        interest: Interest,
        wanted: usize,
        operation: impl FnOnce(&mut T) -> io::Result<usize>,
    ) -> io::Result<usize>
    where
        T: AsFd,
    {
        self.expect_ready(interest)?;
        let result = operation(&mut self.source);
        match &result {
            Ok(moved) => {
                // 0 is the end of a stream, which stays readable.
                let short = *moved < wanted && *moved > 0;
                // That the peer has ended its direction leaves an end to be read, and says nothing of what is written.
                let reads = interest == Interest::READABLE;
                let inconclusive = if reads {
                    self.inconclusive
                } else {
                    self.inconclusive.without_bits(Readiness::READ_CLOSED_BITS)
                };
                if short && !self.readiness.intersects(inconclusive) {
                    self.readiness = self.readiness.without_bits(interest.disproved_by_short());
                }
            }
            Err(error) => self.after_failed_transfer(interest, error),
        }
        result
    }

    /// Where the type does not say what a short read proves, the first `WouldBlock` is the time to ask: a source that never met
    /// one gains nothing by the answer. It is on this way, too, that the question costs the others no instruction.
    #[cold]
    fn after_failed_transfer(&mut self, interest: Interest, error: &io::Error)
    where
        T: AsFd,
    {
        if self.asks_kind && error.kind() == ErrorKind::WouldBlock {
            self.kind = self.kind();
            self.inconclusive = inconclusive_if(self.kind.short_io_means_drained());
            self.asks_kind = false;
        }
        self.after_error(interest, error);
    }

    #[cold]
    fn after_error(&mut self, interest: Interest, error: &io::Error) {
        if error.kind() != ErrorKind::WouldBlock {
            return;
        }
        self.readiness |= Readiness::MET_WOULD_BLOCK;
        if !self.always_ready {
            self.readiness = self
                .readiness
                .without_bits(interest.disproved_by_would_block());
            if interest.is_several() {
                self.readiness |= Readiness::RECHECK;
            }
        }
    }
}

/// The facts beside which a short read or write proves nothing: all of them where none proves anything.
const fn inconclusive_if(short_io_means_drained: bool) -> Readiness {
    if short_io_means_drained {
        Readiness::READ_CLOSED_BITS
    } else {
        Readiness::ALL
    }
}

/// How many slices one call takes: `UIO_MAXIOV` of the kernel, to which the standard library cuts a longer list.
const SLICES_MAX: usize = 1024;

impl<T: Read + AsFd> Read for Io<T> {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.transfer(Interest::READABLE, buf.len(), |source| source.read(buf))
    }

    #[inline]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let wanted = bufs.iter().take(SLICES_MAX).map(|buf| buf.len()).sum();
        self.transfer(Interest::READABLE, wanted, |source| {
            source.read_vectored(bufs)
        })
    }
}

impl<T: Write + AsFd> Write for Io<T> {
    #[inline]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.transfer(Interest::WRITABLE, buf.len(), |source| source.write(buf))
    }

    #[inline]
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let wanted = bufs.iter().take(SLICES_MAX).map(|buf| buf.len()).sum();
        self.transfer(Interest::WRITABLE, wanted, |source| {
            source.write_vectored(bufs)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.source.flush();
        if let Err(error) = &result {
            self.after_error(Interest::WRITABLE, error);
        }
        result
    }
}

impl<T: AsFd> AsFd for Io<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl<T: fmt::Debug> fmt::Debug for Io<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("source", &self.source)
            .field("kind", &self.kind)
            .field("readiness", &self.readiness)
            .field("always_ready", &self.always_ready)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::OwnedFd;

    #[test]
    fn a_source_is_asked_what_it_is_when_it_first_would_block_and_not_before() {
        let (reader, mut writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let mut io = Io::new(File::from(OwnedFd::from(reader)), false);
        io.begin(Readiness::READABLE, Interest::READABLE);
        writer.write_all(b"four").unwrap();
        assert_eq!(io.read(&mut [0; 64]).unwrap(), 4);
        assert!(
            io.kind == Kind::Unknown && io.readiness.is_readable(),
            "no proof yet"
        );
        assert_eq!(
            io.read(&mut [0; 64]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert!(io.kind == Kind::Pipe && !io.readiness.is_readable());
        io.begin(Readiness::READABLE, Interest::READABLE);
        writer.write_all(b"four").unwrap();
        assert_eq!(io.read(&mut [0; 64]).unwrap(), 4);
        assert!(!io.readiness.is_readable(), "a short read is proof now");
    }

    #[test]
    fn what_keeps_a_buffer_of_its_own_is_never_asked() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut io = Io::new(Buffered(reader), false);
        io.begin(Readiness::READABLE, Interest::READABLE);
        writer.write_all(b"short").unwrap();
        assert_eq!(io.read(&mut [0; 64]).unwrap(), 5);
        assert!(io.kind == Kind::Unknown && io.readiness.is_readable());
        assert_eq!(io.kind(), Kind::Pipe, "who asks is told");
    }

    struct Buffered(io::PipeReader);

    impl Read for Buffered {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl AsFd for Buffered {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}
