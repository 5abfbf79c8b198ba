//! Streams: what a connection can be made of.

use std::any::Any;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IsTerminal, PipeReader, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use crate::error::errno;
use reactor::{Interest, Io};
use rustix::io::Errno;
use socket2::SockRef;

/// A source of bytes, a sink of bytes, or both. Implement it for a stream of your own, one with TLS for example.
pub trait Stream: AsFd + Sized + 'static {
    /// Whether anything can be read from it.
    const READS: bool = true;
    /// Whether anything can be written to it.
    const WRITES: bool = true;

    /// Reads once. Returns 0 at the end of the stream.
    ///
    /// The loop tracks the readiness of the file descriptor only. A stream that buffers input, TLS for example, returns
    /// buffered bytes first, and reads from the source, through [`Io::try_io`], only when it has none left. Until
    /// `WouldBlock` was met there the source counts as readable, and this is called again.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing now; any other ends the connection.
    fn read(io: &mut Io<Self>, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes once, as much as the stream takes. Returns how many bytes that was.
    ///
    /// # Errors
    /// `WouldBlock` if nothing goes now; any other ends the connection.
    fn write(io: &mut Io<Self>, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Returns whether bytes that have come are left to read. Asked of a stream whose socket has failed while its
    /// handler pauses. A stream that buffers input counts that too.
    fn has_unread(io: &Io<Self>) -> bool {
        unread(io.as_fd()) > 0
    }

    /// Ends the direction of writing. Default: `shutdown(2)`.
    ///
    /// # Errors
    /// Those of `shutdown(2)`; `ENOTCONN`, for a peer that has gone, is none.
    fn shutdown(io: &mut Io<Self>) -> io::Result<Shutdown> {
        match SockRef::from(&*io).shutdown(std::net::Shutdown::Write) {
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(Shutdown::Done),
            Err(error) if errno(&error) == Some(Errno::NOTSOCK) => Ok(Shutdown::Unsupported),
            other => other.map(|()| Shutdown::Done),
        }
    }
}

/// What [`Stream::shutdown`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stream that cannot end one direction must be closed"]
pub enum Shutdown {
    /// The direction of writing has ended.
    Done,
    /// The stream cannot end one direction alone. It is closed instead.
    Unsupported,
}

/// Whether a read that has failed has come to the end of a terminal. Its master says `EIO` when the last process that
/// had it open has closed it, and it says so itself when it was hung up. A file says so of a disk that has lost what is
/// in it.
#[cold]
pub(super) fn is_end_of_terminal(fd: &impl AsFd, error: &io::Error) -> bool {
    errno(error) == Some(Errno::IO) && fd.as_fd().is_terminal()
}

/// Bytes in the kernel's buffer; 1 where it does not say, so that none are lost.
fn unread(fd: BorrowedFd<'_>) -> u64 {
    rustix::io::ioctl_fionread(fd).unwrap_or(1)
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
pub(super) trait DynStream {
    fn write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
    fn shutdown(&mut self) -> io::Result<Shutdown>;
    /// From now on the socket counts as writable when the kernel has sent all that it was given, and not before:
    /// whether it can say so.
    fn await_sent(&mut self) -> bool;
    fn is_writable(&self) -> bool;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn fd(&self) -> BorrowedFd<'_>;
}

impl<T: Stream> DynStream for Io<T> {
    fn write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        T::write(self, bufs)
    }

    fn shutdown(&mut self) -> io::Result<Shutdown> {
        T::shutdown(self)
    }

    fn await_sent(&mut self) -> bool {
        // tcp(7), TCP_NOTSENT_LOWAT; what is no TCP does not know it.
        let is_known = SockRef::from(&*self).set_tcp_notsent_lowat(1).is_ok();
        if is_known {
            // What is known of it was true before: the kernel is to say it anew.
            let anew = |_: &mut T| io::Result::<()>::Err(ErrorKind::WouldBlock.into());
            let _ = self.try_io(Interest::READABLE | Interest::WRITABLE, anew);
        }
        is_known
    }

    fn is_writable(&self) -> bool {
        self.readiness().is_writable()
    }

    fn as_any(&self) -> &dyn Any {
        self.get_ref()
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self.get_mut()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}
