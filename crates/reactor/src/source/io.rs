//! `Io<T>`: a source together with the known facts about its readiness.
//!
//! The rule that makes level semantics possible on an edge-triggered epoll: *readiness is cleared
//! only by proof that the kernel will report the next change*. `EAGAIN` is such a proof on every
//! source (`epoll(7)`, question 9). A short read or write is such a proof on stream sockets and
//! pipes, "since this means the buffer is exhausted" (same place), with two exceptions. For these,
//! readiness is kept, because a wakeup would be lost otherwise:
//!
//! - the peer has closed its write side: that was reported once, and the 0 that ends the stream is
//!   still to be read;
//! - urgent data has been seen: `read(2)` stops short at the urgent mark of a TCP stream with more
//!   data after it.
//!
//! Other reads that stop short cannot be recognised, and the user has to handle them: reads of a
//! Unix stream socket that end at bytes with descriptors, or between writers under `SO_PASSCRED`,
//! and reads of a pipe in packet mode (`O_DIRECT`). For such a source read through [`Io::try_io`],
//! which does not interpret short reads.
//!
//! Readiness is also forgotten without a proof if a `WouldBlock` bypassed the `Io`, or if it is not
//! known which of several directions would block. The kernel is then asked again, by one
//! `epoll_ctl(MOD)`, and reports what still holds.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(feature = "simulation")]
use std::{os::fd::AsRawFd, rc::Rc};

use crate::context::Context;
use crate::outcome::{CloseReason, Next};
use crate::source::kind::{Kind, TypeFacts};
use crate::source::readiness::{Interest, Readiness};
use crate::sys::fd;
#[cfg(feature = "simulation")]
use crate::sys::simulated::{self, System};

/// An owned source and its readiness, passed to its handler at each call.
///
/// Reads and writes through an `Io` update its readiness, without additional system calls. If it is
/// known that a read or write would block, the operation is not attempted, and returns
/// [`ErrorKind::WouldBlock`] at once. A handler that reads until `WouldBlock` therefore needs no
/// system call to find the end of the data.
pub struct Io<T> {
    source: T,
    kind: Kind,
    readiness: Readiness,
    /// The directions in which the kernel reports changes. In the others nothing is known, so every
    /// operation is attempted.
    armed: Interest,
    /// The facts that keep a short read or write from proving that the kernel's buffer is
    /// exhausted. All facts, if a short read or write never proves it.
    inconclusive: Readiness,
    /// `true` if the kind decides what a short read or write proves, and the kernel was not asked
    /// for the kind yet.
    asks_kind: bool,
    always_ready: bool,
    /// Whether a simulation reads and writes in the place of the kernel.
    #[cfg(feature = "simulation")]
    simulated: bool,
}

