//! Timers: callbacks at a time of their own, and the timeouts of sources.
//!
//! Both are entries of one [`Wheel`]. A timer's callback is moved out of its entry while it runs, as a source's entry is
//! out of its slot. A source's timeout has no callback and no allocation: its entry names the source, whose own handler
//! is told.

mod run;
mod wall;
mod wheel;

use std::io;
use std::panic::Location;
use std::time::{Duration, Instant, SystemTime};

use self::wall::WallTimers;
use self::wheel::{NEVER, Wheel};
use crate::clock::nanos;
use crate::context::Context;
use crate::error::Error;
use crate::handler::Next;
use crate::registry::Registry;
use crate::slots::{Blank, Key};

/// The name of a timer, checked at each use like a [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey(Key);

/// What becomes of a timer after its callback has run. It overrules a [`Registry::reset`] by the callback itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It ends.
    Done,
    /// It runs again so long after this turn's time; [`Duration::ZERO`] is next turn, [`Duration::MAX`] never.
    After(Duration),
    /// It runs again at this time; next turn if that has passed.
    At(Instant),
    /// It runs again when clocks on walls show this time: [`Registry::at_wall`].
    AtWall(SystemTime),
}

/// What a periodic timer does about ticks that it missed, since the loop was busy or the machine asleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// They are left out: the next tick is the next multiple of the period after the beginning.
    #[default]
    Skip,
    /// They are made up for, one each turn, until the timer has caught up.
    Burst,
    /// The next tick is a whole period after this turn: the ticks shift.
    Delay,
}

impl Missed {
    fn next(self, last: Instant, period: Duration, now: Instant) -> Option<Instant> {
        let next = last.checked_add(period)?;
        match self {
            Self::Skip if next <= now && !period.is_zero() => {
                let behind = (now - next).as_nanos() % period.as_nanos();
                // Less than a period, which is a Duration.
                let ahead = period - Duration::from_nanos_u128(behind);
                now.checked_add(ahead)
            }
            Self::Skip | Self::Burst => Some(next),
            Self::Delay => now.checked_add(period),
        }
    }
}

type TimerFn<S> = dyn FnMut(&mut Context<'_, S>) -> io::Result<Then>;

/// What is due.
enum Payload<S> {
    Callback(Callback<S>),
    TimeoutOf(Key),
}

struct Callback<S> {
    /// `None` while it runs.
    run: Option<Box<TimerFn<S>>>,
    origin: &'static Location<'static>,
    /// How late it may be.
    slack_ms: u32,
    background: bool,
}

impl<S> Blank for Payload<S> {
    fn blank() -> Self {
        Self::TimeoutOf(Key::NULL)
    }
}

/// The timers of a registry.
pub(crate) struct Timers<S> {
    wheel: Wheel<Payload<S>>,
    /// The wheel's time 0.
    epoch: Instant,
    wall: WallTimers,
    /// How many callbacks there are that keep `run` alive.
    foreground: usize,
    /// How many have been given slack: while there is none, nobody has to look for it.
    slack_given: usize,
    /// The timer whose callback is running.
    running: Option<TimerKey>,
}

impl<S> Timers<S> {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self { wheel: Wheel::new(), epoch, wall: WallTimers::default(), foreground: 0, slack_given: 0, running: None }
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.wheel.len() == 0
    }

    #[inline]
    pub(crate) const fn keep_alive(&self) -> bool {
        self.foreground > 0
    }

    /// Whether timers are due that there was no room for in the last turn.
    #[inline]
    pub(crate) fn has_due(&mut self) -> bool {
        self.wheel.has_due()
    }

    /// When the loop has to look again.
    #[inline]
    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        self.epoch.checked_add(Duration::from_nanos(self.wheel.next_deadline()?))
    }

    fn arm(&mut self, deadline: u64, now_ns: u64, payload: Payload<S>) -> Key {
        // Memory ends long before 2^32 - 1 timers; one more than that would be a key that is stale from the beginning.
        self.wheel.arm(deadline, now_ns, payload).unwrap_or(Key::NULL)
    }

    /// Gives a timer a new deadline on the monotonic clock: whether it is there.
    #[inline]
    fn rearm(&mut self, timer: Key, deadline: u64, now_ns: u64) -> bool {
        let deadline = if self.slack_given > 0 { self.with_slack(timer, deadline) } else { deadline };
        self.wall.forget(TimerKey(timer));
        self.wheel.rearm(timer, deadline, now_ns)
    }

    /// The time from `deadline` to as much later as the slack of the timer allows that has the most trailing zeros.
    #[cold]
    fn with_slack(&mut self, timer: Key, deadline: u64) -> u64 {
        let slack_ms = self.callback(TimerKey(timer)).map_or(0, |callback| callback.slack_ms);
        let latest = deadline.saturating_add(u64::from(slack_ms) * 1_000_000);
        if latest == NEVER || deadline == 0 {
            return deadline;
        }
        match ((deadline - 1) ^ latest).checked_ilog2() {
            Some(digits) => latest >> digits << digits,
            None => deadline,
        }
    }

    fn callback(&mut self, timer: TimerKey) -> Result<&mut Callback<S>, Error> {
        match self.wheel.payload(timer.0) {
            Some(Payload::Callback(callback)) => Ok(callback),
            _ => Err(Error::StaleKey(timer.0)),
        }
    }

    /// Sets or moves the timeout of a source, whose entry, if any, is `entry`; gives its entry.
    pub(crate) fn set_timeout(&mut self, source: Key, entry: Key, now_ns: u64, timeout: Duration) -> Key {
        let deadline = now_ns.saturating_add(nanos(timeout));
        if self.wheel.rearm(entry, deadline, now_ns) {
            entry
        } else {
            self.arm(deadline, now_ns, Payload::TimeoutOf(source))
        }
    }

    /// Ends the timeout of a source, if it has one.
    pub(crate) fn end_timeout(&mut self, entry: Key) {
        self.wheel.cancel(entry);
    }
}

