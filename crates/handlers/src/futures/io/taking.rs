//! Taking a source back from its loop.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::registered::Registered;
use super::shared::replace_waker;

/// The future of [`Async::into_inner`](super::Async::into_inner).
#[must_use = "a future does nothing unless it is awaited"]
pub struct IntoInner<T> {
    // The registration ends first. The registry holds the source until then.
    registered: Registered,
    source: Option<Arc<T>>,
    /// The waker of the last poll, which the loop wakes when it has let go of the source.
    released: Option<Arc<Mutex<Option<Waker>>>>,
}

impl<T> IntoInner<T> {
    pub(super) const fn new(registered: Registered, source: Arc<T>) -> Self {
        Self {
            registered,
            source: Some(source),
            released: None,
        }
    }
}

impl<T> Unpin for IntoInner<T> {}

impl<T> Future for IntoInner<T> {
    type Output = T;

    /// # Panics
    /// If it is polled again after it has returned the source.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(released) = self.registered.end() {
            self.released = Some(released);
        }
        // Before the look at the source: the loop wakes after it has let go.
        let waker = Some(cx.waker().clone());
        let released = self.released.as_deref();
        let _old = released.and_then(|released| replace_waker(released, waker));
        let source = self.source.take();
        assert!(source.is_some(), "the source was returned already");
        match source.map(Arc::try_unwrap) {
            Some(Ok(source)) => Poll::Ready(source),
            Some(Err(shared)) => {
                self.source = Some(shared);
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}

/// The task that has waited is not woken any more.
impl<T> Drop for IntoInner<T> {
    fn drop(&mut self) {
        let released = self.released.as_deref();
        let _unused = released.and_then(|released| replace_waker(released, None));
    }
}

impl<T: fmt::Debug> fmt::Debug for IntoInner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoInner")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
