//! A queue as a sink: a future waits for room.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::mpsc::TrySendError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use futures_sink::Sink;
use reactor::{Registry, Remote, RoomWait, Sender};

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
/// The wait is that of [`Sender::on_room`]: the sender that has waited longest goes on first. Each
/// sink waits once, however often it is polled. The value that waits is sent by the loop of
/// `registry`, also if the sink is awaited on another loop. If that loop ends first, the value is
/// dropped when its turn comes, and the sink returns [`Disconnected`]. Within a future, call this
/// function by [`with_context`](crate::futures::with_context).
///
/// If the sink is dropped while a value waits, the wait ends and the value is dropped.
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
    Ok(QueueSink {
        sender: Some(sender),
        waiting: Arc::default(),
        has_waited: false,
        send_on_room: Box::new(move |sender, waiting| {
            send_on_room(sender, Arc::clone(waiting), &remote);
        }),
    })
}

/// A value for which there was no room.
struct Waiting<T>(Mutex<WaitState<T>>);

struct WaitState<T> {
    value: Option<T>,
    /// The number of the callback that sends the value. `None` before the sink is polled.
    asked: Option<u64>,
    /// The callbacks so far.
    asks: u64,
    /// Takes the callback back. It is stored after `asked`.
    wait: Option<RoomWait<T>>,
    /// The receiver, or the loop that sends the values, is gone.
    is_disconnected: bool,
    waker: Option<Waker>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(Mutex::new(WaitState {
            value: None,
            asked: None,
            asks: 0,
            wait: None,
            is_disconnected: false,
            waker: None,
        }))
    }
}

impl<T> Waiting<T> {
    fn lock(&self) -> MutexGuard<'_, WaitState<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the wait without sending the value. Returns the waker of the sink, and the value.
    fn end(mut state: MutexGuard<'_, WaitState<T>>) -> (Option<Waker>, Option<T>) {
        state.asked = None;
        let (value, wait, waker) = (state.value.take(), state.wait.take(), state.waker.take());
        drop(state);
        if let Some(wait) = wait {
            wait.cancel(); // too late if the callback is posted: its number is an old one
        }
        (waker, value)
    }
}

/// The callback of a wait, which the loop of the sink calls, or drops if it ends.
struct Turn<T> {
    waiting: Arc<Waiting<T>>,
    number: u64,
}

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        let mut state = self.waiting.lock();
        if state.asked == Some(self.number) {
            state.is_disconnected = true;
            let (waker, _value) = Waiting::end(state);
            wake(waker); // before the value is dropped, which may panic
        }
    }
}

/// Asks the loop of the sink to send the value when the queue has room.
fn send_on_room<S: 'static, T: Send + 'static>(
    sender: &Sender<T>,
    waiting: Arc<Waiting<T>>,
    remote: &Remote<S>,
) {
    let mut state = waiting.lock();
    state.asks += 1;
    let number = state.asks;
    state.asked = Some(number);
    drop(state);
    let (sends, posts) = (sender.clone(), remote.clone());
    let turn = Turn {
        waiting: Arc::clone(&waiting),
        number,
    };
    // Without the lock: if the loop is gone, the callback is dropped within this call.
    let asked = sender.on_room(remote, move |_cx| in_turn(&turn, &sends, &posts));
    let mut state = waiting.lock();
    if state.asked == Some(number) {
        state.wait = asked.ok();
    }
}

/// Sends the value that waits, in the turn of its sender. Waits again if another sender was faster.
fn in_turn<S: 'static, T: Send + 'static>(turn: &Turn<T>, sender: &Sender<T>, remote: &Remote<S>) {
    let mut state = turn.waiting.lock();
    if state.asked != Some(turn.number) {
        return; // the sink was dropped
    }
    state.asked = None;
    let wait = state.wait.take();
    let Some(value) = state.value.take() else {
        return;
    };
    let unsent = match sender.try_send(value) {
        Ok(()) => None,
        Err(TrySendError::Disconnected(value)) => {
            state.is_disconnected = true;
            Some(value)
        }
        Err(TrySendError::Full(value)) => {
            state.value = Some(value);
            drop(state);
            drop(wait);
            return send_on_room(sender, Arc::clone(&turn.waiting), remote);
        }
    };
    let waker = state.waker.take();
    drop(state);
    drop(wait);
    wake(waker); // before the value is dropped, which may panic
    drop(unsent);
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

type SendOnRoom<T> = Box<dyn Fn(&Sender<T>, &Arc<Waiting<T>>) + Send + Sync>;

/// The sink of a queue, returned by [`sink`].
#[must_use = "a sink does nothing unless values are sent"]
pub struct QueueSink<T> {
    /// `None` once the sink is closed.
    sender: Option<Sender<T>>,
    waiting: Arc<Waiting<T>>,
    /// A value was left in `waiting`. It may have been sent since.
    has_waited: bool,
    send_on_room: SendOnRoom<T>,
}

impl<T> QueueSink<T> {
    /// Waits until no value waits.
    fn poll_send(&mut self, cx: &Context<'_>) -> Poll<Result<(), Disconnected>> {
        if !self.has_waited {
            return Poll::Ready(Ok(()));
        }
        let (sent, is_asked) = self.poll_waiting(cx);
        if sent.is_ready() || is_asked {
            return sent;
        }
        let Some(sender) = &self.sender else {
            return Poll::Ready(Err(Disconnected));
        };
        (self.send_on_room)(sender, &self.waiting);
        self.poll_waiting(cx).0 // the loop may be gone
    }

    /// Looks at the value that waits. Also returns `true` if the loop is asked to send it.
    fn poll_waiting(&mut self, cx: &Context<'_>) -> (Poll<Result<(), Disconnected>>, bool) {
        let waker = cx.waker().clone();
        let mut state = self.waiting.lock();
        if state.is_disconnected {
            return (Poll::Ready(Err(Disconnected)), false);
        }
        if state.value.is_none() {
            self.has_waited = false;
            return (Poll::Ready(Ok(())), false);
        }
        let old = state.waker.replace(waker);
        let is_asked = state.asked.is_some();
        drop(state);
        drop(old);
        (Poll::Pending, is_asked)
    }

    /// Returns `true` if no value waits, and the receiver is not known to be gone.
    fn is_free(&mut self) -> bool {
        if self.has_waited {
            let state = self.waiting.lock();
            self.has_waited = state.value.is_some() || state.is_disconnected;
        }
        !self.has_waited
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
        if !self.is_free() {
            return Err(Disconnected);
        }
        let sender = self.sender.as_ref().ok_or(Disconnected)?;
        match sender.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_value)) => Err(Disconnected),
            Err(TrySendError::Full(value)) => {
                self.waiting.lock().value = Some(value);
                self.has_waited = true;
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

impl<T> Drop for QueueSink<T> {
    fn drop(&mut self) {
        if self.has_waited {
            drop(Waiting::end(self.waiting.lock()));
        }
    }
}

impl<T> fmt::Debug for QueueSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_waiting = self.has_waited && self.waiting.lock().value.is_some();
        f.debug_struct("QueueSink")
            .field("is_closed", &self.sender.is_none())
            .field("has_waiting", &has_waiting)
            .finish_non_exhaustive()
    }
}