impl<S> Registry<S> {
    /// Runs `callback` once `delay` has passed since this turn's time, and then as it says.
    ///
    /// Never early. Late by what the callbacks before it take and by what the wait is rounded up, to whole milliseconds
    /// unless [`Builder::high_resolution`](crate::Builder::high_resolution) was asked for.
    /// [`Duration::ZERO`] is next turn, [`Duration::MAX`] never. Timers run after the sources of their turn, by deadline,
    /// ties in the order of arming, at most 1024 a turn. A timer keeps [`Reactor::run`](crate::Reactor::run) alive. An
    /// error, or under [`PanicPolicy::RemoveHandler`](crate::PanicPolicy::RemoveHandler) a panic, ends it and is logged.
    ///
    /// O(1), no system call, one allocation if the closure captures anything.
    #[track_caller]
    pub fn after<F>(&mut self, delay: Duration, callback: F) -> TimerKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Then> + 'static,
    {
        let now_ns = self.clock.now_ns();
        self.add_timer(now_ns.saturating_add(nanos(delay)), now_ns, Box::new(callback), Location::caller())
    }

    /// Runs `callback` at `deadline`, next turn if that has passed; otherwise like [`after`](Self::after).
    #[track_caller]
    pub fn at<F>(&mut self, deadline: Instant, callback: F) -> TimerKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Then> + 'static,
    {
        let deadline = self.clock.nanos_at(deadline);
        self.add_timer(deadline, self.clock.now_ns(), Box::new(callback), Location::caller())
    }

