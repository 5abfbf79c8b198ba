//! Timers by the wall clock, which may be set.
//!
//! Such a timer is armed in the wheel like any other, for the time that the wall clock is expected to show its own at. When
//! the clock is set, the expectation is wrong, and all of them are armed anew. A timerfd tells of it, which is armed for
//! the end of time with `TFD_TIMER_CANCEL_ON_SET` and never expires. Adjustments in small steps, by NTP, need nothing: the
//! monotonic clock follows them.
//!
//! Source: timerfd_create(2); systemd notices a changed clock in the same way.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::panic::Location;
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::{Then, TimerKey};
use crate::clock::nanos;
use crate::context::Context;
use crate::error::Error;
use crate::handler::Next;
use crate::io::Io;
use crate::readiness::Interest;
use crate::registry::Registry;
use crate::slots::Key;

/// The timers that wait for a time of the wall clock.
#[derive(Debug, Default)]
pub(super) struct WallTimers {
    times: HashMap<TimerKey, SystemTime>,
    /// The source that tells that the clock has been set.
    watch: Option<Key>,
    /// How often a manual clock had been set when all of them were armed.
    manual_sets: u64,
}

impl WallTimers {
    #[inline]
    pub(super) fn contains(&self, timer: TimerKey) -> bool {
        !self.times.is_empty() && self.times.contains_key(&timer)
    }

    #[inline]
    pub(super) fn forget(&mut self, timer: TimerKey) {
        if !self.times.is_empty() {
            self.times.remove(&timer);
        }
    }
}

impl<S> Registry<S> {
    /// Runs `callback` when clocks on walls show `time`, next turn if they are past it; otherwise like
    /// [`after`](Self::after).
    ///
    /// Where somebody sets the clock, or the machine was asleep, it runs when the clock says so after that. To run every day at
    /// some hour, return [`Then::AtWall`] with the next one, which only you know: time zones and their summers are your
    /// business. [`reset`](Self::reset) makes it a timer by the monotonic clock.
    ///
    /// The first one costs a timerfd, which is registered in the background as "wall clock"; each O(1), and O(n) when the
    /// clock is set.
    ///
    /// # Errors
    /// [`Error::Loop`] if there is no timerfd to be had: `EMFILE`, `ENFILE`, `ENOMEM`. [`Error::Full`], [`Error::Os`] if it
    /// cannot be registered.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime, UNIX_EPOCH};
    /// use reactor::{ManualClock, Reactor, Then};
    ///
    /// /// The next midnight in Greenwich.
    /// fn midnight_after(time: SystemTime) -> SystemTime {
    ///     let days = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    ///     UNIX_EPOCH + Duration::from_secs((days + 1) * 86_400)
    /// }
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let clock = ManualClock::new();
    /// clock.set_wall(UNIX_EPOCH + Duration::from_secs(3600)); // one in the morning
    /// let mut reactor = Reactor::<Vec<u64>>::builder().clock(clock.clone()).build()?;
    /// let first = midnight_after(reactor.wall_now());
    /// reactor.at_wall(first, |cx| {
    ///     let now = cx.registry.wall_now();
    ///     cx.state.push(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400);
    ///     Ok(Then::AtWall(midnight_after(now)))
    /// })?;
    /// let mut days = Vec::new();
    /// reactor.advance(&mut days, Duration::from_secs(3 * 86_400))?;
    /// assert_eq!(days, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn at_wall<F>(&mut self, time: SystemTime, callback: F) -> Result<TimerKey, Error>
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Then> + 'static,
    {
        self.watch_wall_clock()?;
        let (deadline, now_ns) = self.expect_wall(time);
        let timer = self.add_timer(deadline, now_ns, Box::new(callback), Location::caller());
        self.timers.wall.times.insert(timer, time);
        Ok(timer)
    }

    /// What clocks on walls show, read each time; that of the [`ManualClock`](crate::ManualClock), if there is one.
    pub fn wall_now(&self) -> SystemTime {
        self.clock.wall()
    }

    /// Arms a timer anew for a time of the wall clock.
    pub(super) fn arm_at_wall(&mut self, timer: TimerKey, time: SystemTime) {
        if let Err(error) = self.watch_wall_clock() {
            tracing::warn!(%error, "a timer would not notice that the clock is set");
        }
        let (deadline, now_ns) = self.expect_wall(time);
        if self.timers.rearm(timer.0, deadline, now_ns) {
            self.timers.wall.times.insert(timer, time);
        }
    }

    /// For a timer whose deadline has come: whether it is too early by the wall clock, and armed anew.
    #[cold]
    pub(super) fn put_off_until_wall(&mut self, timer: TimerKey) -> bool {
        match self.timers.wall.times.remove(&timer) {
            Some(time) if self.clock.wall() < time => self.arm_at_wall(timer, time),
            _ => return false,
        }
        true
    }

    /// Arms all of them anew if a manual clock has been set.
    #[inline]
    pub(crate) fn heed_manual_wall(&mut self) {
        if let Some(manual) = self.clock.manual()
            && manual.wall_sets() != self.timers.wall.manual_sets
        {
            self.timers.wall.manual_sets = manual.wall_sets();
            self.rearm_wall_timers();
        }
    }

    /// The monotonic time at which the wall clock will show `time`, and the present one.
    fn expect_wall(&self, time: SystemTime) -> (u64, u64) {
        let ahead = time.duration_since(self.clock.wall()).unwrap_or_default();
        // Read after the wall clock: what passes between the two makes it late, not early.
        let now_ns = self.clock.nanos_at(self.clock.read());
        (now_ns.saturating_add(nanos(ahead)), self.clock.now_ns())
    }

    #[cold]
    fn rearm_wall_timers(&mut self) {
        let times: Vec<_> = self.timers.wall.times.iter().map(|(timer, time)| (*timer, *time)).collect();
        tracing::debug!(timers = times.len(), "the wall clock has been set");
        times.into_iter().for_each(|(timer, time)| self.arm_at_wall(timer, time));
    }

    /// Registers what tells that the clock has been set, unless that is done or somebody drives the clock.
    fn watch_wall_clock(&mut self) -> Result<(), Error> {
        if self.clock.manual().is_some() || self.timers.wall.watch.is_some_and(|watch| self.contains(watch)) {
            return Ok(());
        }
        let failed = |call| move |errno: Errno| Error::Loop { call, source: errno.into() };
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags).map_err(failed("timerfd_create"))?;
        let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &once)
            .map_err(failed("timerfd_settime"))?;
        let watch = self.add(timer, Interest::READABLE, |timer, cx| {
            cx.registry.hear_of_wall_clock(timer)?;
            Ok(Next::Keep)
        })?;
        self.set_name(watch, "wall clock")?;
        self.set_background(watch)?;
        self.timers.wall.watch = Some(watch);
        Ok(())
    }

    /// A read of the timerfd fails once with `ECANCELED` after the clock was set.
    fn hear_of_wall_clock(&mut self, timer: &mut Io<OwnedFd>) -> io::Result<()> {
        let read = timer.try_io(Interest::READABLE, |timer| Ok(rustix::io::read(timer, &mut [0; 8])?));
        match read {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
            Err(error) if Errno::from_io_error(&error) != Some(Errno::CANCELED) => return Err(error),
            _ => {}
        }
        self.rearm_wall_timers();
        Ok(())
    }
}
