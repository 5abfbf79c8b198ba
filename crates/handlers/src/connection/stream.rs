//! Streams: the types that a connection can be opened on.

use std::any::Any;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IsTerminal, PipeReader, PipeWriter, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use crate::error::errno;
use crate::sockets;
use reactor::{Interest, Io, IoState};
use rustix::io::Errno;

/// A source of bytes, a sink of bytes, or both. Implement this trait for a stream of your own.
///
/// A *bare* stream only passes bytes on to a file descriptor, perhaps changed. It implements
/// [`try_read`](Self::try_read) and [`try_write`](Self::try_write):
///
/// ```
/// use std::io::{self, IoSlice};
/// use std::net::TcpStream;
/// use std::os::fd::{AsFd, BorrowedFd};
/// use handlers::Stream;
/// use reactor::IoState;
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
///     fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
///         let count = self.0.try_read(io, buf)?;
///         buf[..count].iter_mut().for_each(|byte| *byte = !*byte);
///         Ok(count)
///     }
///
///     fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
///         let bytes = bufs.iter().flat_map(|buf| buf.iter());
///         let inverted: Vec<u8> = bytes.map(|byte| !byte).collect();
///         self.0.try_write(io, &[IoSlice::new(&inverted)])
///     }
/// }
/// ```
///
/// # Layered streams
/// A stream that keeps something between two calls is *layered*: a handshake that is not complete,
/// input that was taken from the file descriptor and not returned yet, or output that the file
/// descriptor has not taken yet. TLS is an example. A layered stream sets
/// [`LAYERED`](Self::LAYERED). The connection then also does the following:
///
/// - It calls [`try_handshake`](Self::try_handshake) until the handshake is complete. Before that,
///   it neither reads nor writes, and the handler is not notified of the connection. The time is
///   limited by
///   [`ConnectionOptions::handshake_timeout`](crate::ConnectionOptions::handshake_timeout).
/// - It waits for the readiness that [`wants`](Self::wants) returns.
/// - It calls [`try_read`](Self::try_read) while the stream
///   [has buffered input](Self::has_buffered_input), without waiting for the kernel. At most
///   [`max_bytes_per_turn`](crate::ConnectionOptions::max_bytes_per_turn) bytes are read in a turn.
/// - It calls [`try_flush`](Self::try_flush) while the stream
///   [has buffered output](Self::buffered_output), whenever the file descriptor is writable. This
///   output counts as queued: for the watermarks, the write timeout, and the close of the
///   connection.
/// - It calls [`try_shutdown`](Self::try_shutdown) again until the end is sent, even if the peer
///   has ended its stream before.
/// - If the stream has failed and [has sent the reason](Self::has_sent_reason), it lets the peer
///   read the reason.
///
/// # Rules for every stream
/// - No method may block. Each method uses the file descriptor only through `io`, or through the
///   methods of an inner stream, so that the loop knows the readiness.
/// - A write that returned `WouldBlock` has taken no byte. It is repeated later with the same bytes
///   at the front. There can be more bytes than before, or, because of a rate limit, fewer.
/// - If a stream stays ready for what it wants and makes no progress, the loop backs off: see
///   [`Handler::ready`](reactor::Handler::ready).
///
/// A stream that is wrapped around an inner stream passes the same `io` on to it. If the inner
/// stream is layered, these rules hold for the calls of its methods too.
pub trait Stream: AsFd + Sized + 'static {
    /// `true` if the stream can be read. Default: `true`.
    const READS: bool = true;
    /// `true` if the stream can be written to. Default: `true`.
    const WRITES: bool = true;
    /// `true` if the stream is [layered](Self#layered-streams). Default: `false`. A stream that is
    /// not layered costs nothing for what layered streams need.
    const LAYERED: bool = false;

    /// Reads once into `buf`, which is not empty. Returns the number of bytes read, or 0 at the end
    /// of the stream.
    ///
    /// If the stream has buffered input, return these bytes first, and read from the file
    /// descriptor only when there are none. After a byte was returned, the call may be the last one
    /// of the turn.
    ///
    /// # Errors
    /// - `WouldBlock` if there is nothing to read now.
    /// - `Interrupted` if the call must be repeated. `try_read` is then called again.
    /// - Any other error ends the connection with this error. A stream that has an end of its own,
    ///   such as TLS, returns an error of kind `UnexpectedEof` if the file descriptor ends before
    ///   it.
    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes once, as much as the stream takes. Returns the number of bytes taken. `bufs` always
    /// holds at least one byte. If `try_write` returns 0, the connection treats this as an error of
    /// kind `WriteZero`.
    ///
    /// A layered stream may keep bytes that it has taken as
    /// [buffered output](Self::buffered_output). Keep a bounded amount: return `WouldBlock` while
    /// such output could not be sent.
    ///
    /// # Errors
    /// - `WouldBlock` or `Interrupted` if nothing was taken. `try_write` is then called again
    ///   later.
    /// - Any other error means that the stream takes no more bytes. The handler is called with the
    ///   rest of the input, and then the connection ends with this error.
    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Takes the steps of the handshake that are possible now. Only called for a layered stream,
    /// until it returns `Ok`, and not again if the stream is [taken](crate::Taken) after that. A
    /// connection that is made of the parts of a `Taken` calls it again, because nothing tells it
    /// of the first handshake. Default: no handshake.
    ///
    /// # Errors
    /// - `WouldBlock` if the handshake is not complete. `try_handshake` is called again when the
    ///   file descriptor is ready for what [`wants`](Self::wants) returns, and after each access by
    ///   [`ConnectionKey::with`](crate::ConnectionKey::with).
    /// - Any other error ends the connection with this error. A stream that has to send a reason to
    ///   the peer sends it before it returns.
    fn try_handshake(&mut self, io: &mut IoState) -> io::Result<()> {
        let _ = io;
        Ok(())
    }

    /// Sends the buffered output. Only called for a layered stream. Default: there is none.
    ///
    /// # Errors
    /// - `WouldBlock` or `Interrupted` if output is left.
    /// - Any other error means that the stream takes no more bytes, as an error of
    ///   [`try_write`](Self::try_write) does.
    fn try_flush(&mut self, io: &mut IoState) -> io::Result<()> {
        let _ = io;
        Ok(())
    }

    /// Closes the write side of the stream, after all bytes that were written. The default calls
    /// `shutdown(2)`, and returns [`Shutdown::Unsupported`] if the stream is not a socket
    /// (`ENOTSOCK`).
    ///
    /// A bare stream is called once, and not at all if the peer has closed its write side before. A
    /// layered stream is called until it returns `Ok`. It returns `Ok` when the end has been
    /// passed on to the kernel, with all buffered output before it. When the handler closes the
    /// connection by [`Connection::close`](crate::Connection::close) and everything was sent,
    /// `try_shutdown` is called just once.
    ///
    /// # Errors
    /// The default returns the errors of `shutdown(2)`, except `ENOTCONN`. This error means that
    /// the peer is gone and nothing is left to close, so the default returns [`Shutdown::Done`]
    /// instead.
    ///
    /// - `WouldBlock` or `Interrupted` of a layered stream: `try_shutdown` is called again when the
    ///   file descriptor is ready for what [`wants`](Self::wants) returns.
    /// - Any other error means that the stream takes no more bytes. The handler is called with the
    ///   rest of the input, and then the connection ends with this error.
    fn try_shutdown(&mut self, io: &mut IoState) -> io::Result<Shutdown> {
        let _ = io;
        match sockets::shutdown_write(self.as_fd()) {
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(Shutdown::Done),
            Err(error) if errno(&error) == Some(Errno::NOTSOCK) => Ok(Shutdown::Unsupported),
            other => other.map(|()| Shutdown::Done),
        }
    }

    /// Returns the readiness to wait for, if the connection wants to read or write as `interest`
    /// says. Only called for a layered stream, at the end of each call. Default: `interest`.
    ///
    /// `interest` is a union of `READABLE` and `WRITABLE`. During the handshake it is
    /// [`Interest::NONE`]. It contains `WRITABLE` while the stream has buffered output and while
    /// its end is being sent, unless a rate limit holds the connection back. Return what the file
    /// descriptor must be ready for:
    ///
    /// - If a write can go on only after input has arrived, `READABLE` in place of `WRITABLE`.
    /// - If a read can go on only after output was sent, `WRITABLE` in place of `READABLE`.
    /// - If the stream waits for something else, such as a certificate that is being fetched,
    ///   [`Interest::NONE`]. Call [`ConnectionKey::with`](crate::ConnectionKey::with) when it is
    ///   there.
    fn wants(&self, interest: Interest) -> Interest {
        interest
    }

    /// Returns `true` if [`try_read`](Self::try_read) can return bytes, the end or an error without
    /// the file descriptor. Only called for a layered stream. Default: `false`.
    fn has_buffered_input(&self) -> bool {
        false
    }

    /// Returns how many bytes the stream holds for the file descriptor. Only called for a layered
    /// stream. Default: 0.
    fn buffered_output(&self) -> usize {
        0
    }

    /// Returns `true` if the stream has failed, and the file descriptor has taken a message that
    /// tells the peer so, such as a TLS alert. Only called for a layered stream, after an error.
    /// Default: `false`.
    ///
    /// The connection then ends at once for its handler, and is not reset. A reset could overtake
    /// the message. Instead, the write side of the socket is closed, and the bytes that still come
    /// are discarded until the peer closes the socket. This takes 5 seconds at most, within which
    /// at most 6 MiB are read. Until then the socket counts for the
    /// [connection limit](crate::ListenOptions::limit), and keeps
    /// [`Reactor::run`](reactor::Reactor::run) alive.
    fn has_sent_reason(&self) -> bool {
        false
    }

    /// Drops everything that has come with earlier bytes and that the handler has not taken, for
    /// example file descriptors. Called before each read whose bytes are discarded, while a
    /// connection that closes sends its last bytes. Default: does nothing.
    fn discard_received(&mut self) {}

    /// Returns `true` if bytes that have arrived are still unread by the stream. It is called if
    /// the socket fails while reading is paused. The default returns `true` if the kernel holds
    /// unread bytes, or if the kernel cannot tell.
    fn has_unread(&self) -> bool {
        sockets::unread(self.as_fd()) > 0
    }
}

