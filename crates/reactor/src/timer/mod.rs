//! Timers: callbacks at a time of their own, and the timeouts of sources.
//!
//! Both are entries of one [`Wheel`]. A timer's callback is moved out of its entry while it runs, as a source's entry is
//! out of its slot. A source's timeout has no callback and no allocation: its entry names the source, whose own handler
//! is told.

mod arm;
mod at_wall;
mod held;
pub(crate) mod list;
mod origins;
mod run;
mod timeouts;
mod wall;
mod wheel;

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use self::held::HeldTimeouts;
use self::origins::{NO_ORIGIN, Origins};
use self::wall::{WallTime, WallTimers};
use self::wheel::{NEVER, Wheel};
use crate::error::Error;
use crate::slots::{Blank, Key};
use crate::turn::disposal::Disposal;
use crate::turn::nanos::{LAST_NS, nanos};
use crate::turn::time::Time;

/// So many timers may run in one turn; the rest run next turn, which does not wait.
const TIMERS_PER_TURN_MAX: usize = 1024;

/// The name of a timer, checked at each use like a [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey(Key);

/// As it is shown in [`Error::StaleKey`].
impl From<TimerKey> for Key {
    fn from(timer: TimerKey) -> Self {
        timer.0
    }
}

/// As its [`Key`]: `7v2`.
impl fmt::Display for TimerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What becomes of a timer after its callback has run. It overrules a [`Registry::reset`](crate::Registry::reset) by the callback itself.
#[doc(alias("TimeoutAction"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It ends.
    Done,
    /// It runs again so long after this turn's time; [`Duration::ZERO`] is next turn, [`Duration::MAX`] never.
    After(Duration),
    /// It runs again at this time; next turn if that has passed.
    At(Instant),
    /// It runs again when clocks on walls show this time: [`Registry::at_wall`](crate::Registry::at_wall).
    AtWall(SystemTime),
}

/// What a periodic timer does about ticks that it missed, since the loop was busy.
#[doc(alias("MissedTickBehavior"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// They are left out: the next tick is the next multiple of the period after the beginning.
    #[default]
    Skip,
    /// They are made up for, one each turn, until the timer has caught up.
    Burst,
    /// The next tick is a whole period after this turn, also where none was missed: the ticks shift by what makes one late.
    Delay,
}

const NANOS_PER_SEC: u128 = 1_000_000_000;

impl Missed {
    fn next(self, last: Instant, period: Duration, now: Instant) -> Option<Instant> {
        let next = last.checked_add(period)?;
        match self {
            Self::Skip if next <= now && !period.is_zero() => {
                let behind = (now - next).as_nanos() % period.as_nanos();
                // Less than a period, so its seconds fit into u64 as those of a Duration do.
                let behind = Duration::new(
                    (behind / NANOS_PER_SEC) as u64,
                    (behind % NANOS_PER_SEC) as u32,
                );
                now.checked_add(period - behind)
            }
            Self::Skip | Self::Burst => Some(next),
            Self::Delay => now.checked_add(period),
        }
    }
}

/// What is due: a callback, which is an `F`, or a timeout. Blank while a callback runs.
enum Payload<F: ?Sized> {
    Callback(Box<F>),
    TimeoutOf(Key),
}

// Each timer has one: a word more is a tenth of what it takes to arm many.
const _: () = assert!(size_of::<Payload<dyn Fn()>>() == 16);

/// The marks that a timer has in the wheel, for what most timers are not: those need not look for it.
mod mark {
    /// It does not keep `run` alive.
    pub(super) const BACKGROUND: u16 = 1;
    /// It is one of the wall timers.
    pub(super) const WALL: u16 = 2;
    /// It has slack.
    pub(super) const SLACK: u16 = 4;
    /// Its failure ends `run`.
    pub(super) const ESSENTIAL: u16 = 8;
    /// It is one of [`every`](crate::Registry::every).
    pub(super) const PERIODIC: u16 = 16;
    /// Those that have a say when it is armed anew.
    pub(super) const AFFECT_DEADLINE: u16 = WALL | SLACK;
    /// Those of which something is kept elsewhere.
    pub(super) const HAS_MORE: u16 = AFFECT_DEADLINE | PERIODIC;
}

