//! A stream that begins with a PROXY header.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use reactor::{Interest, IoState};

use crate::{Shutdown, Stream};

/// A stream that sends a PROXY header before everything else. Use it for the connection from a
/// proxy to its server, for example for one side of a [`Relay`](crate::Relay).
///
/// The connection is open once the kernel has taken the whole header. If a TLS stream is made of
/// this one, the header is sent before the TLS handshake, in plain text. If this stream is made of
/// a TLS stream, the header is sent after the TLS handshake, encrypted. Servers expect the former.
///
/// ```no_run
/// use std::io;
/// use std::net::{SocketAddr, TcpStream};
/// use handlers::proxy_protocol::{Header, WithHeader};
/// use handlers::{Connection, ConnectionOptions, Relay};
/// use reactor::Context;
///
/// fn forward(client: TcpStream, to: SocketAddr, cx: &mut Context<'_, ()>) -> io::Result<()> {
///     let header = Header::internet(client.peer_addr()?, client.local_addr()?).to_v2();
///     let introduce = move |server: TcpStream| Ok(WithHeader::new(server, header));
///     let (client_side, server_side) = Relay::pair();
///     let options = ConnectionOptions::new();
///     let attempt =
///         Connection::connect_as(cx.registry, [to], &options, introduce, server_side);
///     client_side.gives_up(attempt);
///     Connection::open(cx.registry, client, &options, client_side)?;
///     Ok(())
/// }
/// ```
///
/// # Cost
/// One `write` more than without a header. The connection is that of a [layered
/// stream](Stream#layered-streams).
pub struct WithHeader<T> {
    stream: T,
    /// The header, until it is sent.
    header: Vec<u8>,
    /// The number of bytes of the header that are sent.
    sent: usize,
}

impl<T> WithHeader<T> {
    /// Returns a stream that sends `header` first: the result of [`Header::to_v1`] or
    /// [`Header::to_v2`]. Sends nothing yet.
    ///
    /// [`Header::to_v1`]: super::Header::to_v1
    /// [`Header::to_v2`]: super::Header::to_v2
    pub const fn new(stream: T, header: Vec<u8>) -> Self {
        Self {
            stream,
            header,
            sent: 0,
        }
    }

    /// Returns the stream below.
    pub const fn get_ref(&self) -> &T {
        &self.stream
    }

    const fn is_sent(&self) -> bool {
        self.sent == self.header.len()
    }
}

impl<T: Stream> Stream for WithHeader<T> {
    const READS: bool = T::READS;
    const WRITES: bool = T::WRITES;
    const LAYERED: bool = true;

    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(io, buf)
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.try_write(io, bufs)
    }

    fn try_handshake(&mut self, io: &mut IoState) -> io::Result<()> {
        self.stream.try_handshake(io)?;
        while !self.is_sent() {
            let unsent = IoSlice::new(&self.header[self.sent..]);
            match self.stream.try_write(io, &[unsent])? {
                0 => return Err(ErrorKind::WriteZero.into()),
                sent => self.sent += sent,
            }
        }
        (self.header, self.sent) = (Vec::new(), 0); // nothing is kept while the connection is open
        Ok(())
    }

    fn try_flush(&mut self, io: &mut IoState) -> io::Result<()> {
        self.stream.try_flush(io)
    }

    fn try_shutdown(&mut self, io: &mut IoState) -> io::Result<Shutdown> {
        self.stream.try_shutdown(io)
    }

    fn wants(&self, interest: Interest) -> Interest {
        self.stream.wants(if self.is_sent() {
            interest
        } else {
            Interest::WRITABLE
        })
    }

    fn has_buffered_input(&self) -> bool {
        self.stream.has_buffered_input()
    }

    fn buffered_output(&self) -> usize {
        self.stream.buffered_output()
    }

    fn has_sent_reason(&self) -> bool {
        self.stream.has_sent_reason()
    }

    fn has_unread(&self) -> bool {
        self.stream.has_unread()
    }
}

impl<T: AsFd> AsFd for WithHeader<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<T: fmt::Debug> fmt::Debug for WithHeader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithHeader")
            .field("stream", &self.stream)
            .field("unsent", &(self.header.len() - self.sent))
            .finish()
    }
}
