//! The send queue of a UDP socket. It stores the bytes of all datagrams in one piece, so that a run
//! of datagrams can be sent by one call.
//!
//! This module is pure bookkeeping and knows no socket.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::{Ecn, Outgoing};

/// The maximum number of bytes per call: the payload of the largest IPv4 datagram. The same limit
/// holds for merged datagrams.
const RUN_BYTES_MAX: usize = 65_507;

/// The maximum size of datagrams that are merged: the payload of an Ethernet frame with IPv6. If
/// the datagrams of a run are too large for the route, the kernel refuses the run with `EINVAL`. A
/// device without segmentation offload causes the same error, so quinn-udp would then disable
/// merging for good.
const SEGMENT_BYTES_MAX: usize = 1452;

/// The destination, the source and the congestion mark of a datagram. Datagrams with equal routes
/// can be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) to: SocketAddr,
    pub(super) from: Option<IpAddr>,
    pub(super) ecn: Option<Ecn>,
}

/// Datagrams at the head of the queue that are sent by one call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run<'a> {
    pub(super) route: Route,
    pub(super) bytes: &'a [u8],
    /// The size of each datagram except the last, which may be smaller.
    pub(super) segment_bytes: usize,
    pub(super) datagrams: usize,
}

/// The datagrams that wait until the socket has room.
#[derive(Debug)]
pub(super) struct SendQueue {
    /// The bytes of the queued datagrams, one after the other, starting at `begin`.
    bytes: Vec<u8>,
    begin: usize,
    entries: VecDeque<(Route, usize)>,
    /// The number of datagrams at the head that are not merged, because their merged run has
    /// failed.
    singly: usize,
    pub(super) datagrams_max: usize,
    pub(super) bytes_max: usize,
}

impl SendQueue {
    pub(super) const fn new(datagrams_max: usize, bytes_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            begin: 0,
            entries: VecDeque::new(),
            singly: 0,
            datagrams_max,
            bytes_max,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn datagrams(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() - self.begin
    }

    /// Queues a datagram. Returns `false` if there is no room.
    pub(super) fn push(&mut self, datagram: &Outgoing<'_>) -> bool {
        let Outgoing {
            bytes,
            to,
            from,
            ecn,
        } = *datagram;
        if self.datagrams() >= self.datagrams_max
            || bytes.len() > self.bytes_max.saturating_sub(self.bytes())
        {
            return false;
        }
        if self.begin > self.bytes.len() / 2 {
            // Moves fewer bytes than have been sent since the last move: O(1) amortised for each
            // byte.
            self.bytes.drain(..self.begin);
            self.begin = 0;
        }
        self.bytes.extend_from_slice(bytes);
        self.entries
            .push_back((Route { to, from, ecn }, bytes.len()));
        true
    }

    /// Returns the next run to send, of at most `segments_max` datagrams.
    pub(super) fn next_run(&self, segments_max: usize) -> Option<Run<'_>> {
        let &(route, segment_bytes) = self.entries.front()?;
        let (mut datagrams, mut end) = (1, self.begin + segment_bytes);
        if self.singly == 0 && (1..=SEGMENT_BYTES_MAX).contains(&segment_bytes) {
            let datagrams_max = segments_max.min(RUN_BYTES_MAX / segment_bytes);
            for &(next_route, bytes) in self.entries.iter().take(datagrams_max).skip(1) {
                if next_route != route || bytes > segment_bytes || bytes == 0 {
                    break;
                }
                datagrams += 1;
                end += bytes;
                if bytes < segment_bytes {
                    break;
                }
            }
        }
        Some(Run {
            route,
            bytes: &self.bytes[self.begin..end],
            segment_bytes,
            datagrams,
        })
    }

    /// Removes a run of `datagrams` datagrams from the head.
    pub(super) fn pop_run(&mut self, datagrams: usize) {
        self.begin += self
            .entries
            .drain(..datagrams)
            .map(|(_, bytes)| bytes)
            .sum::<usize>();
        self.singly = self.singly.saturating_sub(datagrams);
        if self.entries.is_empty() {
            (self.bytes, self.begin) = (Vec::new(), 0); // an idle socket holds no buffer
        }
    }

