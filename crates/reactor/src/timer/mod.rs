//! Timers: callbacks at a time of their own, and the timeouts of sources.
//!
//! Both are entries of one [`Wheel`]. A timer's callback is moved out of its entry while it runs,
//! as a source's entry is moved out of its slot. A source's timeout has no callback and no
//! allocation: its entry names the source, and the source's own handler is notified.

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

/// At most this many timers run in one turn. The rest run next turn, which does not wait.
const TIMERS_PER_TURN_MAX: usize = 1024;

/// The name of a timer. Like a [`Key`] it becomes stale, here when the timer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey(Key);

/// Converts to the key that [`Error::StaleKey`] shows.
impl From<TimerKey> for Key {
    fn from(timer: TimerKey) -> Self {
        timer.0
    }
}

/// Displays as its [`Key`] does: `7v2`.
impl fmt::Display for TimerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The decision of a timer's callback about its own timer. If the callback has called
/// [`Registry::reset`](crate::Registry::reset) for its own timer, this decision overrules the
/// reset.
///
/// ```
/// use std::time::Duration;
/// use reactor::{Reactor, Then};
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::<u32>::new()?;
/// reactor.after(Duration::ZERO, |cx| {
///     *cx.state += 1;
///     Ok(match *cx.state {
///         1 => Then::After(Duration::from_millis(1)),
///         2 => Then::At(cx.now()), // next turn
///         _ => Then::Done,
///     })
/// });
/// let mut runs = 0;
/// reactor.run(&mut runs)?;
/// assert_eq!(runs, 3);
/// # Ok(())
/// # }
/// ```
#[doc(alias("TimeoutAction"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Ends the timer.
    Done,
    /// Runs the timer again this long after [this turn's time](crate::Registry::now). With
    /// [`Duration::ZERO`] the timer runs next [turn](crate::Reactor::turn). With [`Duration::MAX`]
    /// the timer never runs again, but still exists.
    After(Duration),
    /// Runs the timer again at this time, or next turn if this time has passed.
    At(Instant),
    /// Runs the timer again at this wall-clock time: see
    /// [`Registry::at_wall`](crate::Registry::at_wall).
    AtWall(SystemTime),
}

/// The treatment of ticks that a periodic timer has missed because the loop was busy.
///
/// ```
/// use std::time::Duration;
/// use reactor::{ManualClock, Missed, Next, Reactor};
///
/// # fn main() -> Result<(), reactor::Error> {
/// for (missed, ticks) in [(Missed::Skip, 1), (Missed::Burst, 3), (Missed::Delay, 1)] {
///     let clock = ManualClock::new();
///     let mut reactor = Reactor::<u32>::builder().clock(clock.clone()).build()?;
///     reactor.every(Duration::from_secs(10), missed, |cx| {
///         *cx.state += 1;
///         Ok(Next::Keep)
///     });
///     clock.advance(Duration::from_secs(35)); // the loop was busy for three ticks
///     let mut count = 0;
///     for _turn in 0..5 {
///         reactor.turn(&mut count, Some(Duration::ZERO))?;
///     }
///     assert_eq!(count, ticks);
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias("MissedTickBehavior"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// Skips the missed ticks. The next tick is the next multiple of the period, counted from the
    /// call that has set the period.
    #[default]
    Skip,
    /// Runs the missed ticks too, one in each [turn](crate::Reactor::turn), until the timer has
    /// caught up.
    Burst,
    /// Schedules the next tick one full period after [this turn's time](crate::Registry::now), even
    /// if no tick was missed. Delays accumulate: each late tick makes all later ticks later too.
    Delay,
}

const NANOS_PER_SEC: u128 = 1_000_000_000;

