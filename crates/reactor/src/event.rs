//! Event objects, in the manner of Win32: set by anybody, waited for by threads and loops, one, any or all of several.
//!
//! All events of a process share one lock, and whoever sets one hands it over there and then: to the first waiter in the
//! order of arrival that it satisfies. So a wait for all takes all or none, a set is never lost between two waiters, and a
//! wait that times out has taken nothing; there is no second step in which any of this could go wrong.
//!
//! INVARIANT (settled): between two operations no waiter could be satisfied by what is set. Kept by `settle` after each set
//! and by the look before each wait.
//!
//! Source: `WaitForMultipleObjects` of Win32. PEvents, the usual imitation, waits for all by steps.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::context::Context;
use crate::error::Error;
use crate::handler::Next;
use crate::notify::eventfd::EventFd;
use crate::notify::queue::{Address, Capacity, Sender, notification_queue};
use crate::registry::Registry;
use crate::slots::{Blank, Key, Slots};

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

#[derive(Debug)]
struct State {
    /// 0 is not set.
    count: u64,
    /// The greatest count; `None` for a manual-reset event, which nobody resets by passing through.
    max: Option<u64>,
    /// In the order of arrival.
    waiters: VecDeque<Key>,
    /// When it was reset, by the clock of the world: what was handed over before is not set again.
    reset_at: u64,
}

#[derive(Debug)]
struct Waiter {
    events: Vec<Key>,
    all: bool,
    /// Which of the events it was: 0 for all.
    outcome: Option<usize>,
    /// When that was, by the clock of the world.
    told_at: u64,
    notify: Notify,
}

/// How a waiter hears of its outcome.
#[derive(Debug)]
enum Notify {
    Thread(Arc<Ticket>),
    Poll(Arc<EventFd>),
    Loop(Sender<usize>),
}

/// Who is to be woken.
enum Wake {
    Thread(Arc<Ticket>),
    Poll(Arc<EventFd>),
    Loop(Arc<Address>),
}

/// A thread that waits. It looks here, and takes the lock again only when its time is over.
#[derive(Debug)]
struct Ticket {
    thread: Thread,
    /// [`PENDING`], or the outcome.
    outcome: AtomicUsize,
}

const PENDING: usize = usize::MAX;

impl Ticket {
    fn outcome(&self) -> Option<usize> {
        Some(self.outcome.load(Ordering::Acquire)).filter(|outcome| *outcome != PENDING)
    }
}

impl Blank for State {
    fn blank() -> Self {
        Self { count: 0, max: None, waiters: VecDeque::new(), reset_at: 0 }
    }
}

impl Blank for Option<Waiter> {
    fn blank() -> Self {
        None
    }
}

/// All events and waiters of this process.
struct World {
    events: Slots<State>,
    waiters: Slots<Option<Waiter>>,
    /// Who is to be woken once the lock is free.
    wakes: Vec<Wake>,
    /// Counts hand-overs and resets.
    clock: u64,
}

static WORLD: Mutex<World> =
    Mutex::new(World { events: Slots::new(), waiters: Slots::new(), wakes: Vec::new(), clock: 0 });

fn world() -> MutexGuard<'static, World> {
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the lock back, and wakes those who have been let through.
fn wake(mut world: MutexGuard<'_, World>) {
    if world.wakes.is_empty() {
        return;
    }
    let wakes = std::mem::take(&mut world.wakes);
    drop(world);
    for wake in wakes {
        match wake {
            Wake::Thread(ticket) => ticket.thread.unpark(),
            // It cannot overflow: one to each.
            Wake::Poll(event) => drop(event.add(1)),
            Wake::Loop(address) => address.announce(),
        }
    }
}

impl World {
    /// Passes through an event, if it is set.
    fn pass(&mut self, event: Key) -> bool {
        let Some(state) = self.events.get_mut(event).filter(|state| state.count > 0) else { return false };
        if state.max.is_some() {
            state.count -= 1;
        }
        true
    }

