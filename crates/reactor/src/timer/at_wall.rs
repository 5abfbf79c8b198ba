//! Timers by the wall clock, which may be set.
//!
//! Such a timer is armed in the wheel like any other, for the time at which the wall clock is
//! expected to show the timer's time. When the clock is set, the expectation is wrong, and all wall
//! timers are re-armed before the next timer runs. Adjustments in small steps, as NTP makes them,
//! need no such care: the monotonic clock follows them.

use std::io;
use std::panic::Location;
use std::time::SystemTime;

use super::wall::WallTime;
use super::{Then, TimerKey};
use crate::context::Context;
use crate::error::Error;
use crate::registry::Registry;
use crate::turn::nanos::nanos;

impl<S> Registry<S> {
    /// Runs `callback` when the wall clock shows `time`. If `time` has passed, runs it as
    /// [`after`](Self::after) with a delay of zero does. Everything else is as described at
    /// `after`: the order of timers, how late a timer may be, what an error or a panic does, and
    /// that [`Reactor::run`](crate::Reactor::run) keeps running while the timer is armed.
    ///
    /// If the wall clock is set or the machine is suspended before the timer has run, the timer
    /// stays correct: it runs as soon as the wall clock shows `time` or later. After a
    /// [`reset`](Self::reset) the timer follows the monotonic clock instead.
    ///
    /// To run the callback daily at a given local time, return [`Then::AtWall`] with the next such
    /// time. You have to compute this time yourself, including time zones and daylight saving.
    ///
    /// # Cost
    /// The first call creates a timerfd, and makes one `epoll_ctl` for it. After the first call
    /// each timer costs O(1). When the wall clock is set, the loop re-arms its n wall-clock timers,
    /// in O(n log n).
    ///
    /// # Errors
    /// - [`Error::Loop`] if no timerfd can be created: `EMFILE`, `ENFILE`, `ENOMEM`.
    /// - [`Error::Os`] if epoll refuses the timerfd.
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
    #[doc(alias("ev_periodic", "CLOCK_REALTIME"))]
    #[track_caller]
    pub fn at_wall<F>(&mut self, time: SystemTime, callback: F) -> Result<TimerKey, Error>
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Then> + 'static,
    {
        self.watch_wall_clock()?;
        let deadline = self.expect_wall(time);
        let timer = self.add_timer(
            deadline,
            self.time.now_ns(),
            Box::new(callback),
            Location::caller(),
        );
        self.timers.record_wall(timer, time);
        Ok(timer)
    }

    /// Returns the wall-clock time. The clock is read on every call. With a
    /// [`ManualClock`](crate::ManualClock), returns
    /// [`ManualClock::wall`](crate::ManualClock::wall).
    pub fn wall_now(&self) -> SystemTime {
        self.time.clock.wall()
    }

    /// Re-arms a timer for a wall-clock time.
    pub(super) fn arm_at_wall(&mut self, timer: TimerKey, time: SystemTime) {
        if let Err(error) = self.watch_wall_clock() {
            tracing::warn!(%error, "cannot watch the wall clock: a timer will not notice that it is set");
        }
        let deadline = self.expect_wall(time);
        self.timers.rearm(timer.0, deadline, self.time.now_ns());
        self.timers.record_wall(timer, time);
    }

    /// Re-arms a timer whose deadline has come if it is too early by the wall clock. Returns `true`
    /// if it was re-armed.
    #[cold]
    pub(super) fn postpone_until_wall(&mut self, timer: TimerKey) -> bool {
        match self.timers.forget_wall(timer) {
            Some(WallTime { time, .. }) if self.time.clock.wall() < time => {
                self.timers.wall.anchor = None; // the clock was set in this turn, or has drifted
                self.arm_at_wall(timer, time);
                true
            }
            _ => false,
        }
    }

    /// Re-arms all wall timers if the wall clock has been set and no event reports it. Called
    /// before the wait, to find the end of the wait.
    #[inline]
    pub(crate) fn rearm_if_wall_was_set(&mut self) {
        if self.time.clock.take_wall_set() {
            self.rearm_wall_timers();
            self.time.forget(); // the time of the turn has changed
        }
    }

