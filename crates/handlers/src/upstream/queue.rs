//! The messages of an upstream: which wait, which were sent and which are not acknowledged. Knows
//! neither a clock nor a socket.
//!
//! A message waits until it is written to a connection. Its place in the bytes of that connection
//! tells later what the kernel has taken of it: nothing, a part or all.
//!
//! ```text
//! push ─▶ waiting ── begin ──▶ sent ── taken whole ──▶ dropped, or kept until `acknowledge`
//!            ▲                  │
//!            │                  │ the connection ends
//!            ├── not a byte taken ◀──┤
//!            │                  └─▶ taken in part or whole: unacknowledged, or lost
//!            └──────────── resend ───────┘
//! ```
//!
//! Ground rule: a message of the user is dropped by the caller of [`Queue`], after the queue is
//! consistent and no longer borrowed: the destructor of its owner is user code. See
//! [`Queue::take_dropped`].

use std::collections::VecDeque;
use std::mem::take;

use bytes::Bytes;

use super::options::Overflow;
use super::refused::UpstreamRefusal;
use crate::connection::Flow;

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_messages: usize,
    pub(super) max_bytes: usize,
    /// The length of the longest message that a connection can send.
    pub(super) max_message: usize,
}

/// The messages of an upstream. All of them count toward the limits.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    overflow: Overflow,
    /// `true` if sent messages are kept until the peer has acknowledged them.
    keeps_sent: bool,
    /// Messages that earlier connections have sent, in part or whole.
    unacknowledged: VecDeque<Bytes>,
    /// Messages that were written to the present connection.
    sent: VecDeque<Sent>,
    /// The number of messages at the front of `sent` that the kernel has taken whole.
    taken: usize,
    sent_bytes: usize,
    waiting: VecDeque<Bytes>,
    /// The length of all messages together.
    bytes: usize,
    /// Messages that have left the queue and are not dropped yet.
    dropped: Vec<Bytes>,
    counts: Counts,
}

/// A message in the bytes of a connection.
#[derive(Debug)]
struct Sent {
    message: Bytes,
    start: u64,
    end: u64,
}

/// The numbers of messages that have left the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) displaced: u64,
    pub(super) lost: u64,
}

impl Queue {
    pub(super) fn new(limits: Limits, overflow: Overflow, keeps_sent: bool) -> Self {
        Self {
            limits,
            overflow,
            keeps_sent,
            unacknowledged: VecDeque::new(),
            sent: VecDeque::new(),
            taken: 0,
            sent_bytes: 0,
            waiting: VecDeque::new(),
            bytes: 0,
            dropped: Vec::new(),
            counts: Counts::default(),
        }
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the number of all messages.
    pub(super) fn len(&self) -> usize {
        self.unacknowledged.len() + self.sent.len() + self.waiting.len()
    }

    /// Returns the length of all messages together.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns `true` if the present connection has nothing left to do: no message waits, and none
    /// awaits its acknowledgement.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && (!self.keeps_sent || self.sent.is_empty())
    }

    /// Adds a message at the end. If there is no room and the policy permits it, the oldest
    /// messages make room.
    pub(super) fn push(&mut self, message: Bytes) -> Result<Flow, (Bytes, UpstreamRefusal)> {
        if message.len() > self.limits.max_message.min(self.limits.max_bytes) {
            return Err((message, UpstreamRefusal::TooLong));
        }
        let displaces = self.overflow == Overflow::DropOldest
            && self.fits(self.sent.len(), self.sent_bytes, message.len());
        while !self.fits(self.len(), self.bytes, message.len()) {
            let Some(oldest) = displaces.then(|| self.pop_oldest()).flatten() else {
                return Err((message, UpstreamRefusal::Full));
            };
            self.counts.displaced += 1;
            self.drop_later(oldest);
        }
        self.bytes += message.len();
        self.waiting.push_back(message);
        Ok(if self.is_high() {
            Flow::Full
        } else {
            Flow::Open
        })
    }

    /// Removes the oldest message that the present connection has not sent.
    fn pop_oldest(&mut self) -> Option<Bytes> {
        let oldest = self.unacknowledged.pop_front();
        oldest.or_else(|| self.waiting.pop_front())
    }

    /// Returns `true` if a message of this length fits beside `messages` others.
    fn fits(&self, messages: usize, bytes: usize, length: usize) -> bool {
        messages < self.limits.max_messages && length <= self.limits.max_bytes - bytes
    }