impl<T> Io<T> {
    pub(crate) fn new(source: T, always_ready: bool) -> Self
    where
        T: AsFd + 'static,
    {
        let TypeFacts { kind, unbuffered } = TypeFacts::of::<T>();
        // A type of the user's does more than one system call in its `read`, so it is called.
        #[cfg(feature = "simulation")]
        let simulated = unbuffered && simulated::owner(source.as_fd()).is_some();
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
            #[cfg(feature = "simulation")]
            simulated,
        }
    }

    /// Gives the source up.
    pub(crate) fn into_source(self) -> T {
        self.source
    }

    /// Returns the source itself.
    ///
    /// This `Io` does not see reads and writes through the reference. If such an operation returns
    /// `WouldBlock`, the result of the handler decides:
    ///
    /// - If the handler returns this `WouldBlock`, the loop makes one `epoll_ctl` to ask the kernel
    ///   whether the source is ready.
    /// - If the handler returns anything else, the source still counts as ready, and the handler is
    ///   called again next [turn](crate::Reactor::turn).
    ///
    /// Use [`try_io`](Self::try_io) to avoid both.
    #[inline]
    pub const fn get_ref(&self) -> &T {
        &self.source
    }

    /// Returns the source itself, mutably.
    ///
    /// Do not replace the source through this reference. epoll watches the fd that was registered:
    /// it stops watching when this fd closes, and it never watches the new fd. Remove the
    /// registration and add the new source instead. If another registered source gets the number of
    /// the old fd, the registration of that other source is not affected. A `dup2` onto the fd of
    /// the source cannot be detected: the handler then reads and writes the new file, which epoll
    /// does not watch.
    #[inline]
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.source
    }

    /// Returns the readiness of the source at this moment, after the reads and writes that the
    /// handler has made so far.
    #[inline]
    pub const fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// Returns the kind of the source.
    ///
    /// # Cost
    /// No system call if the Rust type determines the kind. Otherwise up to two `getsockopt`, or
    /// one `getsockopt` and a look into `/proc`.
    pub fn kind(&self) -> Kind
    where
        T: AsFd,
    {
        match self.kind {
            Kind::Unknown => fd::kind(self.source.as_fd()),
            kind => kind,
        }
    }

    /// Returns `true` if the kernel refuses to report the readiness of this source because it is
    /// always ready (`EPERM` of `epoll_ctl(2)`: regular files, folders, `/dev/null`).
    ///
    /// Reads and writes of such a source never return `WouldBlock`, and the kernel never reports a
    /// change of its readiness. If the handler returns `WouldBlock` nevertheless, it is called
    /// again. After 8 such calls the loop pauses before each further call: see
    /// [`Handler::ready`](crate::Handler::ready).
    #[inline]
    pub const fn is_always_ready(&self) -> bool {
        self.always_ready
    }

    /// Performs an operation that is not a plain read or write, such as `accept`, `recv_from` or
    /// `sendmsg`.
    ///
    /// `interest` is the direction that the operation depends on. If the operation returns
    /// `WouldBlock`, this direction counts as not ready from then on. If the direction is known not
    /// to be ready, the operation is not attempted, and `WouldBlock` is returned at once.
    ///
    /// For an operation that can block in one of several directions, such as a TLS handshake, pass
    /// all of these directions. After a `WouldBlock` the loop asks the kernel which of the
    /// directions are still ready, by one `epoll_ctl`. For an operation whose `WouldBlock` does not
    /// depend on readiness, such as `recvmsg` with `MSG_ERRQUEUE`, pass [`Interest::NONE`]. The
    /// operation is then always attempted, and its `WouldBlock` leaves the readiness unchanged.
    ///
    /// # Errors
    /// The errors of the operation, and `WouldBlock` if the operation was not attempted.
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

    /// Returns the simulation that reads and writes in the place of the kernel.
    #[cfg(feature = "simulation")]
    fn simulation(&self) -> Option<Rc<dyn System>> {
        self.simulated.then(simulated::installed).flatten()
    }

    /// Begins a call of the handler: copies the facts that the reactor knows into this `Io`.
    #[inline]
    pub(crate) fn begin(&mut self, readiness: Readiness, armed: Interest) {
        self.readiness = readiness;
        self.armed = armed;
    }

    /// Returns the facts for the next call: the levels that have not been disproved.
    #[inline]
    pub(crate) const fn left(&self) -> Readiness {
        self.readiness.without_bits(Readiness::OF_ONE_CALL)
    }

    /// Returns the facts that are left after a call with any result other than [`Next::Keep`], or
    /// why the registration ends.
    ///
    /// - `Interrupted`: all facts are as before the call.
    /// - `WouldBlock`: there is nothing more to do for now. If this `Io` has not met a
    ///   `WouldBlock`, the operation bypassed the `Io`, and the facts of this call are forgotten.
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
                // The kernel reports no change of this source. So it is called again, and backs off
                // if it returns `WouldBlock` each time.
                ErrorKind::WouldBlock if self.always_ready => self.readiness |= Readiness::RECHECK,
                ErrorKind::WouldBlock if self.readiness.intersects(Readiness::MET_WOULD_BLOCK) => {}
                ErrorKind::WouldBlock => self.readiness = Readiness::RECHECK,
                _ => return cx.registry.turn.end_running(CloseReason::Failed(error)),
            },
        }
        self.left()
    }

    /// Checks before a call whether the source is hung up, and which announcements it has. Returns
    /// all facts of this call.
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

    /// Applies the consequences of an announcement for the source. Returns all facts of this call.
    #[cold]
    pub(crate) fn apply_announcements(&mut self) -> Readiness
    where
        T: AsFd,
    {
        if self.readiness.is_error() && self.kind().is_unread_by_error() {
            // epoll_ctl(2): EPOLLERR "is also reported for the write end of a pipe when the read
            // end has been closed".
            self.readiness |= Readiness::WRITE_CLOSED;
        }
        if self.readiness.is_priority() {
            (self.inconclusive, self.asks_kind) = (inconclusive_if(false), false);
        }
        self.readiness
    }

    /// Checks a hang-up. The kernel reports a stream socket that is not connected as hung up and
    /// writable, and neither holds once it is connected.
    ///
    /// tcp_poll and unix_poll of the kernel: a socket that was connected and has ended is shut down
    /// for reading too.
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
            // A source of another type may be a listener that was shut down. A listener has a name.
            if TypeFacts::of::<T>().kind == Kind::Stream || fd::was_never_named(self.source.as_fd())
            {
                self.readiness =
                    self.readiness.without_bits(hung_up | Readiness::WRITABLE) | Readiness::RECHECK;
            }
        } else if is.is_read_closed() {
            self.readiness |= Readiness::READ_CLOSED_BITS; // not asked again
        } else {
            self.readiness = self.readiness.without_bits(hung_up);
        }
    }

    /// Returns `true` if the kernel has only reported that the source is not connected yet.
    pub(crate) fn is_unconnected(&self) -> bool {
        self.readiness.intersects(Readiness::RECHECK) && self.readiness.is_empty()
    }

    /// Returns `WouldBlock`, without a system call, if `interest` is watched and none of its facts
    /// is known to hold.
    #[inline]
    fn expect_ready(&mut self, interest: Interest) -> io::Result<()> {
        if self.readiness.intersects(interest.facts()) {
            Ok(())
        } else {
            self.expect_unwatched(interest)
        }
    }

    /// Does the same if no fact is known to hold. It is a function of its own because most
    /// operations need only the test of one word.
    #[inline(never)]
    fn expect_unwatched(&mut self, interest: Interest) -> io::Result<()> {
        let watched = !interest.is_none() && self.armed.contains(interest);
        if watched {
            self.readiness |= Readiness::MET_WOULD_BLOCK;
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    /// Reads or writes at most `wanted` bytes.
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
                // After the peer has closed its write side an end is still to be read. For writes
                // this means nothing.
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

    /// Asks the kernel for the kind at the first `WouldBlock`, if the type does not show what a
    /// short read proves. A source that never meets a `WouldBlock` gains nothing from the answer.
    /// Asking here costs other operations no instruction.
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

/// Returns the facts that make a short read or write inconclusive: all facts, if none is
/// conclusive.
const fn inconclusive_if(short_io_means_drained: bool) -> Readiness {
    if short_io_means_drained {
        Readiness::READ_CLOSED_BITS
    } else {
        Readiness::ALL
    }
}

/// The maximum number of slices in one call: `UIO_MAXIOV` of the kernel, to which the standard
/// library cuts a longer list.
const SLICES_MAX: usize = 1024;

impl<T: Read + AsFd> Read for Io<T> {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "simulation")]
        if let Some(system) = self.simulation() {
            return self.transfer(Interest::READABLE, buf.len(), |source| {
                system.read(source.as_fd().as_raw_fd(), &mut [IoSliceMut::new(buf)])
            });
        }
        self.transfer(Interest::READABLE, buf.len(), |source| source.read(buf))
    }

    #[inline]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let wanted = bufs.iter().take(SLICES_MAX).map(|buf| buf.len()).sum();
        #[cfg(feature = "simulation")]
        if let Some(system) = self.simulation() {
            return self.transfer(Interest::READABLE, wanted, |source| {
                system.read(source.as_fd().as_raw_fd(), bufs)
            });
        }
        self.transfer(Interest::READABLE, wanted, |source| {
            source.read_vectored(bufs)
        })
    }
}

