//! `Event`: its kinds, and the operations that set and reset it.

use super::state::{EventIndex, State};
use super::table::{lock_table, unlock_and_wake};
use crate::primitives::Arc;

/// An event that threads and loops can wait for, and that any thread can set. Clones are the same
/// event.
///
/// - A *manual-reset* event stays set until [`reset`](Self::reset), and lets every wait through.
/// - An *auto-reset* event lets one wait through, which resets it. Setting it while it is set
///   changes nothing.
/// - A *semaphore* has a count, which grows by one each time it is set. Each wait that it lets
///   through takes one.
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

/// The place of an event in the table of the process. It is freed with the event's last clone.
#[derive(Debug)]
struct EventSlot(EventIndex);

/// The result of [`Event::set`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetOutcome {
    /// The event was not set before, or the count of the semaphore has grown. A wait has been let
    /// through, or the next one will be.
    Set,
    /// The event was set already, or the semaphore is at its greatest count. Nothing has changed.
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

    /// Creates an event that stays set until it is reset. The event is unset at first: call
    /// [`set`](Self::set) if it must be set from the start.
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

    /// Creates an event that lets one wait through, which resets it. Setting an event that is set
    /// already changes nothing. The event is unset at first.
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

    /// Creates an event that lets `count` waits through, and one more each time it is set. Its
    /// greatest count is `max`: 0 is raised to 1, and a larger `count` is lowered to `max`.
    ///
    /// ```
    /// use reactor::Event;
    /// use std::time::Duration;
    ///
    /// let permits = Event::semaphore(2, 2);
    /// assert!(permits.wait(None) && permits.wait(None));
    /// assert!(!permits.wait(Some(Duration::ZERO)), "both permits are taken");
    /// permits.set(); // returns one
    /// assert!(permits.wait(None));
    /// ```
    pub fn semaphore(count: u32, max: u32) -> Self {
        let max = u64::from(max.max(1));
        Self::new(u64::from(count).min(max), Some(max))
    }

    pub(super) fn index(&self) -> EventIndex {
        self.slot.0
    }

    /// Sets the event. If threads or loops are waiting, the wait that began first is let through. A
    /// manual-reset event lets all of them through. The count of a semaphore grows by one. Callable
    /// from any thread; not async-signal-safe.
    ///
    /// Returns [`SetOutcome::AlreadySet`] if nothing has changed: the event was set already, or the
    /// semaphore is at its greatest count.
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

    /// Resets the event. The count of a semaphore becomes zero.
    pub fn reset(&self) {
        let mut table = lock_table();
        let now = table.next_sequence();
        if let Some(state) = table.events.get_mut(self.index()) {
            (state.count, state.reset_at) = (0, now);
        }
    }

    /// Lets waiting threads and loops through and resets the event, without leaving it set for
    /// later waits. A manual-reset event lets all present waits through, and any other event lets
    /// one through. A semaphore keeps the count that it had. Waits for events together with fds are
    /// not let through: they look at both after the pulse.
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

    /// Returns `true` if the event is set. It may have been reset by the time you use the result.
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
