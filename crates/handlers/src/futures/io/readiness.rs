//! The known readiness of each source that a future waits for. Pure data: an
//! [`Async`](super::Async) is a handle with a key into this table, so it may be moved to another
//! thread.
//!
//! The loop reports readiness as a level. Here a report is recorded once, and the direction counts
//! as ready until an operation proves that it is not: by a `WouldBlock`, or by a short read or
//! write of a source for which that is a proof. So no `epoll_ctl` is made between two messages.
//!
//! INVARIANT (reported): a direction that is watched and not ready gets another report. It was
//! made not ready by a proof that the kernel reports the next change, or its watch is still
//! requested, and the kernel reports what holds when the watch begins.

use std::fmt;
use std::io;
use std::panic::Location;

use reactor::{Interest, Key, Readiness};

use super::shared::SharedSource;
use crate::futures::requests::SourceKey;
use crate::futures::tasks::Table;
use crate::futures::waiter::Waiter;

/// The two directions in which a future can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::futures) enum Direction {
    Read,
    Write,
}

/// The known facts about one direction.
#[derive(Debug, Default)]
struct Half {
    /// The kernel watches this direction, or the request for that is on its way.
    is_watched: bool,
    is_ready: bool,
    /// The last task that has waited.
    waiter: Option<Waiter>,
    /// Why the loop cannot watch this direction. Returned once.
    refused: Option<io::Error>,
}

/// The advice to an operation.
#[derive(Debug)]
pub(in crate::futures) enum Advice {
    /// It may succeed.
    Attempt,
    /// It would block.
    Wait,
    /// The loop cannot watch the source.
    Fail(io::Error),
}

/// The state of a source between the first `WouldBlock` of its futures and its end.
pub(in crate::futures) struct SourceState {
    pub(in crate::futures) source: SharedSource,
    pub(in crate::futures) origin: &'static Location<'static>,
    /// The registration on the loop, once it is made.
    registration: Option<Key>,
    /// A request to watch a direction is on its way.
    is_requested: bool,
    /// epoll cannot watch it, since it is always ready.
    is_always_ready: bool,
    /// The peer has closed its write side: the end of the stream is still to be read.
    is_read_closed: bool,
    /// Urgent data was seen: a read stops short at its mark.
    is_urgent: bool,
    read: Half,
    write: Half,
}

impl SourceState {
    pub(in crate::futures) fn new(
        source: SharedSource,
        origin: &'static Location<'static>,
    ) -> Self {
        Self {
            source,
            origin,
            registration: None,
            is_requested: false,
            is_always_ready: false,
            is_read_closed: false,
            is_urgent: false,
            read: Half::default(),
            write: Half::default(),
        }
    }

    const fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    /// Returns what an operation is to do. A direction that is not watched is attempted, since
    /// nothing is known of it.
    pub(in crate::futures) fn advise(&mut self, direction: Direction) -> Advice {
        let is_always_ready = self.is_always_ready;
        let half = self.half(direction);
        match half.refused.take() {
            Some(error) => Advice::Fail(error),
            None if half.is_watched && !half.is_ready && !is_always_ready => Advice::Wait,
            None => Advice::Attempt,
        }
    }

    /// Returns `true` if the direction is known to be ready.
    pub(in crate::futures) fn is_known_ready(&mut self, direction: Direction) -> bool {
        let is_always_ready = self.is_always_ready;
        let half = self.half(direction);
        is_always_ready || half.is_watched && half.is_ready
    }

    /// Returns `true` if the loop has reported that this source is always ready.
    pub(in crate::futures) const fn is_always_ready(&self) -> bool {
        self.is_always_ready
    }

    /// Records that an operation would block.
    pub(in crate::futures) fn set_blocked(&mut self, direction: Direction) {
        self.half(direction).is_ready = false;
    }

    /// Records that an operation has moved fewer bytes than it was given room for, of a source for
    /// which this proves that the kernel has no more.
    pub(in crate::futures) fn set_short(&mut self, direction: Direction) {
        let is_inconclusive =
            direction == Direction::Read && (self.is_read_closed || self.is_urgent);
        if !is_inconclusive {
            self.set_blocked(direction);
        }
    }

