//! A future that has a request context of its own.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use reactor::RequestContext;

pin_project! {
    /// The future of [`in_context`].
    #[derive(Debug)]
    pub struct InContext<F> {
        context: RequestContext,
        #[pin]
        future: Option<F>,
    }

    /// Drops the future in its context.
    impl<F> PinnedDrop for InContext<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            this.context.scope(|| this.future.set(None));
        }
    }
}

/// Polls and drops `future` in `context`, which the work that the future hands on carries.
///
/// A task is polled in the context in which it was spawned. Use this function for a task that
/// handles several requests, one after the other or at once: for the future of each request. The
/// context is dropped with the returned future.
///
/// # Cost
/// No allocation. Each poll makes the context current and restores the one before.
///
/// ```
/// use handlers::futures::{block_on, in_context, yield_now};
/// use reactor::{Reactor, RequestContext};
///
/// /// The number of a request.
/// struct Number(u32);
///
/// fn current() -> Option<u32> {
///     RequestContext::current().get::<Number>().map(|number| number.0)
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// let connection = async {
///     for number in 1..=3 {
///         let request = async {
///             yield_now().await;
///             current()
///         };
///         let context = RequestContext::NONE.with(Number(number));
///         assert_eq!(in_context(context, request).await, Some(number));
///         assert_eq!(current(), None);
///     }
/// };
/// block_on(&mut reactor, &mut (), connection).map_err(std::io::Error::other)?;
/// # Ok(())
/// # }
/// ```
#[doc(alias("instrument", "Instrumented"))]
pub fn in_context<F: Future>(context: RequestContext, future: F) -> InContext<F> {
    InContext {
        context,
        future: Some(future),
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // It is there until the drop.
        match this.future.as_pin_mut() {
            Some(future) => this.context.scope(|| future.poll(cx)),
            None => Poll::Pending,
        }
    }
}
