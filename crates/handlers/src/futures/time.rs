//! Timers within a future: on the wheel of the loop, and on its manual clock.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use reactor::{Registry, Then};

use super::executor;
use super::fairness;
use super::local::Local;
use super::of_thread;
use super::requests::{Message, Request, SleepKey};
use super::waiter::Waiter;
use super::waker::Shared;

/// Returns a future that is done when `delay` has passed.
///
/// Within a task the delay counts from the time of this [turn](reactor::Reactor::turn), as
/// [`Registry::after`] does. Outside of a task it counts from the first poll. A delay of zero, and
/// a time that has passed at the first poll, give way once, as [`yield_now`](super::yield_now)
/// does.
///
/// The timer itself is in the background: the task that awaits it keeps
/// [`Reactor::run`](reactor::Reactor::run) alive.
///
/// # Cost
/// O(1) to poll, to drop and to reset. No allocation, unless more sleeps wait than ever before.
///
/// ```
/// use std::time::Duration;
/// use handlers::futures;
/// use reactor::{ManualClock, Reactor};
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::<bool>::builder().clock(ManualClock::jumping()).build()?;
/// let pause = async { futures::sleep(Duration::from_secs(3600)).await };
/// futures::spawn(&mut reactor, pause, |(), cx| *cx.state = true)?;
/// let mut is_over = false;
/// reactor.run(&mut is_over)?; // takes no time
/// assert!(is_over);
/// # Ok(())
/// # }
/// ```
#[doc(alias("delay", "Timer"))]
#[track_caller]
pub fn sleep(delay: Duration) -> Sleep {
    let from_now = of_thread::current().map(|local| later(local.now.get(), delay));
    Sleep {
        until: from_now.map_or(Until::FirstPollAnd(delay), Until::Time),
        stage: Stage::New,
        origin: Location::caller(),
    }
}

/// Returns a future that is done at `deadline`. A time that has passed gives way once, as
/// [`yield_now`](super::yield_now) does. See [`sleep`].
#[track_caller]
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        until: Until::Time(deadline),
        stage: Stage::New,
        origin: Location::caller(),
    }
}

/// Returns the time of this turn, as the [`now`](Registry::now) of the loop whose task is polled.
/// Returns `None` outside of a task.
pub fn now() -> Option<Instant> {
    of_thread::current().map(|local| local.now.get())
}

/// Returns the time after a delay. A delay that no clock can hold becomes a very long one.
pub(super) fn later(now: Instant, delay: Duration) -> Instant {
    /// A century.
    const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now.checked_add(delay)
        .or_else(|| now.checked_add(LONG))
        .unwrap_or(now)
}

/// The future of [`sleep`] and [`sleep_until`].
///
/// It is `Send` and `Sync`, because some crates demand it of their timers. It belongs to the loop
/// whose task polls it first. It may be dropped on any thread.
///
/// A task of another loop of the same thread may await it too. It is woken when the first loop runs
/// the timer.
///
/// # Panics
/// If it is polled for the first time outside of a task of this module, or later on another thread
/// or after its loop has ended.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sleep {
    until: Until,
    stage: Stage,
    origin: &'static Location<'static>,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    Time(Instant),
    FirstPollAnd(Duration),
}

enum Stage {
    New,
    /// Gives way, since its time has passed at its first poll: in this pass.
    GivesWay(Option<u64>),
    Armed(SleepKey, Arc<Shared>),
    Elapsed,
}

impl Sleep {
    /// Returns the time at which the sleep ends. Returns `None` before the first poll of a
    /// [`sleep`] that was made outside of a task.
    pub const fn deadline(&self) -> Option<Instant> {
        match self.until {
            Until::Time(deadline) => Some(deadline),
            Until::FirstPollAnd(_) => None,
        }
    }

    /// Returns `true` if the time has passed and a poll has reported it, or would report it now.
    /// The first poll of a sleep whose time had passed before does not report it: it gives way.
    pub fn is_elapsed(&self) -> bool {
        match &self.stage {
            Stage::Elapsed => true,
            Stage::New | Stage::GivesWay(_) => false,
            Stage::Armed(key, shared) => of_thread::with(shared, |local| {
                let mut sleeps = local.sleeps.borrow_mut();
                sleeps.get_mut(*key).is_some_and(|sleep| sleep.has_elapsed)
            })
            .unwrap_or(false),
        }
    }

    /// Moves the end of the sleep to `deadline`, also after it has elapsed. A task that awaits the
    /// sleep goes on waiting, until the new time. If it is called on another thread than that of
    /// the loop, the task is woken, and the sleep belongs to the loop whose task polls it next.
    ///
    /// # Cost
    /// O(1), no allocation.
    pub fn reset(&mut self, deadline: Instant) {
        self.until = Until::Time(deadline);
        let Stage::Armed(key, shared) = &self.stage else {
            self.stage = Stage::New;
            return;
        };
        let moved = of_thread::with(shared, |local| {
            if let Some(sleep) = local.sleeps.borrow_mut().get_mut(*key) {
                sleep.has_elapsed = false;
            }
            local.request(Request::Arm(*key, deadline));
        });
        if moved.is_none() {
            // A deadline in a message could come after that of a later reset. So the loop forgets
            // the timer and wakes the task, and the next poll arms a new one.
            shared.send(Message::Request(Request::RestartSleep(*key)));
            self.stage = Stage::New;
        }
    }