    /// Runs `callback` every `period`, for the first time a period from now, until it returns [`Next::Remove`].
    ///
    /// The ticks are multiples of the period, however long callbacks take; `missed` says what happens to those that the
    /// loop was too busy for. A period of zero is every turn. Otherwise like [`after`](Self::after).
    #[track_caller]
    pub fn every<F>(&mut self, period: Duration, missed: Missed, mut callback: F) -> TimerKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        let mut tick = self.now().checked_add(period);
        let first = tick.map_or(NEVER, |tick| self.clock.nanos_at(tick));
        let periodic = move |cx: &mut Context<'_, S>| {
            if callback(cx)? == Next::Remove {
                return Ok(Then::Done);
            }
            tick = tick.and_then(|last| missed.next(last, period, cx.now()));
            Ok(tick.map_or(Then::After(Duration::MAX), Then::At))
        };
        self.add_timer(first, self.clock.now_ns(), Box::new(periodic), Location::caller())
    }

    fn add_timer(
        &mut self,
        deadline: u64,
        now_ns: u64,
        callback: Box<TimerFn<S>>,
        origin: &'static Location<'static>,
    ) -> TimerKey {
        self.timers.foreground += 1;
        let callback = Callback { run: Some(callback), origin, slack_ms: 0, background: false };
        TimerKey(self.timers.arm(deadline, now_ns, Payload::Callback(callback)))
    }

    /// Lets a timer run `delay` after this turn's time instead of when it would have. O(1); to put it off moves nothing.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    #[inline]
    pub fn reset(&mut self, timer: TimerKey, delay: Duration) -> Result<(), Error> {
        let now_ns = self.clock.now_ns();
        if self.timers.rearm(timer.0, now_ns.saturating_add(nanos(delay)), now_ns) {
            Ok(())
        } else {
            Err(Error::StaleKey(timer.0))
        }
    }

    /// Lets a timer be up to `slack` late, so that it runs with others when the loop is awake anyway: the deadlines of
    /// timers with slack are moved later, to times that many of them can agree on. [`Duration::ZERO`] in the beginning.
    ///
    /// In whole milliseconds, rounded down, up to 49 days. Moves the present deadline, and each one that it is given from
    /// then on. O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    ///
    /// # Source
    /// `apply_slack` of the kernel's timers: within the range, the time with the most trailing zeros.
    pub fn set_timer_slack(&mut self, timer: TimerKey, slack: Duration) -> Result<(), Error> {
        let callback = self.timers.callback(timer)?;
        let slack_ms = u32::try_from(slack.as_millis()).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut callback.slack_ms, slack_ms);
        self.timers.slack_given += usize::from(slack_ms > 0);
        self.timers.slack_given -= usize::from(before > 0);
        let deadline = self.timers.wheel.deadline(timer.0).unwrap_or(NEVER);
        if deadline != NEVER {
            let deadline = self.timers.with_slack(timer.0, deadline);
            self.timers.wheel.rearm(timer.0, deadline, self.clock.now_ns());
        }
        Ok(())
    }

    /// Lets [`Reactor::run`](crate::Reactor::run) end although this timer is armed.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    pub fn set_timer_background(&mut self, timer: TimerKey) -> Result<(), Error> {
        let was = std::mem::replace(&mut self.timers.callback(timer)?.background, true);
        self.timers.foreground -= usize::from(!was);
        Ok(())
    }

    /// Keeps [`Reactor::run`](crate::Reactor::run) going while this timer is there, as it is in the beginning.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    pub fn set_timer_foreground(&mut self, timer: TimerKey) -> Result<(), Error> {
        let was = std::mem::replace(&mut self.timers.callback(timer)?.background, false);
        self.timers.foreground += usize::from(was);
        Ok(())
    }

    /// Ends a timer, also one that is due in this turn, and drops its callback, or lets the one that is running end with
    /// its return. Nothing of it is left. O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended already.
    pub fn cancel(&mut self, timer: TimerKey) -> Result<(), Error> {
        let payload = self.timers.wheel.cancel(timer.0).ok_or(Error::StaleKey(timer.0))?;
        if let Payload::Callback(callback) = &payload {
            self.timers.foreground -= usize::from(!callback.background);
            self.timers.slack_given -= usize::from(callback.slack_ms > 0);
        }
        self.timers.wall.forget(timer);
        drop(payload);
        Ok(())
    }

    /// How long until a timer is due, from this turn's time; `None` if never, or while its callback runs.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    pub fn remaining(&self, timer: TimerKey) -> Result<Option<Duration>, Error> {
        let deadline = self.timers.wheel.deadline(timer.0).ok_or(Error::StaleKey(timer.0))?;
        let left = deadline.saturating_sub(self.clock.now_ns());
        Ok((deadline != NEVER).then(|| Duration::from_nanos(left)))
    }

    /// Tells the handler of `key` once `timeout` has passed since this turn's time, by
    /// [`Readiness::is_timeout`](crate::Readiness::is_timeout), whatever its interest. Each call sets it anew, `None` ends it; it does not repeat.
    ///
    /// Made to be called for every message: to push a timeout back moves nothing, allocates nothing and makes no system call.
    /// Never early; as late as [`after`](Self::after).
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    #[inline]
    pub fn set_timeout(&mut self, key: Key, timeout: Option<Duration>) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        match timeout {
            Some(timeout) => {
                slot.timeout = self.timers.set_timeout(key, slot.timeout, self.clock.now_ns(), timeout);
            }
            None => self.timers.end_timeout(std::mem::replace(&mut slot.timeout, Key::NULL)),
        }
        Ok(())
    }
}
