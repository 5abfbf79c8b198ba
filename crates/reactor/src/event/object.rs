//! `Event`: its kinds, and what sets and resets it.

use std::sync::Arc;

use super::state::{EventIndex, State};
use super::table::{lock_table, unlock_and_wake};

/// Something to wait for, set by any thread: clones are the same event.
///
/// A *manual-reset* event stays set until [`reset`](Self::reset), and lets everybody through. An *auto-reset* event
/// lets one through and is reset by that; set twice, it is set once. A *semaphore* lets as many through as it has been
/// set.
///
/// ```
/// use reactor::Event;
/// use std::time::Duration;
///
/// let (ready, stop) = (Event::auto_reset(), Event::manual_reset());
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         // The lowest that is set, so the order to stop comes first.
///         while let Some(1) = Event::wait_any(&[&stop, &ready], None) {
///             println!("something is ready");
///         }
///     });
///     ready.set();
///     stop.set();
/// });
/// assert!(stop.wait(Some(Duration::ZERO)), "it stays set");
/// ```
#[doc(alias("CreateEvent", "ManualResetEvent", "AutoResetEvent", "Notify"))]
#[derive(Clone, Debug)]
pub struct Event {
    slot: Arc<EventSlot>,
}

/// The place of an event among all of the process, which goes with its last clone.
#[derive(Debug)]
struct EventSlot(EventIndex);

/// What [`Event::set`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetOutcome {
    /// The event was not set, or the count of a semaphore has grown: a wait has been let through, or the next one will
    /// be.
    Set,
    /// The event was set already, or the semaphore is at its greatest count: nothing has changed.
    AlreadySet,
}

impl Event {
    fn new(count: u64, max: Option<u64>) -> Self {
        Self {
            slot: Arc::new(EventSlot(
                lock_table().events.insert(State::new(count, max)),
            )),
        }
    }

    /// Makes an event that stays set until it is reset. It begins unset: [`set`](Self::set) it where it should not.
    ///
    /// ```
    /// use reactor::Event;
    ///
    /// let open = Event::manual_reset();
    /// open.set();
    /// assert!(open.wait(None) && open.wait(None), "it lets every wait through");
    /// ```
    pub fn manual_reset() -> Self {
        Self::new(0, None)
    }

    /// Makes an event that one wait resets when it passes through. It begins unset.
    ///
    /// ```
    /// use reactor::Event;
    /// use std::time::Duration;
    ///
    /// let free = Event::auto_reset();
    /// free.set();
    /// assert!(free.wait(None), "the first wait passes through");
    /// assert!(!free.wait(Some(Duration::ZERO)), "and has reset it");
    /// ```
    pub fn auto_reset() -> Self {
        Self::new(0, Some(1))
    }

    /// An event that lets `count` through, and one more each time it is set, up to `max`, which is 1 at least.
    pub fn semaphore(count: u32, max: u32) -> Self {
        let max = u64::from(max.max(1));
        Self::new(u64::from(count).min(max), Some(max))
    }

    pub(super) fn index(&self) -> EventIndex {
        self.slot.0
    }

    /// Sets the event, and lets the wait through that began first; a semaphore counts one more. Any thread; not for a
    /// signal handler.
    ///
    /// Returns whether it has made a difference: an event that is set stays as it is, and so does a semaphore at its
    /// greatest count.
    ///
    /// ```
    /// use reactor::{Event, SetOutcome};
    ///
    /// let permits = Event::semaphore(0, 1);
    /// assert_eq!(permits.set(), SetOutcome::Set);
    /// assert_eq!(permits.set(), SetOutcome::AlreadySet, "one is its greatest count");
    /// ```
    pub fn set(&self) -> SetOutcome {
        let mut table = lock_table();
        let Some(state) = table.events.get_mut(self.index()) else {
            return SetOutcome::AlreadySet;
        };
        if state.count >= state.max.unwrap_or(1) {
            return SetOutcome::AlreadySet;
        }
        state.count += 1;
        table.wake_waiters(self.index());
        unlock_and_wake(table);
        SetOutcome::Set
    }

    /// Resets it; a semaphore to nothing.
    pub fn reset(&self) {
        let mut table = lock_table();
        let now = table.next_sequence();
        if let Some(state) = table.events.get_mut(self.index()) {
            (state.count, state.reset_at) = (0, now);
        }
    }

    /// Lets those through who are waiting at this moment, one or, for a manual-reset event, all, and resets it; a
    /// semaphore keeps the count that it had. Waits for events together with fds are not let through: they look at both after
    /// this.
    pub fn pulse(&self) {
        let mut table = lock_table();
        let Some(state) = table.events.get_mut(self.index()) else {
            return;
        };
        let before = state.count;
        state.count += 1;
        table.wake_waiters(self.index());
        let now = table.next_sequence();
        if let Some(state) = table.events.get_mut(self.index()) {
            let is_semaphore = state.max.is_some_and(|max| max > 1);
            (state.count, state.reset_at) = (
                if is_semaphore {
                    state.count.min(before)
                } else {
                    0
                },
                now,
            );
        }
        unlock_and_wake(table);
    }

    /// Whether it is set: by the time it is looked at, it may not be.
    pub fn is_set(&self) -> bool {
        lock_table()
            .events
            .get(self.index())
            .is_some_and(|state| state.count > 0)
    }
}

impl Drop for EventSlot {
    fn drop(&mut self) {
        let state = lock_table().events.remove(self.0);
        drop(state);
    }
}
