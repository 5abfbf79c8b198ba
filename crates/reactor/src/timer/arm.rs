//! The public functions for timers and timeouts: to arm, move and end them.

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
use crate::request_context::Carried;
use crate::slots::{Blank, Key};
use crate::source::readiness::Readiness;
use crate::turn::nanos::nanos;
use crate::turn::policies::Label;

impl<S> Registry<S> {
    /// Runs `callback` when `delay` has passed since [this turn's time](Self::now). The result of
    /// the callback decides whether and when it runs again: see [`Then`].
    ///
    /// A timer is never early. It is late by the time that the callbacks before it take. It is also
    /// late by up to a millisecond, because the loop waits for whole milliseconds unless
    /// [`Builder::high_resolution`](crate::Builder::high_resolution) is set.
    ///
    /// - The delay is measured by the monotonic clock, which stands still while the machine is
    ///   suspended. For the wall clock use [`at_wall`](Self::at_wall).
    /// - With a delay of [`Duration::ZERO`] the timer runs later in this
    ///   [turn](crate::Reactor::turn). It runs next turn if it was armed outside of a turn, by a
    ///   timer, or by a callback that runs after the timers of the turn. With [`Duration::MAX`] it
    ///   never runs.
    /// - Timers run after the sources of their turn, in the order of their deadlines. Timers with
    ///   the same deadline run in the order in which they were armed. At most 1024 timers run in a
    ///   turn.
    /// - [`Reactor::run`](crate::Reactor::run) keeps running while a timer is armed, unless the
    ///   timer is in the [background](Self::set_timer_background).
    /// - An error of the callback, even `WouldBlock`, ends the timer and is logged. The exception
    ///   is `Interrupted`: the timer runs again next turn. A panic ends the timer too, and the
    ///   [`PanicPolicy`](crate::PanicPolicy) of the loop applies.
    ///
    /// # Cost
    /// O(1), no system call. One allocation if the closure captures anything.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{Reactor, Then};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<u32>::new()?;
    /// reactor.after(Duration::from_millis(1), |cx| {
    ///     *cx.state += 1;
    ///     Ok(if *cx.state < 3 { Then::After(Duration::from_millis(1)) } else { Then::Done })
    /// });
    /// let mut runs = 0;
    /// reactor.run(&mut runs)?; // returns when the timer has ended
    /// assert_eq!(runs, 3);
    /// # Ok(())
    /// # }
    /// ```
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

    /// Runs `callback` at `deadline`. If `deadline` has passed, runs it as [`after`](Self::after)
    /// with a delay of zero does. Everything else is as described at `after`: the order of timers,
    /// how late a timer may be, what an error or a panic does, and that
    /// [`Reactor::run`](crate::Reactor::run) keeps running while the timer is armed.
    ///
    /// # Cost
    /// O(1), no system call. One allocation if the closure captures anything.
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

