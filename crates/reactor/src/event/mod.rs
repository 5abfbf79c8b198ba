//! Event objects, in the manner of Win32: set by anybody, waited for by threads and loops, one, any or all of several.
//!
//! All events of a process share one lock, and whoever sets one hands it over there and then. So a wait for all takes all
//! or none, a set is never lost between two waiters, and a wait that times out has taken nothing; there is no second step
//! in which any of this could go wrong.
//!
//! Source: `WaitForMultipleObjects` of Win32. PEvents, the usual imitation, waits for all by steps.

mod on_loop;
mod world;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use self::world::{Notify, PENDING, State, Ticket, wake, world};
use crate::error::Error;
use crate::slots::{Blank, Key};
use crate::sys::eventfd::EventFd;

/// Something to wait for, set by any thread: clones are the same event.
///
/// A *manual-reset* event stays set until [`reset`](Self::reset), and lets everybody through. An *auto-reset* event lets one
/// through and is reset by that; set twice, it is set once. A *semaphore* lets as many through as it has been set.
///
/// ```
/// use reactor::Event;
/// use std::time::Duration;
///
/// let (ready, stop) = (Event::auto_reset(false), Event::manual_reset(false));
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         // The lowest that is set, so the order to stop comes first.
///         while let Some(1) = Event::wait_any(&[&stop, &ready], None) {
///             println!("something is ready");
///         }
///     });
///     ready.set();
///     stop.set();
/// });
/// assert!(stop.wait(Some(Duration::ZERO)), "it stays set");
/// ```
#[derive(Clone, Debug)]
pub struct Event {
    place: Arc<Place>,
}

/// The place of an event among all of the process, which goes with its last clone.
#[derive(Debug)]
struct Place(Key);

/// What has ended a wait for events and fds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// The event with this index, which it has passed through.
    Event(usize),
    /// The fd with this index is readable, or its other side is closed.
    Readable(usize),
}

impl Event {
    fn new(count: u64, max: Option<u64>) -> Self {
        let state = State { count, max, ..State::blank() };
        // Memory ends long before 2^32 events; one more would never be set.
        Self { place: Arc::new(Place(world().events.insert(state).unwrap_or(Key::NULL))) }
    }

    /// An event that stays set until it is reset.
    pub fn manual_reset(set: bool) -> Self {
        Self::new(u64::from(set), None)
    }

    /// An event that is reset by the one whom it lets through.
    pub fn auto_reset(set: bool) -> Self {
        Self::new(u64::from(set), Some(1))
    }

    /// An event that lets `count` through, and one more each time it is set, up to `max`, which is 1 at least.
    pub fn semaphore(count: u32, max: u32) -> Self {
        let max = u64::from(max.max(1));
        Self::new(u64::from(count).min(max), Some(max))
    }

    fn key(&self) -> Key {
        self.place.0
    }

    /// Sets it: whether that has changed anything, which it does not where it was set, or is a semaphore at its greatest
    /// count. Who has waited longest is let through. Any thread; not for a signal handler.
    pub fn set(&self) -> bool {
        let mut world = world();
        let Some(state) = world.events.get_mut(self.key()) else { return false };
        if state.count >= state.max.unwrap_or(1) {
            return false;
        }
        state.count += 1;
        world.settle(self.key());
        wake(world);
        true
    }

    /// Resets it; a semaphore to nothing.
    pub fn reset(&self) {
        let mut world = world();
        let now = world.tick();
        if let Some(state) = world.events.get_mut(self.key()) {
            (state.count, state.reset_at) = (0, now);
        }
    }

    /// Lets those through who are waiting at this moment, one or, for a manual-reset event, all, and resets it; a
    /// semaphore keeps the count that it had.
    pub fn pulse(&self) {
        let mut world = world();
        let Some(state) = world.events.get_mut(self.key()) else { return };
        let before = state.count;
        state.count += 1;
        world.settle(self.key());
        let now = world.tick();
        if let Some(state) = world.events.get_mut(self.key()) {
            let is_semaphore = state.max.is_some_and(|max| max > 1);
            (state.count, state.reset_at) = (if is_semaphore { state.count.min(before) } else { 0 }, now);
        }
        wake(world);
    }

    /// Whether it is set: by the time it is looked at, it may not be.
    pub fn is_set(&self) -> bool {
        world().events.get(self.key()).is_some_and(|state| state.count > 0)
    }

