//! The sending end of a queue: sends at once, or within a time. `on_room.rs` waits on a loop.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::TrySendError;
use std::time::{Duration, Instant};

use super::address::QueueAddress;
use super::mailbox::{Mailbox, Refused};
use super::queue::{Sent, Values};
use super::room::{Leftover, Position};
use super::send_error::SendTimeoutError;
use crate::primitives::{Arc, AtomicBool, Ordering, Thread, thread};
use crate::request_context::Carried;
use crate::sys::thread::{now, park_while_not};

/// The sending end of a [`notification_queue`](crate::notification_queue), for any thread. Clones
/// send to the same queue.
pub struct Sender<T> {
    pub(super) mailbox: Arc<Mailbox<Values<T>, QueueAddress>>,
}

impl<T> Sender<T> {
    pub(super) const fn new(mailbox: Arc<Mailbox<Values<T>, QueueAddress>>) -> Self {
        Self { mailbox }
    }

    /// Sends a value.
    ///
    /// # Cost
    /// - No system call while the loop is awake. The first sender that finds the loop asleep makes
    ///   one `write`.
    /// - One lock. The first value after the loop has found the queue empty takes a second lock,
    ///   which all queues of the loop share.
    ///
    /// A queue has two buffers: senders fill one buffer while the loop empties the other. Once both
    /// buffers have grown, sending allocates nothing. When the loop finds the queue empty, it frees
    /// a buffer that has room for more than 4096 values.
    ///
    /// # Errors
    /// Each of these errors contains the value:
    ///
    /// - [`TrySendError::Full`] at the capacity.
    /// - [`TrySendError::Disconnected`] if the receiver is gone.
    ///
    /// ```
    /// use reactor::{Capacity, notification_queue};
    /// use std::sync::mpsc::TrySendError;
    ///
    /// let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    /// assert_eq!(sender.try_send("first"), Ok(()));
    /// assert_eq!(sender.try_send("second"), Err(TrySendError::Full("second")));
    /// drop(receiver);
    /// assert_eq!(sender.try_send("third"), Err(TrySendError::Disconnected("third")));
    /// ```
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        match self.push(value, Carried::current()) {
            Ok(None) => Ok(()),
            Ok(Some(address)) => {
                address.notify();
                Ok(())
            }
            Err((value, Refused::Full)) => Err(TrySendError::Full(value)),
            Err((value, Refused::Closed)) => Err(TrySendError::Disconnected(value)),
        }
    }

    /// Sends a value for a caller that holds a lock. The caller notifies the loop after it has
    /// released the lock. A refused value is dropped.
    pub(crate) fn send_unnotified(&self, value: T) -> Result<Option<Arc<QueueAddress>>, Refused> {
        // The waiter has a context of its own: that of the registration which waits.
        self.push(value, Carried::NONE)
            .map_err(|(_, reason)| reason)
    }

    #[inline]
    fn push(&self, value: T, context: Carried) -> Result<Option<Arc<QueueAddress>>, (T, Refused)> {
        self.mailbox
            .push(Sent { value, context })
            .map_err(|(sent, reason)| (sent.value, reason))
    }

    /// Sends values in their order, from the front of `values`, under one lock.
    ///
    /// # Cost
    /// The cost of one [`try_send`](Self::try_send) for all values, and one move for each value.
    ///
    /// # Errors
    /// The values that were not sent are left in `values`.
    ///
    /// - [`TrySendError::Full`] if the queue had no room for all of the values.
    /// - [`TrySendError::Disconnected`] if the receiver is gone.
    ///
    /// ```
    /// use reactor::{Capacity, notification_queue};
    /// use std::collections::VecDeque;
    ///
    /// let (sender, _receiver) = notification_queue(Capacity::Bounded(2));
    /// let mut values = VecDeque::from([1, 2, 3]);
    /// assert!(sender.send_many(&mut values).is_err());
    /// assert_eq!(values, [3], "the queue has room for two");
    /// ```
    pub fn send_many(&self, values: &mut VecDeque<T>) -> Result<(), TrySendError<()>> {
        let context = Carried::current();
        let (address, result) = self.mailbox.push_many(values, |value| Sent {
            value,
            context: context.clone(),
        });
        if let Some(address) = address {
            address.notify();
        }
        match result {
            Ok(()) => Ok(()),
            Err(Refused::Full) => Err(TrySendError::Full(())),
            Err(Refused::Closed) => Err(TrySendError::Disconnected(())),
        }
    }

    /// Sends a value, and blocks this thread for at most `timeout` while the queue is full.
    ///
    /// With [`Duration::MAX`] it waits until there is room or the receiver is gone. With
    /// [`Duration::ZERO`] it does not wait. A queue of `Capacity::Bounded(0)` never has room, so
    /// the value is returned at once. The timeout is real time, even if the loop has a
    /// [`ManualClock`](crate::ManualClock).
    ///
    /// When the loop has handled the values that it took in this [turn](crate::Reactor::turn), it
    /// wakes as many waiting senders as there is room for. It starts with the senders that have
    /// waited longest. Room is not reserved for a woken sender: a [`try_send`](Self::try_send) of
    /// another thread may be faster. The woken sender then goes on waiting, before all others. When
    /// the receiver is dropped or its registration ends, all waiting senders wake.
    ///
    /// On the thread of another loop this call blocks the other loop: use
    /// [`on_room`](Self::on_room) there. A queue that is full before its receiver is registered
    /// stays full until then, so the call waits for the registration too.
    ///
    /// # Cost
    /// If the call does not wait, the cost of [`try_send`](Self::try_send) and one more lock. Each
    /// wait costs two allocations and a few locks.
    ///
    /// # Errors
    /// Each of these errors contains the value:
    ///
    /// - [`SendTimeoutError::Timeout`] if the queue was full until the timeout.
    /// - [`SendTimeoutError::Disconnected`] if the receiver is gone.
    /// - [`SendTimeoutError::OnLoopThread`] on the thread of the loop that handles the queue. The
    ///   call returns this error at once, even if there is room, so that the mistake does not show
    ///   only under load. Use [`try_send`](Self::try_send) on this thread.
    ///
    /// ```
    /// use reactor::{Capacity, LoopThread, Next, notification_queue};
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (sender, receiver) = notification_queue(Capacity::Bounded(2));
    /// let summing = LoopThread::spawn("summing", |registry| {
    ///     registry.consume(receiver, |value: Option<u64>, cx| {
    ///         *cx.state += value.unwrap_or_default();
    ///         Ok(Next::Keep)
    ///     })?;
    ///     Ok(0)
    /// })?;
    /// for value in 1..=100 {
    ///     sender.send_within(value, Duration::from_secs(10))?; // as fast as the loop handles them
    /// }
    /// drop(sender); // the queue ends, and with it the loop
    /// assert_eq!(summing.join()?, 5050);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "send_timeout")]
    #[doc(alias = "blocking_send")]
    pub fn send_within(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        if self
            .mailbox
            .address()
            .is_some_and(|address| address.is_loop_thread())
        {
            return Err(SendTimeoutError::OnLoopThread(value));
        }
        match self.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(value)) => Err(SendTimeoutError::Disconnected(value)),
            Err(TrySendError::Full(value)) if self.mailbox.capacity() == 0 => {
                Err(SendTimeoutError::Timeout(value))
            }
            Err(TrySendError::Full(value)) => self.wait_and_send(value, now().checked_add(timeout)),
        }
    }

    /// Waits for turns until the value is sent in one of them, or the time is over.
    #[cold]
    fn wait_and_send(
        &self,
        mut value: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        let mut position = Position::Last;
        loop {
            // Also after the deadline: there may be room by now, and a turn has to be ended.
            let has_turn = self.wait_for_turn(position, deadline);
            let sent = self.try_send(value);
            if has_turn {
                self.mailbox.end_turn();
            }
            value = match sent {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(value)) => {
                    return Err(SendTimeoutError::Disconnected(value));
                }
                Err(TrySendError::Full(value)) => value,
            };
            if deadline.is_some_and(|deadline| deadline <= now()) {
                return Err(SendTimeoutError::Timeout(value));
            }
            // Another sender was faster: this one keeps its place before all others.
            position = Position::First;
        }
    }

    /// Blocks until this sender has a turn or the time is over. Returns `true` if the sender has a
    /// turn.
    fn wait_for_turn(&self, position: Position, deadline: Option<Instant>) -> bool {
        let waiting = Arc::new(WaitingThread {
            thread: thread::current(),
            has_turn: AtomicBool::new(false),
        });
        let notified = Arc::clone(&waiting);
        let id = self
            .mailbox
            .notify_of_room(position, Box::new(move || notified.wake()));
        let has_turn = || waiting.has_turn.load(Ordering::Acquire);
        park_while_not(deadline, has_turn) || self.mailbox.stop_waiting(id)
    }

    /// Returns the number of values that have been sent and whose handling has not finished. A
    /// value whose handler is running is counted too. The number may have changed by the time you
    /// use it.
    pub fn len(&self) -> usize {
        self.mailbox.len()
    }

    /// Returns `true` if the receiver is gone: it was dropped, or its registration has ended.
    pub fn is_disconnected(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// Returns `true` if all values that were sent have been handled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.mailbox.add_sender();
        Self {
            mailbox: Arc::clone(&self.mailbox),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if let Some(address) = self.mailbox.remove_sender() {
            address.notify();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// A thread in [`Sender::send_within`].
struct WaitingThread {
    thread: Thread,
    has_turn: AtomicBool,
}

impl WaitingThread {
    fn wake(&self) -> Option<Leftover> {
        self.has_turn.store(true, Ordering::Release);
        self.thread.unpark();
        None
    }
}
