//! Streams: the types that a connection can be made of.

use std::any::Any;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IsTerminal, PipeReader, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use crate::error::errno;
use crate::sockets;
use reactor::{Interest, Io};
use rustix::io::Errno;

/// A source of bytes, a sink of bytes, or both. Implement it for a stream of your own, for example
/// for TLS.
///
/// ```
/// use std::io::{self, IoSlice, Read, Write};
/// use std::net::TcpStream;
/// use std::os::fd::{AsFd, BorrowedFd};
/// use handlers::Stream;
/// use reactor::Io;
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
/// impl Stream for Inverted {
///     fn read(io: &mut Io<Self>, buf: &mut [u8]) -> io::Result<usize> {
///         let count = io.try_io(reactor::Interest::READABLE, |stream| stream.0.read(buf))?;
///         buf[..count].iter_mut().for_each(|byte| *byte = !*byte);
///         Ok(count)
///     }
///
///     fn write(io: &mut Io<Self>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
///         let bytes = bufs.iter().flat_map(|buf| buf.iter());
///         let inverted: Vec<u8> = bytes.map(|byte| !byte).collect();
///         io.try_io(reactor::Interest::WRITABLE, |stream| stream.0.write(&inverted))
///     }
/// }
/// ```
pub trait Stream: AsFd + Sized + 'static {
    /// Whether the stream can be read. Default: `true`.
    const READS: bool = true;
    /// Whether the stream can be written to. Default: `true`.
    const WRITES: bool = true;

    /// Reads once. Returns the number of bytes read, and 0 at the end of the stream.
    ///
    /// The loop tracks only the readiness of the file descriptor. If the stream buffers input (TLS
    /// for example), return buffered bytes first. Read from the source, through [`Io::try_io`],
    /// only when the buffer is empty. The source counts as readable until `try_io` has seen
    /// `WouldBlock`, and until then `read` is called again.
    ///
    /// # Errors
    /// - `WouldBlock` if there is nothing to read now.
    /// - Any other error ends the connection, except `Interrupted`.
    fn read(io: &mut Io<Self>, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes once, as much as the stream takes. Returns the number of bytes written.
    ///
    /// # Errors
    /// - `WouldBlock` if nothing can be written now.
    /// - Any other error ends the connection, except `Interrupted`.
    fn write(io: &mut Io<Self>, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Returns `true` if bytes that have arrived are still to be read. Called if the socket has
    /// failed while its handler pauses reading. A stream that buffers input must count its buffer
    /// too.
    fn has_unread(io: &Io<Self>) -> bool {
        sockets::unread(io.as_fd()) > 0
    }

    /// Closes the write side of the stream. Default: `shutdown(2)`.
    ///
    /// # Errors
    /// Those of `shutdown(2)`. `ENOTCONN` is not an error: it means that the peer is gone.
    fn shutdown(io: &mut Io<Self>) -> io::Result<Shutdown> {
        match sockets::shutdown_write(io.as_fd()) {
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(Shutdown::Done),
            Err(error) if errno(&error) == Some(Errno::NOTSOCK) => Ok(Shutdown::Unsupported),
            other => other.map(|()| Shutdown::Done),
        }
    }
}

/// The result of [`Stream::shutdown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stream that cannot end one direction must be closed"]
pub enum Shutdown {
    /// The write side is closed.
    Done,
    /// The stream cannot close one side alone. It is closed instead.
    Unsupported,
}

/// Returns whether a read failed because it has reached the end of a terminal. The master of a
/// terminal returns `EIO` when the last process that had the terminal open has closed it. The
/// terminal itself returns `EIO` after a hangup. A file returns `EIO` for a disk that has lost
/// data, which is not an end.
#[cold]
pub(super) fn is_end_of_terminal(fd: &impl AsFd, error: &io::Error) -> bool {
    errno(error) == Some(Errno::IO) && fd.as_fd().is_terminal()
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

/// A stream without its type, so that the rest of the connection is compiled only once.
pub(super) trait DynStream {
    fn write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
    fn shutdown(&mut self) -> io::Result<Shutdown>;
    /// Makes the socket count as writable only when the kernel has sent all bytes that it was
    /// given. Returns whether the socket supports this.
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
        let is_known = sockets::await_sent(self.as_fd());
        if is_known {
            // The known readiness is that from before. Forget it, so that the kernel reports it
            // again.
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