    /// Runs `callback` every `period`, for the first time one period after [this turn's
    /// time](Self::now), until it returns [`Next::Remove`].
    ///
    /// `missed` decides what happens to ticks that the loop was too busy to run. With
    /// [`Missed::Skip`] and [`Missed::Burst`], the ticks are due at multiples of the period,
    /// counted from this turn's time, however long callbacks take. With [`Missed::Delay`], each
    /// tick is due one period after the previous tick has run. With a period of zero the callback
    /// runs every turn.
    ///
    /// - [`set_period`](Self::set_period) changes the period.
    /// - A [`reset`](Self::reset) moves only the next tick. With [`Missed::Skip`] and
    ///   [`Missed::Burst`], the ticks after it keep their times. With [`Missed::Delay`], they move
    ///   too. A `reset` by the timer's own callback changes nothing, since the next tick is set
    ///   when the callback returns.
    /// - If the callback returns `WouldBlock`, the timer waits for the next tick. If it returns
    ///   `Interrupted`, it runs again next turn. Any other error ends the timer and is logged.
    ///
    /// Everything else is as described at [`after`](Self::after): the order of timers, how late a
    /// timer may be, what a panic does, and that [`Reactor::run`](crate::Reactor::run) keeps
    /// running while the timer is armed.
    ///
    /// # Cost
    /// O(1), no system call, one allocation.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{ManualClock, Missed, Next, Reactor};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<u32>::builder().clock(ManualClock::new()).build()?;
    /// reactor.every(Duration::from_secs(60), Missed::Skip, |cx| {
    ///     *cx.state += 1;
    ///     Ok(Next::Keep)
    /// });
    /// let mut minutes = 0;
    /// reactor.advance(&mut minutes, Duration::from_secs(3600))?;
    /// assert_eq!(minutes, 60);
    /// # Ok(())
    /// # }
    /// ```
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
                tick = changed.since.checked_add(period); // the present tick
            }
            match callback(cx) {
                Ok(Next::Keep) => {}
                Ok(Next::Remove) => return Ok(Then::Done),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {} // next time perhaps
                Err(error) => return Err(error),
            }
            // The callback may have changed the period of its own timer.
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

    /// Changes the period of a timer of [`every`](Self::every). The next tick is one `period` after
    /// [this turn's time](Self::now). The later ticks follow as described at `every`: with
    /// [`Missed::Skip`] and [`Missed::Burst`] at two periods after this turn's time, at three, and
    /// so on. The timer's own callback may call `set_period` too.
    ///
    /// # Cost
    /// O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the timer has ended, or is not one of `every`.
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

    /// Takes the new period of the timer whose callback is running, if there is one.
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
        let payload = Payload::Callback(callback);
        let timer = TimerKey(self.timers.arm(deadline, now_ns, origin, payload));
        let context = Carried::current();
        if !context.is_none() && self.timers.mark_context(timer, true).is_ok() {
            self.contexts.of_timers.put(timer.0, context);
        }
        timer
    }

    /// Re-arms a timer: the timer runs `delay` after [this turn's time](Self::now) instead of at
    /// its present deadline.
    ///
    /// # Cost
    /// O(1). If the new deadline is later than the present one, usually only the new time is
    /// stored.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the timer has ended.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{ManualClock, Reactor, Then};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<bool>::builder().clock(ManualClock::new()).build()?;
    /// let timer = reactor.after(Duration::from_secs(10), |cx| {
    ///     *cx.state = true;
    ///     Ok(Then::Done)
    /// });
    /// let mut has_run = false;
    /// reactor.advance(&mut has_run, Duration::from_secs(9))?;
    /// reactor.reset(timer, Duration::from_secs(10))?; // ten seconds from now
    /// reactor.advance(&mut has_run, Duration::from_secs(9))?;
    /// assert!(!has_run);
    /// # Ok(())
    /// # }
    /// ```
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

    /// Allows a timer to be up to `slack` late, so that one wakeup of the loop can serve several
    /// timers. The deadline of a timer with slack is rounded up, by at most `slack`, to a time that
    /// other timers are likely to share. The slack holds for the present deadline and for each
    /// later deadline of the timer. Default: [`Duration::ZERO`].
    ///
    /// # Cost
    /// O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the timer has ended.
    ///
    /// # Source
    /// `apply_slack` of the kernel's timers, which takes the permitted time whose binary number
    /// ends with the most zeros.
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
        // A timer has no deadline while its callback runs: it is armed when the callback returns.
        if armed_for != NEVER && slack.agree() != armed_for {
            self.timers
                .wheel
                .rearm(timer.0, slack.agree(), self.time.now_ns());
        }
        Ok(())
    }

    /// Puts a timer into the background, as libuv's `uv_unref` does:
    /// [`Reactor::run`](crate::Reactor::run) does not wait for the timer, and may return while it
    /// is armed.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the timer has ended.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{Reactor, Then};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let clean_up = reactor.after(Duration::from_secs(3600), |_cx| Ok(Then::Done));
    /// reactor.set_timer_background(clean_up)?;
    /// reactor.run(&mut ())?; // returns at once
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_timer_background(&mut self, timer: TimerKey) -> Result<(), Error> {
        let was = self.timers.set_mark(timer, mark::BACKGROUND, true)?;
        self.timers.foreground -= usize::from(!was);
        Ok(())
    }

    /// Puts a timer into the foreground, and so undoes
    /// [`set_timer_background`](Self::set_timer_background): [`Reactor::run`](crate::Reactor::run)
    /// keeps running while the timer is armed. Default: foreground.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the timer has ended.
    pub fn set_timer_foreground(&mut self, timer: TimerKey) -> Result<(), Error> {
        let was = self.timers.set_mark(timer, mark::BACKGROUND, false)?;
        self.timers.foreground += usize::from(was);
        Ok(())
    }

    /// Cancels a timer and drops its callback, even if the timer is already due in this
    /// [turn](crate::Reactor::turn). If the timer's own callback calls `cancel`, the callback is
    /// dropped when it returns. If other timers are due soon after the cancelled deadline, the loop
    /// may still wake once at the cancelled deadline, without running a callback.
    ///
    /// # Cost
    /// O(1) amortised. The next timer reuses the memory of a cancelled timer, except for four bytes
    /// in the list of the timers that are due at about the same time. These four bytes are removed
    /// as soon as one of these is true:
    ///
    /// - the deadline of the cancelled timer comes;
    /// - no timer is left in this list;
    /// - there are about as many such leftovers as the greatest number of timers that ever existed
    ///   at once.
    ///
    /// In the last case `cancel` rebuilds the lists of all timers, which takes about 10 ms for a
    /// million timers. A [`reset`](Self::reset) to an earlier time costs the same as `cancel`.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the timer has ended already.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{Reactor, Then};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let timer = reactor.after(Duration::from_secs(3600), |_cx| Ok(Then::Done));
    /// reactor.cancel(timer)?;
    /// assert!(reactor.cancel(timer).is_err()); // the key is stale
    /// reactor.run(&mut ())?; // returns at once: nothing is left to wait for
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("evtimer_del", "ev_timer_stop", "uv_timer_stop", "cancelTimeout"))]
    pub fn cancel(&mut self, timer: TimerKey) -> Result<(), Error> {
        if self.end_entry(timer) {
            Ok(())
        } else {
            Err(Error::StaleKey(timer.0))
        }
    }

    /// Ends a timer and drops its callback, if the callback is in its entry. Returns `true` if the
    /// timer existed.
    #[inline]
    pub(super) fn end_entry(&mut self, timer: TimerKey) -> bool {
        let Some((marks, payload)) = self.timers.wheel.cancel(timer.0) else {
            return false;
        };
        if marks & mark::BACKGROUND == 0 {
            self.timers.foreground -= 1;
        }
        let mut context = Carried::NONE;
        if marks & mark::HAS_MORE != 0 {
            if marks & mark::CONTEXT != 0 {
                context = self.contexts.of_timers.take(timer.0);
            }
            if marks & mark::IN_A_MAP != 0 {
                self.timers.wall.forget(timer);
                self.timers.slack.remove(&timer);
                self.timers.periods.remove(&timer);
            }
        }
        // Last, since a destructor of the callback's captures may panic. The callback is dropped in
        // place, unless the policy catches such a panic.
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
        self.drop_context(context);
        true
    }

    /// Makes this timer essential: if its callback fails, [`Reactor::run`](crate::Reactor::run)
    /// ends and returns the error. [`set_essential`](Self::set_essential) does the same for a
    /// source.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the timer has ended.
    pub fn set_timer_essential(&mut self, timer: TimerKey) -> Result<(), Error> {
        self.timers.set_mark(timer, mark::ESSENTIAL, true).map(drop)
    }

    /// Sets the source location of a timer, which logs and lists show. Use it in a library that
    /// arms a timer on behalf of its user: the user has called the library earlier, and the timer
    /// follows from that call. Pass the location of the user's call. Default: the caller of
    /// [`after`](Self::after), by `#[track_caller]`.
    ///
    /// # Cost
    /// O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the timer has ended.
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

    /// Sets the timeout of a source: the handler of `key` is called when `timeout` has passed since
    /// [this turn's time](Self::now). In this call
    /// [`Readiness::is_timeout`](crate::Readiness::is_timeout) is `true`. The call comes whatever
    /// the interest of the handler is. Each call of `set_timeout` restarts the timeout, and `None`
    /// ends it. A timeout does not repeat.
    ///
    /// A timeout notices that the peer of a source is silent. Before the loop calls the handler for
    /// the timeout, it makes sure that nothing from the peer is waiting, in two steps:
    ///
    /// 1. At the deadline or later, it asks the kernel which sources are ready.
    /// 2. If the source was ready, it calls the handler for that readiness.
    ///
    /// If the process was stopped or a callback took long, the peer is therefore not mistaken for a
    /// silent one. Both steps may delay the timeout. The first step ends at the latest when the
    /// kernel has reported every source that was ready when the step began. If the source stays
    /// ready, its handler is first called once for the readiness, and then for the timeout. Until
    /// the call for the timeout, the timeout can be restarted or ended.
    ///
    /// If the turn that sets the timeout takes 50 ms or longer, the timeout counts from the end of
    /// the turn. If the end of the turn [is not known](Self::end_of_turn), the timeout counts from
    /// this turn's time.
    ///
    /// You can call `set_timeout` for every message. A handler may instead note when it last
    /// received bytes, and compute the silence when the timeout comes. It must then count the
    /// silence up to the deadline that it has set, and not up to the time of the call. Bytes that
    /// came between the deadline and the call may not have been read yet.
    ///
    /// A timeout is never early. It is as late as a timer of [`after`](Self::after) may be. It is
    /// one turn later if the kernel has to be asked first.
    ///
    /// # Cost
    /// O(1). Extending a timeout only stores the new time: it allocates nothing and makes no system
    /// call.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{Interest, Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, _silent_writer) = std::io::pipe()?;
    /// let mut reactor = Reactor::<&str>::new()?;
    /// let key = reactor.add(reader, Interest::READABLE, |_reader, cx| {
    ///     if cx.readiness().is_timeout() {
    ///         *cx.state = "timed out";
    ///     }
    ///     Ok(Next::Remove)
    /// })?;
    /// reactor.set_timeout(key, Some(Duration::from_millis(5)))?;
    /// let mut outcome = "nothing";
    /// reactor.run(&mut outcome)?;
    /// assert_eq!(outcome, "timed out");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("EV_TIMEOUT", "timeout"))]
    #[inline]
    pub fn set_timeout(&mut self, key: Key, timeout: Option<Duration>) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        // A timeout that has elapsed and was not delivered yet is withdrawn too.
        slot.ready = slot.ready.without_bits(Readiness::TIMEOUT);
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
