//! The queue against a naive model, by random operations, and at each of its bounds.

use bytes::Bytes;
use proptest::prelude::*;

use super::options::Overflow;
use super::queue::{Counts, Limits, Queue};
use super::refused::UpstreamRefusal;
use crate::connection::Flow;

const NO_LIMITS: Limits = Limits {
    max_messages: usize::MAX,
    max_bytes: usize::MAX,
    max_message: usize::MAX,
};

#[derive(Clone, Debug)]
enum Operation {
    Push(usize),
    /// Writes the first waiting message to the connection.
    Begin,
    /// The stream takes at most this many bytes more.
    Take(u64),
    /// The kernel takes at most this many bytes more.
    Send(u64),
    Acknowledge(usize),
    Cut,
    Resend,
    TakeUnacknowledged,
    TakeWaiting,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => prop_oneof![0..4_usize, 0..30_usize].prop_map(Operation::Push),
        8 => Just(Operation::Begin),
        6 => (0..40_u64).prop_map(Operation::Take),
        6 => (0..40_u64).prop_map(Operation::Send),
        3 => prop_oneof![0..4_usize, Just(usize::MAX)].prop_map(Operation::Acknowledge),
        2 => Just(Operation::Cut),
        2 => Just(Operation::Resend),
        1 => Just(Operation::TakeUnacknowledged),
        1 => Just(Operation::TakeWaiting),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Unacknowledged,
    /// Written to the connection, from this byte to this one.
    Sent(u64, u64),
    Waiting,
}

/// One list of all messages, which is searched for everything.
#[derive(Debug, Default)]
struct Model {
    messages: Vec<(Bytes, Place)>,
    position: u64,
    written: u64,
    sent: u64,
    counts: Counts,
}

impl Model {
    fn bytes(&self) -> usize {
        self.messages.iter().map(|(message, _)| message.len()).sum()
    }

    fn count(&self, is_counted: impl Fn(Place) -> bool) -> usize {
        self.messages
            .iter()
            .filter(|(_, place)| is_counted(*place))
            .count()
    }

    fn lengths(&self) -> [usize; 3] {
        [
            self.count(|place| place == Place::Unacknowledged),
            self.count(|place| matches!(place, Place::Sent(..))),
            self.count(|place| place == Place::Waiting),
        ]
    }

    fn fits(&self, limits: Limits, length: usize) -> bool {
        self.messages.len() < limits.max_messages && self.bytes() + length <= limits.max_bytes
    }

    fn push(&mut self, limits: Limits, overflow: Overflow, message: &Bytes) -> bool {
        let mut after = self.messages.clone();
        let mut displaced = 0;
        if message.len() > limits.max_message.min(limits.max_bytes) {
            return false;
        }
        while !(Self {
            messages: after.clone(),
            ..Self::default()
        })
        .fits(limits, message.len())
        {
            let oldest = after
                .iter()
                .position(|(_, place)| !matches!(place, Place::Sent(..)));
            match oldest.filter(|_| overflow == Overflow::DropOldest) {
                Some(oldest) => drop(after.remove(oldest)),
                None => return false,
            }
            displaced += 1;
        }
        after.push((message.clone(), Place::Waiting));
        self.messages = after;
        self.counts.displaced += displaced;
        true
    }

    fn begin(&mut self) {
        let front = self
            .messages
            .iter_mut()
            .find(|(_, place)| *place == Place::Waiting);
        if let Some((message, place)) = front {
            let end = self.position + message.len() as u64;
            *place = Place::Sent(self.position, end);
            self.position = end;
        }
    }

    fn take(&mut self, bytes: u64) {
        self.written = self.position.min(self.written + bytes);
    }

    fn send(&mut self, bytes: u64, keeps_sent: bool) {
        self.sent = self.written.min(self.sent + bytes);
        self.settle(keeps_sent);
    }

    /// Counts the messages that were taken whole since the last call.
    fn settle(&mut self, keeps_sent: bool) {
        let is_taken = |place: &Place| matches!(place, Place::Sent(_, end) if *end <= self.sent);
        if !keeps_sent {
            let taken = self
                .messages
                .iter()
                .filter(|(_, place)| is_taken(place))
                .count();
            self.counts.sent += taken as u64;
            let sent = self.sent;
            self.messages
                .retain(|(_, place)| !matches!(place, Place::Sent(_, end) if *end <= sent));
        }
    }