    /// Waits until it is set and passes through it: whether that was before `timeout` had passed.
    ///
    /// Blocks the thread, by [`thread::park`]: on the thread of a loop see [`Registry::on_event`](crate::Registry::on_event). `None` waits for ever; zero only
    /// looks.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        Self::wait_any(&[self], timeout).is_some()
    }

    /// Waits until any of `events` is set, and passes through that: which, the lowest of those that are set; `None` after `timeout`, or
    /// for no events. Otherwise like [`wait`](Self::wait).
    pub fn wait_any(events: &[&Self], timeout: Option<Duration>) -> Option<usize> {
        if events.is_empty() { None } else { wait_for(events, false, timeout) }
    }

    /// Waits until all of `events` are set at once, and passes through them all: whether that was before `timeout` had
    /// passed. Until then, and if not, it passes through none. All of none are set. Otherwise like [`wait`](Self::wait).
    ///
    /// An event that is named several times is passed as often. A semaphore needs as many counts at once. An auto-reset event, which
    /// lets one through, is never passed twice at once: such a wait ends by its timeout only.
    pub fn wait_all(events: &[&Self], timeout: Option<Duration>) -> bool {
        wait_for(events, true, timeout).is_some()
    }

    /// Waits until any of `events` is set, or any of `fds` is readable; the events first. `None` after `timeout`. For a thread that
    /// waits for stdin beside events. Where none is set, an eventfd and a `poll`. For neither events nor fds it waits until its time is
    /// over.
    ///
    /// # Errors
    /// What `eventfd(2)` and `poll(2)` give.
    pub fn wait_any_or_readable(
        events: &[&Self],
        fds: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> io::Result<Option<Signalled>> {
        let keys: Vec<_> = events.iter().map(|event| event.key()).collect();
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(index) = world().pass_several(&keys, false) {
            return Ok(Some(Signalled::Event(index)));
        }
        let told = Arc::new(EventFd::counter(0)?);
        let waiter = {
            let mut world = world();
            if let Some(index) = world.pass_several(&keys, false) {
                return Ok(Some(Signalled::Event(index)));
            }
            world.add_waiter(&keys, false, Notify::Poll(Arc::clone(&told)))
        };
        let readable = poll_until(&told, fds, deadline);
        // What was handed over meanwhile is ours, whatever else has happened.
        if let Some((index, _)) = world().remove_waiter(waiter) {
            return Ok(Some(Signalled::Event(index)));
        }
        Ok(readable?.map(Signalled::Readable))
    }
}

/// Waits by `poll` until `told` or one of `fds` is readable, or the time is over: which of `fds`.
fn poll_until(told: &EventFd, fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Option<usize>> {
    let all = std::iter::once(told.as_fd()).chain(fds.iter().copied());
    let mut polled: Vec<_> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(&mut polled, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::Call { call: "poll", source: errno.into() }.into()),
            Ok(_) => return Ok(polled[1..].iter().position(|fd| !fd.revents().is_empty())),
        }
    }
}

fn wait_for(events: &[&Event], all: bool, timeout: Option<Duration>) -> Option<usize> {
    // Most waits are for a few.
    let mut few = [Key::NULL; 8];
    let many: Vec<_>;
    let keys = if let Some(few) = few.get_mut(..events.len()) {
        few.iter_mut().zip(events).for_each(|(key, event)| *key = event.key());
        &*few
    } else {
        many = events.iter().map(|event| event.key()).collect();
        &many
    };
    let mut world = world();
    let outcome = world.pass_several(keys, all);
    if outcome.is_some() || timeout == Some(Duration::ZERO) {
        return outcome;
    }
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let ticket = Arc::new(Ticket { thread: thread::current(), outcome: AtomicUsize::new(PENDING) });
    let waiter = world.add_waiter(keys, all, Notify::Thread(Arc::clone(&ticket)));
    drop(world);
    loop {
        if let Some(outcome) = ticket.outcome() {
            return Some(outcome);
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(Duration::ZERO) => {
                self::world().remove_waiter(waiter);
                return ticket.outcome(); // it may have come in the last moment
            }
            Some(left) => thread::park_timeout(left),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let state = world().events.remove(self.0);
        drop(state);
    }
}