    /// Takes back a [`pass`](Self::pass). An event that is full by now stays so.
    fn unpass(&mut self, event: Key) {
        if let Some(state) = self.events.get_mut(event)
            && let Some(max) = state.max
        {
            state.count = (state.count + 1).min(max);
        }
    }

    /// Passes through the first that is set, or through all of them or none: which, 0 for all.
    fn pass_several(&mut self, events: &[Key], all: bool) -> Option<usize> {
        if !all {
            return events.iter().position(|event| self.pass(*event));
        }
        for (passed, event) in events.iter().enumerate() {
            if !self.pass(*event) {
                events[..passed].iter().for_each(|event| self.unpass(*event));
                return None;
            }
        }
        Some(0)
    }

    fn add_waiter(&mut self, events: &[Key], all: bool, notify: Notify) -> Key {
        let waiter = Waiter { events: events.to_vec(), all, outcome: None, told_at: 0, notify };
        // Memory ends long before 2^32 waiters; one more would never be told.
        let key = self.waiters.insert(Some(waiter)).unwrap_or(Key::NULL);
        for event in events {
            if let Some(state) = self.events.get_mut(*event)
                && state.waiters.back() != Some(&key)
            {
                state.waiters.push_back(key);
            }
        }
        key
    }

    /// Ends a wait: its outcome, if there is one, and when that was.
    fn remove_waiter(&mut self, key: Key) -> Option<(usize, u64)> {
        let waiter = self.waiters.remove(key).flatten()?;
        if waiter.outcome.is_none() {
            self.unlist(key, &waiter.events);
        }
        waiter.outcome.map(|outcome| (outcome, waiter.told_at))
    }

    fn unlist(&mut self, waiter: Key, events: &[Key]) {
        for event in events {
            let Some(state) = self.events.get_mut(*event) else { continue };
            // Who has waited longest is let through first, so that is where it usually is.
            if state.waiters.front() == Some(&waiter) {
                state.waiters.pop_front();
            } else {
                state.waiters.retain(|listed| *listed != waiter);
            }
        }
    }

