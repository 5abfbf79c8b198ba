//! Receiving: one buffer for all sockets of a loop, filled by one call.

use std::fmt;
use std::io::{self, ErrorKind, IoSliceMut};

use quinn_udp::{BATCH_SIZE, RecvMeta};
use reactor::{Interest, Io};
use rustix::io::Errno;

use super::sending::Log;
use super::socket::{Datagram, UdpSocket};
use crate::error::errno;

/// The kernel merges no more than this, and no datagram is larger: nothing is ever truncated.
const BUFFER_BYTES: usize = 65_536;

/// So many errors of earlier datagrams are taken note of in one call. Each is given once, and goes before what has been
/// received.
const ERRORS_PER_CALL_MAX: usize = 8;

/// The buffers of a loop. Made when the first datagram is there; fresh from the kernel, so that pages which no datagram
/// has reached take no memory.
#[derive(Default)]
pub(super) struct ReceiveBuffers {
    bytes: Vec<u8>,
    metas: Vec<RecvMeta>,
}

/// What one call has received.
pub(super) struct ReceivedBatch<'a> {
    bytes: &'a [u8],
    metas: &'a [RecvMeta],
}

impl ReceiveBuffers {
    /// Receives what is there, up to a batch. Nothing, if nothing is there.
    ///
    /// Errors that end the socket are given; the others, which are those of datagrams, are noted.
    pub(super) fn fill(
        &mut self,
        io: &mut Io<UdpSocket>,
        log: &mut Log,
    ) -> io::Result<ReceivedBatch<'_>> {
        let received = self.receive(io, log)?;
        if received < BATCH_SIZE && received > 0 {
            // The call has met the end. What comes from now on is reported.
            let _ = io.try_io(Interest::READABLE, |_| {
                Err::<(), _>(ErrorKind::WouldBlock.into())
            });
        }
        Ok(ReceivedBatch {
            bytes: &self.bytes,
            metas: &self.metas[..received],
        })
    }

    fn receive(&mut self, io: &mut Io<UdpSocket>, log: &mut Log) -> io::Result<usize> {
        for _ in 0..ERRORS_PER_CALL_MAX {
            match io.try_io(Interest::READABLE, |socket| self.receive_batch(socket)) {
                Ok(received) => {
                    log.metrics.receives += 1;
                    return Ok(received);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) if is_of_the_socket(&error) => return Err(error),
                Err(error) => log.report_failure("recvmmsg", io.get_ref().peer_addr(), error),
            }
        }
        Ok(0) // and still readable
    }

    fn receive_batch(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.bytes = vec![0; BATCH_SIZE * BUFFER_BYTES];
            self.metas = vec![RecvMeta::default(); BATCH_SIZE];
        }
        let mut rest = self.bytes.as_mut_slice();
        let mut buffers: [_; BATCH_SIZE] = std::array::from_fn(|_| {
            let (buffer, behind) = std::mem::take(&mut rest).split_at_mut(BUFFER_BYTES);
            rest = behind;
            IoSliceMut::new(buffer)
        });
        socket.receive(&mut buffers, &mut self.metas)
    }
}

impl<'a> ReceivedBatch<'a> {
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Datagram<'a>> + use<'a> {
        let buffers = self.bytes.chunks(BUFFER_BYTES);
        buffers
            .zip(self.metas)
            .flat_map(|(buffer, meta)| Datagram::split(buffer, meta))
    }
}

/// Whether a receive that fails so will fail for ever. Anything else tells of one datagram, or of a want that passes.
fn is_of_the_socket(error: &io::Error) -> bool {
    let of_the_socket = [
        Errno::BADF,
        Errno::NOTSOCK,
        Errno::INVAL,
        Errno::FAULT,
        Errno::OPNOTSUPP,
    ];
    errno(error).is_none_or(|errno| of_the_socket.contains(&errno))
}

impl fmt::Debug for ReceiveBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveBuffers")
            .field("bytes", &self.bytes.len())
            .finish()
    }
}