    /// Re-arms all wall timers if an event has reported that the wall clock was set. Called before
    /// timers run, also if a panic had cut the previous turn short before that.
    #[inline]
    pub(crate) fn rearm_after_set_wall(&mut self) {
        if std::mem::take(&mut self.timers.wall.is_set) {
            self.rearm_wall_timers();
        }
    }

    /// Re-arms all wall timers, in the order in which they were armed.
    #[cold]
    fn rearm_wall_timers(&mut self) {
        self.timers.wall.anchor = None;
        let times = self.timers.wall.in_order();
        tracing::debug!(timers = times.len(), "the wall clock has been set");
        times
            .into_iter()
            .for_each(|(timer, WallTime { time, .. })| self.arm_at_wall(timer, time));
    }

    /// Returns the time of the wheel at which the wall clock will show `time`.
    fn expect_wall(&mut self, time: SystemTime) -> u64 {
        let now = &self.time;
        let (wall, at_ns) = *self.timers.wall.anchor.get_or_insert_with(|| {
            let wall = now.clock.wall();
            // Read after the wall clock: the time between the two reads makes timers late, not
            // early.
            (wall, now.nanos_at(now.read()))
        });
        match time.duration_since(wall) {
            Ok(ahead) => at_ns.saturating_add(nanos(ahead)),
            Err(past) => at_ns.saturating_sub(nanos(past.duration())),
        }
    }

    /// Makes sure that the loop is notified when the wall clock is set.
    fn watch_wall_clock(&mut self) -> Result<(), Error> {
        if self.timers.wall.times.is_empty() && self.time.clock.take_wall_set() {
            self.timers.wall.anchor = None; // the clock was set before a timer waited for it
        }
        self.sys.watch_wall_clock(&self.time.clock)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use super::*;
    use crate::reactor::Reactor;
    use crate::slots::Key;
    use crate::source::readiness::{Interest, Readiness};
    use crate::sys::clock::ManualClock;
    use crate::sys::poller::Events;

    #[test]
    fn the_kernel_reports_a_set_clock_and_all_wall_timers_are_armed_anew() {
        let mut reactor = Reactor::<()>::new().unwrap();
        let hour = Duration::from_secs(3600);
        let timers = [2, 1].map(|hours| {
            let time = reactor.wall_now() + hour * hours;
            reactor.at_wall(time, |_| Ok(Then::Done)).unwrap()
        });
        let watch = reactor.registry.sys.poller.wall_watch().unwrap();
        // proc(5): clockid 0 is CLOCK_REALTIME, settime flags are TFD_TIMER_ABSTIME and
        // TFD_TIMER_CANCEL_ON_SET.
        let armed = std::fs::read_to_string(format!("/proc/self/fdinfo/{watch}")).unwrap();
        assert!(
            armed.contains("clockid: 0\n") && armed.contains("settime flags: 03\n"),
            "{armed}"
        );

        // Simulates a clock that was half an hour slow, and is corrected when the event comes.
        let (wall, at_ns) = reactor.timers.wall.anchor.unwrap();
        reactor.timers.wall.anchor = Some((wall - hour / 2, at_ns));
        for timer in timers {
            let time = reactor.timers.wall.times[&timer].time;
            reactor.arm_at_wall(timer, time);
        }
        let about = |reactor: &Reactor<()>, minutes: [f64; 2]| {
            let is =
                timers.map(|timer| reactor.remaining(timer).unwrap().unwrap().as_secs_f64() / 60.);
            assert!(
                is.iter()
                    .zip(minutes)
                    .all(|(is, should)| (is - should).abs() < 10.),
                "{is:?}, not {minutes:?}"
            );
        };
        about(&reactor, [150., 90.]);
        reactor.registry.sys.events = Events::of(&[(Key::WALL_CLOCK, Readiness::READABLE)]);
        reactor.registry.deliver_all(&mut None, &mut ());
        reactor.registry.run_timers(&mut None, &mut ());
        about(&reactor, [120., 60.]);
        assert_eq!(
            (reactor.metrics().stale_events, reactor.is_empty()),
            (0, true)
        );
    }

    /// Simulates a clock that was half an hour slow, and is corrected before the next turn.
    fn set_right(reactor: &mut Reactor<()>) {
        let (wall, at_ns) = reactor.timers.wall.anchor.unwrap();
        reactor.timers.wall.anchor = Some((wall - Duration::from_secs(1800), at_ns));
        reactor.registry.sys.events = Events::of(&[(Key::WALL_CLOCK, Readiness::READABLE)]);
    }

    #[test]
    fn a_clock_that_is_set_while_no_timer_is_there_is_right_for_the_next_one() {
        let mut reactor = Reactor::<()>::new().unwrap();
        let hour = Duration::from_secs(3600);
        let now = reactor.wall_now();
        let first = reactor.at_wall(now + hour, |_| Ok(Then::Done)).unwrap();
        reactor.cancel(first).unwrap();
        set_right(&mut reactor);
        reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
        let second = reactor.at_wall(now + hour, |_| Ok(Then::Done)).unwrap();
        assert!(reactor.remaining(second).unwrap().unwrap() <= hour);
    }

    #[test]
    fn a_clock_that_is_set_in_a_turn_that_a_panic_cuts_short_is_heeded() {
        let mut reactor = Reactor::<()>::new().unwrap();
        let hour = Duration::from_secs(3600);
        let wall = reactor.wall_now() + hour;
        let timer = reactor.at_wall(wall, |_| Ok(Then::Done)).unwrap();
        let (reader, writer) = io::pipe().unwrap();
        drop(writer);
        let panics = reactor
            .add(reader, Interest::READABLE, |_, _: &mut Context<'_, ()>| {
                panic!("as the test wants")
            })
            .unwrap();
        set_right(&mut reactor);
        reactor.arm_at_wall(timer, wall); // the deadline by the slow clock
        reactor.registry.sys.events = Events::of(&[
            (Key::WALL_CLOCK, Readiness::READABLE),
            (panics, Readiness::READABLE),
        ]);
        let turn = AssertUnwindSafe(|| reactor.turn(&mut (), Some(Duration::ZERO)));
        assert!(catch_unwind(turn).is_err());
        reactor
            .turn(&mut (), Some(Duration::from_nanos(1)))
            .unwrap(); // computes its wait from the deadlines
        assert!(reactor.remaining(timer).unwrap().unwrap() <= hour);
    }