impl<F: ?Sized> Blank for Payload<F> {
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

/// The timers of a registry, whose callbacks are `F`s.
pub(crate) struct Timers<F: ?Sized> {
    wheel: Wheel<Payload<F>>,
    /// The wheel's time 0.
    epoch: Instant,
    /// When the loop has to look again, as long as the wheel has not changed: in most turns nothing is armed or cancelled.
    next_look: Option<Instant>,
    wall: WallTimers,
    /// Timeouts of sources that are due and cannot be told yet.
    held: HeldTimeouts,
    /// Where callbacks were armed: the wheel has the numbers.
    origins: Origins,
    /// How many callbacks there are that keep `run` alive.
    foreground: usize,
    /// The timers that may be late.
    slack: HashMap<TimerKey, Slack>,
    /// The periods that have been changed and are not known to their callbacks yet.
    periods: HashMap<TimerKey, ChangedPeriod>,
    /// The timer whose callback is running.
    running: Option<TimerKey>,
}

/// A new period of a periodic timer, and from when on it counts.
#[derive(Clone, Copy, Debug)]
struct ChangedPeriod {
    period: Duration,
    since: Instant,
}

impl<F: ?Sized> Timers<F> {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            wheel: Wheel::new(),
            epoch,
            next_look: None,
            wall: WallTimers::default(),
            held: HeldTimeouts::default(),
            origins: Origins::default(),
            foreground: 0,
            slack: HashMap::new(),
            periods: HashMap::new(),
            running: None,
        }
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.wheel.len() == 0
    }

    /// How often any timer or timeout has been armed.
    #[inline]
    pub(crate) const fn armings(&self) -> u64 {
        self.wheel.armings()
    }

    /// Returns the timer whose callback is running.
    #[inline]
    pub(crate) const fn running(&self) -> Option<TimerKey> {
        self.running
    }

    #[inline]
    pub(crate) const fn keep_alive(&self) -> bool {
        self.foreground > 0
    }

    /// Whether timers are due that there was no room for in the last turn, or that were held back.
    #[inline]
    pub(crate) fn has_due(&mut self) -> bool {
        self.has_held() || self.wheel.has_due()
    }

    /// Whether timeouts are held back. Without a timer all of those have ended.
    #[inline]
    fn has_held(&self) -> bool {
        !self.held.is_empty() && !self.is_empty()
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
        let next = if self.has_due() {
            Some(0)
        } else {
            self.wheel.next_deadline()
        };
        let next = next.filter(|next| *next <= LAST_NS); // the clock does not come to it
        self.next_look = next.and_then(|next| self.epoch.checked_add(Duration::from_nanos(next)));
        self.wheel.changed = false;
    }

    /// Whether it is known, and at no cost, that none is due by now.
    #[inline]
    pub(crate) fn are_quiet(&self, time: &Time) -> bool {
        !self.wheel.changed && self.next_look.is_none_or(|next| time.now() < next)
    }

    /// Whether it is known that none is ever due, whatever the time.
    #[inline]
    pub(crate) const fn are_at_rest(&self) -> bool {
        !self.wheel.changed && self.next_look.is_none()
    }

    #[inline]
    fn arm(&mut self, deadline: u64, now_ns: u64, origin: u16, payload: Payload<F>) -> Key {
        // Memory ends before 2^30 timers; one more than that would be a key that is stale from the beginning.
        let Some((key, place)) = self.wheel.arm(deadline, now_ns, origin) else {
            return Key::NULL;
        };
        *place = payload;
        key
    }

    /// Lets a timer be due `delay` after the time `now_ns`: whether it is there.
    #[inline]
    fn reset(&mut self, timer: Key, now_ns: u64, delay: u64) -> bool {
        self.wheel
            .put_off(timer, now_ns, delay, mark::AFFECT_DEADLINE)
            || self.rearm(timer, now_ns.saturating_add(delay), now_ns)
    }

    /// Gives a timer a new deadline on the monotonic clock: whether it is there.
    #[inline(never)]
    fn rearm(&mut self, timer: Key, deadline: u64, now_ns: u64) -> bool {
        let is_marked = self.is_marked(TimerKey(timer), mark::AFFECT_DEADLINE);
        let deadline = if is_marked {
            self.apply_marks(TimerKey(timer), deadline)
        } else {
            deadline
        };
        self.wheel.rearm(timer, deadline, now_ns)
    }

    /// For a timer that is armed for `deadline` on the monotonic clock: the deadline as its slack makes it.
    #[cold]
    fn apply_marks(&mut self, timer: TimerKey, deadline: u64) -> u64 {
        self.forget_wall(timer);
        let Some(slack) = self.slack.get_mut(&timer) else {
            return deadline;
        };
        slack.deadline = deadline;
        slack.agree()
    }

    fn is_marked(&self, timer: TimerKey, mark: u16) -> bool {
        self.wheel
            .marks(timer.0)
            .is_some_and(|marks| marks & mark != 0)
    }

    /// Sets a mark, or takes it away. Gives whether it was set.
    fn set_mark(&mut self, timer: TimerKey, mark: u16, is_set: bool) -> Result<bool, Error> {
        let before = self.wheel.marks(timer.0).ok_or(Error::StaleKey(timer.0))?;
        self.wheel.set_marks(
            timer.0,
            if is_set {
                before | mark
            } else {
                before & !mark
            },
        );
        Ok(before & mark != 0)
    }

    /// Sets or moves the timeout of a source, whose entry, if any, is `entry`; gives its entry.
    pub(crate) fn set_timeout(
        &mut self,
        source: Key,
        entry: Key,
        now_ns: u64,
        timeout: Duration,
    ) -> Key {
        let delay = nanos(timeout);
        if self.reset(entry, now_ns, delay) {
            entry
        } else {
            self.arm(
                now_ns.saturating_add(delay),
                now_ns,
                NO_ORIGIN,
                Payload::TimeoutOf(source),
            )
        }
    }

    /// Drops all callbacks, with the loop.
    pub(crate) fn end_all(&mut self, disposal: &mut Disposal) {
        let mut payloads = self.wheel.take_payloads().into_iter();
        disposal.drop_each(|| payloads.next().is_some());
    }

    /// The source whose timeout an entry is.
    fn timeout_of(&mut self, entry: Key) -> Option<Key> {
        match self.wheel.payload(entry)? {
            Payload::TimeoutOf(source) => Some(*source),
            Payload::Callback(_) => None,
        }
    }

    /// Ends the timeout of a source, if it has one.
    pub(crate) fn end_timeout(&mut self, entry: Key) {
        self.wheel.cancel(entry);
    }

    pub(super) fn record_wall(&mut self, timer: TimerKey, time: SystemTime) {
        if self.set_mark(timer, mark::WALL, true).is_ok() {
            self.wall.record(timer, time);
        }
    }

    /// Records that the wall clock has been set: all of them are armed anew before the next timer runs, and what is armed from now on
    /// goes by the new time. In a turn without timers that is all.
    pub(crate) const fn record_wall_set(&mut self) {
        (self.wall.is_set, self.wall.anchor) = (true, None);
        self.wheel.changed = true;
    }

    /// From now on it is a timer by the monotonic clock.
    pub(super) fn forget_wall(&mut self, timer: TimerKey) -> Option<WallTime> {
        self.set_mark(timer, mark::WALL, false).ok()?;
        self.wall.forget(timer)
    }
}
