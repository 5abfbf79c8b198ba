//! Metrics: what the loop has done, and what is registered in it.

use std::fmt;
use std::os::fd::RawFd;
use std::panic::Location;
use std::time::Duration;

use crate::kind::Kind;
use crate::readiness::{Interest, Readiness};
use crate::ready::Priority;
use crate::slots::Key;
use crate::timer::TimerKey;

/// Counters since the reactor was built. Each wraps around, after centuries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Turns begun, which is also how often the loop has waited: one system call each, but for spins.
    pub turns: u64,
    /// Of these, turns that were allowed to sleep.
    pub sleeps: u64,
    /// Events that the kernel has reported.
    pub events: u64,
    /// Of these, events of registrations that had ended meanwhile.
    pub stale_events: u64,
    /// Of these, events that the handler did not want just then.
    pub unwanted_events: u64,
    /// Calls of source handlers, told of a timeout or not, and of queue handlers: one for each value or event.
    pub calls: u64,
    /// Callbacks of timers that have run; timeouts of sources are calls of their handlers.
    pub timers: u64,
    /// Deferred callbacks that have run: those of [`Registry::defer`](crate::Registry::defer), posted closures, and calls of
    /// [`Handler::closed`](crate::Handler::closed).
    pub deferred: u64,
    /// Idle callbacks that have run. With the calls, the timers and the deferred callbacks these are all that
    /// [`Reactor::turn`](crate::Reactor::turn) counts.
    pub idle: u64,
    /// `epoll_ctl` calls: each registration and its end, a direction that is wanted for the first time, and the
    /// withdrawal of one that woke the loop in vain.
    pub kernel_updates: u64,
    /// Times that another thread has ended a sleep of the loop, by a write to its eventfd.
    pub signals: u64,
    /// Times that the loop has looked for work before it slept: [`Builder::spin`](crate::Builder::spin).
    pub spins: u64,
    /// Of these, times that it found none.
    pub spins_in_vain: u64,
    /// Readings of the clock.
    pub clock_reads: u64,
    /// Handlers, hooks and timers that were removed since they returned an error.
    pub failures: u64,
    /// Callbacks that panicked, and that the loop survived.
    pub panics: u64,
    /// Callbacks that were found to take longer than
    /// [`Builder::slow_after`](crate::Builder::slow_after).
    pub slow_calls: u64,
}

/// One line of the list of what is registered: [`Registry::registrations`](crate::Registry::registrations).
///
/// Displays as `3v1 fd 7 stream read (ready: none) echo::serve examples/echo.rs:31:18, 12 calls`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Registration<'a> {
    /// Its key.
    pub key: Key,
    /// The fd of its source; -1 for a notification queue.
    pub fd: RawFd,
    /// What the fd is. Where its type does not say it the kernel is asked; while the handler of such a one is running it is
    /// [`Kind::Unknown`].
    pub kind: Kind,
    /// What its handler wants to be called for.
    pub interest: Interest,
    /// What is known of the source, and has not been delivered or not been used up.
    pub readiness: Readiness,
    /// Its place among the ready.
    pub priority: Priority,
    /// Whether the kernel refuses to watch it because it is always ready.
    pub always_ready: bool,
    /// Whether it keeps [`Reactor::run`](crate::Reactor::run) alive.
    pub keeps_alive: bool,
    /// The name given by [`Registry::set_name`](crate::Registry::set_name), or else the type of the handler.
    pub name: &'a str,
    /// Where it was registered.
    pub origin: &'static Location<'static>,
    /// How often its handler has been called: that of a queue once for each value, that of an event once for each time that
    /// it was set. The queue named "remote" counts the closures that were posted.
    pub calls: u64,
}

impl fmt::Display for Registration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, fd, kind, interest, readiness, name, origin, calls, .. } = self;
        write!(f, "{key} fd {fd} {kind} {interest} (ready: {readiness}) {name} {origin}, {calls} calls")?;
        if self.priority != Priority::Normal {
            write!(f, ", {} priority", self.priority)?;
        }
        if self.always_ready {
            f.write_str(", always ready")?;
        }
        if !self.keeps_alive {
            f.write_str(", background")?;
        }
        Ok(())
    }
}

/// One line of the list of timers: [`Registry::timers`](crate::Registry::timers).
///
/// Displays as `3v1 in 1.5s examples/echo.rs:31:18`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Timer {
    /// Its key.
    pub key: TimerKey,
    /// How long until it is due; `None` if never, or while its callback runs, unless that has reset it.
    pub remaining: Option<Duration>,
    /// Whether it keeps [`Reactor::run`](crate::Reactor::run) alive.
    pub keeps_alive: bool,
    /// Where it was armed.
    pub origin: &'static Location<'static>,
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, remaining, keeps_alive, origin } = self;
        write!(f, "{} ", Key::from(*key))?;
        match remaining {
            Some(remaining) => write!(f, "in {remaining:?} {origin}")?,
            None => write!(f, "not due {origin}")?,
        }
        f.write_str(if *keeps_alive { "" } else { ", background" })
    }
}
