//! Timers: callbacks at a time of their own, and the timeouts of sources.
//!
//! Both are entries of one [`Wheel`]. A timer's callback is moved out of its entry while it runs, as a source's entry is
//! out of its slot. A source's timeout has no callback and no allocation: its entry names the source, whose own handler
//! is told.

mod origins;
mod run;
mod wall;
mod wheel;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::panic::Location;
use std::time::{Duration, Instant, SystemTime};

use self::origins::{NO_ORIGIN, Origins};
use self::wall::WallTimers;
use self::wheel::{NEVER, Wheel};
use crate::clock::{Clock, LAST_NS, nanos};
use crate::context::Context;
use crate::error::Error;
use crate::handler::Next;
use crate::metrics::Timer;
use crate::readiness::Readiness;
use crate::registry::Registry;
use crate::slots::{Blank, Key};

/// The name of a timer, checked at each use like a [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey(Key);

/// As it is shown in [`Error::StaleKey`].
impl From<TimerKey> for Key {
    fn from(timer: TimerKey) -> Self {
        timer.0
    }
}

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

/// What a periodic timer does about ticks that it missed, since the loop was busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// They are left out: the next tick is the next multiple of the period after the beginning.
    #[default]
    Skip,
    /// They are made up for, one each turn, until the timer has caught up.
    Burst,
    /// The next tick is a whole period after this turn, also where none was missed: the ticks shift by what makes one late.
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

/// What is due. Blank while a callback runs.
enum Payload<S> {
    Callback(Box<TimerFn<S>>),
    TimeoutOf(Key),
}

// Each timer has one: a word more is a tenth of what it takes to arm many.
const _: () = assert!(size_of::<Payload<()>>() == 16);

/// The marks that a timer has in the wheel, for what most timers are not: those need not look for it.
mod mark {
    /// It does not keep `run` alive.
    pub(super) const BACKGROUND: u16 = 1;
    /// It is one of the wall timers.
    pub(super) const WALL: u16 = 2;
    /// It has slack.
    pub(super) const SLACK: u16 = 4;
    /// Those that have a say when it is armed anew.
    pub(super) const HEEDED: u16 = WALL | SLACK;
}

impl<S> Blank for Payload<S> {
    fn blank() -> Self {
        Self::TimeoutOf(Key::NULL)
    }
}

/// How late a timer may be.
#[derive(Clone, Copy, Debug)]
struct Slack {
    most: u64,
    /// What the timer was armed for.
    deadline: u64,
}

impl Slack {
    /// The time from the deadline to as much later as is allowed that has the most trailing zeros.
    fn agree(self) -> u64 {
        let latest = self.deadline.saturating_add(self.most);
        match self.deadline.checked_sub(1) {
            Some(before) if latest < NEVER && self.most > 0 => {
                let digits = (before ^ latest).ilog2();
                latest >> digits << digits
            }
            _ => self.deadline,
        }
    }
}

/// The timers of a registry.
pub(crate) struct Timers<S> {
    wheel: Wheel<Payload<S>>,
    /// The wheel's time 0.
    epoch: Instant,
    /// When the loop has to look again, as long as the wheel has not changed: in most turns nothing is armed or cancelled.
    next_look: Option<Instant>,
    wall: WallTimers,
    /// Where callbacks were armed: the wheel has the numbers.
    origins: Origins,
    /// How many callbacks there are that keep `run` alive.
    foreground: usize,
    /// The timers that may be late.
    slack: HashMap<TimerKey, Slack>,
    /// The timer whose callback is running.
    running: Option<TimerKey>,
}

