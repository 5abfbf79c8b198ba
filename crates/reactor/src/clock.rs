//! The clock: one reading serves a whole turn; in tests, time that somebody drives.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// A clock that moves when it is told to, for tests that are exact and take no time.
///
/// Give a clone to [`Builder::clock`](crate::Builder::clock) and keep one. Clones are the same clock.
///
/// ```
/// use std::time::Duration;
/// use reactor::{ManualClock, Reactor, Then};
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::<u32>::builder().clock(ManualClock::new()).build()?;
/// reactor.after(Duration::from_secs(3600), |cx| {
///     *cx.state += 1;
///     Ok(Then::After(Duration::from_secs(3600)))
/// });
/// let mut hours = 0;
/// reactor.advance(&mut hours, Duration::from_secs(24 * 3600))?;
/// assert_eq!(hours, 24);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    time: Rc<ManualTime>,
    jumps: bool,
}

#[derive(Debug)]
struct ManualTime {
    now: Cell<Instant>,
    wall: Cell<SystemTime>,
    wall_sets: Cell<u64>,
}

impl ManualClock {
    /// A clock that stands still until [`advance`](Self::advance).
    ///
    /// A reactor with it waits for its sources as ever, but no timer ends the wait. The timeout of a
    /// [`turn`](crate::Reactor::turn) is time of the system: the turn waits that long for its sources, and the clock does not move.
    pub fn new() -> Self {
        let (now, wall) = (Cell::new(Instant::now()), Cell::new(SystemTime::now()));
        Self { time: Rc::new(ManualTime { now, wall, wall_sets: Cell::new(0) }), jumps: false }
    }

    /// A clock that jumps to the next deadline whenever the loop would sleep until it: the program runs as fast as it
    /// can, and every timer at its exact time. While there is an idle callback the loop never sleeps, so it never jumps.
    ///
    /// The timeout of a [`turn`](crate::Reactor::turn) is such a deadline too: the turn lets the clock jump by it instead of waiting.
    ///
    /// The clock stands while other threads are at work for the loop: while something they have sent waits to be handled, and while
    /// a [`KeepAlive`](crate::KeepAlive) is held, as by each job of a pool and by a [`LoopThread`](crate::LoopThread) until it is
    /// joined. The loop waits for them in the time of the system.
    pub fn jumping() -> Self {
        Self { jumps: true, ..Self::new() }
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        self.time.now.get()
    }

    /// What clocks on walls show: in the beginning what the system's does.
    pub fn wall(&self) -> SystemTime {
        self.time.wall.get()
    }

    /// Sets the wall clock, as an administrator does: no time passes, but timers of
    /// [`Registry::at_wall`](crate::Registry::at_wall) are due at other times.
    pub fn set_wall(&self, time: SystemTime) {
        self.time.wall.set(time);
        self.time.wall_sets.set(self.time.wall_sets.get() + 1);
    }

    /// How often the wall clock has been set.
    #[inline]
    pub(crate) fn wall_sets(&self) -> u64 {
        self.time.wall_sets.get()
    }

    /// Lets `time` pass. Timers that become due run in the next turn;
    /// [`Reactor::advance`](crate::Reactor::advance) runs them each at its own time.
    ///
    /// # Panics
    /// If the sum is more than an [`Instant`] or a [`SystemTime`] can hold. Timers know the 292 years after the reactor was
    /// built: what would be due later never is.
    pub fn advance(&self, time: Duration) {
        let (now, wall) = (self.time.now.get() + time, self.time.wall.get() + time);
        self.time.now.set(now);
        self.time.wall.set(wall);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

/// The last nanosecond that is counted, after some 292 years: half of what a deadline can be, so that no sum of a time and a
/// delay of as much goes beyond its end.
pub(crate) const LAST_NS: u64 = u64::MAX / 2;
/// No time is so late.
const NOT_COUNTED: u64 = u64::MAX;

/// Reads the monotonic clock at most once a turn, and only if somebody asks.
#[derive(Debug)]
pub(crate) struct Clock {
    manual: Option<ManualClock>,
    started: Instant,
    /// The time of this turn, once it has been read; `None` outside of turns.
    now: Cell<Option<Instant>>,
    /// The same in nanoseconds since the start, once somebody has asked for that; [`NOT_COUNTED`] until then.
    now_ns: Cell<u64>,
    in_turn: bool,
    reads: Cell<u64>,
}

impl Clock {
    pub(crate) fn new(manual: Option<ManualClock>) -> Self {
        let started = manual.as_ref().map_or_else(Instant::now, ManualClock::now);
        Self {
            manual,
            started,
            now: Cell::new(None),
            now_ns: Cell::new(NOT_COUNTED),
            in_turn: false,
            reads: Cell::new(0),
        }
    }

    /// When it was made.
    pub(crate) const fn started(&self) -> Instant {
        self.started
    }

    /// A turn has begun: what is read from now on holds until it ends, but for the wait.
    #[inline]
    pub(crate) fn begin_turn(&mut self) {
        self.in_turn = true;
    }

    /// Time has passed: in the wait, or in a handler that wants to know.
    #[inline]
    pub(crate) fn forget(&mut self) {
        self.now.set(None);
        self.now_ns.set(NOT_COUNTED);
    }

    #[inline]
    pub(crate) fn end_turn(&mut self) {
        self.in_turn = false;
        self.forget();
    }

    /// The time of this turn; outside of a turn the time.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.now.get().unwrap_or_else(|| self.look())
    }

    /// [`now`](Self::now) in nanoseconds since the start, at most [`LAST_NS`].
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        match self.now_ns.get() {
            NOT_COUNTED => self.count(),
            now_ns => now_ns,
        }
    }

