//! Timers and timeouts as users see them: what the registry does for those who arm, move and end them.

use std::io::{self, ErrorKind};
use std::panic::Location;
use std::time::{Duration, Instant};

use super::wheel::NEVER;
use super::{ChangedPeriod, Missed, Payload, Slack, Then, TimerKey, mark};
use crate::callback::TimerFn;
use crate::context::Context;
use crate::error::Error;
use crate::outcome::Next;
use crate::registry::Registry;
use crate::slots::{Blank, Key};
use crate::source::readiness::Readiness;
use crate::turn::nanos::nanos;
use crate::turn::policies::Label;

impl<S> Registry<S> {
    /// Runs `callback` once `delay` has passed since this turn's time, and then as it says.
    ///
    /// Never early. Late by what the callbacks before it take and by what the wait is rounded up, to whole milliseconds
    /// unless [`Builder::high_resolution`](crate::Builder::high_resolution) was asked for. The clock is the monotonic one,
    /// which stands still while the machine is suspended; [`at_wall`](Self::at_wall) has the other.
    /// [`Duration::ZERO`] is as soon as timers run: later this turn, or next turn if a timer armed it or what comes after timers.
    /// [`Duration::MAX`] is never. Timers run after the sources of their turn, by deadline, ties in the order of arming, at
    /// most 1024 a turn. A timer keeps [`Reactor::run`](crate::Reactor::run) alive. An error, `WouldBlock` included, or
    /// under [`PanicPolicy::RemoveHandler`](crate::PanicPolicy::RemoveHandler) a panic, ends it and is logged.
    ///
    /// O(1), no system call, one allocation if the closure captures anything.
    #[doc(alias(
        "evtimer_new",
        "ev_timer",
        "uv_timer_start",
        "runAfterDelay",
        "scheduleTimeout",
        "sleep",
        "call_later"
    ))]
    #[track_caller]
    pub fn after<F>(&mut self, delay: Duration, callback: F) -> TimerKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Then> + 'static,
    {
        let now_ns = self.time.now_ns();
        self.add_timer(
            now_ns.saturating_add(nanos(delay)),
            now_ns,
            Box::new(callback),
            Location::caller(),
        )
    }

    /// Runs `callback` at `deadline`, as soon as timers run if that has passed; otherwise like [`after`](Self::after).
    #[doc(alias("call_at", "sleep_until"))]
    #[track_caller]
    pub fn at<F>(&mut self, deadline: Instant, callback: F) -> TimerKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Then> + 'static,
    {
        let deadline = self.time.nanos_at(deadline);
        self.add_timer(
            deadline,
            self.time.now_ns(),
            Box::new(callback),
            Location::caller(),
        )
    }

    /// Runs `callback` every `period`, for the first time a period from now, until it returns [`Next::Remove`].
    ///
    /// But for [`Missed::Delay`] the ticks are multiples of the period, however long callbacks take; `missed` says what happens
    /// to those that the loop was too busy for. [`set_period`](Self::set_period) changes the period. A period of zero is every turn. A [`reset`](Self::reset) moves one tick, and
    /// those after it are where they were. One by the callback itself changes nothing: the next tick is set when it returns. `WouldBlock` from the callback waits for the next tick. One allocation. Otherwise
    /// like [`after`](Self::after).
    #[doc(alias("EV_PERSIST", "uv_timer_set_repeat", "interval", "setInterval"))]
    #[track_caller]
    pub fn every<F>(&mut self, mut period: Duration, missed: Missed, mut callback: F) -> TimerKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        let mut tick = self.now().checked_add(period);
        let first = tick.map_or(NEVER, |tick| self.time.nanos_at(tick));
        let periodic = move |cx: &mut Context<'_, S>| {
            if let Some(changed) = cx.registry.take_changed_period() {
                period = changed.period;
                tick = changed.since.checked_add(period); // this one
            }
            match callback(cx) {
                Ok(Next::Keep) => {}
                Ok(Next::Remove) => return Ok(Then::Done),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {} // next time perhaps
                Err(error) => return Err(error),
            }
            tick = match cx.registry.take_changed_period() {
                Some(changed) => {
                    period = changed.period;
                    changed.since.checked_add(period)
                }
                None => tick.and_then(|last| missed.next(last, period, cx.now())),
            };
            Ok(tick.map_or(Then::After(Duration::MAX), Then::At))
        };
        let timer = self.add_timer(
            first,
            self.time.now_ns(),
            Box::new(periodic),
            Location::caller(),
        );
        let _ = self.timers.set_mark(timer, mark::PERIODIC, true); // it was armed just now
        timer
    }

    /// Changes the period of a timer of [`every`](Self::every): its next tick is a `period` after this turn's time, and those after it
    /// are multiples of the period from there. Also from its own callback. O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended, and for a timer that is none of `every`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{ManualClock, Missed, Next, Reactor};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<u32>::builder().clock(ManualClock::new()).build()?;
    /// let timer = reactor.every(Duration::from_secs(60), Missed::Skip, |cx| {
    ///     *cx.state += 1;
    ///     Ok(Next::Keep)
    /// });
    /// let mut ticks = 0;
    /// reactor.advance(&mut ticks, Duration::from_secs(90))?;
    /// reactor.set_period(timer, Duration::from_secs(1))?; // not 30 s from now, but one
    /// reactor.advance(&mut ticks, Duration::from_secs(10))?;
    /// assert_eq!(ticks, 11);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_period(&mut self, timer: TimerKey, period: Duration) -> Result<(), Error> {
        if !self.timers.is_marked(timer, mark::PERIODIC) {
            return Err(Error::StaleKey(timer.0));
        }
        self.timers.periods.insert(
            timer,
            ChangedPeriod {
                period,
                since: self.time.now(),
            },
        );
        self.reset(timer, period)
    }

    /// Takes the new period of the timer whose callback is running, if it has got one.
    #[inline]
    fn take_changed_period(&mut self) -> Option<ChangedPeriod> {
        if self.timers.periods.is_empty() {
            None
        } else {
            self.timers
                .running
                .and_then(|timer| self.timers.periods.remove(&timer))
        }
    }

    pub(crate) fn add_timer(
        &mut self,
        deadline: u64,
        now_ns: u64,
        callback: Box<TimerFn<S>>,
        origin: &'static Location<'static>,
    ) -> TimerKey {
        self.timers.foreground += 1;
        self.turn.needs_full_turn = true;
        let origin = self.timers.origins.number(origin);
        TimerKey(
            self.timers
                .arm(deadline, now_ns, origin, Payload::Callback(callback)),
        )
    }

    /// Lets a timer run `delay` after this turn's time instead of when it would have. O(1); to put it off moves nothing.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    #[doc(alias("ev_timer_again", "uv_timer_again"))]
    #[inline]
    pub fn reset(&mut self, timer: TimerKey, delay: Duration) -> Result<(), Error> {
        let now_ns = self.time.now_ns();
        if self.timers.reset(timer.0, now_ns, nanos(delay)) {
            Ok(())
        } else {
            Err(Error::StaleKey(timer.0))
        }
    }

    /// Lets a timer be up to `slack` late, so that it runs with others when the loop is awake anyway: the deadlines of
    /// timers with slack are moved later, to times that many of them can agree on. [`Duration::ZERO`] in the beginning.
    ///
    /// Holds for the present deadline and for each one that the timer is given from then on. O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    ///
    /// # Source
    /// `apply_slack` of the kernel's timers: within the range, the time with the most trailing zeros.
    pub fn set_timer_slack(&mut self, timer: TimerKey, slack: Duration) -> Result<(), Error> {
        let armed_for = self
            .timers
            .wheel
            .deadline(timer.0)
            .ok_or(Error::StaleKey(timer.0))?;
        let before = self.timers.slack.remove(&timer);
        let slack = Slack {
            most: nanos(slack),
            deadline: before.map_or(armed_for, |slack| slack.deadline),
        };
        if slack.most > 0 {
            self.timers.slack.insert(timer, slack);
        }
        self.timers.set_mark(timer, mark::SLACK, slack.most > 0)?;
        // One that rests, since its callback is running, is armed when that returns.
        if armed_for != NEVER && slack.agree() != armed_for {
            self.timers
                .wheel
                .rearm(timer.0, slack.agree(), self.time.now_ns());
        }
        Ok(())
    }

    /// Lets [`Reactor::run`](crate::Reactor::run) end although this timer is armed.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    pub fn set_timer_background(&mut self, timer: TimerKey) -> Result<(), Error> {
        let was = self.timers.set_mark(timer, mark::BACKGROUND, true)?;
        self.timers.foreground -= usize::from(!was);
        Ok(())
    }

    /// Keeps [`Reactor::run`](crate::Reactor::run) going while this timer is there, as it is in the beginning.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    pub fn set_timer_foreground(&mut self, timer: TimerKey) -> Result<(), Error> {
        let was = self.timers.set_mark(timer, mark::BACKGROUND, false)?;
        self.timers.foreground += usize::from(was);
        Ok(())
    }

    /// Ends a timer, also one that is due in this turn, and drops its callback, or lets the one that is running end with
    /// its return. Its place is for the next timer. The loop may wake once for its time, in vain, where other timers are due soon
    /// after it.
    ///
    /// O(1) amortised. Four bytes of it may be left in the list of the timers that would have run at about its time: until
    /// that time comes, or all of those have ended, or as many such leavings are about as there ever were timers at once.
    /// Then this call files all timers anew, some 10 ms for a million. [`reset`](Self::reset) to an earlier time is alike.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended already.
    #[doc(alias("evtimer_del", "ev_timer_stop", "uv_timer_stop", "cancelTimeout"))]
    pub fn cancel(&mut self, timer: TimerKey) -> Result<(), Error> {
        if self.end_entry(timer) {
            Ok(())
        } else {
            Err(Error::StaleKey(timer.0))
        }
    }

    /// Ends a timer and drops its callback, if that is in its place: whether there was one.
    #[inline]
    pub(super) fn end_entry(&mut self, timer: TimerKey) -> bool {
        let Some((marks, payload)) = self.timers.wheel.cancel(timer.0) else {
            return false;
        };
        if marks & mark::BACKGROUND == 0 {
            self.timers.foreground -= 1;
        }
        if marks & mark::HAS_MORE != 0 {
            self.timers.wall.forget(timer);
            self.timers.slack.remove(&timer);
            self.timers.periods.remove(&timer);
        }
        // Last: what the callback has captured may panic when it is dropped. Where it lies, unless that is to be caught.
        if self.turn.supervision.catches() {
            let callback = std::mem::replace(payload, Payload::blank());
            self.dispose(
                callback,
                Label {
                    name: "timer",
                    origin: None,
                },
            );
        } else {
            *payload = Payload::blank();
        }
        true
    }

    /// Ends [`Reactor::run`](crate::Reactor::run) with the error if this timer fails:
    /// [`set_essential`](Self::set_essential).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    pub fn set_timer_essential(&mut self, timer: TimerKey) -> Result<(), Error> {
        self.timers.set_mark(timer, mark::ESSENTIAL, true).map(drop)
    }

    /// Sets where a timer was armed, for logs and lists: for a library of handlers, which arms now a timer that a line of its
    /// user's has asked for earlier. Default: the line that has called [`after`](Self::after), by `#[track_caller]`. O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    pub fn set_timer_origin(
        &mut self,
        timer: TimerKey,
        origin: &'static Location<'static>,
    ) -> Result<(), Error> {
        let origin = self.timers.origins.number(origin);
        if self.timers.wheel.set_note(timer.0, origin) {
            Ok(())
        } else {
            Err(Error::StaleKey(timer.0))
        }
    }

    /// Tells the handler of `key` once `timeout` has passed since this turn's time, by
    /// [`Readiness::is_timeout`](crate::Readiness::is_timeout), whatever its interest. Each call sets it anew, `None` ends it; it does not repeat.
    ///
    /// A timeout judges a source by its silence. It is told only after the kernel has been asked at the deadline or later, and after the
    /// handler has been called for what the kernel had reported by then: also after a pause, when the process was stopped or a
    /// callback took long. At most one sweep of what the kernel reports is waited for. A source that stays ready is told after one
    /// call without the timeout. Until then the timeout can be set anew or ended.
    ///
    /// In a turn that takes 50 ms or longer the timeout counts from the end of the turn, where that is known: see
    /// [`end_of_turn`](Self::end_of_turn).
    ///
    /// Made to be called for every message: to push a timeout back moves nothing, allocates nothing and makes no system call. A
    /// handler that instead notes when it was last called for bytes compares with the deadline that it has set, not with the
    /// time of the call: the kernel has not been asked for the time between the two.
    /// Never early; as late as [`after`](Self::after), and a turn later where the kernel is to be asked first.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    #[doc(alias("EV_TIMEOUT", "timeout"))]
    #[inline]
    pub fn set_timeout(&mut self, key: Key, timeout: Option<Duration>) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        slot.ready = slot.ready.without_bits(Readiness::TIMEOUT); // one that has passed and was not told yet is off too
        match timeout {
            Some(timeout) => {
                self.turn.needs_full_turn = true;
                slot.timeout =
                    self.timers
                        .set_timeout(key, slot.timeout, self.time.now_ns(), timeout);
            }
            None => self
                .timers
                .end_timeout(std::mem::replace(&mut slot.timeout, Key::NULL)),
        }
        Ok(())
    }
}
