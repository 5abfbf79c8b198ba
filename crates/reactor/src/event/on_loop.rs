//! Events as what a loop waits for: a registration that is told by a queue.

use std::io::{self, ErrorKind};

use super::Event;
use super::world::{Notify, wake, world};
use crate::context::Context;
use crate::error::Error;
use crate::notify::queue::{Capacity, Sender, notification_queue};
use crate::outcome::Next;
use crate::registry::Registry;
use crate::slots::Key;

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
    /// at most once a turn, also where a callback of the turn sets the event again; a manual-reset event that stays set calls
    /// it each turn.
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
    /// For no events the handler is never called, and the registration keeps the loop running until it is removed.
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

    /// Calls `handler` each time that all of `events` are set at once; never for none. An event that is named twice is passed twice,
    /// as by [`Event::wait_all`]. Otherwise like [`on_event`](Self::on_event).
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