    /// Sets again what a waiter had been let through and nobody has made use of, unless it was reset since.
    fn give_back(&mut self, waiter: Key, events: &[Event], all: bool) {
        let Some((outcome, told_at)) = self.remove_waiter(waiter) else { return };
        for event in if all { events } else { &events[outcome..=outcome] } {
            if self.events.get(event.key()).is_some_and(|state| state.reset_at < told_at) {
                self.unpass(event.key());
                self.settle(event.key());
            }
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Hands what is set of an event to those who wait for it, in their order.
    fn settle(&mut self, event: Key) {
        let mut at = 0;
        while let Some(state) = self.events.get(event)
            && state.count > 0
            && let Some(waiter) = state.waiters.get(at).copied()
        {
            if !self.satisfy(waiter) {
                at += 1;
            }
        }
    }

    /// Whether a waiter needs to wait no longer; it is in no list then.
    fn satisfy(&mut self, key: Key) -> bool {
        let Some(mut waiter) = self.waiters.get_mut(key).and_then(Option::take) else { return false };
        let Some(outcome) = self.pass_several(&waiter.events, waiter.all) else {
            if let Some(place) = self.waiters.get_mut(key) {
                *place = Some(waiter);
            }
            return false;
        };
        self.unlist(key, &waiter.events);
        (waiter.outcome, waiter.told_at) = (Some(outcome), self.tick());
        match &waiter.notify {
            Notify::Thread(ticket) => {
                ticket.outcome.store(outcome, Ordering::Release);
                self.wakes.push(Wake::Thread(Arc::clone(ticket)));
                self.waiters.free(key);
                return true;
            }
            Notify::Poll(event) => self.wakes.push(Wake::Poll(Arc::clone(event))),
            Notify::Loop(sender) => match sender.send_unannounced(outcome) {
                Ok(address) => self.wakes.extend(address.map(Wake::Loop)),
                // Where the loop is gone nobody has passed.
                Err(_) => {
                    let passed = if waiter.all { &waiter.events[..] } else { &waiter.events[outcome..=outcome] };
                    passed.iter().for_each(|event| self.unpass(*event));
                    waiter.outcome = None;
                    waiter.events.clear();
                }
            },
        }
        if let Some(place) = self.waiters.get_mut(key) {
            *place = Some(waiter);
        }
        true
    }
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
    /// Blocks the thread, by [`thread::park`]: on the thread of a loop see [`Registry::on_event`]. `None` waits for ever; zero only
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
            Err(errno) => return Err(errno.into()),
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

/// A loop that waits for events: one waiter after the other.
struct Watching {
    events: Vec<Event>,
    all: bool,
    sender: Sender<usize>,
    waiter: Option<Key>,
}

impl Watching {
    /// Has the loop told once, at once if they are set.
    fn begin(&mut self) {
        let keys: Vec<_> = self.events.iter().map(Event::key).collect();
        let mut world = world();
        let waiter = world.add_waiter(&keys, self.all, Notify::Loop(self.sender.clone()));
        self.waiter = Some(waiter);
        if !keys.is_empty() {
            world.satisfy(waiter);
        }
        wake(world);
    }

    /// The loop has been told, and knows.
    fn end(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            world().remove_waiter(waiter);
        }
    }
}

/// What the loop has passed through and does not know of yet is set again.
impl Drop for Watching {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        let mut world = world();
        world.give_back(waiter, &self.events, self.all);
        wake(world);
    }
}

impl<S> Registry<S> {
    /// Calls `handler` each time that `event` is set, on this loop, and passes through it.
    ///
    /// As with [`consume`](Self::consume), whose errors and keys these are: it ends with [`Next::Remove`] or an error. It is called
    /// once a turn; a manual-reset event that stays set calls it each turn.
    ///
    /// It passes through when the event is set, or when the last call has returned if it is set then, and not when the handler
    /// runs: a loop that does not turn, or a registration that is paused, holds one set until it goes on or is removed, which sets
    /// the event again. A [`reset`](Event::reset) does not take back what has been passed.
    ///
    /// # Errors
    /// As [`consume`](Self::consume).
    #[track_caller]
    pub fn on_event<F>(&mut self, event: &Event, mut handler: F) -> Result<Key, Error>
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.on_events(vec![event.clone()], false, move |_, cx| handler(cx))
    }

    /// Calls `handler` each time that any of `events` is set, with its index: in the order in which they are set, and of those that are
    /// set when a call returns, the lowest. Otherwise like [`on_event`](Self::on_event).
    ///
    /// # Errors
    /// As [`consume`](Self::consume).
    #[track_caller]
    pub fn on_any<F>(&mut self, events: &[&Event], handler: F) -> Result<Key, Error>
    where
        F: FnMut(usize, &mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.on_events(events.iter().map(|event| (*event).clone()).collect(), false, handler)
    }

    /// Calls `handler` each time that all of `events` are set at once; never for none. Otherwise like
    /// [`on_event`](Self::on_event).
    ///
    /// # Errors
    /// As [`consume`](Self::consume).
    #[track_caller]
    pub fn on_all<F>(&mut self, events: &[&Event], mut handler: F) -> Result<Key, Error>
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.on_events(events.iter().map(|event| (*event).clone()).collect(), true, move |_, cx| handler(cx))
    }

    #[track_caller]
    fn on_events<F>(&mut self, events: Vec<Event>, all: bool, mut handler: F) -> Result<Key, Error>
    where
        F: FnMut(usize, &mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        let mut watching = Watching { events, all, sender, waiter: None };
        watching.begin();
        let key = self.consume(receiver, move |index, cx| {
            watching.end();
            let result = index.map_or(Ok(Next::Keep), |index| handler(index, cx));
            let goes_on = match &result {
                Ok(next) => *next == Next::Keep,
                Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
            };
            if goes_on {
                watching.begin();
            }
            result
        })?;
        // The next one may be there when a call returns: it is the next turn's.
        self.set_messages_at_a_time(key, 1)?;
        Ok(key)
    }
}