impl Missed {
    fn next(self, last: Instant, period: Duration, now: Instant) -> Option<Instant> {
        let next = last.checked_add(period)?;
        match self {
            Self::Skip if next <= now && !period.is_zero() => {
                let behind = (now - next).as_nanos() % period.as_nanos();
                // It is less than a period, so its seconds fit into u64.
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

/// The purpose of a timer: a callback, which is an `F`, or a timeout. Blank while the callback
/// runs.
enum Payload<F: ?Sized> {
    Callback(Box<F>),
    TimeoutOf(Key),
}

// Each timer has one. One more word would make the arming of many timers a tenth slower.
const _: () = assert!(size_of::<Payload<dyn Fn()>>() == 16);

/// Marks in the wheel's entry, for properties that few timers have. A timer without marks needs no
/// look-up.
mod mark {
    /// The timer does not keep `run` alive.
    pub(super) const BACKGROUND: u16 = 1;
    /// The timer is one of the wall timers.
    pub(super) const WALL: u16 = 2;
    /// The timer has slack.
    pub(super) const SLACK: u16 = 4;
    /// A failure of the timer ends `run`.
    pub(super) const ESSENTIAL: u16 = 8;
    /// The timer is one of [`every`](crate::Registry::every).
    pub(super) const PERIODIC: u16 = 16;
    /// The timer has a request context.
    pub(super) const CONTEXT: u16 = 32;
    /// Marks that affect the deadline when a timer is re-armed.
    pub(super) const AFFECT_DEADLINE: u16 = WALL | SLACK;
    /// Marks of timers that may have an entry in a map.
    pub(super) const IN_A_MAP: u16 = AFFECT_DEADLINE | PERIODIC;
    /// Marks of timers that have an entry in another table too.
    pub(super) const HAS_MORE: u16 = IN_A_MAP | CONTEXT;
    /// Marks that matter when a timer is due.
    pub(super) const MATTER_WHEN_DUE: u16 = WALL | CONTEXT;
}

impl<F: ?Sized> Blank for Payload<F> {
    fn blank() -> Self {
        Self::TimeoutOf(Key::NULL)
    }
}

/// The slack of a timer: how late it may be, and the deadline before the slack.
#[derive(Clone, Copy, Debug)]
struct Slack {
    most: u64,
    /// The deadline that the timer was armed for.
    deadline: u64,
}

impl Slack {
    /// Returns the time with the most trailing zeros in the range from the deadline to the latest
    /// time allowed.
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
    /// The time at which the loop has to look again. Valid while the wheel has not changed: in most
    /// turns nothing is armed or cancelled.
    next_look: Option<Instant>,
    wall: WallTimers,
    /// Timeouts of sources that are due and cannot be delivered yet.
    held: HeldTimeouts,
    /// The places in the source where callbacks were armed. The wheel has their numbers.
    origins: Origins,
    /// How many callbacks keep `run` alive.
    foreground: usize,
    /// The timers that may be late.
    slack: HashMap<TimerKey, Slack>,
    /// Changed periods that their callbacks have not seen yet.
    periods: HashMap<TimerKey, ChangedPeriod>,
    /// The timer whose callback is running.
    running: Option<TimerKey>,
}

/// A new period of a periodic timer, and the time from which it counts.
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

    /// Returns how often any timer or timeout has been armed.
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

    /// Returns `true` if timers are due that did not fit into the last turn or that were held back.
    #[inline]
    pub(crate) fn has_due(&mut self) -> bool {
        self.has_held() || self.wheel.has_due()
    }

    /// Returns `true` if timeouts are held back. If there is no timer, all held timeouts have
    /// ended.
    #[inline]
    fn has_held(&self) -> bool {
        !self.held.is_empty() && !self.is_empty()
    }

    /// Returns the time at which the loop has to look again. It is a time in the past if timers
    /// [are due](Self::has_due).
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
        let next = next.filter(|next| *next <= LAST_NS); // the clock never reaches a later time
        self.next_look = next.and_then(|next| self.epoch.checked_add(Duration::from_nanos(next)));
        self.wheel.changed = false;
    }

    /// Returns `true` if it is known, at no cost, that no timer is due by now.
    #[inline]
    pub(crate) fn are_quiet(&self, time: &Time) -> bool {
        !self.wheel.changed && self.next_look.is_none_or(|next| time.now() < next)
    }

    /// Returns `true` if it is known that no timer is ever due, whatever the time.
    #[inline]
    pub(crate) const fn are_at_rest(&self) -> bool {
        !self.wheel.changed && self.next_look.is_none()
    }

    #[inline]
    fn arm(&mut self, deadline: u64, now_ns: u64, origin: u16, payload: Payload<F>) -> Key {
        // Memory ends before 2^30 timers. A timer beyond that would have a key that is stale at
        // once.
        let Some((key, place)) = self.wheel.arm(deadline, now_ns, origin) else {
            return Key::NULL;
        };
        *place = payload;
        key
    }

    /// Re-arms a timer for `delay` after the time `now_ns`. Returns `true` if the timer exists.
    #[inline]
    fn reset(&mut self, timer: Key, now_ns: u64, delay: u64) -> bool {
        self.wheel
            .postpone(timer, now_ns, delay, mark::AFFECT_DEADLINE)
            || self.rearm(timer, now_ns.saturating_add(delay), now_ns)
    }

    /// Gives a timer a new deadline on the monotonic clock. Returns `true` if the timer exists.
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

    /// Arms a marked timer for `deadline` on the monotonic clock. Returns the deadline with the
    /// timer's slack. A wall timer becomes an ordinary timer.
    #[cold]
    fn apply_marks(&mut self, timer: TimerKey, deadline: u64) -> u64 {
        self.forget_wall(timer);
        let Some(slack) = self.slack.get_mut(&timer) else {
            return deadline;
        };
        slack.deadline = deadline;
        slack.agree()
    }

    /// Marks whether a timer has a request context.
    pub(crate) fn mark_context(&mut self, timer: TimerKey, has_context: bool) -> Result<(), Error> {
        self.set_mark(timer, mark::CONTEXT, has_context).map(drop)
    }

    fn is_marked(&self, timer: TimerKey, mark: u16) -> bool {
        self.wheel
            .marks(timer.0)
            .is_some_and(|marks| marks & mark != 0)
    }

    /// Sets or clears a mark. Returns `true` if the mark was set before.
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

    /// Sets or moves the timeout of a source whose entry, if any, is `entry`. Returns the entry.
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

    /// Returns the source whose timeout an entry is.
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

    /// Records that the wall clock has been set. All wall timers are re-armed before the next timer
    /// runs, and timers armed from now on follow the new time. If there are no timers, nothing else
    /// is to be done.
    pub(crate) const fn record_wall_set(&mut self) {
        (self.wall.is_set, self.wall.anchor) = (true, None);
        self.wheel.changed = true;
    }

    /// Makes a timer follow the monotonic clock. Returns its wall-clock time, if it had one.
    pub(super) fn forget_wall(&mut self, timer: TimerKey) -> Option<WallTime> {
        self.set_mark(timer, mark::WALL, false).ok()?;
        self.wall.forget(timer)
    }
}