/// The result of [`Stream::try_shutdown`].
///
/// ```
/// use std::fs::File;
/// use std::io::{self, IoSlice};
/// use std::os::fd::{AsFd, BorrowedFd};
/// use handlers::{Shutdown, Stream};
/// use reactor::IoState;
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
///     fn try_shutdown(&mut self, _io: &mut IoState) -> io::Result<Shutdown> {
///         Ok(Shutdown::Unsupported)
///     }
/// #   fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
/// #       io.read(&mut self.0, buf)
/// #   }
/// #   fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
/// #       io.write_vectored(&mut self.0, bufs)
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

#[inline(always)]
fn write_slices<T: Write + AsFd + 'static>(
    stream: &mut T,
    io: &mut IoState,
    bufs: &[IoSlice<'_>],
) -> io::Result<usize> {
    match bufs {
        [one] => io.write(stream, one), // send(2) costs a little less than sendmsg(2)
        several => io.write_vectored(stream, several),
    }
}

macro_rules! streams {
    (both: $($both:ty),*; reads: $($reads:ty),*; writes: $($writes:ty),*) => {
        $(impl Stream for $both {
            #[inline(always)]
            fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
                io.read(self, buf)
            }

            #[inline(always)]
            fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                write_slices(self, io, bufs)
            }
        })*
        $(impl Stream for $reads {
            const WRITES: bool = false;

            fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
                io.read(self, buf)
            }

            fn try_write(&mut self, _io: &mut IoState, _bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                Err(io::ErrorKind::Unsupported.into())
            }
        })*
        $(impl Stream for $writes {
            const READS: bool = false;

            fn try_read(&mut self, _io: &mut IoState, _buf: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::Unsupported.into())
            }

            fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                write_slices(self, io, bufs)
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
    fn flush(&mut self) -> io::Result<()>;
    fn shutdown(&mut self) -> io::Result<Shutdown>;
    fn buffered_output(&self) -> usize;
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
        let (stream, state) = self.parts_mut();
        stream.try_write(state, bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        let (stream, state) = self.parts_mut();
        stream.try_flush(state)
    }

    fn shutdown(&mut self) -> io::Result<Shutdown> {
        let (stream, state) = self.parts_mut();
        stream.try_shutdown(state)
    }

    fn buffered_output(&self) -> usize {
        self.get_ref().buffered_output()
    }

    fn await_sent(&mut self) -> bool {
        let is_known = sockets::await_sent(self.as_fd());
        if is_known {
            // The known readiness is from before the option was set. Forget it, so that the kernel
            // reports it again.
            self.parts_mut().1.forget_readiness();
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