    /// Ends the claim on the timer.
    fn disarm(&mut self) {
        let Stage::Armed(key, shared) = std::mem::replace(&mut self.stage, Stage::New) else {
            return;
        };
        let ended = of_thread::with(&shared, |local| end(local, key));
        if ended.is_none() {
            shared.send(Message::Request(Request::ForgetSleep(key)));
        }
    }

    /// Arms the sleep for the current task.
    fn arm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let local = of_thread::current();
        assert!(local.is_some(), "a sleep was polled outside of a task");
        let Some(local) = local else { unreachable!() };
        let deadline = match self.until {
            Until::Time(deadline) => deadline,
            Until::FirstPollAnd(delay) => later(local.now.get(), delay),
        };
        self.until = Until::Time(deadline);
        if deadline <= local.now.get() {
            self.stage = Stage::GivesWay(None);
            return self.give_way(cx);
        }
        let waiter = Waiter::of(cx.waker(), &local); // outside of the borrow
        let added = local.sleeps.borrow_mut().add(waiter, self.origin);
        if let Some(key) = added {
            local.request(Request::Arm(key, deadline));
            self.stage = Stage::Armed(key, Arc::clone(&local.shared));
        }
        Poll::Pending
    }

    /// Gives way to the rest of the loop, once.
    fn give_way(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Stage::GivesWay(gave_way) = &mut self.stage
            && let Some(local) = of_thread::current()
        {
            ready!(local.poll_give_way(gave_way, cx.waker()));
        }
        self.stage = Stage::Elapsed;
        Poll::Ready(())
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &self.stage {
            Stage::New => self.arm(cx),
            Stage::Elapsed => fairness::poll_proceed(cx), // asked again, perhaps without an end
            Stage::GivesWay(_) => self.give_way(cx),
            Stage::Armed(key, shared) => {
                let local = of_thread::find(shared);
                assert!(
                    local.is_some(),
                    "a sleep was polled on another thread, or after its loop has ended"
                );
                let looked = local.map(|local| look(&local, *key, cx.waker()));
                if looked == Some(Poll::Ready(())) {
                    self.stage = Stage::Elapsed;
                    return Poll::Ready(());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("until", &self.until)
            .field("is_elapsed", &self.is_elapsed())
            .finish_non_exhaustive()
    }
}

/// Returns `Ready` if a sleep has elapsed. Otherwise the task waits for it.
fn look(local: &Local, key: SleepKey, waker: &Waker) -> Poll<()> {
    let waiter = Waiter::of(waker, local); // outside of the borrow
    let mut sleeps = local.sleeps.borrow_mut();
    match sleeps.get_mut(key) {
        Some(sleep) if !sleep.has_elapsed => {
            let old = sleep.waiter.replace(waiter);
            drop(sleeps);
            drop(old);
            Poll::Pending
        }
        _ => {
            sleeps.remove(key);
            Poll::Ready(())
        }
    }
}

/// Ends a sleep on the thread of its loop. Returns the task that waited, for the caller to drop.
fn end(local: &Local, key: SleepKey) -> Option<Waiter> {
    let ended = local.sleeps.borrow_mut().remove(key)?;
    if let Some(timer) = ended.timer {
        local.request(Request::CancelTimer(timer));
    }
    ended.waiter
}

/// Arms the timer of a sleep, or moves it, unless the sleep was dropped.
pub(super) fn arm<S: 'static>(
    local: &Local,
    key: SleepKey,
    deadline: Instant,
    registry: &mut Registry<S>,
) {
    let (origin, armed) = match local.sleeps.borrow_mut().get_mut(key) {
        Some(sleep) => (sleep.origin, sleep.timer),
        None => return,
    };
    if let Some(timer) = armed {
        let delay = deadline.saturating_duration_since(registry.now());
        if registry.reset(timer, delay).is_ok() {
            return;
        }
    }
    let timer = registry.at(deadline, |cx| {
        elapse(cx);
        Ok::<_, io::Error>(Then::Done)
    });
    // The timer was armed just now, so its key is not stale.
    let _ = registry.set_timer_background(timer);
    let _ = registry.set_timer_origin(timer, origin);
    local.sleeps.borrow_mut().set_timer(key, timer);
}

/// Forgets a sleep that another thread has dropped or moved. Returns the task that waited.
pub(super) fn forget<S>(
    local: &Local,
    key: SleepKey,
    registry: &mut Registry<S>,
) -> Option<Waiter> {
    let ended = local.sleeps.borrow_mut().remove(key)?;
    if let Some(timer) = ended.timer {
        let _ = registry.cancel(timer); // it may be running
    }
    ended.waiter
}

/// Wakes the task whose sleep has elapsed.
fn elapse<S: 'static>(cx: &mut reactor::Context<'_, S>) {
    if let (Some(timer), Some(executor)) = (cx.timer(), executor::find(cx.registry)) {
        let waiter = executor.local.sleeps.borrow_mut().elapse(timer);
        let local = &executor.local;
        executor.wake_in_callback(cx.registry, || {
            waiter.into_iter().for_each(|waiter| waiter.wake(local));
        });
    }
}
