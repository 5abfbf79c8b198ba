//! Streams: the types that a connection can be opened on.

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

/// A source of bytes, a sink of bytes, or both. Implement this trait for a stream of your own, for
/// example for TLS.
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
    /// `true` if the stream can be read. Default: `true`.
    const READS: bool = true;
    /// `true` if the stream can be written to. Default: `true`.
    const WRITES: bool = true;

    /// Reads once into `buf`. Returns the number of bytes read, or 0 at the end of the stream.
    ///
    /// The loop knows whether the file descriptor is readable. It does not know about a buffer
    /// inside of the stream. If the stream has such a buffer, as for TLS, first return the buffered
    /// bytes. Read from the file descriptor only when the buffer is empty, and through
    /// [`Io::try_io`]. Until `try_io` has returned `WouldBlock`, `read` is called again.
    ///
    /// # Errors
    /// - `WouldBlock` if there is nothing to read now.
    /// - `Interrupted` if the call must be repeated. `read` is then called again.
    /// - Any other error ends the connection with this error.
    fn read(io: &mut Io<Self>, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes once, as much as the stream takes. Returns the number of bytes written. `bufs` always
    /// holds at least one byte. If `write` returns 0, the connection treats this as an error of
    /// kind `WriteZero`.
    ///
    /// # Errors
    /// - `WouldBlock` or `Interrupted` if nothing was written. `write` is then called again later.
    /// - Any other error means that the stream takes no more bytes. The handler is called with the
    ///   rest of the input, and then the connection ends with this error.
    fn write(io: &mut Io<Self>, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Returns `true` if bytes that have arrived are still unread. It is called if the socket fails
    /// while reading is paused. If the stream has an input buffer of its own, also return `true` if
    /// this buffer holds bytes. The default returns `true` if the kernel holds unread bytes, or if
    /// the kernel cannot tell.
    fn has_unread(io: &Io<Self>) -> bool {
        sockets::unread(io.as_fd()) > 0
    }

    /// Closes the write side of the stream. The default calls `shutdown(2)`, and returns
    /// [`Shutdown::Unsupported`] if the stream is not a socket (`ENOTSOCK`).
    ///
    /// # Errors
    /// The default returns the errors of `shutdown(2)`, except `ENOTCONN`. This error means that
    /// the peer is gone and nothing is left to close, so the default returns [`Shutdown::Done`]
    /// instead.
    ///
    /// Every error, even `WouldBlock`, means that the stream takes no more bytes. The handler is
    /// called with the rest of the input, and then the connection ends with this error.
    fn shutdown(io: &mut Io<Self>) -> io::Result<Shutdown> {
        match sockets::shutdown_write(io.as_fd()) {
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(Shutdown::Done),
            Err(error) if errno(&error) == Some(Errno::NOTSOCK) => Ok(Shutdown::Unsupported),
            other => other.map(|()| Shutdown::Done),
        }
    }
}

/// The result of [`Stream::shutdown`].
///
/// ```
/// use std::fs::File;
/// use std::io::{self, IoSlice, Read, Write};
/// use std::os::fd::{AsFd, BorrowedFd};
/// use handlers::{Shutdown, Stream};
/// use reactor::Io;
///
/// /// A serial port. Its two directions can only be closed together.
/// struct Serial(File);
///
/// impl AsFd for Serial {
///     fn as_fd(&self) -> BorrowedFd<'_> {
///         self.0.as_fd()
///     }
/// }
///
/// impl Stream for Serial {
///     fn shutdown(_io: &mut Io<Self>) -> io::Result<Shutdown> {
///         Ok(Shutdown::Unsupported)
///     }
/// #   fn read(io: &mut Io<Self>, buf: &mut [u8]) -> io::Result<usize> {
/// #       io.try_io(reactor::Interest::READABLE, |serial| serial.0.read(buf))
/// #   }
/// #   fn write(io: &mut Io<Self>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
/// #       io.try_io(reactor::Interest::WRITABLE, |serial| serial.0.write_vectored(bufs))
/// #   }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stream that cannot end one direction must be closed"]
pub enum Shutdown {
    /// The write side is closed.
    Done,
    /// The stream cannot close its write side alone. The connection ends, and the whole stream is
    /// closed.
    Unsupported,
}

/// Returns `true` if a read failed because it has reached the end of a terminal. The master of a
/// terminal returns `EIO` when the last process that had the terminal open has closed it. The
/// terminal itself returns `EIO` after a hangup. A file returns `EIO` too, for a disk that has lost
/// data: that is not an end.
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
    /// Makes the socket count as writable only while the kernel holds no unsent bytes of it. Sent
    /// bytes that the peer has not acknowledged do not matter. Returns `true` if the socket
    /// supports this.
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
            // The known readiness is from before the option was set. Forget it, so that the kernel
            // reports it again.
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
