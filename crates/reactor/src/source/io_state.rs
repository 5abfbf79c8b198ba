//! `IoState`: the known facts about the readiness of a source, and what reads and writes prove.
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

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(feature = "simulation")]
use std::{os::fd::AsRawFd, rc::Rc};

use super::kind::{Kind, TypeFacts};
use super::readiness::{Interest, Readiness};
use crate::sys::fd;
#[cfg(feature = "simulation")]
use crate::sys::simulated::{self, System};

/// The readiness of a source, apart from the source itself.
///
/// [`Io::parts_mut`](crate::Io::parts_mut) returns it beside the source. Use it if the source is a
/// layer around another source, such as a TLS stream around a socket: the layer reads and writes
/// the inner source through [`read`](Self::read) and [`write`](Self::write), so that the loop knows
/// when that source is ready.
///
/// ```
/// use std::io::{self, Read};
/// use std::net::TcpStream;
/// use std::os::fd::{AsFd, BorrowedFd};
/// use reactor::{Io, IoState};
///
/// /// A stream whose bytes are all inverted.
/// struct Inverted(TcpStream);
///
/// impl AsFd for Inverted {
///     fn as_fd(&self) -> BorrowedFd<'_> {
///         self.0.as_fd()
///     }
/// }
///
/// impl Inverted {
///     fn read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
///         let count = io.read(&mut self.0, buf)?;
///         buf[..count].iter_mut().for_each(|byte| *byte = !*byte);
///         Ok(count)
///     }
/// }
///
/// /// In a handler:
/// fn read_some(io: &mut Io<Inverted>, buf: &mut [u8]) -> io::Result<usize> {
///     let (inverted, state) = io.parts_mut();
///     inverted.read(state, buf)
/// }
/// ```
#[derive(Debug)]
pub struct IoState {
    pub(super) kind: Kind,
    /// The directions in which the kernel reports changes. In the others nothing is known, so every
    /// operation is attempted.
    armed: Interest,
    pub(super) readiness: Readiness,
    /// The facts that keep a short read or write of the registered source from proving that the
    /// kernel's buffer is exhausted. All facts, if a short read or write never proves it.
    inconclusive: Readiness,
    /// The same for the source inside of a layer, if it is a stream or a pipe.
    inner_inconclusive: Readiness,
    /// `true` if the kind decides what a short read or write proves, and the kernel was not asked
    /// for the kind yet.
    asks_kind: bool,
    always_ready: bool,
    /// Whether a simulation reads and writes in the place of the kernel: for the registered source,
    /// and for the source inside of a layer.
    #[cfg(feature = "simulation")]
    simulated: bool,
    #[cfg(feature = "simulation")]
    inner_simulated: bool,
}

