//! The values of a queue as a stream.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use reactor::{AddError, Interest, Key, Next, Receiver, Registry};

use super::feed::{Feed, feed, in_callback};
use crate::futures::local::Local;
use crate::futures::{executor, fairness};

/// The number of values that a stream takes from its queue in advance. Without it, each value would
/// cost a request.
const TAKEN_MAX: usize = 32;

/// Consumes a queue as a [`Stream`], which ends when no sender is left.
///
/// The stream takes up to 32 values from the queue in advance. Then the queue is paused until the
/// stream has returned them. Values in advance do not count for the capacity of the queue. When the
/// stream is dropped, the queue is closed and the values that are left are dropped.
///
/// The registration is in the background: the task that awaits it keeps
/// [`Reactor::run`](reactor::Reactor::run) alive. Within a future, call this function by
/// [`with_context`](crate::futures::with_context).
///
/// # Cost
/// The cost of [`Registry::consume`], and one deferred callback for each turn in which the stream
/// is awaited. No allocation for a value.
///
/// # Errors
/// [`AddError`] returns the receiver, with one of these errors:
/// - [`reactor::Error::Full`] at the limit of registrations.
/// - [`reactor::Error::Loop`] if no eventfd can be created.
/// - [`reactor::Error::Os`] if epoll refuses the eventfd.
///
/// ```
/// use futures_lite::StreamExt;
/// use handlers::futures;
/// use reactor::{Capacity, Reactor, notification_queue};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = Reactor::<()>::new()?;
/// let (sender, receiver) = notification_queue(Capacity::Bounded(8));
/// let numbers = futures::receive(&mut reactor, receiver)?;
/// let producer = std::thread::spawn(move || {
///     (1..=100).try_for_each(|n| sender.send_within(n, std::time::Duration::from_secs(10)))
/// });
/// let sum = numbers.fold(0, |sum, number| sum + number);
/// assert_eq!(futures::block_on(&mut reactor, &mut (), sum)?, 5050);
/// # producer.join().expect("it does not panic")?;
/// # Ok(())
/// # }
/// ```
#[doc(alias("ReceiverStream", "into_stream", "recv"))]
#[track_caller]
pub fn receive<S: 'static, T: 'static>(
    registry: &mut Registry<S>,
    receiver: Receiver<T>,
) -> Result<QueueStream<T>, AddError<Receiver<T>>> {
    let local = match executor::of_loop(registry) {
        Ok(executor) => Rc::clone(&executor.local),
        Err(error) => {
            return Err(AddError {
                inner: receiver,
                error,
            });
        }
    };
    let (feeder, feed) = feed();
    let is_paused = Rc::new(Cell::new(false));
    let pauses = Rc::clone(&is_paused);
    let key = registry.consume(receiver, move |value: Option<T>, cx| {
        let Some(value) = value else {
            return Ok(Next::Remove); // the drop of the feeder ends the stream
        };
        in_callback(cx.registry, &feeder, || feeder.push(value));
        if feeder.len() >= TAKEN_MAX {
            pauses.set(true);
            cx.registry.set_interest(cx.key(), Interest::NONE)?;
        }
        Ok(Next::Keep)
    })?;
    let _ = registry.set_background(key); // it was registered just now
    Ok(QueueStream {
        feed,
        is_paused,
        key,
        local,
    })
}

/// The values of a queue, returned by [`receive`]. It stays on the thread of its loop.
#[must_use = "a stream does nothing unless it is awaited"]
pub struct QueueStream<T> {
    feed: Feed<T>,
    is_paused: Rc<Cell<bool>>,
    key: Key,
    local: Rc<Local>,
}

impl<T> QueueStream<T> {
    /// Returns the key of the registration of the queue, for example to name it.
    pub const fn key(&self) -> Key {
        self.key
    }
}

impl<T> Stream for QueueStream<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        ready!(fairness::poll_proceed(cx));
        let value = ready!(self.feed.poll_next(cx));
        if self.feed.is_empty() && self.is_paused.replace(false) {
            let key = self.key;
            self.local
                .access(Box::new(move |access| access.resume(key)));
        }
        Poll::Ready(value)
    }
}

impl<T> Drop for QueueStream<T> {
    fn drop(&mut self) {
        let key = self.key;
        self.local
            .access(Box::new(move |access| access.remove(key)));
    }
}

impl<T> fmt::Debug for QueueStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueStream")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
