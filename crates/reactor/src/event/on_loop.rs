//! A wait of a loop for events: a registration that is notified through a queue.

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

/// A loop that waits for events, with one waiter after the other.
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

    /// Begins a wait, which notifies the loop once. It does so at once if the condition holds.
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

/// Sets the events again that the loop has passed through and not handled.
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
    /// Calls `handler` on this loop each time that `event` is set. For each call the loop [passes
    /// through](Event) the event once, as a thread does by [`Event::wait`].
    ///
    /// The registration behaves like the registration of a queue by [`consume`](Self::consume). It
    /// ends when the handler returns [`Next::Remove`] or an error other than `WouldBlock` and
    /// `Interrupted`. The handler is called at most once a [turn](crate::Reactor::turn), even if a
    /// callback of the turn sets the event again. While a manual-reset event is set, the handler is
    /// called every turn.
    ///
    /// The loop passes through the event at the moment when the event is set, even if the handler
    /// runs only later. If the event is set when a call of the handler returns, the loop passes
    /// through the event then. While the loop takes no turns or the registration is paused, one
    /// call of the handler can be outstanding, for an event that the loop has already passed
    /// through. The handler gets this call when the loop takes turns again or the registration is
    /// resumed. A [`reset`](Event::reset) does not prevent the outstanding call. If the
    /// registration is removed before the outstanding call, the event is set again, unless it has
    /// been reset meanwhile.
    ///
    /// # Cost
    /// O(1) and a few allocations. The first queue of a loop creates the loop's eventfd and makes
    /// one `epoll_ctl`.
    ///
    /// # Errors
    /// - [`Error::Full`] at the limit of registrations.
    /// - [`Error::Loop`] if no eventfd can be created: `EMFILE`, `ENFILE`, `ENOMEM`.
    /// - [`Error::Os`] if epoll refuses the eventfd.
    ///
    /// ```
    /// use reactor::{Event, Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let done = Event::auto_reset();
    /// let mut reactor = Reactor::<u32>::new()?;
    /// reactor.on_event(&done, |cx| {
    ///     *cx.state += 1;
    ///     Ok(Next::Remove)
    /// })?;
    /// std::thread::spawn(move || done.set());
    /// let mut calls = 0;
    /// reactor.run(&mut calls)?;
    /// assert_eq!(calls, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn on_event<F>(&mut self, event: &Event, mut handler: F) -> Result<Key, Error>
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.on_events(vec![event.clone()], Condition::Any, move |_, cx| {
            handler(cx)
        })
    }

    /// Calls `handler` on this loop each time that any of `events` is set, and passes the handler
    /// the index of this event. If several events are set when a call of the handler returns, the
    /// next call is for the lowest index. Otherwise the calls come in the order in which the events
    /// are set.
    ///
    /// If `events` is empty, the handler is never called, and [`Reactor::run`](crate::Reactor::run)
    /// keeps running until the registration is removed.
    ///
    /// Everything else is as described at [`on_event`](Self::on_event): when the loop [passes
    /// through](Event) the event, how often the handler is called, and how the registration ends.
    ///
    /// # Errors
    /// - [`Error::Full`] at the limit of registrations.
    /// - [`Error::Loop`] if no eventfd can be created: `EMFILE`, `ENFILE`, `ENOMEM`.
    /// - [`Error::Os`] if epoll refuses the eventfd.
    ///
    /// ```
    /// use reactor::{Event, Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (left, right) = (Event::auto_reset(), Event::auto_reset());
    /// let mut reactor = Reactor::<Vec<usize>>::new()?;
    /// reactor.on_any(&[&left, &right], |index, cx| {
    ///     cx.state.push(index);
    ///     Ok(if cx.state.len() == 2 { Next::Remove } else { Next::Keep })
    /// })?;
    /// right.set();
    /// left.set();
    /// let mut order = Vec::new();
    /// reactor.run(&mut order)?;
    /// assert_eq!(order, [1, 0]);
    /// # Ok(())
    /// # }
    /// ```
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

    /// Calls `handler` on this loop each time that all of `events` are set at the same time. If
    /// `events` contains an event twice, the loop passes through the event twice, as
    /// [`Event::wait_all`] does. If `events` is empty, the handler is never called.
    ///
    /// Everything else is as described at [`on_event`](Self::on_event): when the loop [passes
    /// through](Event) the events, how often the handler is called, and how the registration ends.
    ///
    /// # Errors
    /// - [`Error::Full`] at the limit of registrations.
    /// - [`Error::Loop`] if no eventfd can be created: `EMFILE`, `ENFILE`, `ENOMEM`.
    /// - [`Error::Os`] if epoll refuses the eventfd.
    ///
    /// ```
    /// use reactor::{Event, Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (loaded, permitted) = (Event::manual_reset(), Event::manual_reset());
    /// let mut reactor = Reactor::<bool>::new()?;
    /// reactor.on_all(&[&loaded, &permitted], |cx| {
    ///     *cx.state = true;
    ///     Ok(Next::Remove)
    /// })?;
    /// loaded.set();
    /// std::thread::spawn(move || permitted.set());
    /// let mut has_begun = false;
    /// reactor.run(&mut has_begun)?;
    /// assert!(has_begun);
    /// # Ok(())
    /// # }
    /// ```
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
        // The next outcome may be in the queue when a call returns. It belongs to the next turn.
        self.set_max_messages_per_turn(key, 1)?;
        Ok(key)
    }
}
