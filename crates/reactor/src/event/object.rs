//! `Event`: its kinds, and the operations that set and reset it.

use super::state::{EventIndex, State};
use super::table::{lock_table, unlock_and_wake};
use crate::primitives::Arc;

/// An event that threads and loops can wait for, and that any thread can set. All clones are the
/// same event.
///
/// A wait that ends because an event is set *passes through* the event. The kind of the event
/// decides how many waits pass through:
///
/// - A *manual-reset* event stays set until [`reset`](Self::reset). Until then every wait passes
///   through.
/// - An *auto-reset* event lets one wait through, which resets the event. Setting an event that is
///   set changes nothing.
/// - A *semaphore* has a count. Setting the semaphore adds one to the count, and each wait that
///   passes through takes one from it. Waits pass through while the count is above zero.
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
    /// The event was not set before, or the semaphore was below its greatest count. A present wait
    /// has been let through, or else the next wait will be.
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

    /// Creates an event that lets one wait through each time it is set. The wait resets the event.
    /// Setting an event that is set already changes nothing. The event is unset at first.
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

    /// Creates a semaphore, which lets `count` waits through at first. Each [`set`](Self::set) lets
    /// one more wait through. The count never exceeds `max`. A `max` of 0 counts as 1, and a
    /// `count` over `max` is lowered to `max`.
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

    /// Sets the event, and adds one to the count of a semaphore. If threads or loops wait for the
    /// event, lets the oldest of these waits through. A wait for all of several events is skipped
    /// while another of its events is not set. A manual-reset event lets all waits through, not
    /// only the oldest.
    ///
    /// Any thread may call this method. A signal handler must not, because `set` is not
    /// async-signal-safe.
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

    /// Undoes one pass through this event: sets an auto-reset event again, or adds one to the count
    /// of a semaphore, at most up to its maximum. The oldest wait is then let through. A
    /// manual-reset event does not change, because a pass does not change it.
    ///
    /// Use it if you cannot act on a pass, so that another wait gets it. Unlike this method,
    /// [`set`](Self::set) would also set a manual-reset event that was reset in the meantime.
    ///
    /// ```
    /// use reactor::Event;
    /// use std::time::Duration;
    ///
    /// let job = Event::auto_reset();
    /// job.set();
    /// assert!(job.wait(None));
    /// job.undo_pass(); // for another worker
    /// assert!(job.wait(Some(Duration::ZERO)));
    /// ```
    pub fn undo_pass(&self) {
        let mut table = lock_table();
        table.events.restore(self.index());
        table.wake_waiters(self.index());
        unlock_and_wake(table);
    }

    /// Lets waiting threads and loops through, and then resets the event, so that later waits are
    /// not let through. A manual-reset event lets all present waits through, and any other event
    /// lets one through. A semaphore with a greatest count above 1 is not reset: it keeps the count
    /// that it had.
    ///
    /// A `pulse` does not let through a wait of
    /// [`wait_all_and_readable`](Self::wait_all_and_readable) or
    /// [`Registry::on_all_and_readable`](crate::Registry::on_all_and_readable). These two look at
    /// the events only after the pulse.
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
