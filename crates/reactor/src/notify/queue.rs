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
use crate::slots::Key;

/// Limits how many values a notification queue holds.
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
    /// At most this many values, counting those that the loop has dequeued but not finished
    /// handling. Sending to a full queue returns the value to its sender, which may wait for room:
    /// [`Sender::send_within`], [`Sender::on_room`]. `Bounded(0)` accepts no value: every value is
    /// returned. It is not a rendezvous.
    Bounded(usize),
}

/// Makes a queue from any number of threads to one loop. Clone the sender, and pass the receiver to
/// [`Registry::consume`].
///
/// Values of one sender arrive in the order in which they were sent. Values sent before the
/// receiver is registered wait for it.
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

/// The receiving end of a [`notification_queue`], for [`Registry::consume`].
///
/// When the receiver is dropped, and when its registration ends, unhandled values are dropped at
/// once. Each value sent after that is returned to its sender.
pub struct Receiver<T> {
    end: MailboxReceiver<VecDeque<T>>,
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.end.mailbox.len())
            .finish_non_exhaustive()
    }
}

impl<S> Registry<S> {
    /// Registers a handler for the values of a queue. The handler is called once for each value,
    /// for at most 1024 values in a turn: see
    /// [`set_max_messages_per_turn`](Self::set_max_messages_per_turn).
    ///
    /// Once every sender is gone, the handler is called for the last time, with `None`. Then the
    /// registration ends.
    ///
    /// The registration is like any other: its key can be removed, named, set into the background,
    /// and paused by an interest of [`Interest::NONE`](crate::Interest::NONE). Its fd is -1.
    /// Timeouts have no effect on it. A priority matters only for values left over from one turn to
    /// the next.
    ///
    /// An error of the handler ends the registration, as [`Next::Remove`] does. `WouldBlock` and
    /// `Interrupted` do not end it. They have no meaning here: the value is consumed.
    ///
    /// # Cost
    /// O(1), one allocation. The first queue of a loop makes its eventfd and calls `epoll_ctl`;
    /// later queues make no system call.
    ///
    /// # Errors
    /// [`AddError`] returns the receiver. Its error is one of these:
    ///
    /// - [`Error::Full`](crate::Error::Full) at the limit of registrations.
    /// - [`Error::Loop`](crate::Error::Loop) if no eventfd can be created: `EMFILE`, `ENFILE`,
    ///   `ENOMEM`.
    /// - [`Error::Os`](crate::Error::Os) if the eventfd cannot be watched.
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
        let handle_next =
            move |batch: &mut VecDeque<T>, cx: &mut Context<'_, S>| handler(batch.pop_front(), cx);
        self.register_queue(receiver.end, handle_next, named, origin)
            .map_err(|(end, error)| AddError {
                inner: Receiver { end },
                error,
            })
    }
}
