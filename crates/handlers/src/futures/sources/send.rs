//! A queue as a sink: a future waits for room.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::mpsc::TrySendError;
use std::task::{Context, Poll, Waker, ready};

use futures_sink::Sink;
use reactor::{Registry, Sender};

use crate::futures::fairness;

/// The receiver of a queue is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disconnected;

impl fmt::Display for Disconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the receiver of the queue is gone")
    }
}

impl Error for Disconnected {}

/// Becomes an error of the kind [`io::ErrorKind::BrokenPipe`].
impl From<Disconnected> for io::Error {
    fn from(disconnected: Disconnected) -> Self {
        Self::new(io::ErrorKind::BrokenPipe, disconnected)
    }
}

/// Returns a [`Sink`] that sends into a queue, and waits while the queue is full. The receiver may
/// be on another loop.
///
/// The wait is that of [`Sender::on_room`]: the sender that has waited longest goes on first. The
/// sink is awaited on the loop of `registry`. Within a future, call this function by
/// [`with_context`](crate::futures::with_context).
///
/// # Cost
/// For each value the cost of [`Sender::try_send`]. For each wait the cost of [`Sender::on_room`]:
/// one allocation for the callback, and one [`post`](reactor::Remote::post).
///
/// # Errors
/// - [`reactor::Error::Full`] at the limit of registrations.
/// - [`reactor::Error::Loop`] if no eventfd can be created.
/// - [`reactor::Error::Os`] if epoll refuses the eventfd.
#[doc(alias("PollSender", "into_sink"))]
#[track_caller]
pub fn sink<S: 'static, T: Send + 'static>(
    registry: &mut Registry<S>,
    sender: Sender<T>,
) -> Result<QueueSink<T>, reactor::Error> {
    let remote = registry.remote()?;
    let on_room =
        move |sender: &Sender<T>, waker: Waker| sender.on_room(&remote, |_cx| waker.wake()).is_ok();
    Ok(QueueSink {
        sender: Some(sender),
        waiting: None,
        on_room: Box::new(on_room),
    })
}

type OnRoom<T> = Box<dyn Fn(&Sender<T>, Waker) -> bool + Send + Sync>;

/// The sink of a queue, returned by [`sink`].
#[must_use = "a sink does nothing unless values are sent"]
pub struct QueueSink<T> {
    /// `None` once the sink is closed.
    sender: Option<Sender<T>>,
    /// A value for which there was no room.
    waiting: Option<T>,
    on_room: OnRoom<T>,
}

impl<T> QueueSink<T> {
    /// Sends the value that waits, if there is one.
    fn poll_send(&mut self, cx: &Context<'_>) -> Poll<Result<(), Disconnected>> {
        let Some(value) = self.waiting.take() else {
            return Poll::Ready(Ok(()));
        };
        let Some(sender) = &self.sender else {
            return Poll::Ready(Err(Disconnected));
        };
        match sender.try_send(value) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(TrySendError::Disconnected(_value)) => Poll::Ready(Err(Disconnected)),
            Err(TrySendError::Full(value)) => {
                self.waiting = Some(value);
                if (self.on_room)(sender, cx.waker().clone()) {
                    Poll::Pending
                } else {
                    Poll::Ready(Err(Disconnected)) // the loop of this sink is gone
                }
            }
        }
    }
}

impl<T> Unpin for QueueSink<T> {}

impl<T> Sink<T> for QueueSink<T> {
    type Error = Disconnected;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Disconnected>> {
        ready!(fairness::poll_proceed(cx));
        self.poll_send(cx)
    }

    /// Sends the value at once if there is room.
    ///
    /// # Errors
    /// [`Disconnected`] if the receiver is gone, if the sink is closed, or if a value waits
    /// already, because [`poll_ready`](Sink::poll_ready) was not called.
    fn start_send(mut self: Pin<&mut Self>, value: T) -> Result<(), Disconnected> {
        if self.waiting.is_some() {
            return Err(Disconnected);
        }
        let sender = self.sender.as_ref().ok_or(Disconnected)?;
        match sender.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_value)) => Err(Disconnected),
            Err(TrySendError::Full(value)) => {
                self.waiting = Some(value);
                Ok(())
            }
        }
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Disconnected>> {
        self.poll_send(cx)
    }

    /// Sends the value that waits, and drops the sender.
    fn poll_close(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Disconnected>> {
        ready!(self.poll_send(cx))?;
        self.sender = None;
        Poll::Ready(Ok(()))
    }
}

impl<T> fmt::Debug for QueueSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueSink")
            .field("is_closed", &self.sender.is_none())
            .field("has_waiting", &self.waiting.is_some())
            .finish_non_exhaustive()
    }
}
