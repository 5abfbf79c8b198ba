//! Room: senders that a full mailbox has refused, and that are notified when it has room again.
//!
//! ```text
//!   sender                               consumer
//!   refused: full                        handles values
//!   adds itself, then looks for room     stores how many are left, then looks for waiting senders
//!        │                                    │
//!        └── waits ◀── notified: has a turn ◀─┤ as many turns as there is room,
//!                          │                  │ first come, first served
//!          tries again, ends its turn ──▶ the next one is notified, if there is still room
//! ```
//!
//! Ground rule: a turn lasts until its sender has tried again, and reserves nothing. A value that
//! is handled notifies one sender, and not all of them. A sender that does not use its turn passes
//! it on by ending it.
//!
//! INVARIANT (turns): between two operations, while a sender waits, there are as many turns as
//! there is room. Kept by `Mailbox::notify_senders`, after each change that can make room or end a
//! turn.

use std::collections::VecDeque;
use std::fmt;

/// Notifies a sender, once, without a lock of the mailbox. Returns leftovers that are to be
/// dropped.
pub(crate) type Notify = Box<dyn FnOnce() -> Option<Leftover> + Send>;

/// Drops the captures of a sender whose loop is gone. They are values of the user, whose
/// destructors may do anything.
pub(crate) type Leftover = Box<dyn FnOnce() + Send>;

/// The place of a sender among the waiting senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Before all others: another sender was faster in this sender's turn.
    First,
    /// After all others.
    Last,
}

/// The senders that wait for room in a mailbox.
#[derive(Default)]
pub(crate) struct RoomWaiters {
    waiting: VecDeque<(u64, Notify)>,
    /// The number of notified senders that have not tried again yet.
    turns: usize,
    /// `true` while a thread notifies senders. The thread looks again before it ends.
    is_notifying: bool,
    /// Leftovers, dropped by the notifying thread at its end or by the consumer at its own.
    leftovers: Vec<Leftover>,
    last_id: u64,
}

impl RoomWaiters {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a sender. Returns its number, for [`remove`](Self::remove).
    pub(crate) fn add(&mut self, position: Position, notify: Notify) -> u64 {
        self.last_id += 1;
        match position {
            Position::First => self.waiting.push_front((self.last_id, notify)),
            Position::Last => self.waiting.push_back((self.last_id, notify)),
        }
        self.last_id
    }

    /// Removes a sender, unless it has been notified: then it has a turn.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Notify> {
        let place = self
            .waiting
            .iter()
            .position(|(waiting, _)| *waiting == id)?;
        self.waiting.remove(place).map(|(_, notify)| notify)
    }

    /// Begins to notify. Returns `false` if another thread is notifying.
    pub(crate) fn begin_notifying(&mut self) -> bool {
        !std::mem::replace(&mut self.is_notifying, true)
    }

    /// Gives a turn to the first sender, if there is `room` for it. Returns `None` if not: the
    /// notifying thread has ended then.
    pub(crate) fn next_turn(&mut self, room: usize) -> Option<Notify> {
        let next = if self.turns < room {
            self.waiting.pop_front()
        } else {
            None
        };
        match &next {
            Some(_) => self.turns += 1,
            None => self.is_notifying = false,
        }
        next.map(|(_, notify)| notify)
    }

    pub(crate) fn keep(&mut self, leftover: Option<Leftover>) {
        self.leftovers.extend(leftover);
    }

    pub(crate) fn take_leftovers(&mut self) -> Vec<Leftover> {
        std::mem::take(&mut self.leftovers)
    }

    pub(crate) fn end_turn(&mut self) {
        self.turns -= 1;
    }
}

impl fmt::Debug for RoomWaiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { waiting, turns, .. } = self;
        f.debug_struct("RoomWaiters")
            .field("waiting", &waiting.len())
            .field("turns", turns)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_was_too_slow_in_its_turn_is_the_next_one() {
        let mut waiters = RoomWaiters::default();
        let ids = [Position::Last, Position::Last, Position::First]
            .map(|position| waiters.add(position, Box::new(|| None)));
        let order: Vec<_> = waiters.waiting.iter().map(|(id, _)| *id).collect();
        assert_eq!(order, [ids[2], ids[0], ids[1]]);
        assert!(
            waiters.begin_notifying() && !waiters.begin_notifying(),
            "one thread notifies"
        );
        assert!(
            waiters.next_turn(1).is_some() && waiters.next_turn(1).is_none(),
            "one turn for one place"
        );
        waiters.end_turn();
        assert!(waiters.begin_notifying() && waiters.next_turn(1).is_some());
        assert!(waiters.remove(ids[2]).is_none() && waiters.remove(ids[1]).is_some());
    }
}
