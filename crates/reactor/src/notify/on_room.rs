//! Waiting for room on a loop, which must not block: a callback runs when the queue has room.

use std::fmt;
use std::panic::Location;

use super::address::QueueAddress;
use super::mailbox::Mailbox;
use super::post_error::LoopGone;
use super::queue::Values;
use super::remote::Remote;
use super::room::{Leftover, Position};
use super::sender::Sender;
use crate::context::Context;
use crate::primitives::Arc;
use crate::request_context::Carried;
use crate::turn::disposal::catch_panic;

impl<T> Sender<T> {
    /// Runs `callback` once on the loop of `remote` when the queue has room. If there is room
    /// already, the callback is posted within this call.
    ///
    /// Use it on a loop, which must not block, after [`try_send`](Self::try_send) has returned
    /// [`Full`](std::sync::mpsc::TrySendError::Full). While the queue is full, the loop should stop
    /// reading the input from which it makes the values. `callback` resumes the reading.
    ///
    /// - The callback also runs if the receiver is gone. `try_send` then returns
    ///   [`Disconnected`](std::sync::mpsc::TrySendError::Disconnected).
    /// - The callback is posted as by [`Remote::post`]. If the loop of `remote` ends first, the
    ///   callback is dropped.
    /// - Until the callback has run, it holds a [`KeepAlive`](crate::KeepAlive) of the loop of
    ///   `remote`, and [`Registry::reasons_to_run`](crate::Registry::reasons_to_run) shows the line
    ///   of this call. [`RoomWait::cancel`] ends the wait earlier.
    /// - The callback holds a clone of this sender, so the queue does not end before the callback
    ///   has run.
    ///
    /// Waiting senders are callbacks of `on_room` and threads in
    /// [`send_within`](Self::send_within). When the queue has room, the sender that has waited
    /// longest goes on: the callback runs, or the thread wakes. When a callback returns, the next
    /// waiting sender goes on if there is still room. A callback whose loop takes no turns does not
    /// return, so no waiting sender goes on in its place. If the capacity is 1, all other waiting
    /// senders then wait.
    ///
    /// Room is not reserved for a callback: another sender may be faster, so that `try_send`
    /// returns `Full` again. In this case let the callback call `on_room` again. A queue of
    /// `Capacity::Bounded(0)` never has room, so its callbacks run only once the receiver is gone.
    ///
    /// # Cost
    /// One allocation and a few locks, in addition to the cost of a [`post`](Remote::post).
    ///
    /// # Errors
    /// [`LoopGone`] if the loop of `remote` is gone. The callback has been dropped.
    ///
    /// ```
    /// use reactor::{Capacity, Context, Next, Reactor, Sender, notification_queue};
    ///
    /// /// Sends the numbers up to 10, as fast as the queue takes them.
    /// fn send(numbers: Sender<u64>, cx: &mut Context<'_, Vec<u64>>) {
    ///     let mut next = cx.state.len() as u64;
    ///     while next < 10 && numbers.try_send(next).is_ok() {
    ///         next += 1;
    ///     }
    ///     if next < 10 && !numbers.is_disconnected() {
    ///         let remote = cx.registry.remote().expect("it has been made before");
    ///         let again = numbers.clone();
    ///         numbers.on_room(&remote, |cx| send(again, cx)).expect("this loop is alive");
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (numbers, receiver) = notification_queue(Capacity::Bounded(3));
    /// // Here one loop is at both ends. There may as well be two.
    /// let mut reactor = Reactor::<Vec<u64>>::new()?;
    /// reactor.remote()?;
    /// reactor.consume(receiver, |number: Option<u64>, cx| {
    ///     cx.state.extend(number);
    ///     Ok(Next::Keep)
    /// })?;
    /// reactor.defer(|cx| send(numbers, cx));
    /// let mut received = Vec::new();
    /// reactor.run(&mut received)?;
    /// assert_eq!(received, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "drain")]
    #[doc(alias = "poll_ready")]
    #[track_caller]
    pub fn on_room<S, F>(&self, remote: &Remote<S>, callback: F) -> Result<RoomWait<T>, LoopGone>
    where
        T: Send + 'static,
        S: 'static,
        F: FnOnce(&mut Context<'_, S>) + Send + 'static,
    {
        if remote.is_gone() {
            return Err(LoopGone);
        }
        let origin = Location::caller();
        let (sender, remote, alive) = (self.clone(), remote.clone(), remote.keep_alive());
        let context = Carried::current();
        // Runs on the thread that makes room, without the lock of the mailbox.
        let notify = move || {
            let turn = RoomTurn { sender };
            if remote.is_gone() {
                drop(turn); // the next sender's turn begins at once, not after the callback's drop
                return Some(leftover(origin, (callback, context)));
            }
            let in_turn = move |cx: &mut Context<'_, S>| {
                let _until_it_has_run = (turn, alive);
                callback(cx);
            };
            remote
                .post_or_return(origin, in_turn, context)
                .err()
                .map(|refused| leftover(origin, refused))
        };
        let id = self
            .mailbox
            .notify_of_room(Position::Last, Box::new(notify));
        let mailbox = Arc::clone(&self.mailbox);
        Ok(RoomWait { mailbox, id })
    }
}

/// Returns a closure that drops the captures of a callback whose loop is gone. It runs within an
/// operation of another sender or another loop, so a panic of a destructor must not end that
/// operation.
fn leftover<V: Send + 'static>(origin: &'static Location<'static>, captured: V) -> Leftover {
    Box::new(move || {
        if let Err(message) = catch_panic(|| drop(captured)) {
            tracing::error!(%origin, message, "a destructor of a callback's captures panicked");
        }
    })
}

/// A wait for room, returned by [`Sender::on_room`]. Dropping it does not end the wait.
pub struct RoomWait<T> {
    mailbox: Arc<Mailbox<Values<T>, QueueAddress>>,
    id: u64,
}

impl<T> RoomWait<T> {
    /// Ends the wait: the callback is dropped within this call, and its loop is no longer kept
    /// alive by it. Returns `false` if it is too late: the callback has run or was dropped, or it
    /// is posted and will run.
    ///
    /// ```
    /// use reactor::{Capacity, Reactor, notification_queue};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let (sender, _receiver) = notification_queue(Capacity::Bounded(1));
    /// sender.try_send(1)?;
    /// let wait = sender.on_room(&reactor.remote()?, |_cx| println!("there is room"))?;
    /// assert!(wait.cancel());
    /// reactor.run(&mut ())?; // returns, although there is no room
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel(self) -> bool {
        !self.mailbox.stop_waiting(self.id)
    }
}

impl<T> fmt::Debug for RoomWait<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomWait")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The turn of a callback of [`Sender::on_room`]. It ends when the callback has run or is dropped.
struct RoomTurn<T> {
    sender: Sender<T>,
}

impl<T> Drop for RoomTurn<T> {
    fn drop(&mut self) {
        self.sender.mailbox.end_turn();
    }
}
