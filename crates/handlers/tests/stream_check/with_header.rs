//! A stream with a PROXY header is a stream that keeps its contract, alone and below TLS.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use handlers::proxy_protocol::{Header, TlvType, WithHeader};
use handlers::{Stream, StreamCheck};
use reactor::{Interest, IoState};

/// Returns a header of some hundred bytes.
fn header() -> Vec<u8> {
    let name = [b'n'; 200];
    let header = Header::internet(([192, 0, 2, 1], 1).into(), ([192, 0, 2, 2], 2).into());
    header.with_tlv(TlvType::AUTHORITY, &name).unwrap().to_v2()
}

fn expects(socket: OwnedFd) -> Expects {
    Expects {
        inner: socket.into(),
        missing: header(),
    }
}

/// A socket that takes a few bytes in each call.
struct Narrow(UnixStream);

impl AsFd for Narrow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream for Narrow {
    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(io, buf)
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = bufs.iter().flat_map(|buf| buf.iter().copied());
        let some: Vec<_> = bytes.take(7).collect();
        self.0.try_write(io, &[IoSlice::new(&some)])
    }
}

/// The receiver of a header: its handshake reads the header, and nothing else.
struct Expects {
    inner: UnixStream,
    missing: Vec<u8>,
}

impl AsFd for Expects {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Stream for Expects {
    const LAYERED: bool = true;

    fn try_handshake(&mut self, io: &mut IoState) -> io::Result<()> {
        while !self.missing.is_empty() {
            let mut buf = vec![0; self.missing.len()];
            let count = self.inner.try_read(io, &mut buf)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            assert_eq!(buf[..count], self.missing[..count]);
            self.missing.drain(..count);
        }
        Ok(())
    }

    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.try_read(io, buf)
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.try_write(io, bufs)
    }

    fn wants(&self, interest: Interest) -> Interest {
        if self.missing.is_empty() {
            interest
        } else {
            Interest::READABLE
        }
    }
}

#[test]
fn a_stream_with_a_header_passes() {
    let sends = |socket: OwnedFd| WithHeader::new(Narrow(socket.into()), header());
    StreamCheck::new().run(sends, expects).unwrap();
}

#[cfg(feature = "tls")]
#[test]
fn tls_that_begins_after_a_header_passes() {
    let (server, client) = crate::tls::configs();
    let accept = |socket| server.accept(expects(socket)).unwrap();
    let connect = |socket: OwnedFd| {
        let below = WithHeader::new(UnixStream::from(socket), header());
        client.connect(below, crate::tls::NAME).unwrap()
    };
    let check = StreamCheck::new().with_end();
    check.run(connect, accept).unwrap();
}
