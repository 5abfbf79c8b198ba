//! Unix sockets over which file descriptors are sent and received with the bytes.
//!
//! Ground rule: a descriptor has a place in the stream of bytes. One to send has the number of
//! bytes that are sent before it, so that it leaves with its first byte, whatever the socket takes
//! at once. One received is there when the handler is called with its first byte.
//!
//! The stream is not layered: descriptors that wait have bytes that wait, in the write queue or as
//! unconsumed input.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::take;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use reactor::{Interest, IoState};
use rustix::io::Errno;

use super::connection::Connection;
use super::state::Writing;
use super::stream::Stream;
use super::write::Flow;
use crate::error::advised;
use crate::sockets::descriptors::{FDS_MAX, are_carried_by, receive, send};

/// A Unix socket that carries file descriptors with its bytes.
///
/// [`Connection::write_with_fds`] sends descriptors, and [`Connection::take_fd`] takes those that
/// were received. A bare [`UnixStream`] carries only bytes: the kernel closes the descriptors that
/// a peer sends to it.
///
/// ```
/// use std::io;
/// use std::os::fd::OwnedFd;
/// use handlers::{Connection, ConnectionOptions, FdStream, Listener, on_data};
/// use reactor::Registry;
///
/// /// Serves clients that send a byte with each descriptor.
/// fn collect(
///     listener: Listener,
///     registry: &mut Registry<Vec<OwnedFd>>,
/// ) -> io::Result<handlers::ServerKey<Vec<OwnedFd>>> {
///     let options = ConnectionOptions::new();
///     let make = |stream: handlers::SocketStream| Ok(FdStream::new(stream.into_unix()?, 16));
///     listener.serve_as(registry, &options, make, |_peer, _cx| {
///         Ok(on_data(|data, connection: &mut Connection<'_, Vec<OwnedFd>>, cx| {
///             cx.state.extend(std::iter::from_fn(|| connection.take_fd()));
///             Ok(data.len())
///         }))
///     })
/// }
/// ```
///
/// # Limits
/// At most `max_fds` received descriptors wait to be taken. If more arrive, all of them are closed,
/// and the connection ends with an error of kind `QuotaExceeded`. It ends with `EMFILE` if this
/// process has no room for a descriptor that was sent: the kernel has closed it then. While a
/// connection that closes sends its last bytes, received descriptors are closed, however many.
///
/// Descriptors that are not sent, or not taken, are closed when the connection is closed. If the
/// connection is [taken](crate::ConnectionKey::take), they go with the stream.
///
/// # Rules
/// Do not wrap another stream around this one. A wrapper such as TLS sends other bytes than those
/// that you write, so the descriptors would leave with the wrong bytes. Do not set `SO_PASSCRED` or
/// another option that adds a message of its own, since such a message takes the room of
/// descriptors.
pub struct FdStream {
    socket: UnixStream,
    max_fds: usize,
    received: VecDeque<OwnedFd>,
    /// `true` if the bytes of the next read are discarded, and their descriptors with them.
    discards: bool,
    unsent: VecDeque<Unsent>,
    /// The number of bytes that the socket has taken.
    written: u64,
    is_simulated: bool,
}

/// Descriptors that wait for their first byte to be sent.
struct Unsent {
    /// The number of bytes that are sent before them.
    at: u64,
    fds: Vec<OwnedFd>,
}

impl FdStream {
    /// Returns the stream of a connected socket, at which at most `max_fds` received descriptors
    /// wait to be taken. With 0, a peer that sends a descriptor ends the connection. One message of
    /// a peer carries at most 253.
    pub fn new(socket: UnixStream, max_fds: usize) -> Self {
        Self {
            is_simulated: !are_carried_by(socket.as_fd()),
            socket,
            max_fds,
            received: VecDeque::new(),
            discards: false,
            unsent: VecDeque::new(),
            written: 0,
        }
    }

