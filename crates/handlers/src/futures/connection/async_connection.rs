//! The connection as its future sees it.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{replace, take};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};

use super::buffers;
use super::port::{AnyPort, ask_if_needed};
use super::stopping::Stopping;
use crate::futures::fairness;
use crate::listener::Peer;

/// A connection within a future: reads and writes of [`futures_io`] on a connection of the loop.
/// [`protocol`](super::protocol) and [`Listener::serve_async`](crate::Listener::serve_async) pass
/// it to the closure that makes the future, and [`connect`](Self::connect) returns it.
///
/// # Back-pressure
/// At most 64 KiB of input wait for the future, and as much as one read of the loop brings. After
/// that the connection does not read until the future has taken them. Writes wait while the write
/// queue is at its [high watermark](crate::ConnectionOptions::watermarks).
///
/// # Cost
/// The loop makes one read and one write for each message, as for a callback. Received bytes are
/// copied twice: by the connection, and by [`AsyncRead`] into the buffer of the reader.
/// [`AsyncBufRead`] saves the second copy. Written bytes are copied once, and once more if the
/// socket does not take them at once. All writes of a poll are sent together, right after the poll.
/// An idle connection holds no buffer.
///
/// # Closing and flushing
/// [`AsyncWrite::poll_close`] closes our write side. It waits until the kernel has taken all bytes,
/// and returns an error if the kernel does not take them. Reading goes on.
/// [`AsyncWrite::poll_flush`] waits only while the write queue is full, since written bytes are
/// sent without a flush.
///
/// # Errors
/// The end of the connection is an error of the next read, after all bytes that have arrived, and
/// of the next write. [`errno`](crate::errno) finds its errno. A timeout of the
/// [options](crate::ConnectionOptions) is an error of kind `TimedOut`. It is reported first, and
/// the connection is reset if the timeout expires once more.
pub struct AsyncConnection {
    port: Rc<dyn AnyPort>,
    /// Input that was taken from the link, and how much of it was read.
    input: Vec<u8>,
    read: usize,
    peer: Option<Peer>,
}

impl AsyncConnection {
    pub(super) fn new(port: Rc<dyn AnyPort>, peer: Option<Peer>) -> Self {
        Self {
            port,
            input: Vec::new(),
            read: 0,
            peer,
        }
    }

    /// Returns the client, if a [server](crate::Listener::serve_async) has accepted the connection.
    /// At a listener that expects a PROXY header, this is the client that the header names.
    pub const fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Returns a future that is done when the connection is to end
    /// [gracefully](crate::Connection::close_gracefully), usually because its server
    /// [stops](crate::ServerKey::stop).
    ///
    /// By then, all input that had arrived before the stop can be read without waiting. So a future
    /// that reads first, and looks at this only when a read would wait, answers all of it. It then
    /// returns, and the connection is closed gracefully. At the end of the grace period the
    /// connection is reset.
    ///
    /// While 64 KiB of input wait to be read, the stop is not reported: read them first.
    pub fn stopping(&self) -> Stopping {
        Stopping::new(&self.port)
    }

    /// Returns `true` if the connection is to end gracefully: see [`stopping`](Self::stopping).
    pub fn is_stopping(&self) -> bool {
        self.port.link().is_stopping()
    }

    /// Puts `bytes` back before the input that was not read: the next read returns them. Use it to
    /// choose a protocol by its first bytes.
    ///
    /// ```
    /// use std::io;
    /// use futures_lite::AsyncReadExt;
    /// use handlers::futures::AsyncConnection;
    ///
    /// /// Returns `true` if the client begins with a TLS handshake. Its bytes are read again.
    /// async fn speaks_tls(stream: &mut AsyncConnection) -> io::Result<bool> {
    ///     let mut first = [0];
    ///     stream.read_exact(&mut first).await?;
    ///     stream.unread(&first);
    ///     Ok(first == [22])
    /// }
    /// ```
    ///
    /// # Cost
    /// O(number of bytes that were received and not read). One allocation.
    pub fn unread(&mut self, bytes: &[u8]) {
        let input = [bytes, &self.input[self.read..]].concat();
        self.read = 0;
        buffers::put(replace(&mut self.input, input));
    }

