//! Signals as a stream.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_core::Stream;
use reactor::{Key, Next, Registry};

use super::feed::{Feed, feed, in_callback};
use crate::futures::executor;
use crate::futures::local::Local;
use crate::signal::{self, Arrival, Signal};

/// The maximum number of arrivals of a signal that wait in a stream: as many as a watcher keeps
/// while its loop is busy.
const WAITING_MAX: usize = 5;

/// Catches `signals` from now on, and returns a [`Stream`] of their arrivals. See
/// [`signal::watch`], also for the signals that cannot be caught.
///
/// At most 5 arrivals of a signal wait in the stream until it returns them. Further arrivals are
/// lost, so do not count them: act on the current state, as with [`signal::watch`]. At least one
/// arrival is returned after the last one that has come. When the stream is dropped, the signals
/// have the effect again that they had before. Within a future, call this function by
/// [`with_context`](crate::futures::with_context).
///
/// # Errors
/// Those of [`signal::watch`].
#[track_caller]
pub fn signals<S: 'static>(
    registry: &mut Registry<S>,
    signals: impl IntoIterator<Item = Signal>,
) -> io::Result<SignalStream> {
    let local = Rc::clone(&executor::of_loop(registry)?.local);
    let (feeder, feed) = feed();
    let key = signal::watch(registry, signals, move |arrival, cx| {
        if feeder.count(|waits: &Arrival| waits.signal == arrival.signal) < WAITING_MAX {
            in_callback(cx.registry, &feeder, || feeder.push(*arrival));
        }
        Ok(Next::Keep)
    })?;
    Ok(SignalStream { feed, key, local })
}

/// The arrivals of signals, returned by [`signals`]. It stays on the thread of its loop, and ends
/// only if its registration is removed.
#[must_use = "a stream does nothing unless it is awaited"]
pub struct SignalStream {
    feed: Feed<Arrival>,
    key: Key,
    local: Rc<Local>,
}

impl Stream for SignalStream {
    type Item = Arrival;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Arrival>> {
        self.feed.poll_next(cx)
    }
}

impl Drop for SignalStream {
    fn drop(&mut self) {
        let key = self.key;
        self.local
            .access(Box::new(move |access| access.remove(key)));
    }
}

impl fmt::Debug for SignalStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalStream")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