    /// Returns the socket. Bytes that are written to it, or read from it, are not seen by the
    /// connection.
    pub const fn get_ref(&self) -> &UnixStream {
        &self.socket
    }

    /// Returns the error for descriptors that were closed, because there was no room for them.
    #[cold]
    fn no_room(&mut self) -> io::Error {
        let max = self.max_fds;
        let is_beyond = self.received.len() >= max;
        self.received.clear();
        let fd = self.socket.as_raw_fd();
        if is_beyond {
            let text = format!(
                "recvmsg on fd {fd}: more descriptors than max_fds, which is {max}, wait to be taken"
            );
            return io::Error::new(ErrorKind::QuotaExceeded, text);
        }
        let advice = ": descriptors of the peer are lost, since this process has too many";
        let error = Errno::MFILE.into();
        advised(format_args!("recvmsg on fd {fd}"), error, advice)
    }

    /// Writes the next part of `bufs`, of which `done` bytes are written already: up to the next
    /// descriptors, or with them.
    fn write_part(
        &mut self,
        io: &mut IoState,
        bufs: &[IoSlice<'_>],
        done: usize,
    ) -> io::Result<usize> {
        let is_due = |unsent: &Unsent| unsent.at <= self.written;
        let next = self.unsent.iter().find(|unsent| !is_due(unsent));
        let until_next = next.map_or(u64::MAX, |next| next.at - self.written);
        let part = part(
            bufs,
            done,
            usize::try_from(until_next).unwrap_or(usize::MAX),
        );
        let sent = match self.unsent.front().filter(|unsent| is_due(unsent)) {
            None => self.socket.try_write(io, &part)?,
            Some(unsent) => {
                let socket = self.socket.as_fd();
                let sent = io.try_io(Interest::WRITABLE, || send(socket, &part, &unsent.fds))?;
                if sent > 0 {
                    self.unsent.pop_front(); // they left with the first byte
                }
                sent
            }
        };
        self.written += sent as u64;
        Ok(sent)
    }
}

/// Returns `count` bytes of `bufs` after the first `skip`, or as many as there are.
fn part<'a>(bufs: &'a [IoSlice<'_>], mut skip: usize, mut count: usize) -> Vec<IoSlice<'a>> {
    let mut part = Vec::with_capacity(bufs.len());
    for buf in bufs {
        let skipped = skip.min(buf.len());
        let rest = &buf[skipped..];
        let rest = &rest[..count.min(rest.len())];
        skip -= skipped;
        count -= rest.len();
        if !rest.is_empty() {
            part.push(IoSlice::new(rest));
        }
    }
    part
}

impl AsFd for FdStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for FdStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FdStream")
            .field("socket", &self.socket)
            .field("max_fds", &self.max_fds)
            .field("received", &self.received.len())
            .field("unsent", &self.unsent.len())
            .finish_non_exhaustive()
    }
}

