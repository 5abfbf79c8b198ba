//! The write queue: the bytes that a connection must send and its socket has not taken yet.
//!
//! The queue is a list of chunks, which one call writes as a list of slices. Small pieces are
//! copied into the open chunk at the end. Large shared pieces are kept as they are. A connection
//! with nothing to send has no queue. The queue is created with the first bytes that the socket
//! does not take, and dropped with the last.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::take;

use bytes::{Buf, Bytes};

/// A piece of at least this length that is already in a `Bytes` is queued without a copy. For a
/// shorter piece, a slice of its own in the list costs the kernel more than the copy.
const SHARED_MIN: usize = 1024;
/// The length at which an open chunk is closed. The memory of sent bytes is freed in pieces of this
/// size.
const OPEN_MAX: usize = 32 * 1024;
/// The maximum number of slices in one call. 64 chunks of 32 KiB are more than a socket buffer
/// takes.
const SLICES_MAX: usize = 64;

/// A queue of bytes.
#[derive(Debug, Default)]
pub(in crate::connection) struct WriteQueue {
    chunks: VecDeque<Bytes>,
    /// The open chunk, after all others.
    open: Vec<u8>,
    /// The number of bytes of `open` that have been sent. It is 0 if there are chunks before
    /// `open`.
    open_sent: usize,
    len: usize,
}

