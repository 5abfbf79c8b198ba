//! The sleeps of a loop: which of them have elapsed, and whom to wake. Pure data: a sleep is a
//! handle with a key into this table, so the handle may be moved to another thread.

use std::panic::Location;
use std::task::Waker;

use reactor::TimerKey;

use super::requests::SleepKey;
use super::tasks::Table;

/// The state of a sleep between its first poll and its end.
#[derive(Debug)]
pub(super) struct SleepState {
    /// The waker of the last poll.
    pub(super) waker: Option<Waker>,
    /// The timer on the wheel, once it is armed.
    pub(super) timer: Option<TimerKey>,
    pub(super) has_elapsed: bool,
    /// The line that the list of timers shows.
    pub(super) origin: &'static Location<'static>,
}

#[derive(Debug)]
pub(super) struct Sleeps(Table<SleepState>);

impl Default for Sleeps {
    fn default() -> Self {
        Self(Table::new())
    }
}

impl Sleeps {
    /// Adds a sleep that is not armed yet.
    pub(super) fn add(
        &mut self,
        waker: Waker,
        origin: &'static Location<'static>,
    ) -> Option<SleepKey> {
        let state = SleepState {
            waker: Some(waker),
            timer: None,
            has_elapsed: false,
            origin,
        };
        self.0.insert(state).ok()
    }

    pub(super) fn get_mut(&mut self, key: SleepKey) -> Option<&mut SleepState> {
        self.0.get_mut(key)
    }

    /// Ends a sleep. Returns its state. The caller drops its waker without a borrow of this table.
    pub(super) fn remove(&mut self, key: SleepKey) -> Option<SleepState> {
        self.0.remove(key)
    }

    /// Ends all sleeps, at the end of the loop.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = SleepState> + use<> {
        self.0.take_all()
    }

    /// Records that the timer of a sleep has run. Returns the waker.
    pub(super) fn elapse(&mut self, key: SleepKey) -> Option<Waker> {
        let sleep = self.0.get_mut(key)?;
        (sleep.has_elapsed, sleep.timer) = (true, None);
        sleep.waker.take()
    }
}
