//! Notification queues: typed values from any thread to a handler of the loop.

use std::any::type_name;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::Location;

use super::consumer::MailboxReceiver;
use super::mailbox::Mailbox;
use super::sender::Sender;
use crate::context::Context;
use crate::error::AddError;
use crate::outcome::Next;
use crate::primitives::Arc;
use crate::registry::Registry;
use crate::request_context::Carried;
use crate::slots::Key;

/// The maximum number of values that a notification queue holds.
///
/// ```
/// use reactor::{Capacity, notification_queue};
///
/// let (sender, _receiver) = notification_queue(Capacity::Bounded(1));
/// assert!(sender.try_send("fits").is_ok());
/// assert!(sender.try_send("does not").is_err());
/// let (sender, _receiver) = notification_queue(Capacity::Unbounded);
/// assert!((0..1000).all(|number| sender.try_send(number).is_ok()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// As many values as there is memory for.
    Unbounded,
    /// At most this many values. A value counts until its handler has returned. Sending to a full
    /// queue returns the value to its sender. To wait for room, use [`Sender::send_within`] or
    /// [`Sender::on_room`]. A queue of `Bounded(0)` is not a rendezvous channel: it accepts no
    /// value.
    Bounded(usize),
}

/// Makes a queue through which any number of threads send values to one loop. Each thread gets a
/// clone of the sender. Pass the receiver to [`Registry::consume`].
///
/// Values of one sender arrive in the order in which they were sent. Values that are sent before
/// the receiver is registered wait in the queue.
///
/// ```
/// use reactor::{Capacity, Next, Reactor, notification_queue};
///
/// # fn main() -> std::io::Result<()> {
/// let (sender, receiver) = notification_queue(Capacity::Bounded(100));
/// let mut reactor = Reactor::<Vec<String>>::new()?;
/// reactor.consume(receiver, |word: Option<String>, cx| {
///     cx.state.extend(word); // `None` at last, when every sender is gone
///     Ok(Next::Keep)
/// })?;
/// let worker = std::thread::spawn(move || {
///     for word in ["from", "another", "thread"] {
///         sender.try_send(word.to_owned()).expect("there is room for a hundred");
///     }
/// });
/// let mut words = Vec::new();
/// reactor.run(&mut words)?; // ends with the last sender
/// worker.join().expect("it does not panic");
/// assert_eq!(words, ["from", "another", "thread"]);
/// # Ok(())
/// # }
/// ```
#[doc(alias("channel", "mpsc", "NotificationQueue"))]
pub fn notification_queue<T>(capacity: Capacity) -> (Sender<T>, Receiver<T>) {
    let capacity = match capacity {
        Capacity::Unbounded => usize::MAX,
        Capacity::Bounded(values) => values,
    };
    let mailbox = Arc::new(Mailbox::new(capacity));
    (
        Sender::new(Arc::clone(&mailbox)),
        Receiver {
            end: MailboxReceiver { mailbox },
        },
    )
}

/// The values of a queue.
pub(super) type Values<T> = VecDeque<Sent<T>>;

/// A value, and the context of its sender.
pub(super) struct Sent<T> {
    pub(super) value: T,
    pub(super) context: Carried,
}

/// The receiving end of a [`notification_queue`], for [`Registry::consume`].
///
/// When the receiver is dropped or its registration ends, all unhandled values are dropped at once.
/// Values that are sent later are returned to their senders.
pub struct Receiver<T> {
    end: MailboxReceiver<Values<T>>,
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.end.mailbox.len())
            .finish_non_exhaustive()
    }
}

impl<S> Registry<S> {
    /// Registers a handler for the values of a queue. The handler is called once for each value. By
    /// default it is called for at most 1024 values in a [turn](crate::Reactor::turn): see
    /// [`set_max_messages_per_turn`](Self::set_max_messages_per_turn).
    ///
    /// Once every sender is gone, the handler is called for the last time, with `None`. Then the
    /// registration ends.
    ///
    /// The registration is like any other: it can be removed, named, set into the
    /// [background](Self::set_background), and paused by an interest of
    /// [`Interest::NONE`](crate::Interest::NONE). Its fd is -1. [`set_timeout`](Self::set_timeout)
    /// has no effect on it. Its [priority](Self::set_priority) matters only if values are left over
    /// from one turn to the next.
    ///
    /// An error of the handler ends the registration, as [`Next::Remove`] does. The errors
    /// `WouldBlock` and `Interrupted` do not end it and have no meaning here: the value counts as
    /// handled.
    ///
    /// # Cost
    /// O(1), two allocations. The first queue of a loop creates the loop's eventfd and makes one
    /// `epoll_ctl`. Later queues make no system call.
    ///
    /// # Errors
    /// [`AddError`] contains the receiver and one of these errors:
    ///
    /// - [`Error::Full`](crate::Error::Full) at the limit of registrations.
    /// - [`Error::Loop`](crate::Error::Loop) if no eventfd can be created: `EMFILE`, `ENFILE`,
    ///   `ENOMEM`.
    /// - [`Error::Os`](crate::Error::Os) if epoll refuses the eventfd.
    ///
    /// ```
    /// use reactor::{Capacity, Next, Reactor, notification_queue};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (sender, receiver) = notification_queue(Capacity::Unbounded);
    /// let mut reactor = Reactor::<u64>::new()?;
    /// reactor.consume(receiver, |number: Option<u64>, cx| {
    ///     *cx.state += number.unwrap_or(0); // `None`: every sender is gone
    ///     Ok(Next::Keep)
    /// })?;
    /// std::thread::spawn(move || (1..=10).try_for_each(|number| sender.try_send(number)));
    /// let mut sum = 0;
    /// reactor.run(&mut sum)?;
    /// assert_eq!(sum, 55);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("NotificationQueue", "Channel", "startConsuming"))]
    #[track_caller]
    pub fn consume<T, F>(
        &mut self,
        receiver: Receiver<T>,
        mut handler: F,
    ) -> Result<Key, AddError<Receiver<T>>>
    where
        T: 'static,
        F: FnMut(Option<T>, &mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        let (named, origin) = (type_name::<F>(), Location::caller());
        let handle_next = move |batch: &mut Values<T>, cx: &mut Context<'_, S>| {
            let value = batch.pop_front().map(|Sent { value, context }| {
                cx.registry.enter_context(context);
                value
            });
            handler(value, cx)
        };
        let key = self
            .register_queue(receiver.end, handle_next, named, origin)
            .map_err(|(end, error)| AddError {
                inner: Receiver { end },
                error,
            })?;
        self.carry_to_source(key);
        Ok(key)
    }
}