    /// Waits for a direction. Returns `true` if a request to watch it is to be made, and the task
    /// that is replaced.
    pub(in crate::futures) fn wait(
        &mut self,
        direction: Direction,
        waiter: Waiter,
    ) -> (bool, Option<Waiter>) {
        let half = self.half(direction);
        let replaced = half.waiter.replace(waiter);
        if std::mem::replace(&mut half.is_watched, true) {
            return (false, replaced);
        }
        (!std::mem::replace(&mut self.is_requested, true), replaced)
    }

    /// Begins to carry out the request: returns the directions to watch, and the registration if
    /// there is one. Returns `None` if the registration has ended meanwhile.
    pub(in crate::futures) fn begin_update(&mut self) -> Option<(Interest, Option<Key>)> {
        self.is_requested = false;
        let watched = self.watched();
        (!watched.is_none()).then_some((watched, self.registration))
    }

    /// Returns the directions that are watched.
    fn watched(&self) -> Interest {
        let of = |half: &Half, interest| {
            if half.is_watched {
                interest
            } else {
                Interest::NONE
            }
        };
        of(&self.read, Interest::READABLE) | of(&self.write, Interest::WRITABLE)
    }

    pub(in crate::futures) const fn set_registered(&mut self, key: Key) {
        self.registration = Some(key);
    }

    pub(in crate::futures) const fn registration(&self) -> Option<Key> {
        self.registration
    }

    /// Records what the loop reports. Returns the tasks that wait for the directions
    /// that it concerns.
    pub(in crate::futures) fn report(
        &mut self,
        facts: Readiness,
        is_always_ready: bool,
    ) -> [Option<Waiter>; 2] {
        self.is_always_ready |= is_always_ready;
        self.is_read_closed |= facts.is_read_closed();
        self.is_urgent |= facts.is_priority();
        let both = facts.is_error() || is_always_ready;
        let reads = both || facts.is_readable() || facts.is_read_closed();
        let writes = both || facts.is_writable() || facts.is_write_closed();
        [(&mut self.read, reads), (&mut self.write, writes)].map(|(half, is_ready)| {
            let concerns = is_ready && half.is_watched;
            half.is_ready |= concerns;
            concerns.then(|| half.waiter.take()).flatten()
        })
    }

    /// Records that the loop watches the source no more. Returns the tasks that wait: the
    /// next operation of each direction is attempted, and watches again if it would block.
    pub(in crate::futures) fn end_watch(&mut self) -> [Option<Waiter>; 2] {
        self.registration = None;
        [&mut self.read, &mut self.write].map(|half| {
            (half.is_watched, half.is_ready) = (false, false);
            half.waiter.take()
        })
    }

    /// Records that the loop cannot watch the source. Returns the tasks that wait. The next
    /// operation of one direction returns the error. If the other one waits too, its next operation
    /// asks the loop again, and so it gets an error of its own.
    pub(in crate::futures) fn refuse(
        &mut self,
        asked: Interest,
        error: io::Error,
    ) -> [Option<Waiter>; 2] {
        let half = if asked.contains(Interest::READABLE) {
            &mut self.read
        } else {
            &mut self.write
        };
        half.refused = Some(error);
        self.end_watch()
    }
}

impl fmt::Debug for SourceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceState")
            .field("registration", &self.registration)
            .field("watched", &self.watched())
            .finish_non_exhaustive()
    }
}

/// The sources of a loop that futures wait for.
#[derive(Debug)]
pub(in crate::futures) struct Sources(Table<SourceState>);

impl Default for Sources {
    fn default() -> Self {
        Self(Table::new())
    }
}

impl Sources {
    /// Adds a source. Returns `None` if there are 2^32 sources.
    pub(in crate::futures) fn add(&mut self, state: SourceState) -> Option<SourceKey> {
        self.0.insert(state).ok()
    }

    pub(in crate::futures) fn get_mut(&mut self, key: SourceKey) -> Option<&mut SourceState> {
        self.0.get_mut(key)
    }

    /// Removes a source. The caller drops its state without a borrow of this table.
    pub(in crate::futures) fn remove(&mut self, key: SourceKey) -> Option<SourceState> {
        self.0.remove(key)
    }