impl<T: Write + AsFd> Write for Io<T> {
    #[inline]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        #[cfg(feature = "simulation")]
        if let Some(system) = self.simulation() {
            return self.transfer(Interest::WRITABLE, buf.len(), |source| {
                system.write(source.as_fd().as_raw_fd(), &[IoSlice::new(buf)])
            });
        }
        self.transfer(Interest::WRITABLE, buf.len(), |source| source.write(buf))
    }

    #[inline]
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let wanted = bufs.iter().take(SLICES_MAX).map(|buf| buf.len()).sum();
        #[cfg(feature = "simulation")]
        if let Some(system) = self.simulation() {
            return self.transfer(Interest::WRITABLE, wanted, |source| {
                system.write(source.as_fd().as_raw_fd(), bufs)
            });
        }
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
    fn the_kind_of_a_source_is_probed_at_its_first_would_block() {
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
    fn a_source_with_its_own_buffer_is_never_probed() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut io = Io::new(Buffered(reader), false);
        io.begin(Readiness::READABLE, Interest::READABLE);
        writer.write_all(b"short").unwrap();
        assert_eq!(io.read(&mut [0; 64]).unwrap(), 5);
        assert!(io.kind == Kind::Unknown && io.readiness.is_readable());
        assert_eq!(io.kind(), Kind::Pipe, "a direct question is answered");
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