    fn acknowledge(&mut self, count: usize, keeps_sent: bool) -> usize {
        let mut acknowledged = 0;
        while keeps_sent && acknowledged < count {
            let sent = self.sent;
            let oldest = self
                .messages
                .iter()
                .position(|(_, place)| matches!(place, Place::Sent(..)));
            let is_taken = oldest.is_some_and(
                |at| matches!(self.messages[at].1, Place::Sent(_, end) if end <= sent),
            );
            match oldest.filter(|_| is_taken) {
                Some(oldest) => drop(self.messages.remove(oldest)),
                None => break,
            }
            acknowledged += 1;
        }
        self.counts.acknowledged += acknowledged as u64;
        acknowledged
    }

    fn cut(&mut self, keeps_sent: bool) {
        self.settle(keeps_sent);
        let (sent, written) = (self.sent, self.written);
        let mut lost = 0;
        self.messages.retain_mut(|(_, place)| {
            let Place::Sent(start, end) = *place else {
                return true;
            };
            *place = match (end <= sent, start < written) {
                (false, false) => Place::Waiting,
                _ => Place::Unacknowledged,
            };
            let is_kept = keeps_sent || *place == Place::Waiting;
            lost += u64::from(!is_kept);
            is_kept
        });
        self.counts.lost += lost;
        (self.position, self.written, self.sent) = (0, 0, 0);
    }

    fn resend(&mut self) {
        for (_, place) in &mut self.messages {
            if *place == Place::Unacknowledged {
                *place = Place::Waiting;
            }
        }
        // Those on the present connection come before those that wait.
        self.messages
            .sort_by_key(|(_, place)| *place == Place::Waiting);
    }

    fn remove(&mut self, from: Place) -> Vec<Bytes> {
        let removed = self.messages.extract_if(.., |(_, place)| *place == from);
        removed.map(|(message, _)| message).collect()
    }
}

/// Applies the operations to a queue and to its model, and compares them after each.
fn compare(
    limits: Limits,
    overflow: Overflow,
    keeps_sent: bool,
    operations: Vec<Operation>,
) -> Result<(), TestCaseError> {
    let mut queue = Queue::new(limits, overflow, keeps_sent);
    let mut model = Model::default();
    let mut pushed = 0_u32;
    for operation in operations {
        match operation {
            Operation::Push(length) => {
                pushed += 1;
                let text = pushed.to_string().repeat(length);
                let message = Bytes::from(text).slice(..length);
                let is_taken = model.push(limits, overflow, &message);
                prop_assert_eq!(queue.push(message).is_ok(), is_taken);
            }
            Operation::Begin => {
                if queue.front().is_some() {
                    queue.begin_front(model.position);
                }
                model.begin();
            }
            Operation::Take(bytes) => {
                model.take(bytes);
            }
            Operation::Send(bytes) => {
                model.send(bytes, keeps_sent);
                queue.record_sent(model.sent);
            }
            Operation::Acknowledge(count) => {
                queue.record_sent(model.sent);
                model.settle(keeps_sent);
                let expected = model.acknowledge(count, keeps_sent);
                prop_assert_eq!(queue.acknowledge(count), expected);
            }
            Operation::Cut => {
                queue.cut(model.sent, model.written);
                model.cut(keeps_sent);
            }
            Operation::Resend => {
                queue.resend();
                model.resend();
            }
            Operation::TakeUnacknowledged => {
                prop_assert_eq!(
                    queue.take_unacknowledged(),
                    model.remove(Place::Unacknowledged)
                );
            }
            Operation::TakeWaiting => {
                prop_assert_eq!(queue.take_waiting(), model.remove(Place::Waiting));
            }
        }
        drop(queue.take_dropped());
        let counts = Counts {
            sent: if keeps_sent {
                queue.counts().sent
            } else {
                model.counts.sent
            },
            ..model.counts
        };
        prop_assert_eq!(
            (queue.lengths(), queue.bytes()),
            (model.lengths(), model.bytes())
        );
        prop_assert_eq!(queue.counts(), counts);
        prop_assert_eq!(
            queue.front(),
            model
                .messages
                .iter()
                .find(|(_, place)| *place == Place::Waiting)
                .map(|(message, _)| message)
        );
        prop_assert!(queue.len() <= limits.max_messages && queue.bytes() <= limits.max_bytes);
    }
    // All that is left is in order.
    queue.cut(model.sent, model.written);
    model.cut(keeps_sent);
    prop_assert_eq!(
        queue.take_unacknowledged(),
        model.remove(Place::Unacknowledged)
    );
    prop_assert_eq!(queue.take_waiting(), model.remove(Place::Waiting));
    prop_assert!(queue.is_empty() && queue.bytes() == 0);
    Ok(())
}

