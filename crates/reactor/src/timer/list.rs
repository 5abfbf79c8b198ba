//! The list of what is armed.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::wheel::NEVER;
use super::{TimerKey, mark};
use crate::error::Error;
use crate::registry::Registry;

/// One line of the list of timers: [`Registry::timers`](crate::Registry::timers).
///
/// Displays as `3v1 in 1.5s examples/echo.rs:31:18`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TimerInfo {
    /// Its key.
    pub key: TimerKey,
    /// How long until it is due; `None` if never, or while its callback runs, unless that has reset it.
    pub remaining: Option<Duration>,
    /// Whether it keeps [`Reactor::run`](crate::Reactor::run) alive.
    pub keeps_alive: bool,
    /// Where it was armed.
    pub origin: &'static Location<'static>,
}

impl fmt::Display for TimerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            remaining,
            keeps_alive,
            origin,
        } = self;
        write!(f, "{key} ")?;
        match remaining {
            Some(remaining) => write!(f, "in {remaining:?} {origin}")?,
            None => write!(f, "not due {origin}")?,
        }
        f.write_str(if *keeps_alive { "" } else { ", background" })
    }
}

impl<S> Registry<S> {
    /// Every timer, timeouts of sources apart: for a status command, or to see what keeps the loop alive. O(n).
    pub fn timers(&self) -> impl Iterator<Item = TimerInfo> {
        let now_ns = self.time.now_ns();
        self.timers
            .wheel
            .iter()
            .filter_map(move |(key, deadline, marks, origin)| {
                Some(TimerInfo {
                    key: TimerKey(key),
                    remaining: (deadline != NEVER)
                        .then(|| Duration::from_nanos(deadline.saturating_sub(now_ns))),
                    keeps_alive: marks & mark::BACKGROUND == 0,
                    origin: self.timers.origins.get(origin)?,
                })
            })
    }

    /// How long until a timer is due, from this turn's time; `None` if never, or while its callback
    /// runs, unless that has reset it.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    #[doc(alias("ev_timer_remaining", "uv_timer_get_due_in"))]
    pub fn remaining(&self, timer: TimerKey) -> Result<Option<Duration>, Error> {
        let deadline = self
            .timers
            .wheel
            .deadline(timer.0)
            .ok_or(Error::StaleKey(timer.0))?;
        let left = deadline.saturating_sub(self.time.now_ns());
        Ok((deadline != NEVER).then(|| Duration::from_nanos(left)))
    }
}