    /// Marks the run of `datagrams` datagrams as failed, so that each is sent on its own.
    pub(super) fn split_run(&mut self, datagrams: usize) {
        self.singly = datagrams;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENTS_MAX: usize = 64;

    fn to(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn filled(datagrams: &[(u16, usize)]) -> SendQueue {
        let mut queue = SendQueue::new(1000, 1 << 20);
        for (number, &(port, bytes)) in datagrams.iter().enumerate() {
            assert!(queue.push(&Outgoing::new(&vec![number as u8; bytes], to(port))));
        }
        queue
    }

    /// Returns the runs in sending order: port, size of each datagram, number of datagrams.
    fn runs(mut queue: SendQueue, segments_max: usize) -> Vec<(u16, usize, usize)> {
        let mut runs = Vec::new();
        while let Some(run) = queue.next_run(segments_max) {
            runs.push((run.route.to.port(), run.segment_bytes, run.datagrams));
            let datagrams = run.datagrams;
            queue.pop_run(datagrams);
        }
        assert_eq!(
            (queue.bytes(), queue.bytes.capacity()),
            (0, 0),
            "an idle socket holds no buffer"
        );
        runs
    }

    /// A shorter datagram ends the run.
    #[test]
    fn datagrams_of_one_size_to_one_address_are_merged() {
        let queue = filled(&[
            (1, 10),
            (1, 10),
            (1, 4),
            (1, 4),
            (2, 4),
            (1, 0),
            (1, 0),
            (1, 2),
            (1, 3),
        ]);
        assert_eq!(
            runs(queue, SEGMENTS_MAX),
            [
                (1, 10, 3),
                (1, 4, 1),
                (2, 4, 1),
                (1, 0, 1),
                (1, 0, 1),
                (1, 2, 1),
                (1, 3, 1)
            ]
        );
    }

    #[test]
    fn a_run_is_bounded_by_segments_and_bytes_and_large_datagrams_go_alone() {
        assert_eq!(
            runs(filled(&[(1, 10); 10]), 4),
            [(1, 10, 4), (1, 10, 4), (1, 10, 2)]
        );
        assert_eq!(runs(filled(&[(1, 10); 3]), 1), [(1, 10, 1); 3]);
        assert_eq!(
            runs(filled(&[(1, 1452); 50]), SEGMENTS_MAX),
            [(1, 1452, 45), (1, 1452, 5)]
        );
        assert_eq!(
            runs(filled(&[(1, 1453); 2]), SEGMENTS_MAX),
            [(1, 1453, 1); 2]
        );
    }

    #[test]
    fn a_failed_run_is_sent_one_by_one_and_later_datagrams_are_merged_again() {
        let mut queue = filled(&[(1, 10); 6]);
        queue.split_run(3);
        assert_eq!(
            runs(queue, SEGMENTS_MAX),
            [(1, 10, 1), (1, 10, 1), (1, 10, 1), (1, 10, 3)]
        );
    }

    #[test]
    fn both_limits_hold_and_room_comes_back() {
        let mut queue = SendQueue::new(2, 100);
        assert!(!queue.push(&Outgoing::new(&[0; 101], to(1))));
        assert!(queue.push(&Outgoing::new(&[0; 60], to(1))));
        assert!(!queue.push(&Outgoing::new(&[0; 41], to(1))));
        assert!(queue.push(&Outgoing::new(&[0; 40], to(1))));
        assert!(
            !queue.push(&Outgoing::new(&[], to(1))),
            "the limit is two datagrams"
        );
        queue.pop_run(1);
        assert!(queue.push(&Outgoing::new(&[0; 60], to(1))));
        assert_eq!((queue.datagrams(), queue.bytes()), (2, 100));
    }

    #[test]
    fn a_queue_that_is_never_empty_frees_the_memory_of_sent_bytes() {
        let mut queue = filled(&[(1, 7)]);
        for _ in 0..1000 {
            assert!(queue.push(&Outgoing::new(&[0; 100], to(1))));
            queue.pop_run(1);
        }
        assert_eq!(queue.bytes(), 100);
        assert!(queue.bytes.capacity() < 1000);
    }

    #[test]
    fn bytes_leave_in_the_order_of_arrival_also_after_moves() {
        let mut queue = SendQueue::new(1000, 1 << 20);
        let (mut pushed, mut popped) = (0_u32, 0_u32);
        for step in 0..2000_usize {
            for _ in 0..step % 4 {
                assert!(queue.push(&Outgoing::new(&pushed.to_ne_bytes(), to(1))));
                pushed += 1;
            }
            let Some(run) = queue.next_run(1 + step % 3) else {
                continue;
            };
            for bytes in run.bytes.chunks(4) {
                assert_eq!(bytes, popped.to_ne_bytes());
                popped += 1;
            }
            let datagrams = run.datagrams;
            queue.pop_run(datagrams);
            if queue.datagrams() > 900 {
                break;
            }
        }
        assert!(popped > 1000);
    }
}
