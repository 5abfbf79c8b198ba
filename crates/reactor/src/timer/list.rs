//! The list of armed timers.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::wheel::NEVER;
use super::{TimerKey, mark};
use crate::error::Error;
use crate::registry::Registry;

/// One line of the list of timers that [`Registry::timers`](crate::Registry::timers) returns.
///
/// Displays as `3v1 in 1.5s examples/echo.rs:31:18`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TimerInfo {
    /// The key of the timer.
    pub key: TimerKey,
    /// The time until the timer is due. `None` if the timer is never due. Also `None` while the
    /// timer's own callback runs, unless the callback has [reset](crate::Registry::reset) the
    /// timer.
    pub remaining: Option<Duration>,
    /// `true` if [`Reactor::run`](crate::Reactor::run) keeps running while this timer is armed.
    /// `false` if the timer is in the [background](crate::Registry::set_timer_background).
    pub keeps_alive: bool,
    /// The place in the source where the timer was armed.
    pub origin: &'static Location<'static>,
    /// The [name](crate::RequestContext::name) of its context, if it has one.
    #[cfg(feature = "request-context")]
    pub context: Option<&'static str>,
}

impl fmt::Display for TimerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            remaining,
            keeps_alive,
            origin,
            ..
        } = self;
        write!(f, "{key} ")?;
        match remaining {
            Some(remaining) => write!(f, "in {remaining:?} {origin}")?,
            None => write!(f, "not due {origin}")?,
        }
        f.write_str(if *keeps_alive { "" } else { ", background" })?;
        #[cfg(feature = "request-context")]
        if let Some(context) = self.context {
            write!(f, ", in {context}")?;
        }
        Ok(())
    }
}

impl<S> Registry<S> {
    /// Returns every timer. The [timeouts](Self::set_timeout) of sources are not among them. Use
    /// the list for a status command. To see why the loop does not end, use
    /// [`reasons_to_run`](Self::reasons_to_run).
    ///
    /// # Cost
    /// O(number of timers).
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{Reactor, Then};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// reactor.after(Duration::from_secs(60), |_| Ok(Then::Done));
    /// for timer in reactor.timers() {
    ///     println!("{timer}"); // 0v1 in 60s src/main.rs:4:9
    /// }
    /// assert_eq!(reactor.timers().count(), 1);
    /// # Ok(())
    /// # }
    /// ```
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
                    #[cfg(feature = "request-context")]
                    context: self.contexts.of_timers.get(key).name(),
                })
            })
    }

    /// Returns the time until a timer is due, counted from [this turn's time](Self::now). Returns
    /// `None` if the timer is never due. Also returns `None` while the timer's own callback runs,
    /// unless the callback has [reset](Self::reset) the timer.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the timer has ended.
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