proptest! {
    #[test]
    fn a_queue_does_what_its_model_does(
        max_messages in prop_oneof![0..6_usize, Just(usize::MAX)],
        max_bytes in prop_oneof![0..60_usize, Just(usize::MAX)],
        drops in any::<bool>(),
        keeps_sent in any::<bool>(),
        operations in prop::collection::vec(operation(), 1..80),
    ) {
        let limits = Limits { max_messages, max_bytes, max_message: 25 };
        let overflow = if drops { Overflow::DropOldest } else { Overflow::Refuse };
        compare(limits, overflow, keeps_sent, operations)?;
    }
}

fn queue(limits: Limits, overflow: Overflow) -> Queue {
    Queue::new(limits, overflow, true)
}

fn push(queue: &mut Queue, message: &'static str) -> Result<Flow, UpstreamRefusal> {
    queue
        .push(Bytes::from(message))
        .map_err(|(_, reason)| reason)
}

#[test]
fn a_limit_of_zero_and_of_one_and_the_greatest_hold() {
    for overflow in [Overflow::Refuse, Overflow::DropOldest] {
        let mut none = queue(
            Limits {
                max_messages: 0,
                ..NO_LIMITS
            },
            overflow,
        );
        assert_eq!(push(&mut none, "a"), Err(UpstreamRefusal::Full));
        let mut no_bytes = queue(
            Limits {
                max_bytes: 0,
                ..NO_LIMITS
            },
            overflow,
        );
        assert_eq!(push(&mut no_bytes, "a"), Err(UpstreamRefusal::TooLong));
        assert!(push(&mut no_bytes, "").is_ok());
        let mut unlimited = queue(NO_LIMITS, overflow);
        assert_eq!(push(&mut unlimited, "a"), Ok(Flow::Open));
        assert!(unlimited.has_room());
    }
    let one = Limits {
        max_messages: 1,
        max_bytes: 1,
        max_message: 9,
    };
    let mut refuses = queue(one, Overflow::Refuse);
    assert_eq!(push(&mut refuses, "a"), Ok(Flow::Full));
    assert_eq!(push(&mut refuses, "b"), Err(UpstreamRefusal::Full));
    assert_eq!(push(&mut refuses, "ab"), Err(UpstreamRefusal::TooLong));
    assert!(!refuses.has_room());
    assert_eq!(refuses.take_waiting(), ["a"]);
    assert!(refuses.has_room());
    let mut drops = queue(one, Overflow::DropOldest);
    assert!(push(&mut drops, "a").is_ok() && push(&mut drops, "b").is_ok());
    assert_eq!(
        (drops.take_dropped(), drops.take_waiting()),
        (vec!["a".into()], vec!["b".into()])
    );
}

#[test]
fn a_producer_pauses_at_half_and_continues_at_a_quarter() {
    let mut queue = queue(
        Limits {
            max_messages: 8,
            ..NO_LIMITS
        },
        Overflow::Refuse,
    );
    let flows = ["1", "2", "3", "4", "5"].map(|text| push(&mut queue, text));
    let (open, full) = (Ok(Flow::Open), Ok(Flow::Full));
    assert_eq!(flows, [open, open, open, full, full]);
    for length in (0..5).rev() {
        queue.begin_front(4 - length);
        queue.record_sent(5);
        queue.acknowledge(1);
        assert_eq!(queue.has_room(), length <= 2, "{length} messages");
    }
}

#[test]
fn messages_that_are_sent_are_not_displaced() {
    let mut queue = queue(
        Limits {
            max_messages: 2,
            ..NO_LIMITS
        },
        Overflow::DropOldest,
    );
    assert!(push(&mut queue, "a").is_ok() && push(&mut queue, "b").is_ok());
    queue.begin_front(0);
    assert!(push(&mut queue, "c").is_ok());
    assert_eq!(queue.take_dropped(), ["b"]);
    queue.begin_front(1);
    assert_eq!(push(&mut queue, "d"), Err(UpstreamRefusal::Full));
    assert_eq!(queue.take_dropped(), [""; 0]);
}

#[test]
fn a_peer_cannot_acknowledge_a_message_that_it_has_in_part() {
    let mut queue = queue(NO_LIMITS, Overflow::Refuse);
    assert!(push(&mut queue, "ab").is_ok() && push(&mut queue, "cd").is_ok());
    queue.begin_front(0);
    queue.begin_front(2);
    queue.record_sent(3);
    assert_eq!(queue.acknowledge(usize::MAX), 1);
    queue.cut(3, 3);
    assert_eq!(queue.take_unacknowledged(), ["cd"]);
}
