//! Events within a future.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use reactor::{Error, Event, Key};

use super::feed::{Feed, feed};
use crate::futures::fairness;
use crate::futures::local::Local;
use crate::futures::of_thread;

/// Waits until `event` is set, and [passes through](Event) it. See [`wait_any`].
///
/// ```
/// use handlers::futures;
/// use reactor::{Event, Reactor};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = Reactor::<()>::new()?;
/// let done = Event::auto_reset();
/// let setter = std::thread::spawn({
///     let done = done.clone();
///     move || done.set()
/// });
/// futures::block_on(&mut reactor, &mut (), async move {
///     futures::wait_event(&done).await
/// })??;
/// # setter.join().expect("it does not panic");
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn wait_event(event: &Event) -> EventWait {
    EventWait::new(&[event], false)
}

/// Waits until any of `events` is set, [passes through](Event) it, and returns its index. If
/// several are set, passes through the one with the lowest index. Without an event it waits
/// forever.
///
/// Events that are set already need no registration. Otherwise the loop waits for them by
/// [`Registry::on_any`](reactor::Registry::on_any), in the background. If the future is dropped
/// before it is done, the pass is [undone](Event::undo_pass).
///
/// # Errors
/// The future returns the errors of `on_any`, such as [`Error::Full`] at the limit of
/// registrations.
///
/// # Panics
/// The future panics if it has to wait outside of a task of this module.
#[doc(alias = "select")]
#[track_caller]
pub fn wait_any(events: &[&Event]) -> EventWait {
    EventWait::new(events, false)
}

/// Waits until all of `events` are set at the same time, and [passes through](Event) all of them.
/// Returns 0. Without an event it waits forever. See [`wait_any`].
#[doc(alias = "join")]
#[track_caller]
pub fn wait_all(events: &[&Event]) -> EventWait {
    EventWait::new(events, true)
}

/// The future of [`wait_event`], [`wait_any`] and [`wait_all`]. Returns the index of the event.
#[must_use = "a future does nothing unless it is awaited"]
pub struct EventWait {
    events: Rc<[Event]>,
    all: bool,
    origin: &'static Location<'static>,
    waiting: Option<Waiting>,
}

/// A wait of the loop.
struct Waiting {
    passed: Feed<usize>,
    registered: Rc<Registered>,
    local: Rc<Local>,
}

#[derive(Default)]
struct Registered {
    key: Cell<Option<Key>>,
    refused: Cell<Option<Error>>,
    /// The future was dropped before the request was carried out.
    is_cancelled: Cell<bool>,
}

impl EventWait {
    #[track_caller]
    fn new(events: &[&Event], all: bool) -> Self {
        Self {
            events: events.iter().map(|event| (*event).clone()).collect(),
            all,
            origin: Location::caller(),
            waiting: None,
        }
    }

    /// Passes through the events if they are set.
    fn pass(&self) -> Option<usize> {
        let events: Vec<_> = self.events.iter().collect();
        match (self.all, events.is_empty()) {
            (_, true) => None,
            (false, _) => Event::wait_any(&events, Some(Duration::ZERO)),
            (true, _) => Event::wait_all(&events, Some(Duration::ZERO)).then_some(0),
        }
    }

    /// Asks the loop to wait.
    fn begin(&self) -> Waiting {
        let local = of_thread::current();
        assert!(local.is_some(), "an event was awaited outside of a task");
        let Some(local) = local else { unreachable!() };
        let (feeder, passed) = feed();
        let registered = Rc::<Registered>::default();
        let (events, all, origin) = (Rc::clone(&self.events), self.all, self.origin);
        let asked = Rc::clone(&registered);
        local.access(Box::new(move |access| {
            if asked.is_cancelled.get() {
                return;
            }
            // After an error the feeder is dropped, which wakes the task.
            match access.wait_for_events(&events, all, feeder, origin) {
                Ok(key) => asked.key.set(Some(key)),
                Err(error) => asked.refused.set(Some(error)),
            }
        }));
        Waiting {
            passed,
            registered,
            local,
        }
    }
}

impl Future for EventWait {
    type Output = Result<usize, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.waiting.is_none() {
            ready!(fairness::poll_proceed(cx));
            if let Some(index) = self.pass() {
                return Poll::Ready(Ok(index));
            }
            self.waiting = Some(self.begin());
        }
        let Some(waiting) = &self.waiting else {
            return Poll::Pending;
        };
        let passed = ready!(waiting.passed.poll_next(cx));
        let refused = waiting.registered.refused.take();
        match (passed, refused) {
            (Some(index), _) => {
                self.waiting = None;
                Poll::Ready(Ok(index))
            }
            (None, Some(error)) => {
                self.waiting = None;
                Poll::Ready(Err(error))
            }
            // The registration was removed from outside: begin again.
            (None, None) => {
                self.waiting = None;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl Drop for EventWait {
    fn drop(&mut self) {
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        waiting.registered.is_cancelled.set(true);
        match (waiting.passed.take(), waiting.registered.key.get()) {
            // The loop has passed through, and this future has not returned it.
            (Some(_), _) if self.all => self.events.iter().for_each(Event::undo_pass),
            (Some(index), _) => {
                self.events.get(index).map(Event::undo_pass);
            }
            (None, Some(key)) => {
                waiting
                    .local
                    .access(Box::new(move |access| access.remove(key)));
            }
            (None, None) => {}
        }
    }
}

impl fmt::Debug for EventWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventWait")
            .field("events", &self.events.len())
            .field("all", &self.all)
            .finish_non_exhaustive()
    }
}
