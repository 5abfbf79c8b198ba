//! Streams: what a connection can be made of.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, PipeReader, PipeWriter, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use reactor::Io;
use rustix::io::Errno;
use socket2::SockRef;

/// A source of bytes, a sink of bytes, or both. Implement it for a stream of your own, one with TLS for example.
pub trait Stream: AsFd + Sized + 'static {
    /// Whether anything can be read from it.
    const READS: bool = true;
    /// Whether anything can be written to it.
    const WRITES: bool = true;

    /// Reads once. 0 is the end of the stream.
    ///
    /// The loop knows of the source alone, not of what a stream has taken from it and keeps. Such a stream gives that first,
    /// and goes to the source, by [`Io::try_io`], only when it has nothing left: as long as no `WouldBlock` was met there, the
    /// source counts as readable, and this is called again.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing now; any other ends the connection.
    fn read(io: &mut Io<Self>, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes once, as much as goes.
    ///
    /// # Errors
    /// `WouldBlock` if nothing goes now; any other ends the connection.
    fn write(io: &mut Io<Self>, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends the direction of writing. A stream that cannot do that on its own says so by `false`, and is closed instead.
    ///
    /// # Errors
    /// Those of `shutdown(2)`; `ENOTCONN`, for a peer that has gone, is none.
    fn shutdown(io: &mut Io<Self>) -> io::Result<bool> {
        match SockRef::from(&*io).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(true),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTSOCK) => Ok(false),
            other => other.map(|()| true),
        }
    }
}

fn write_all_slices<T: Write + AsFd>(io: &mut Io<T>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    match bufs {
        [one] => io.write(one), // send(2) costs a little less than sendmsg(2)
        several => io.write_vectored(several),
    }
}

macro_rules! streams {
    (both: $($both:ty),*; reads: $($reads:ty),*; writes: $($writes:ty),*) => {
        $(impl Stream for $both {
            #[inline]
            fn read(io: &mut Io<Self>, buf: &mut [u8]) -> io::Result<usize> {
                Read::read(io, buf)
            }

            #[inline]
            fn write(io: &mut Io<Self>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                write_all_slices(io, bufs)
            }
        })*
        $(impl Stream for $reads {
            const WRITES: bool = false;

            fn read(io: &mut Io<Self>, buf: &mut [u8]) -> io::Result<usize> {
                Read::read(io, buf)
            }

            fn write(_io: &mut Io<Self>, _bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                Err(io::ErrorKind::Unsupported.into())
            }
        })*
        $(impl Stream for $writes {
            const READS: bool = false;

            fn read(_io: &mut Io<Self>, _buf: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::Unsupported.into())
            }

            fn write(io: &mut Io<Self>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                write_all_slices(io, bufs)
            }
        })*
    };
}

streams! {
    both: TcpStream, UnixStream, File;
    reads: PipeReader, ChildStdout, ChildStderr;
    writes: PipeWriter, ChildStdin
}

/// A stream without its type, so that the rest of the connection is compiled once.
pub(super) trait AnyStream {
    fn write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
    fn shutdown(&mut self) -> io::Result<bool>;
    fn fd(&self) -> BorrowedFd<'_>;
}

impl<T: Stream> AnyStream for Io<T> {
    fn write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        T::write(self, bufs)
    }

    fn shutdown(&mut self) -> io::Result<bool> {
        T::shutdown(self)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}
