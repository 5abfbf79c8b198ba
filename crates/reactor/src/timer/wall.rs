//! The timers that wait for a time of the wall clock.

use std::collections::HashMap;
use std::time::SystemTime;

use super::TimerKey;

/// The timers that wait for a time of the wall clock.
#[derive(Debug, Default)]
pub(super) struct WallTimers {
    pub(super) times: HashMap<TimerKey, WallTime>,
    /// How many wall-clock times have been recorded.
    asked: u64,
    /// A time of the wall clock, and the time of the wheel at which it was read. Measured once and
    /// each time the clock is set, so that timers for the same time are due at the same time.
    pub(super) anchor: Option<(SystemTime, u64)>,
    /// `true` if the clock has been set since all wall timers were armed.
    pub(super) is_set: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WallTime {
    pub(super) time: SystemTime,
    /// The order among timers for the same time.
    asked: u64,
}

impl WallTimers {
    pub(super) fn record(&mut self, timer: TimerKey, time: SystemTime) {
        self.asked += 1;
        self.times.insert(
            timer,
            WallTime {
                time,
                asked: self.asked,
            },
        );
    }

    pub(super) fn forget(&mut self, timer: TimerKey) -> Option<WallTime> {
        self.times.remove(&timer)
    }

    /// Returns all wall timers, in the order in which they were recorded. Apart from the registry,
    /// so that sorting is not compiled anew for each state.
    pub(super) fn in_order(&self) -> Vec<(TimerKey, WallTime)> {
        let mut times: Vec<_> = self
            .times
            .iter()
            .map(|(timer, time)| (*timer, *time))
            .collect();
        times.sort_unstable_by_key(|(_, time)| time.asked);
        times
    }
}