    /// Waits for input, unless there is some.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.read < self.input.len() {
            return Poll::Ready(Ok(()));
        }
        self.read = 0;
        self.input = ready!(self.poll_new_input(cx))?;
        Poll::Ready(Ok(()))
    }

    /// Waits for input of which nothing was read yet. An emptied buffer was put back by
    /// [`skip`](Self::skip).
    #[inline]
    fn poll_new_input(&self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let link = self.port.link();
        let input = ready!(link.poll_input(cx))?;
        ask_if_needed(&self.port, link);
        Poll::Ready(Ok(input))
    }

    /// Waits for input, and passes it to `use_it`, which returns how much of it was read.
    pub(crate) fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        use_it: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        if self.read < self.input.len() {
            let read = use_it(&self.input[self.read..]);
            self.skip(read);
            return Poll::Ready(Ok(read));
        }
        let input = ready!(self.poll_new_input(cx));
        if input.as_ref().map_or(true, Vec::is_empty) {
            // The end stays. A task that asks for it again and again gives way to others.
            ready!(fairness::poll_proceed(cx));
        }
        let input = input?;
        let read = use_it(&input);
        if read < input.len() {
            (self.input, self.read) = (input, read);
        } else {
            buffers::put(input); // an idle connection holds no buffer
        }
        Poll::Ready(Ok(read))
    }

    fn skip(&mut self, read: usize) {
        self.read = self.read.saturating_add(read).min(self.input.len());
        if self.read == self.input.len() {
            self.read = 0;
            buffers::put(take(&mut self.input)); // an idle connection holds no buffer
        }
    }

    fn poll_push(
        &self,
        cx: &mut Context<'_>,
        push: impl FnOnce(&mut Vec<u8>, usize) -> usize,
    ) -> Poll<io::Result<usize>> {
        let link = self.port.link();
        let pushed = link.poll_output(cx, push);
        ask_if_needed(&self.port, link);
        pushed
    }
}

impl AsyncRead for AsyncConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_read_with(cx, |input| copy(input, buf))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.poll_read_with(cx, |input| {
            let copy_next =
                |read: usize, buf: &mut IoSliceMut<'_>| read + copy(&input[read..], buf);
            bufs.iter_mut().fold(0, copy_next)
        })
    }
}

/// Copies as many bytes as fit. Returns their number.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let length = from.len().min(to.len());
    to[..length].copy_from_slice(&from[..length]);
    length
}

impl AsyncBufRead for AsyncConnection {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        // It never gives way at the end: adapters poll it twice and rely on the same answer.
        let this = self.get_mut();
        ready!(this.poll_input(cx))?;
        Poll::Ready(Ok(&this.input[this.read..]))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.skip(amount);
    }
}

impl AsyncWrite for AsyncConnection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_push(cx, |output, room| push(output, room, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_push(cx, |output, room| {
            let push_next =
                |pushed: usize, buf: &IoSlice<'_>| pushed + push(output, room - pushed, buf);
            bufs.iter().fold(0, push_next)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.port.link().poll_room(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = self.port.link();
        let closed = link.poll_close(cx);
        ask_if_needed(&self.port, link);
        closed
    }
}

/// Adds as much of `piece` as there is room for. Returns the number of bytes.
fn push(output: &mut Vec<u8>, room: usize, piece: &[u8]) -> usize {
    let length = piece.len().min(room);
    output.extend_from_slice(&piece[..length]);
    length
}

/// If the future of the connection is done, or if there was none, the connection ends: gracefully
/// if its write side was closed, and by a reset otherwise.
impl Drop for AsyncConnection {
    fn drop(&mut self) {
        buffers::put(take(&mut self.input));
        self.port.link().drop_handle();
        Rc::clone(&self.port).leave();
    }
}

impl fmt::Debug for AsyncConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncConnection")
            .field("peer", &self.peer)
            .field("is_stopping", &self.is_stopping())
            .finish_non_exhaustive()
    }
}