impl<S> Timers<S> {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            wheel: Wheel::new(),
            epoch,
            next_look: None,
            wall: WallTimers::default(),
            origins: Origins::default(),
            foreground: 0,
            slack: HashMap::new(),
            running: None,
        }
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

    /// When the loop has to look again: a time that has passed if timers [are due](Self::has_due).
    #[inline]
    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        if self.wheel.changed {
            self.find_next();
        }
        self.next_look
    }

    #[inline(never)]
    fn find_next(&mut self) {
        let next = if self.wheel.has_due() { Some(0) } else { self.wheel.next_deadline() };
        let next = next.filter(|next| *next <= LAST_NS); // the clock does not come to it
        self.next_look = next.and_then(|next| self.epoch.checked_add(Duration::from_nanos(next)));
        self.wheel.changed = false;
    }

    /// Whether it is known, and at no cost, that none is due by now.
    #[inline]
    pub(crate) fn are_quiet(&self, clock: &Clock) -> bool {
        !self.wheel.changed && self.next_look.is_none_or(|next| clock.now() < next)
    }

    #[inline]
    fn arm(&mut self, deadline: u64, now_ns: u64, origin: u16, payload: Payload<S>) -> Key {
        // Memory ends before 2^30 timers; one more than that would be a key that is stale from the beginning.
        let Some((key, place)) = self.wheel.arm(deadline, now_ns, origin) else { return Key::NULL };
        *place = payload;
        key
    }

    /// Lets a timer be due `delay` after the time `now_ns`: whether it is there.
    #[inline]
    fn reset(&mut self, timer: Key, now_ns: u64, delay: u64) -> bool {
        self.wheel.put_off(timer, now_ns, delay, mark::HEEDED)
            || self.rearm(timer, now_ns.saturating_add(delay), now_ns)
    }

    /// Gives a timer a new deadline on the monotonic clock: whether it is there.
    #[inline(never)]
    fn rearm(&mut self, timer: Key, deadline: u64, now_ns: u64) -> bool {
        let is_marked = self.is_marked(TimerKey(timer), mark::HEEDED);
        let deadline = if is_marked { self.heed_marks(TimerKey(timer), deadline) } else { deadline };
        self.wheel.rearm(timer, deadline, now_ns)
    }

    /// For a timer that is armed for `deadline` on the monotonic clock: the deadline as its slack makes it.
    #[cold]
    fn heed_marks(&mut self, timer: TimerKey, deadline: u64) -> u64 {
        self.forget_wall(timer);
        let Some(slack) = self.slack.get_mut(&timer) else { return deadline };
        slack.deadline = deadline;
        slack.agree()
    }

    fn is_marked(&self, timer: TimerKey, mark: u16) -> bool {
        self.wheel.marks(timer.0).is_some_and(|marks| marks & mark != 0)
    }

    /// Sets a mark, or takes it away. Gives whether it was set.
    fn set_mark(&mut self, timer: TimerKey, mark: u16, is_set: bool) -> Result<bool, Error> {
        let before = self.wheel.marks(timer.0).ok_or(Error::StaleKey(timer.0))?;
        self.wheel.set_marks(timer.0, if is_set { before | mark } else { before & !mark });
        Ok(before & mark != 0)
    }

    /// Sets or moves the timeout of a source, whose entry, if any, is `entry`; gives its entry.
    pub(crate) fn set_timeout(&mut self, source: Key, entry: Key, now_ns: u64, timeout: Duration) -> Key {
        let delay = nanos(timeout);
        if self.reset(entry, now_ns, delay) {
            entry
        } else {
            self.arm(now_ns.saturating_add(delay), now_ns, NO_ORIGIN, Payload::TimeoutOf(source))
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
    /// unless [`Builder::high_resolution`](crate::Builder::high_resolution) was asked for. The clock is the monotonic one,
    /// which stands still while the machine is suspended; [`at_wall`](Self::at_wall) has the other.
    /// [`Duration::ZERO`] is as soon as timers run: later this turn, or next turn if a timer armed it or what comes after timers.
    /// [`Duration::MAX`] is never. Timers run after the sources of their turn, by deadline, ties in the order of arming, at
    /// most 1024 a turn. A timer keeps [`Reactor::run`](crate::Reactor::run) alive. An error, `WouldBlock` included, or
    /// under [`PanicPolicy::RemoveHandler`](crate::PanicPolicy::RemoveHandler) a panic, ends it and is logged.
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

    /// Runs `callback` at `deadline`, as soon as timers run if that has passed; otherwise like [`after`](Self::after).
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
    /// But for [`Missed::Delay`] the ticks are multiples of the period, however long callbacks take; `missed` says what happens
    /// to those that the loop was too busy for. A period of zero is every turn. A [`reset`](Self::reset) moves one tick, and
    /// those after it are where they were. `WouldBlock` from the callback waits for the next tick. One allocation. Otherwise
    /// like [`after`](Self::after).
    #[track_caller]
    pub fn every<F>(&mut self, period: Duration, missed: Missed, mut callback: F) -> TimerKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        let mut tick = self.now().checked_add(period);
        let first = tick.map_or(NEVER, |tick| self.clock.nanos_at(tick));
        let periodic = move |cx: &mut Context<'_, S>| {
            match callback(cx) {
                Ok(Next::Keep) => {}
                Ok(Next::Remove) => return Ok(Then::Done),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {} // next time perhaps
                Err(error) => return Err(error),
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
        self.only_sources = false;
        let origin = self.timers.origins.number(origin);
        TimerKey(self.timers.arm(deadline, now_ns, origin, Payload::Callback(callback)))
    }

    /// Lets a timer run `delay` after this turn's time instead of when it would have. O(1); to put it off moves nothing.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    #[inline]
    pub fn reset(&mut self, timer: TimerKey, delay: Duration) -> Result<(), Error> {
        let now_ns = self.clock.now_ns();
        if self.timers.reset(timer.0, now_ns, nanos(delay)) { Ok(()) } else { Err(Error::StaleKey(timer.0)) }
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
        let armed_for = self.timers.wheel.deadline(timer.0).ok_or(Error::StaleKey(timer.0))?;
        let before = self.timers.slack.remove(&timer);
        let slack = Slack { most: nanos(slack), deadline: before.map_or(armed_for, |slack| slack.deadline) };
        if slack.most > 0 {
            self.timers.slack.insert(timer, slack);
        }
        self.timers.set_mark(timer, mark::SLACK, slack.most > 0)?;
        // One that rests, since its callback is running, is armed when that returns.
        if armed_for != NEVER && slack.agree() != armed_for {
            self.timers.wheel.rearm(timer.0, slack.agree(), self.clock.now_ns());
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
    pub fn cancel(&mut self, timer: TimerKey) -> Result<(), Error> {
        let (marks, payload) = self.timers.wheel.cancel(timer.0).ok_or(Error::StaleKey(timer.0))?;
        if marks & mark::BACKGROUND == 0 {
            self.timers.foreground -= 1;
        }
        if marks & mark::HEEDED != 0 {
            self.timers.wall.forget(timer);
            self.timers.slack.remove(&timer);
        }
        *payload = Payload::blank(); // last: what the callback has captured may panic when it is dropped
        Ok(())
    }

    /// Every timer, timeouts of sources apart: for a status command, or to see what keeps the loop alive. O(n).
    pub fn timers(&self) -> impl Iterator<Item = Timer> {
        let now_ns = self.clock.now_ns();
        self.timers.wheel.iter().filter_map(move |(key, deadline, marks, origin)| {
            Some(Timer {
                key: TimerKey(key),
                remaining: (deadline != NEVER).then(|| Duration::from_nanos(deadline.saturating_sub(now_ns))),
                keeps_alive: marks & mark::BACKGROUND == 0,
                origin: self.timers.origins.get(origin)?,
            })
        })
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
        slot.ready = slot.ready.without(Readiness::TIMEOUT); // one that has passed and was not told yet is off too
        match timeout {
            Some(timeout) => {
                self.only_sources = false;
                slot.timeout = self.timers.set_timeout(key, slot.timeout, self.clock.now_ns(), timeout);
            }
            None => self.timers.end_timeout(std::mem::replace(&mut slot.timeout, Key::NULL)),
        }
        Ok(())
    }
}
