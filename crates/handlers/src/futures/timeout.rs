//! A limit of time for a future.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::fairness;
use super::time::{Sleep, sleep, sleep_until};

/// The time of a [`timeout`] has elapsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time for a future has elapsed")
    }
}

impl Error for Elapsed {}

/// Becomes an error of the kind [`io::ErrorKind::TimedOut`].
impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// Returns a future that returns the output of `future`, or [`Elapsed`] if `delay` passes first.
/// The delay counts as that of a [`sleep`].
///
/// `future` is polled first. If it is done in the turn in which the time elapses, its output is
/// returned. After [`Elapsed`] the `future` is not polled again. It is dropped with this future.
///
/// # Cost
/// The cost of a [`sleep`], only if `future` is not done at its first poll.
///
/// ```
/// use std::time::Duration;
/// use handlers::futures;
/// use reactor::{ManualClock, Reactor};
///
/// # fn main() -> Result<(), futures::BlockOnError> {
/// let mut reactor = Reactor::<()>::builder().clock(ManualClock::jumping()).build()?;
/// let limited = futures::block_on(&mut reactor, &mut (), async {
///     let slow = futures::sleep(Duration::from_secs(60));
///     futures::timeout(Duration::from_secs(1), slow).await
/// })?;
/// assert!(limited.is_err());
/// # Ok(())
/// # }
/// ```
#[doc(alias("deadline", "wait_for"))]
#[track_caller]
pub fn timeout<F: Future>(delay: Duration, future: F) -> Timeout<F> {
    Timeout {
        future,
        sleep: sleep(delay),
    }
}

/// Returns a future that returns the output of `future`, or [`Elapsed`] if it is not done at
/// `deadline`. See [`timeout`].
#[track_caller]
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout {
        future,
        sleep: sleep_until(deadline),
    }
}

pin_project! {
    /// The future of [`timeout`] and [`timeout_at`].
    ///
    /// # Panics
    /// If it is polled outside of a task of this module, as a [`Sleep`] is.
    #[derive(Debug)]
    #[must_use = "a future does nothing unless it is awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F> Timeout<F> {
    /// Returns the limited future.
    pub const fn get_ref(&self) -> &F {
        &self.future
    }

    /// Returns the limited future, mutably.
    pub const fn get_mut(&mut self) -> &mut F {
        &mut self.future
    }

    /// Returns the limited future, and drops the limit.
    pub fn into_inner(self) -> F {
        self.future
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let was_used_up = fairness::is_used_up();
        if let Poll::Ready(output) = this.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        ready!(Pin::new(this.sleep).poll(cx));
        // A future that gave way at once, after others of its task, was not asked yet.
        if was_used_up
            && !fairness::is_used_up()
            && let Poll::Ready(output) = this.future.poll(cx)
        {
            return Poll::Ready(Ok(output));
        }
        Poll::Ready(Err(Elapsed))
    }
}
