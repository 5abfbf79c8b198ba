//! The seam between the loop and the system below it.
//!
//! The loop needs five things of the system and asks for them here. No code above this folder
//! depends on the implementation: the kernel, a clock that a test drives, or a simulation of the
//! kernel.
//!
//! - Readiness, from [`Poller`]. A watched descriptor that becomes ready is reported once, with its
//!   key. A descriptor that is ready when it is watched or rearmed is reported by the next wait.
//!   After as many reports as there are watched descriptors, each descriptor that was ready at
//!   first has been reported. Nothing is reported for a descriptor once its watch has ended.
//!   Reports that [`Events`] holds by then stay there.
//! - Time, from [`clock::Clock`]. The monotonic time never runs back. The wall clock may be set: an
//!   event with [`Key::WALL_CLOCK`] reports it, or [`clock::Clock::take_wall_set`].
//! - Wakes, by [`Wake`]. A wake by any thread ends the present wait, or the next one. Wakes that
//!   come before the loop waits again are coalesced.
//! - Facts, from [`fd`]: the kind of a descriptor, and its readiness at this moment.
//! - Workers, from [`thread`]. A thread runs the closure that it was started with, once.
//!
//! A wait ends for a report, for a wake, at its timeout, or because it was interrupted. A wait
//! shows the reports up to the time at which it began. Only a wait that slept until its end and has
//! nothing to report shows them up to that end: see [`ReportedUntil`].
//!
//! Each report has a key. [`Key::NULL`], [`Key::ALARM`] and [`Key::WALL_CLOCK`] are the system's
//! own.

pub(crate) mod clock;
pub(crate) mod eventfd;
pub(crate) mod fd;
pub(crate) mod fd_set;
pub(crate) mod poller;
pub(crate) mod readable;
pub(crate) mod reported_until;
#[cfg(feature = "simulation")]
pub(crate) mod simulated;
pub(crate) mod thread;
mod timerfd;

use std::time::{Duration, Instant};

use self::clock::Clock;
use self::eventfd::EventFd;
use self::poller::{Broken, Events, Poller, WAIT_MAX};
use self::reported_until::ReportedUntil;
use crate::error::Error;
use crate::slots::Key;

/// The system below one loop.
pub(crate) struct Sys {
    pub(crate) poller: Poller,
    /// The reports of the last wait that are not delivered yet.
    pub(crate) events: Events,
    /// The time up to which everything has been reported, for the timeouts of sources.
    pub(crate) reported: ReportedUntil,
}

/// The range of a sleep: from `now`, which has just been read, to `end`. The `timeout` is the
/// user's, in real time.
#[derive(Clone, Copy)]
pub(crate) struct Sleep {
    pub(crate) now: Instant,
    pub(crate) end: Instant,
    pub(crate) timeout: Option<Duration>,
}

impl Sys {
    pub(crate) fn new(
        started: Instant,
        events_max: usize,
        high_resolution: bool,
    ) -> Result<Self, Error> {
        let mut poller = Poller::new()?;
        if high_resolution {
            poller.add_alarm()?;
        }
        Ok(Self {
            poller,
            events: Events::with_capacity(events_max),
            reported: ReportedUntil::new(started),
        })
    }

    /// Makes the [`Wake`] that ends the waits of this loop from any thread. May be called once.
    pub(crate) fn wake(&mut self) -> Result<Wake, Error> {
        let event = EventFd::for_loop()?;
        self.poller.watch_own(&event, Key::NULL)?;
        Ok(Wake {
            event,
            #[cfg(feature = "simulation")]
            epoll: self.poller.simulated_number(),
        })
    }

    /// Makes events report that the wall clock was set. Does nothing if they do already, or with a
    /// manual clock.
    pub(crate) fn watch_wall_clock(&mut self, clock: &Clock) -> Result<(), Error> {
        if clock.driven().is_some() {
            Ok(())
        } else {
            self.poller.watch_wall_clock()
        }
    }

    /// Collects the reports that have come, or waits for one up to `timeout`.
    #[inline(always)]
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        match self.poller.wait(&mut self.events, timeout) {
            Ok(()) | Err(Broken::Interrupted) => Ok(()),
            Err(Broken::Failed(error)) => Err(error),
        }
    }

    /// Collects the reports that have come by the time `now`, which has just been read.
    #[inline]
    pub(crate) fn collect(&mut self, now: Instant) -> Result<(), Error> {
        self.wait(Some(Duration::ZERO))?;
        self.record_wait(now);
        Ok(())
    }

    /// Sleeps until there is something to report or the end has come. `is_awaited` returns `true`
    /// if other threads work for the loop: a clock that jumps stands still meanwhile.
    #[inline(always)]
    pub(crate) fn sleep(
        &mut self,
        clock: &Clock,
        sleep: Sleep,
        is_awaited: impl FnOnce() -> bool,
    ) -> Result<(), Broken> {
        if clock.driven().is_some() {
            return self
                .sleep_by_driven_clock(clock, sleep, is_awaited())
                .map_err(Broken::Failed);
        }
        let Sleep { now, end, .. } = sleep;
        self.poller.wait_until(&mut self.events, end, end - now)?;
        if self.events.is_silence() && !self.events.is_full() {
            self.reported.record_all(end.min(now + WAIT_MAX));
        } else {
            self.record_wait(now);
        }
        Ok(())
    }

    /// Sleeps with a manual clock, which stands still meanwhile, or jumps to the end if there is
    /// nothing to wait for.
    #[cold]
    fn sleep_by_driven_clock(
        &mut self,
        clock: &Clock,
        sleep: Sleep,
        is_awaited: bool,
    ) -> Result<(), Error> {
        let Sleep { now, end, timeout } = sleep;
        if let Some(jumping) = clock.jumping() {
            self.collect(now)?;
            // Other threads work in real time, so the loop waits for them in real time.
            if !self.events.is_empty() {
                return Ok(());
            }
            if !is_awaited {
                jumping.advance(end - now);
                self.reported.record_all(end);
                return Ok(());
            }
        }
        self.wait(timeout)?;
        self.record_wait(now);
        Ok(())
    }

    /// Records a wait that began at the time `began`, and the number of its reports.
    #[inline]
    pub(crate) fn record_wait(&mut self, began: Instant) {
        if self.events.is_full() {
            self.reported.record_some(self.events.len())
        } else {
            self.reported.record_all(began)
        }
    }
}

/// Ends the waits of a loop. One write to its eventfd.
#[derive(Debug)]
pub(crate) struct Wake {
    event: EventFd,
    /// The number of the simulated epoll instance that the loop waits on.
    #[cfg(feature = "simulation")]
    epoll: Option<u64>,
}

impl Wake {
    /// Ends the present wait, or the next one. Callable from any thread and from a signal handler.
    pub(crate) fn wake(&self) {
        #[cfg(feature = "simulation")]
        if let (Some(epoll), Some(system)) = (self.epoll, simulated::installed()) {
            return system.wake(epoll, Key::NULL.to_token());
        }
        // The counter cannot overflow: one write a sleep of the loop.
        let _ = self.event.add(1);
    }
}