    /// Removes all sources, at the end of the loop.
    pub(in crate::futures) fn take_all(&mut self) -> impl Iterator<Item = SourceState> + use<> {
        self.0.take_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::{Wake, Waker};

    use proptest::collection::vec;
    use proptest::prelude::*;

    /// A waker that counts.
    #[derive(Default)]
    struct Count(std::sync::atomic::AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// A step in the life of one direction of a stream socket.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Bytes arrive, or room is made.
        Arrive(u8),
        /// The loop takes a turn.
        Turn,
        /// The task reads or writes at most so many bytes, if it is awake.
        Move(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1..4_u8).prop_map(Step::Arrive),
            Just(Step::Turn),
            (1..4_u8).prop_map(Step::Move),
        ];
        vec(step, 0..60)
    }

    /// A kernel that reports each arrival once, and what holds when the watch begins.
    #[derive(Default)]
    struct Kernel {
        bytes: u32,
        is_watched: bool,
        has_report: bool,
    }

    proptest! {
        #[test]
        fn a_task_that_waits_is_woken_by_the_next_arrival(steps in steps(), writes: bool) {
            let (direction, fact) = if writes {
                (Direction::Write, Readiness::WRITABLE)
            } else {
                (Direction::Read, Readiness::READABLE)
            };
            let source = SharedSource::new(Arc::new(io::stdin()));
            let mut state = SourceState::new(source, Location::caller());
            let mut kernel = Kernel::default();
            let waker = Waker::from(Arc::new(Count::default()));
            let (mut is_asleep, mut is_asked) = (false, false);
            let last = [Step::Turn, Step::Turn];
            for step in steps.into_iter().chain(last) {
                match step {
                    Step::Arrive(bytes) => {
                        kernel.bytes += u32::from(bytes);
                        kernel.has_report = kernel.is_watched;
                    }
                    Step::Turn => {
                        if std::mem::take(&mut is_asked) {
                            let begun = state.begin_update();
                            prop_assert!(begun.is_some_and(|(interest, _)| !interest.is_none()));
                            kernel.is_watched = true;
                            kernel.has_report = kernel.bytes > 0;
                        } else if std::mem::take(&mut kernel.has_report) {
                            let woken = state.report(fact, false);
                            is_asleep &= woken.iter().all(Option::is_none);
                        }
                    }
                    Step::Move(max) if !is_asleep => {
                        let advice = state.advise(direction);
                        let moved = kernel.bytes.min(u32::from(max));
                        match advice {
                            Advice::Wait => prop_assert_eq!(kernel.bytes * u32::from(!kernel.has_report), 0),
                            Advice::Fail(error) => prop_assert!(false, "{}", error),
                            Advice::Attempt if moved == 0 => state.set_blocked(direction),
                            Advice::Attempt => {
                                kernel.bytes -= moved;
                                if moved < u32::from(max) {
                                    state.set_short(direction);
                                }
                                continue;
                            }
                        }
                        is_asked |= state.wait(direction, Waiter::Other(waker.clone())).0;
                        is_asleep = true;
                    }
                    Step::Move(_) => {}
                }
            }
            prop_assert!(!is_asleep || kernel.bytes == 0, "{} bytes wait", kernel.bytes);
        }
    }

    #[test]
    fn a_short_read_proves_nothing_before_an_end_or_an_urgent_mark() {
        for seldom in [Readiness::READ_CLOSED, Readiness::PRIORITY] {
            let source = SharedSource::new(Arc::new(io::stdin()));
            let mut state = SourceState::new(source, Location::caller());
            let _ = state.wait(Direction::Read, Waiter::Other(Waker::noop().clone()));
            let _ = state.wait(Direction::Write, Waiter::Other(Waker::noop().clone()));
            let both = Readiness::READABLE | Readiness::WRITABLE;
            let _ = state.report(both | seldom, false);
            state.set_short(Direction::Read);
            state.set_short(Direction::Write);
            assert!(state.is_known_ready(Direction::Read), "{seldom:?}");
            assert!(!state.is_known_ready(Direction::Write));
            state.set_blocked(Direction::Read);
            assert!(!state.is_known_ready(Direction::Read));
        }
    }
}
