//! The traits of `futures-io` for a source.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsFd;
#[cfg(feature = "simulation")]
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use rustix::io::Errno;

use super::readiness::Direction;
use super::{Async, Facts};
use crate::error::errno;
use crate::sockets;

/// The maximum number of slices in one call: `UIO_MAXIOV` of the kernel, to which the standard
/// library cuts a longer list.
const SLICES_MAX: usize = 1024;

impl<T: AsFd + 'static> Async<T> {
    /// Moves at most `wanted` bytes.
    fn poll_transfer(
        &self,
        direction: Direction,
        wanted: usize,
        cx: &mut Context<'_>,
        operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let moved = ready!(self.poll_operation(direction, cx, operation))?;
        // 0 is the end of a stream, which stays readable.
        if moved > 0 && moved < wanted && self.facts.of_type.short_means_drained {
            self.registered.set_short(direction);
        }
        Poll::Ready(Ok(moved))
    }
}

impl<T: AsFd + 'static> AsyncRead for &Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let facts = self.facts;
        self.poll_transfer(Direction::Read, buf.len(), cx, |source| {
            read(source, facts, buf)
        })
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let facts = self.facts;
        let wanted = bufs.iter().take(SLICES_MAX).map(|buf| buf.len()).sum();
        self.poll_transfer(Direction::Read, wanted, cx, |source| {
            read_vectored(source, facts, bufs)
        })
    }
}

impl<T: AsFd + 'static> AsyncWrite for &Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let facts = self.facts;
        self.poll_transfer(Direction::Write, buf.len(), cx, |source| {
            write(source, facts, buf)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let facts = self.facts;
        let wanted = bufs.iter().take(SLICES_MAX).map(|buf| buf.len()).sum();
        self.poll_transfer(Direction::Write, wanted, cx, |source| {
            write_vectored(source, facts, bufs)
        })
    }

    /// Flushes the source. A socket or a pipe has no buffer of its own, so this waits for nothing.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.facts.of_type.is_unbuffered {
            return Poll::Ready(Ok(()));
        }
        self.poll_operation(Direction::Write, cx, |mut source| source.flush())
    }

    /// Flushes, and closes the write side of a stream socket, once. Another source is only flushed.
    ///
    /// # Errors
    /// `ENOTCONN` if the connection has ended before, for example by a reset: the peer may not have
    /// received what was written.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        if self.has_closed.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let closed = match sockets::shutdown_write(self.source.as_fd()) {
            Err(error) if errno(&error) == Some(Errno::NOTSOCK) => Ok(()),
            closed => closed,
        };
        self.has_closed.fetch_or(closed.is_ok(), Ordering::Relaxed);
        Poll::Ready(closed)
    }
}

/// The same as for a reference.
impl<T: AsFd + 'static> AsyncRead for Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read_vectored(cx, bufs)
    }
}

/// The same as for a reference.
impl<T: AsFd + 'static> AsyncWrite for Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}

/// Returns `true` if a simulation reads and writes an fd in the place of the kernel.
#[cfg(feature = "simulation")]
pub(super) fn is_simulated(fd: BorrowedFd<'_>) -> bool {
    reactor::simulation::installed().is_some_and(|system| system.owns(fd.as_raw_fd()))
}

/// Calls a simulation in the place of the kernel.
#[cfg(feature = "simulation")]
macro_rules! simulate {
    ($call:ident, $source:expr, $facts:expr, $bufs:expr) => {
        if $facts.is_simulated
            && let Some(system) = reactor::simulation::installed()
        {
            return system.$call($source.as_fd().as_raw_fd(), $bufs);
        }
    };
}

#[cfg(not(feature = "simulation"))]
macro_rules! simulate {
    ($call:ident, $source:expr, $facts:expr, $bufs:expr) => {
        let _ = $facts;
    };
}

fn read<T: AsFd>(mut source: &T, facts: Facts, buf: &mut [u8]) -> io::Result<usize>
where
    for<'a> &'a T: Read,
{
    simulate!(read, source, facts, &mut [IoSliceMut::new(buf)]);
    source.read(buf)
}

fn read_vectored<T: AsFd>(
    mut source: &T,
    facts: Facts,
    bufs: &mut [IoSliceMut<'_>],
) -> io::Result<usize>
where
    for<'a> &'a T: Read,
{
    simulate!(read, source, facts, bufs);
    source.read_vectored(bufs)
}

fn write<T: AsFd>(mut source: &T, facts: Facts, buf: &[u8]) -> io::Result<usize>
where
    for<'a> &'a T: Write,
{
    simulate!(write, source, facts, &[IoSlice::new(buf)]);
    source.write(buf)
}

fn write_vectored<T: AsFd>(mut source: &T, facts: Facts, bufs: &[IoSlice<'_>]) -> io::Result<usize>
where
    for<'a> &'a T: Write,
{
    simulate!(write, source, facts, bufs);
    source.write_vectored(bufs)
}
