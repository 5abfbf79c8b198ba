//! The sleeps of a loop: which of them have elapsed, and whom to wake. Pure data: a sleep is a
//! handle with a key into this table, so the handle may be moved to another thread.

use std::panic::Location;

use reactor::{Key, TimerKey};

use super::requests::SleepKey;
use super::tasks::Table;
use super::waiter::Waiter;

/// The state of a sleep between its first poll and its end.
#[derive(Debug)]
pub(super) struct SleepState {
    /// The task of the last poll.
    pub(super) waiter: Option<Waiter>,
    /// The timer on the wheel, once it is armed.
    pub(super) timer: Option<TimerKey>,
    pub(super) has_elapsed: bool,
    /// The line that the list of timers shows.
    pub(super) origin: &'static Location<'static>,
}

/// The sleeps of a loop.
#[derive(Debug)]
pub(super) struct Sleeps {
    sleeps: Table<SleepState>,
    /// The sleep of each timer, by the index of its key. So the callback of a timer captures
    /// nothing, and needs no memory of its own.
    by_timer: Vec<SleepKey>,
}

impl Default for Sleeps {
    fn default() -> Self {
        Self {
            sleeps: Table::new(),
            by_timer: Vec::new(),
        }
    }
}

impl Sleeps {
    /// Adds a sleep that is not armed yet.
    pub(super) fn add(
        &mut self,
        waiter: Waiter,
        origin: &'static Location<'static>,
    ) -> Option<SleepKey> {
        let state = SleepState {
            waiter: Some(waiter),
            timer: None,
            has_elapsed: false,
            origin,
        };
        self.sleeps.insert(state).ok()
    }

    pub(super) fn get_mut(&mut self, key: SleepKey) -> Option<&mut SleepState> {
        self.sleeps.get_mut(key)
    }

    /// Ends a sleep. Returns its state. The caller drops its waiter without a borrow of this table.
    pub(super) fn remove(&mut self, key: SleepKey) -> Option<SleepState> {
        self.sleeps.remove(key)
    }

    /// Ends all sleeps, at the end of the loop.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = SleepState> + use<> {
        self.sleeps.take_all()
    }

    /// Records the timer of a sleep, which was armed.
    pub(super) fn set_timer(&mut self, key: SleepKey, timer: TimerKey) {
        let index = Key::from(timer).index() as usize;
        if self.by_timer.len() <= index {
            self.by_timer.resize(index + 1, SleepKey::NONE);
        }
        self.by_timer[index] = key;
        if let Some(sleep) = self.sleeps.get_mut(key) {
            sleep.timer = Some(timer);
        }
    }

    /// Records that the timer of a sleep has run. Returns the task to wake.
    pub(super) fn elapse(&mut self, timer: TimerKey) -> Option<Waiter> {
        let key = *self.by_timer.get(Key::from(timer).index() as usize)?;
        let sleep = self.sleeps.get_mut(key)?;
        if sleep.timer != Some(timer) {
            return None;
        }
        (sleep.has_elapsed, sleep.timer) = (true, None);
        sleep.waiter.take()
    }
}