    #[test]
    fn a_timer_that_has_ended_is_forgotten() {
        let clock = ManualClock::new();
        let mut reactor = Reactor::<()>::builder()
            .clock(clock.clone())
            .build()
            .unwrap();
        let timers = [1, 2, 3].map(|seconds| {
            let timer = reactor
                .at_wall(clock.wall() + Duration::from_secs(seconds), |_| {
                    Ok(Then::Done)
                })
                .unwrap();
            reactor
                .set_timer_slack(timer, Duration::from_millis(1))
                .unwrap();
            timer
        });
        let known =
            |reactor: &Reactor<()>| (reactor.timers.wall.times.len(), reactor.timers.slack.len());
        assert_eq!(known(&reactor), (3, 3));
        reactor.cancel(timers[2]).unwrap();
        reactor.reset(timers[1], Duration::from_secs(2)).unwrap();
        assert_eq!(known(&reactor), (1, 2));
        reactor.advance(&mut (), Duration::from_secs(4)).unwrap();
        assert_eq!(known(&reactor), (0, 0));
    }

    #[test]
    fn a_timer_whose_callback_panics_in_its_drop_is_forgotten_too() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let clock = ManualClock::new();
        let mut reactor = Reactor::<()>::builder()
            .clock(clock.clone())
            .build()
            .unwrap();
        let bomb = Bomb;
        let goes_off = move |_: &mut Context<'_, ()>| {
            let _ = &bomb;
            Ok(Then::Done)
        };
        let timer = reactor
            .at_wall(clock.wall() + Duration::from_secs(1), goes_off)
            .unwrap();
        reactor
            .set_timer_slack(timer, Duration::from_millis(1))
            .unwrap();
        let cancel = AssertUnwindSafe(|| reactor.cancel(timer));
        assert!(catch_unwind(cancel).is_err());
        assert_eq!(
            (
                reactor.timers.wall.times.len(),
                reactor.timers.slack.len(),
                reactor.timers.is_empty()
            ),
            (0, 0, true)
        );
    }
}
