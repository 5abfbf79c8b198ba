//! The clock below a loop: the clock of the system, or a clock that a test drives.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use super::thread::now;

/// A clock for tests that are exact and take no real time. A clock of [`new`](Self::new) moves only
/// when the program moves it. A clock of [`jumping`](Self::jumping) moves on its own from deadline
/// to deadline.
///
/// Pass a clone to [`Builder::clock`](crate::Builder::clock), and keep another clone to move the
/// clock. All clones are the same clock.
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
    /// Makes a clock that stands still until [`advance`](Self::advance).
    ///
    /// A reactor with this clock waits for its sources as usual, but no timer ends the wait. The
    /// timeout of a [`turn`](crate::Reactor::turn) is real time: the turn waits for its sources
    /// until the timeout has passed, and the clock does not move.
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

    /// Makes a clock that jumps to the next deadline when the loop would sleep until that deadline.
    /// The program runs as fast as it can, and every timer runs at its exact time. While there is
    /// an idle callback the loop never sleeps, so the clock never jumps.
    ///
    /// The timeout of a [`turn`](crate::Reactor::turn) is a deadline too: the turn moves the clock
    /// by the timeout instead of waiting.
    ///
    /// The clock stands still while other threads work for the loop:
    ///
    /// - while anything that they have sent waits to be handled;
    /// - while a [`KeepAlive`](crate::KeepAlive) is held. Each job of a worker pool holds a
    ///   `KeepAlive`, and a [`LoopThread`](crate::LoopThread) holds one until it is joined.
    ///
    /// Meanwhile the loop waits for these threads in real time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{ManualClock, Reactor, Then};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<bool>::builder().clock(ManualClock::jumping()).build()?;
    /// reactor.after(Duration::from_secs(3600), |cx| {
    ///     *cx.state = true;
    ///     Ok(Then::Done)
    /// });
    /// let mut has_run = false;
    /// reactor.run(&mut has_run)?; // returns at once, an hour later by its clock
    /// assert!(has_run);
    /// # Ok(())
    /// # }
    /// ```
    pub fn jumping() -> Self {
        Self {
            jumps: true,
            ..Self::new()
        }
    }

    /// Returns the time of this clock.
    pub fn now(&self) -> Instant {
        self.time.now.get()
    }

    /// Returns the wall-clock time of this clock. A new clock has the wall-clock time of the
    /// system.
    pub fn wall(&self) -> SystemTime {
        self.time.wall.get()
    }

    /// Sets the wall clock, as an administrator would. The monotonic time does not move. Timers of
    /// [`Registry::at_wall`](crate::Registry::at_wall) follow the new wall-clock time.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use reactor::ManualClock;
    ///
    /// let clock = ManualClock::new();
    /// let before = clock.now();
    /// clock.set_wall(UNIX_EPOCH);
    /// assert_eq!(clock.now(), before); // the monotonic time has not moved
    /// clock.advance(Duration::from_secs(2)); // moves both
    /// assert_eq!(clock.now(), before + Duration::from_secs(2));
    /// assert_eq!(clock.wall(), UNIX_EPOCH + Duration::from_secs(2));
    /// ```
    pub fn set_wall(&self, time: SystemTime) {
        self.time.wall.set(time);
        self.time.wall_sets.set(self.time.wall_sets.get() + 1);
    }

    /// Moves the clock forward by `time`: its monotonic time and its wall-clock time. Timers that
    /// become due run in the next [turn](crate::Reactor::turn), and all of them see the new time.
    /// To run each timer at its own time, call [`Reactor::advance`](crate::Reactor::advance)
    /// instead.
    ///
    /// Timers cover the 292 years after the reactor was built. A timer with a later deadline never
    /// runs.
    ///
    /// # Panics
    /// If the new time is more than an [`Instant`] or a [`SystemTime`] can hold.
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

/// Returns the monotonic and the wall-clock time.
#[derive(Debug)]
pub(crate) struct Clock {
    manual: Option<ManualClock>,
    /// The number of times that the manual clock's wall had been set at the last `take_wall_set`.
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
        self.manual.as_ref().map_or_else(now, ManualClock::now)
    }

    /// Returns the time if the clock stands: only [`ManualClock::advance`] and the end of a wait
    /// move it, and a read costs nothing.
    #[inline]
    pub(crate) fn standing(&self) -> Option<Instant> {
        self.manual.as_ref().map(ManualClock::now)
    }

    /// Returns `true` if no wait moves the time, however long it is.
    pub(crate) fn stands_while_waiting(&self) -> bool {
        self.manual.as_ref().is_some_and(|manual| !manual.jumps)
    }

    /// Returns the manual clock, if there is one.
    pub(crate) const fn driven(&self) -> Option<&ManualClock> {
        self.manual.as_ref()
    }

    /// Returns the manual clock, if it jumps at waits.
    pub(super) fn jumping(&self) -> Option<&ManualClock> {
        self.manual.as_ref().filter(|manual| manual.jumps)
    }

    /// Returns the time of the wall clock.
    pub(crate) fn wall(&self) -> SystemTime {
        self.manual
            .as_ref()
            .map_or_else(wall_now, ManualClock::wall)
    }

    /// Returns `true` if the wall clock has been set since the last call and no event reports it.
    #[inline]
    pub(crate) fn take_wall_set(&mut self) -> bool {
        let Some(manual) = &self.manual else {
            return false;
        };
        let sets = manual.time.wall_sets.get();
        std::mem::replace(&mut self.wall_sets_seen, sets) != sets
    }
}

/// Returns the wall-clock time of the system.
fn wall_now() -> SystemTime {
    #[cfg(feature = "simulation")]
    if let Some(system) = super::simulated::installed() {
        return system.wall();
    }
    SystemTime::now()
}
