//! Notification queues: typed values from any thread to a handler of the loop.

use std::any::type_name;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;

use super::consumer::MailboxReceiver;
use super::mailbox::Mailbox;
use super::sender::Sender;
use crate::context::Context;
use crate::error::AddError;
use crate::outcome::Next;
use crate::registry::Registry;
use crate::slots::Key;

/// How many values a notification queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// As many as there is memory for.
    Unbounded,
    /// At most this many values, those included that the loop has taken and not handled yet, the one that is being
    /// handled too. One more is given back to its sender, which may wait for room: [`Sender::send_within`],
    /// [`Sender::on_room`]. `Bounded(0)` takes no value: each is given back. It is not a rendezvous.
    Bounded(usize),
}

/// A queue from any number of threads to one loop: clone the sender, and give the receiver to [`Registry::consume`].
///
/// Values of one sender arrive in the order in which they were sent. What is sent before the receiver is registered waits
/// for it.
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
/// When it is dropped, and when its registration ends, values that have not been handled are dropped there and then, and
/// each further one is given back to its sender.
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
    /// Registers a handler for the values of a queue, called once for each, up to 1024 in a turn:
    /// [`set_max_messages_per_turn`](Self::set_max_messages_per_turn).
    ///
    /// `None` comes last, once every sender is gone; the registration ends then. It is a registration like any other: its
    /// key can be removed, named, set into the background, and paused by an interest of
    /// [`Interest::NONE`](crate::Interest::NONE). Its fd is -1. Timeouts mean nothing to it, and priorities matter only for
    /// what is left over from one turn to the next.
    ///
    /// An error of the handler ends the registration, as [`Next::Remove`] does, but for `WouldBlock` and `Interrupted`, which mean
    /// nothing here: the value is gone.
    ///
    /// The first one costs the eventfd of the loop and an `epoll_ctl`; none a system call after that. O(1), one allocation.
    ///
    /// # Errors
    /// [`AddError`] gives the receiver back. [`Error::Full`](crate::Error::Full); [`Error::Loop`](crate::Error::Loop) if
    /// there is no eventfd to be had.
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
