//! How a loop waits for events: a registration that is notified by a queue.

use std::io::{self, ErrorKind};

use super::object::Event;
use super::state::{Condition, EventIndex, WaiterIndex};
use super::table::{WaiterSignal, lock_table, unlock_and_wake};
use crate::context::Context;
use crate::error::Error;
use crate::notify::queue::{Capacity, notification_queue};
use crate::notify::sender::Sender;
use crate::outcome::Next;
use crate::registry::Registry;
use crate::slots::Key;

/// A loop that waits for events: one waiter after the other.
struct EventWatch {
    events: Vec<Event>,
    condition: Condition,
    sender: Sender<usize>,
    waiter: Option<WaiterIndex>,
}

impl EventWatch {
    fn indices(&self) -> Vec<EventIndex> {
        self.events.iter().map(Event::index).collect()
    }

    /// Notifies the loop once, at once if the condition holds.
    fn begin(&mut self) {
        let indices = self.indices();
        let mut table = lock_table();
        let waiter = table.add_waiter(
            &indices,
            self.condition,
            WaiterSignal::Queue(self.sender.clone()),
        );
        self.waiter = Some(waiter);
        if !indices.is_empty() {
            table.complete(waiter);
        }
        unlock_and_wake(table);
    }

    /// Ends a wait whose outcome the loop handles.
    fn end(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            lock_table().remove_waiter(waiter);
        }
    }
}

/// Sets again what was consumed for the loop and not handled.
impl Drop for EventWatch {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else {
            return;
        };
        let indices = self.indices();
        let mut table = lock_table();
        table.undo_wait(waiter, &indices, self.condition);
        unlock_and_wake(table);
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
        self.on_events(vec![event.clone()], Condition::Any, move |_, cx| {
            handler(cx)
        })
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
        self.on_events(
            events.iter().map(|event| (*event).clone()).collect(),
            Condition::Any,
            handler,
        )
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
        self.on_events(
            events.iter().map(|event| (*event).clone()).collect(),
            Condition::All,
            move |_, cx| handler(cx),
        )
    }

    #[track_caller]
    fn on_events<F>(
        &mut self,
        events: Vec<Event>,
        condition: Condition,
        mut handler: F,
    ) -> Result<Key, Error>
    where
        F: FnMut(usize, &mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        let mut watch = EventWatch {
            events,
            condition,
            sender,
            waiter: None,
        };
        watch.begin();
        let key = self.consume(receiver, move |index, cx| {
            watch.end();
            let result = index.map_or(Ok(Next::Keep), |index| handler(index, cx));
            let goes_on = match &result {
                Ok(next) => *next == Next::Keep,
                Err(error) => {
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
                }
            };
            if goes_on {
                watch.begin();
            }
            result
        })?;
        // The next one may be there when a call returns: it is the next turn's.
        self.set_max_messages_per_turn(key, 1)?;
        Ok(key)
    }
}
