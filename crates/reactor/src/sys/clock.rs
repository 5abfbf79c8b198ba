//! The clock below a loop: that of the system, or one that a test drives.

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
#[doc(alias("pause", "TestClock"))]
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
        Self {
            time: Rc::new(ManualTime {
                now,
                wall,
                wall_sets: Cell::new(0),
            }),
            jumps: false,
        }
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
        Self {
            jumps: true,
            ..Self::new()
        }
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

/// Tells the time, on the monotonic clock and on the wall.
#[derive(Debug)]
pub(crate) struct Clock {
    manual: Option<ManualClock>,
    /// How often the manual clock's wall had been set when that was last asked for.
    wall_sets_seen: u64,
}

impl Clock {
    pub(crate) const fn new(manual: Option<ManualClock>) -> Self {
        Self {
            manual,
            wall_sets_seen: 0,
        }
    }

    /// Returns the time.
    #[inline]
    pub(crate) fn read(&self) -> Instant {
        self.manual
            .as_ref()
            .map_or_else(Instant::now, ManualClock::now)
    }

    /// Returns the time if it stands: nothing but [`ManualClock::advance`] and the end of a wait moves it, and to read it costs nothing.
    #[inline]
    pub(crate) fn standing(&self) -> Option<Instant> {
        self.manual.as_ref().map(ManualClock::now)
    }

    /// Returns whether no wait moves the time, however long it is.
    pub(crate) fn stands_while_waiting(&self) -> bool {
        self.manual.as_ref().is_some_and(|manual| !manual.jumps)
    }

    /// Returns the clock that its owner drives, if it is one.
    pub(crate) const fn driven(&self) -> Option<&ManualClock> {
        self.manual.as_ref()
    }

    /// Returns the clock if waits let it jump.
    pub(super) fn jumping(&self) -> Option<&ManualClock> {
        self.manual.as_ref().filter(|manual| manual.jumps)
    }

    /// Returns the time of the wall clock.
    pub(crate) fn wall(&self) -> SystemTime {
        self.manual
            .as_ref()
            .map_or_else(SystemTime::now, ManualClock::wall)
    }

    /// Returns whether the wall clock has been set since the last call, where no event tells of it.
    #[inline]
    pub(crate) fn take_wall_set(&mut self) -> bool {
        let Some(manual) = &self.manual else {
            return false;
        };
        let sets = manual.time.wall_sets.get();
        std::mem::replace(&mut self.wall_sets_seen, sets) != sets
    }
}