    /// Reads the time, and keeps it for this turn.
    #[inline(never)]
    fn look(&self) -> Instant {
        let now = self.read();
        if self.in_turn {
            self.now.set(Some(now));
        }
        now
    }

    /// The time of this turn, if it has been read.
    #[inline]
    pub(crate) const fn known(&self) -> Option<Instant> {
        self.now.get()
    }

    /// Makes a reading the time of this turn.
    #[inline]
    pub(crate) fn keep(&mut self, now: Instant) {
        self.now.set(Some(now));
        self.now_ns.set(NOT_COUNTED);
    }

    /// Counts the nanoseconds of the time, and keeps them for this turn.
    #[inline(never)]
    fn count(&self) -> u64 {
        let now_ns = self.nanos_at(self.now()).min(LAST_NS);
        if self.in_turn {
            self.now_ns.set(now_ns);
        }
        now_ns
    }

    /// A time in nanoseconds since the start; 0 if it was before.
    pub(crate) fn nanos_at(&self, time: Instant) -> u64 {
        nanos(time.saturating_duration_since(self.started))
    }

    /// The time, whatever the turn's is.
    pub(crate) fn read(&self) -> Instant {
        self.reads.set(self.reads.get() + 1);
        self.manual.as_ref().map_or_else(Instant::now, ManualClock::now)
    }

    /// What clocks on walls show.
    pub(crate) fn wall(&self) -> SystemTime {
        self.manual.as_ref().map_or_else(SystemTime::now, ManualClock::wall)
    }

    /// How often the clock has been read.
    pub(crate) const fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// The clock, if somebody drives it.
    #[inline]
    pub(crate) const fn manual(&self) -> Option<&ManualClock> {
        self.manual.as_ref()
    }

    /// Whether time passes only by jumps.
    #[inline]
    pub(crate) fn jumps(&self) -> bool {
        self.manual.as_ref().is_some_and(|manual| manual.jumps)
    }
}

/// A duration in nanoseconds; the greatest number for anything longer, some 584 years.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_reads_the_clock_once_and_only_when_asked() {
        let mut clock = Clock::new(None);
        clock.begin_turn();
        assert_eq!(clock.reads(), 0);
        let now = clock.now();
        assert_eq!((clock.now(), clock.reads()), (now, 1));
        clock.forget();
        assert!(clock.now() >= now);
        assert_eq!(clock.reads(), 2);
        clock.end_turn();
        clock.begin_turn();
        clock.now();
        assert_eq!(clock.reads(), 3);
    }

    #[test]
    fn outside_of_a_turn_each_question_is_answered_anew() {
        let clock = Clock::new(None);
        clock.now();
        clock.now();
        assert_eq!(clock.reads(), 2);
    }

    #[test]
    fn a_manual_clock_and_its_clones_move_together_and_only_when_told() {
        let manual = ManualClock::new();
        let clock = Clock::new(Some(manual.clone()));
        let began = clock.now();
        assert_eq!(clock.now(), began);
        manual.advance(Duration::from_secs(5));
        assert_eq!(clock.now() - began, Duration::from_secs(5));
    }
}