impl WriteQueue {
    pub(in crate::connection) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a copy of `bytes` at the end.
    pub(in crate::connection) fn push(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(OPEN_MAX - self.open.len()));
            self.open.extend_from_slice(piece);
            bytes = rest;
            if self.open.len() >= OPEN_MAX {
                self.close_open();
            }
        }
    }

    /// Adds `bytes` at the end, without a copy if they are long enough.
    pub(in crate::connection) fn push_shared(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_MIN {
            return self.push(&bytes);
        }
        self.close_open();
        self.len += bytes.len();
        self.chunks.push_back(bytes);
    }

    fn close_open(&mut self) {
        let mut chunk = Bytes::from(take(&mut self.open));
        chunk.advance(take(&mut self.open_sent));
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// Writes at most `most` bytes from the front, by one call of `write`. Returns how many bytes
    /// that call took.
    pub(in crate::connection) fn write_to(
        &mut self,
        most: usize,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let mut room = most;
        let open = &self.open[self.open_sent..];
        let chunks = self.chunks.iter().map(Bytes::as_ref).chain([open]);
        for (slice, chunk) in slices
            .iter_mut()
            .zip(chunks.filter(|chunk| !chunk.is_empty()))
        {
            *slice = IoSlice::new(&chunk[..chunk.len().min(room)]);
            room -= slice.len();
            count += 1;
            if room == 0 {
                break;
            }
        }
        // If the call fails, nothing is removed.
        let written = write(&slices[..count])?;
        self.remove(written);
        Ok(written)
    }

    /// Removes bytes that have been sent.
    fn remove(&mut self, sent: usize) {
        self.len -= sent;
        self.advance(sent);
    }

    /// Advances past sent bytes. A sent chunk is dropped last, when everything else is consistent:
    /// the destructor of its owner is user code, and may panic.
    fn advance(&mut self, sent: usize) {
        match self.chunks.front_mut() {
            Some(chunk) if sent < chunk.len() => chunk.advance(sent),
            Some(chunk) => {
                let left = sent - chunk.len();
                let gone = self.chunks.pop_front();
                self.advance(left);
                drop(gone);
            }
            None => {
                self.open_sent += sent;
                if self.open_sent == self.open.len() {
                    self.open.clear();
                    self.open_sent = 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Push(usize),
        PushShared(usize),
        /// Offers at most this many bytes, of which the peer takes this many.
        Write(usize, usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let length = || prop_oneof![0..20_usize, 0..3000_usize, 0..100_000_usize];
        prop_oneof![
            3 => length().prop_map(Op::Push),
            2 => length().prop_map(Op::PushShared),
            4 => (1..100_000_usize, length()).prop_map(|(most, takes)| Op::Write(most, takes)),
        ]
    }

    proptest! {
        #[test]
        fn bytes_leave_the_queue_as_they_were_added(operations in prop::collection::vec(op(), 1..60)) {
            let mut queue = WriteQueue::default();
            let mut model = VecDeque::<u8>::new();
            let mut next = 0_u8;
            let mut bytes = |length: usize| -> Vec<u8> {
                (0..length).map(|_| { next = next.wrapping_mul(31).wrapping_add(7); next }).collect()
            };
            for operation in operations {
                match operation {
                    Op::Push(length) => {
                        let bytes = bytes(length);
                        queue.push(&bytes);
                        model.extend(&bytes);
                    }
                    Op::PushShared(length) => {
                        let bytes = bytes(length);
                        model.extend(&bytes);
                        queue.push_shared(bytes.into());
                    }
                    Op::Write(most, takes) => {
                        let expected = model.clone();
                        let offered = expected.len().min(most);
                        let written = queue.write_to(most, |slices| {
                            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                            assert!(all.len() <= offered && (all.len() == offered || slices.len() == SLICES_MAX));
                            assert!(slices.iter().all(|slice| !slice.is_empty()));
                            assert!(all.iter().eq(expected.iter().take(all.len())));
                            Ok(takes.min(all.len()))
                        }).unwrap();
                        model.drain(..written);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }

    #[test]
    fn a_long_piece_that_is_shared_is_not_copied() {
        let mut queue = WriteQueue::default();
        let bytes = Bytes::from(vec![1; 4096]);
        queue.push(b"before");
        queue.push_shared(bytes.clone());
        let count = queue.write_to(usize::MAX, |slices| {
            assert_eq!(slices[1].as_ptr(), bytes.as_ptr());
            Ok(slices.len())
        });
        assert_eq!(count.unwrap(), 2);
    }

    #[test]
    fn a_short_piece_is_copied_behind_what_is_open() {
        for (length, slices_expected) in [(SHARED_MIN - 1, 1), (SHARED_MIN, 2)] {
            let mut queue = WriteQueue::default();
            queue.push(b"before");
            queue.push_shared(vec![1; length].into());
            let count = queue.write_to(usize::MAX, |slices| Ok(slices.len()));
            assert_eq!(count.unwrap(), slices_expected, "{length} bytes");
        }
    }

    #[test]
    fn sent_bytes_are_removed_although_dropping_a_piece_panics() {
        struct Owner([u8; 4096]);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl Drop for Owner {
            fn drop(&mut self) {
                panic!("as the test wants");
            }
        }
        let mut queue = WriteQueue::default();
        queue.push_shared(Bytes::from_owner(Owner([1; 4096])));
        queue.push(b"abcd");
        let write = std::panic::AssertUnwindSafe(|| queue.write_to(usize::MAX, |_| Ok(4098)));
        assert!(std::panic::catch_unwind(write).is_err());
        let mut left = Vec::new();
        queue
            .write_to(usize::MAX, |slices| {
                Ok(slices
                    .iter()
                    .map(|slice| left.extend_from_slice(slice))
                    .count())
            })
            .unwrap();
        assert_eq!((left.as_slice(), queue.len()), (&b"cd"[..], 1));
    }

    #[test]
    fn a_shared_piece_is_dropped_as_soon_as_it_is_sent() {
        let mut queue = WriteQueue::default();
        let bytes = Bytes::from(vec![1; 4096]);
        queue.push_shared(bytes.clone());
        queue.push(b"after");
        queue.write_to(4096, |_| Ok(4096)).unwrap();
        assert!(bytes.is_unique());
    }

    /// A longer chunk would keep the memory of bytes that were sent.
    #[test]
    fn copied_bytes_are_in_chunks_that_are_freed_one_by_one() {
        let mut queue = WriteQueue::default();
        for length in [1, OPEN_MAX - 2, 2, OPEN_MAX, 3 * OPEN_MAX] {
            queue.push(&vec![1; length]);
        }
        let chunks = queue.len().div_ceil(OPEN_MAX);
        let count = queue.write_to(usize::MAX, |slices| {
            assert!(slices.iter().all(|slice| slice.len() <= OPEN_MAX));
            Ok(slices.len())
        });
        assert_eq!(count.unwrap(), chunks);
    }

    #[test]
    fn a_failed_write_removes_nothing() {
        let mut queue = WriteQueue::default();
        queue.push(b"abc");
        assert!(
            queue
                .write_to(9, |_| Err(io::ErrorKind::WouldBlock.into()))
                .is_err()
        );
        assert_eq!(queue.len(), 3);
    }
}
