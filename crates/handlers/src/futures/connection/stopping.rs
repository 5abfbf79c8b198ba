//! The stop of a server, within a future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::port::AnyPort;
use super::wakers::WakerSlot;
use crate::futures::fairness;

/// A future that is done when the connection is to end gracefully: see
/// [`AsyncConnection::stopping`](super::AsyncConnection::stopping).
#[must_use = "a future does nothing unless it is awaited"]
pub struct Stopping {
    port: Rc<dyn AnyPort>,
    slot: Option<Rc<WakerSlot>>,
}

impl Stopping {
    pub(super) fn new(port: &Rc<dyn AnyPort>) -> Self {
        Self {
            port: Rc::clone(port),
            slot: None,
        }
    }

    /// Returns `true` if the connection is to end gracefully.
    pub fn is_stopping(&self) -> bool {
        self.port.link().is_stopping()
    }
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_stopping() {
            return fairness::poll_proceed(cx);
        }
        let Self { port, slot } = &mut *self;
        let slot = slot.get_or_insert_with(|| {
            let slot = Rc::default();
            port.link().stops.add(&slot);
            slot
        });
        slot.register(cx.waker());
        Poll::Pending
    }
}

impl Clone for Stopping {
    fn clone(&self) -> Self {
        Self::new(&self.port)
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping")
            .field("is_stopping", &self.is_stopping())
            .finish_non_exhaustive()
    }
}