    /// Returns `true` if at least half of a limit is used.
    fn is_high(&self) -> bool {
        self.len() >= self.limits.max_messages.div_ceil(2)
            || self.bytes > 0 && self.bytes >= self.limits.max_bytes.div_ceil(2)
    }

    /// Returns `true` if at most a quarter of each limit is used.
    pub(super) fn has_room(&self) -> bool {
        self.len() <= self.limits.max_messages / 4 && self.bytes <= self.limits.max_bytes / 4
    }

    /// Returns the message that is sent next.
    pub(super) fn front(&self) -> Option<&Bytes> {
        self.waiting.front()
    }

    /// Records that the message that is sent next was written to the connection. It begins after
    /// `start` bytes of the connection.
    pub(super) fn begin_front(&mut self, start: u64) {
        let Some(message) = self.waiting.pop_front() else {
            return;
        };
        self.sent_bytes += message.len();
        self.sent.push_back(Sent {
            end: start + message.len() as u64,
            message,
            start,
        });
    }

    /// Records that the kernel has taken the first `sent` bytes of the connection.
    pub(super) fn record_sent(&mut self, sent: u64) {
        while self
            .sent
            .get(self.taken)
            .is_some_and(|message| message.end <= sent)
        {
            self.counts.sent += 1;
            self.taken += 1;
        }
        if !self.keeps_sent {
            self.drop_taken(self.taken);
        }
    }

    /// Records that the peer has acknowledged the oldest `count` messages of the present
    /// connection. Returns how many of them were sent.
    pub(super) fn acknowledge(&mut self, count: usize) -> usize {
        let count = count.min(self.taken);
        self.counts.acknowledged += count as u64;
        self.drop_taken(count);
        count
    }

    /// Drops the oldest `count` messages of the present connection, which were taken whole.
    fn drop_taken(&mut self, count: usize) {
        self.taken -= count;
        for sent in self.sent.drain(..count) {
            self.sent_bytes -= sent.message.len();
            self.bytes -= sent.message.len();
            self.dropped.push(sent.message);
        }
    }

    /// Records that the connection has ended. The kernel has taken the first `sent` bytes, and may
    /// have taken more of the first `written` bytes.
    pub(super) fn cut(&mut self, sent: u64, written: u64) {
        self.record_sent(sent);
        let begun = self.sent.partition_point(|sent| sent.start < written);
        let begun = begun.max(self.taken);
        let untouched = self.sent.split_off(begun);
        for sent in untouched.into_iter().rev() {
            self.waiting.push_front(sent.message);
        }
        (self.taken, self.sent_bytes) = (0, 0);
        for sent in take(&mut self.sent) {
            if self.keeps_sent {
                self.unacknowledged.push_back(sent.message);
            } else {
                self.counts.lost += 1;
                self.drop_later(sent.message);
            }
        }
    }

    fn drop_later(&mut self, message: Bytes) {
        self.bytes -= message.len();
        self.dropped.push(message);
    }

    /// Lets the unacknowledged messages of earlier connections wait again, before all others.
    pub(super) fn resend(&mut self) -> usize {
        let count = self.unacknowledged.len();
        self.unacknowledged.append(&mut self.waiting);
        self.waiting = take(&mut self.unacknowledged);
        count
    }

    /// Removes and returns the unacknowledged messages of earlier connections.
    pub(super) fn take_unacknowledged(&mut self) -> Vec<Bytes> {
        let messages = take(&mut self.unacknowledged);
        self.bytes -= messages.iter().map(Bytes::len).sum::<usize>();
        messages.into()
    }

    /// Removes and returns the messages that wait.
    pub(super) fn take_waiting(&mut self) -> Vec<Bytes> {
        let messages = take(&mut self.waiting);
        self.bytes -= messages.iter().map(Bytes::len).sum::<usize>();
        messages.into()
    }

    /// Returns the messages that have left the queue since the last call. The caller drops them.
    pub(super) fn take_dropped(&mut self) -> Vec<Bytes> {
        take(&mut self.dropped)
    }

    /// Returns the numbers of messages: unacknowledged ones of earlier connections, written ones,
    /// waiting ones.
    #[cfg(test)]
    pub(super) fn lengths(&self) -> [usize; 3] {
        [
            self.unacknowledged.len(),
            self.sent.len(),
            self.waiting.len(),
        ]
    }
}
