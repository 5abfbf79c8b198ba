//! Receiving: one buffer for all sockets of a loop, filled by one call.

use std::fmt;
use std::io::{self, ErrorKind, IoSliceMut};

use quinn_udp::{BATCH_SIZE, RecvMeta};
use reactor::{Interest, Io};
use rustix::io::Errno;

use super::sending::Log;
use super::socket::{Datagram, UdpSocket};
use crate::error::errno;

/// The size of a buffer. The kernel merges at most this many bytes, and no datagram is larger, so a
/// datagram is never truncated.
const BUFFER_BYTES: usize = 65_536;

/// The maximum number of errors of earlier datagrams that one call records. The kernel reports each
/// error once, before the received datagrams.
const ERRORS_PER_CALL_MAX: usize = 8;

/// The receive buffers of a loop. They are allocated when the first datagram arrives. They come
/// zeroed from the kernel, so pages that no datagram has reached take no physical memory.
#[derive(Default)]
pub(super) struct ReceiveBuffers {
    bytes: Vec<u8>,
    metas: Vec<RecvMeta>,
}

/// The datagrams that one call has received.
pub(super) struct ReceivedBatch<'a> {
    bytes: &'a [u8],
    metas: &'a [RecvMeta],
}

impl ReceiveBuffers {
    /// Receives one batch. The batch is empty if no datagram is waiting.
    ///
    /// Returns only errors that will recur at every receive. Errors of single datagrams are
    /// recorded in `log`.
    pub(super) fn fill(
        &mut self,
        io: &mut Io<UdpSocket>,
        log: &mut Log,
    ) -> io::Result<ReceivedBatch<'_>> {
        let received = self.receive(io, log)?;
        if received < BATCH_SIZE && received > 0 {
            // The batch is not full, so the socket is empty: clear the readiness, so that epoll
            // reports new datagrams.
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
        Ok(0) // the socket stays readable, so it is called again
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

/// Returns `true` if a receive that fails with `error` will always fail. Any other error concerns
/// one datagram, or a temporary lack of resources.
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