impl IoState {
    pub(super) fn new<T: AsFd + 'static>(source: &T, always_ready: bool) -> Self {
        let TypeFacts { kind, unbuffered } = TypeFacts::of::<T>();
        #[cfg(feature = "simulation")]
        let inner_simulated = simulated::owner(source.as_fd()).is_some();
        #[cfg(not(feature = "simulation"))]
        let _ = source;
        Self {
            kind,
            armed: Interest::NONE,
            readiness: Readiness::EMPTY,
            inconclusive: inconclusive_if(unbuffered && kind.short_io_means_drained()),
            inner_inconclusive: inconclusive_if(true),
            asks_kind: unbuffered && kind == Kind::Unknown,
            always_ready,
            // A type of the user's does more than one system call in its `read`, so it is called.
            #[cfg(feature = "simulation")]
            simulated: unbuffered && inner_simulated,
            #[cfg(feature = "simulation")]
            inner_simulated,
        }
    }

    /// Returns the readiness of the source at this moment, after the reads and writes that were
    /// made so far.
    #[inline]
    pub const fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// Returns `true` if the source is [always ready](crate::Io::is_always_ready).
    #[inline]
    pub const fn is_always_ready(&self) -> bool {
        self.always_ready
    }

    /// Returns the kind of the source behind `fd`. If its type does not show the kind, the kernel
    /// is asked.
    pub(super) fn kind(&self, fd: BorrowedFd<'_>) -> Kind {
        match self.kind {
            Kind::Unknown => fd::kind(fd),
            kind => kind,
        }
    }

    /// Reads once from `source`, which is the registered source or the one inside of it.
    ///
    /// # Errors
    /// - The errors of the source.
    /// - `WouldBlock` if it is known that there is nothing to read. The source is then not read.
    #[inline(always)]
    pub fn read<R: Read + AsFd + 'static>(
        &mut self,
        source: &mut R,
        buf: &mut [u8],
    ) -> io::Result<usize> {
        self.read_as::<Inner<R>, R>(source, buf)
    }

    /// Reads once into several buffers, as [`read`](Self::read) does into one.
    ///
    /// # Errors
    /// - The errors of the source.
    /// - `WouldBlock` if it is known that there is nothing to read. The source is then not read.
    #[inline]
    pub fn read_vectored<R: Read + AsFd + 'static>(
        &mut self,
        source: &mut R,
        bufs: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        self.read_vectored_as::<Inner<R>, R>(source, bufs)
    }

    /// Writes once to `source`, which is the registered source or the one inside of it.
    ///
    /// # Errors
    /// - The errors of the source.
    /// - `WouldBlock` if it is known that there is no room. The source is then not written to.
    #[inline(always)]
    pub fn write<W: Write + AsFd + 'static>(
        &mut self,
        source: &mut W,
        buf: &[u8],
    ) -> io::Result<usize> {
        self.write_as::<Inner<W>, W>(source, buf)
    }

    /// Writes once from several buffers, as [`write`](Self::write) does from one.
    ///
    /// # Errors
    /// - The errors of the source.
    /// - `WouldBlock` if it is known that there is no room. The source is then not written to.
    #[inline]
    pub fn write_vectored<W: Write + AsFd + 'static>(
        &mut self,
        source: &mut W,
        bufs: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.write_vectored_as::<Inner<W>, W>(source, bufs)
    }

    /// Performs an operation on the source that is not a plain read or write, as
    /// [`Io::try_io`](crate::Io::try_io) does.
    ///
    /// # Errors
    /// The errors of the operation, and `WouldBlock` if the operation was not attempted.
    #[inline]
    pub fn try_io<R>(
        &mut self,
        interest: Interest,
        operation: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        self.expect_ready(interest)?;
        let result = operation();
        if let Err(error) = &result {
            self.after_error(interest, error);
        }
        result
    }

    /// Marks the source as readable, although the kernel may have nothing to read. Use it if a
    /// layer around the source holds input that its handler did not take in this call. The handler
    /// is then called next turn, if its interest is `READABLE`.
    ///
    /// The mark is removed as any readiness is, by the next `WouldBlock`.
    #[inline]
    pub fn mark_readable(&mut self) {
        self.readiness |= Readiness::READABLE;
    }

    /// Forgets what is known of the readiness. The loop asks the kernel again after this call of
    /// the handler, by one `epoll_ctl`. Use it if the source counts as ready and an operation could
    /// do nothing, although no `WouldBlock` has shown that.
    ///
    /// If that happens in more than 8 consecutive turns, and the kernel still reports the source as
    /// ready, the loop pauses before each further call: see
    /// [`Handler::ready`](crate::Handler::ready).
    pub fn forget_readiness(&mut self) {
        if self.always_ready {
            self.readiness |= Readiness::RECHECK;
        } else {
            self.readiness = Readiness::RECHECK;
        }
    }

    #[inline(always)]
    pub(super) fn read_as<A: Access, R: Read + AsFd>(
        &mut self,
        source: &mut R,
        buf: &mut [u8],
    ) -> io::Result<usize> {
        let wanted = buf.len();
        #[cfg(feature = "simulation")]
        let system = self.simulation::<A>();
        self.transfer::<A, _>(Interest::READABLE, wanted, source, |source| {
            #[cfg(feature = "simulation")]
            if let Some(system) = system {
                return system.read(source.as_fd().as_raw_fd(), &mut [IoSliceMut::new(buf)]);
            }
            source.read(buf)
        })
    }

    #[inline]
    pub(super) fn read_vectored_as<A: Access, R: Read + AsFd>(
        &mut self,
        source: &mut R,
        bufs: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        let wanted = bufs.iter().take(SLICES_MAX).map(|buf| buf.len()).sum();
        #[cfg(feature = "simulation")]
        let system = self.simulation::<A>();
        self.transfer::<A, _>(Interest::READABLE, wanted, source, |source| {
            #[cfg(feature = "simulation")]
            if let Some(system) = system {
                return system.read(source.as_fd().as_raw_fd(), bufs);
            }
            source.read_vectored(bufs)
        })
    }

    #[inline(always)]
    pub(super) fn write_as<A: Access, W: Write + AsFd>(
        &mut self,
        source: &mut W,
        buf: &[u8],
    ) -> io::Result<usize> {
        #[cfg(feature = "simulation")]
        let system = self.simulation::<A>();
        self.transfer::<A, _>(Interest::WRITABLE, buf.len(), source, |source| {
            #[cfg(feature = "simulation")]
            if let Some(system) = system {
                return system.write(source.as_fd().as_raw_fd(), &[IoSlice::new(buf)]);
            }
            source.write(buf)
        })
    }

    #[inline]
    pub(super) fn write_vectored_as<A: Access, W: Write + AsFd>(
        &mut self,
        source: &mut W,
        bufs: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let wanted = bufs.iter().take(SLICES_MAX).map(|buf| buf.len()).sum();
        #[cfg(feature = "simulation")]
        let system = self.simulation::<A>();
        self.transfer::<A, _>(Interest::WRITABLE, wanted, source, |source| {
            #[cfg(feature = "simulation")]
            if let Some(system) = system {
                return system.write(source.as_fd().as_raw_fd(), bufs);
            }
            source.write_vectored(bufs)
        })
    }

    /// Returns the simulation that reads and writes in the place of the kernel.
    #[cfg(feature = "simulation")]
    fn simulation<A: Access>(&self) -> Option<Rc<dyn System>> {
        A::is_simulated(self).then(simulated::installed).flatten()
    }

    /// Begins a call of the handler: copies the facts that the reactor knows.
    #[inline]
    pub(super) fn begin(&mut self, readiness: Readiness, armed: Interest) {
        self.readiness = readiness;
        self.armed = armed;
    }

    /// Makes every short read and write inconclusive, because urgent data was seen.
    pub(super) const fn saw_urgent_data(&mut self) {
        self.inconclusive = inconclusive_if(false);
        self.inner_inconclusive = inconclusive_if(false);
        self.asks_kind = false;
    }

    /// Returns `WouldBlock`, without a system call, if `interest` is watched and none of its facts
    /// is known to hold.
    #[inline]
    fn expect_ready(&mut self, interest: Interest) -> io::Result<()> {
        let is_known = self.readiness.intersects(interest.facts());
        // Most connections are written to without ever having been watched for room.
        let is_unwatched_write =
            || interest == Interest::WRITABLE && !self.armed.contains(interest);
        if is_known || is_unwatched_write() {
            Ok(())
        } else {
            self.expect_unwatched(interest)
        }
    }

    /// Does the same if no fact is known to hold. It is a function of its own because most reads
    /// need only the test of one word.
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
    #[inline(always)]
    fn transfer<A: Access, R: AsFd>(
        &mut self,
        interest: Interest,
        wanted: usize,
        source: &mut R,
        operation: impl FnOnce(&mut R) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.expect_ready(interest)?;
        let result = operation(source);
        match &result {
            Ok(moved) => {
                // 0 is the end of a stream, which stays readable.
                let short = *moved < wanted && *moved > 0;
                // After the peer has closed its write side an end is still to be read. For writes
                // this means nothing.
                let reads = interest == Interest::READABLE;
                let inconclusive = if reads {
                    A::inconclusive(self)
                } else {
                    A::inconclusive(self).without_bits(Readiness::READ_CLOSED_BITS)
                };
                if short && !self.readiness.intersects(inconclusive) {
                    self.readiness = self.readiness.without_bits(interest.disproved_by_short());
                }
            }
            Err(error) => self.after_failed_transfer(interest, source.as_fd(), error),
        }
        result
    }

    /// Asks the kernel for the kind at the first `WouldBlock`, if the type does not show what a
    /// short read proves. A source that never meets a `WouldBlock` gains nothing from the answer.
    /// Asking here costs other operations no instruction.
    #[cold]
    fn after_failed_transfer(&mut self, interest: Interest, fd: BorrowedFd<'_>, error: &io::Error) {
        if self.asks_kind && error.kind() == ErrorKind::WouldBlock {
            self.kind = self.kind(fd);
            self.inconclusive = inconclusive_if(self.kind.short_io_means_drained());
            self.asks_kind = false;
        }
        self.after_error(interest, error);
    }

    #[cold]
    pub(super) fn after_error(&mut self, interest: Interest, error: &io::Error) {
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

/// The source that is read or written: the registered one, or one whose type is looked at when this
/// is compiled.
pub(super) trait Access {
    /// Returns the facts that make a short read or write inconclusive.
    fn inconclusive(state: &IoState) -> Readiness;

    /// Returns `true` if a simulation reads and writes in the place of the kernel.
    #[cfg(feature = "simulation")]
    fn is_simulated(state: &IoState) -> bool;
}

/// The registered source.
pub(super) struct Registered;

impl Access for Registered {
    #[inline]
    fn inconclusive(state: &IoState) -> Readiness {
        state.inconclusive
    }

    #[cfg(feature = "simulation")]
    fn is_simulated(state: &IoState) -> bool {
        state.simulated
    }
}

/// A source of type `R`: the registered one, or the one inside of it.
struct Inner<R>(PhantomData<R>);

impl<R: 'static> Access for Inner<R> {
    #[inline]
    fn inconclusive(state: &IoState) -> Readiness {
        let TypeFacts { kind, unbuffered } = TypeFacts::of::<R>();
        match kind {
            Kind::Unknown if unbuffered => state.inconclusive,
            kind if kind.short_io_means_drained() => state.inner_inconclusive,
            _ => Readiness::ALL,
        }
    }

    #[cfg(feature = "simulation")]
    fn is_simulated(state: &IoState) -> bool {
        TypeFacts::of::<R>().unbuffered && state.inner_simulated
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