impl Stream for FdStream {
    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        if self.is_simulated {
            return self.socket.try_read(io, buf);
        }
        let discards = take(&mut self.discards);
        let room = self.max_fds.saturating_sub(self.received.len());
        let (socket, fds) = (self.socket.as_fd(), &mut self.received);
        let received = io.try_io(Interest::READABLE, || receive(socket, buf, room, fds))?;
        if discards {
            self.received.clear(); // no limit has to hold for them
        } else if received.is_truncated || self.received.len() > self.max_fds {
            return Err(self.no_room());
        }
        Ok(received.bytes)
    }

    fn discard_received(&mut self) {
        self.received.clear();
        self.discards = true;
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.unsent.is_empty() {
            let sent = self.socket.try_write(io, bufs)?;
            self.written += sent as u64;
            return Ok(sent);
        }
        let total = bufs.iter().map(|buf| buf.len()).sum();
        let mut done = 0;
        while done < total {
            match self.write_part(io, bufs, done) {
                Ok(0) => break,
                Ok(sent) => done += sent,
                Err(_) if done > 0 => break, // the next call meets it again
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl<S> Connection<'_, S> {
    /// Sends `bytes`, as [`write`](Self::write) does, and `fds` with the first of these bytes. The
    /// stream of the connection must be an [`FdStream`]. The kernel passes on a copy of each
    /// descriptor. The descriptors are closed here when they were sent.
    ///
    /// ```
    /// use std::fs::File;
    /// use std::io;
    /// use handlers::{Connection, Flow};
    ///
    /// /// Passes a file to the peer, whose protocol has a byte for it.
    /// fn pass<S>(connection: &mut Connection<'_, S>, file: File) -> io::Result<Flow> {
    ///     connection.write_with_fds(b"F", vec![file.into()])
    /// }
    /// ```
    ///
    /// # Cost
    /// One `sendmsg` for each call with descriptors, once the bytes before it are sent. Descriptors
    /// that wait for their bytes count for the limit of open files.
    ///
    /// # Errors
    /// If an error is returned, nothing is sent, and the descriptors are closed:
    /// - `InvalidInput` if the stream is not an [`FdStream`], if `bytes` is empty and `fds` is not,
    ///   or if there are more than 253 descriptors.
    /// - `Unsupported` if the socket is simulated.
    /// - The errors of [`write`](Self::write).
    ///
    /// If the kernel refuses the descriptors later, the socket has failed: see
    /// [`write`](Self::write). The errno is for example `ETOOMANYREFS`, if more descriptors of this
    /// user are in transit than its processes may have open. On a socket that has failed, a write
    /// that returns [`Flow::Full`] drops the bytes and closes the descriptors.
    #[doc(alias("SCM_RIGHTS", "sendmsg", "uv_write2"))]
    pub fn write_with_fds(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) -> io::Result<Flow> {
        if fds.is_empty() {
            return self.write(bytes);
        }
        let queued = self.queued() as u64;
        let stream = self.stream_mut::<FdStream>().ok_or_else(no_fd_stream)?;
        expect_possible(bytes, &fds, stream.is_simulated)?;
        let at = stream.written + queued;
        stream.unsent.push_back(Unsent { at, fds });
        let written = self.write(bytes);
        let has_failed = self.state.writing() == Writing::Failed;
        if let Some(stream) = self.stream_mut::<FdStream>() {
            if has_failed {
                stream.unsent.clear(); // the bytes are dropped too
            } else if written.is_err() {
                stream.unsent.pop_back();
            }
        }
        written
    }

    /// Takes the oldest of the received descriptors that were not taken yet. Returns `None` if
    /// there is none, or if the stream of the connection is not an [`FdStream`]. The descriptors
    /// are close-on-exec.
    ///
    /// The descriptors of a message are there when the handler is called with the first byte of
    /// that message, and perhaps with bytes before it. Those of the next message are not there
    /// before the handler is called again. So a handler takes as many as the bytes that it consumes
    /// say, and leaves the others for the bytes that it does not consume.
    #[doc(alias("SCM_RIGHTS", "recvmsg", "uv_accept"))]
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.stream_mut::<FdStream>()?.received.pop_front()
    }
}

fn no_fd_stream() -> io::Error {
    let text = "the stream of the connection carries no descriptors: open it as an FdStream";
    io::Error::new(ErrorKind::InvalidInput, text)
}

fn expect_possible(bytes: &[u8], fds: &[OwnedFd], is_simulated: bool) -> io::Result<()> {
    let (kind, text) = match fds.len() {
        _ if is_simulated => (
            ErrorKind::Unsupported,
            "a simulated socket carries no descriptors".to_owned(),
        ),
        _ if bytes.is_empty() => (
            ErrorKind::InvalidInput,
            "descriptors are sent with at least one byte".to_owned(),
        ),
        count if count > FDS_MAX => (
            ErrorKind::InvalidInput,
            format!("{count} descriptors in one message: the kernel passes on at most {FDS_MAX}"),
        ),
        _ => return Ok(()),
    };
    Err(io::Error::new(kind, text))
}
