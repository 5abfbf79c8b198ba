//! Giving way to the rest of the loop.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::of_thread;

/// Returns a future that gives way once: the task goes on in the next turn, after the sources and
/// the timers of that turn.
///
/// Use it in a task that computes for long. The loop does not sleep meanwhile.
///
/// Outside of a task of this module the future wakes its task at once.
///
/// ```
/// use handlers::futures;
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::<u64>::new()?;
/// let sum = async {
///     let mut sum = 0;
///     for part in 0..10 {
///         sum += (part * 100..(part + 1) * 100).sum::<u64>();
///         futures::yield_now().await; // other callbacks run here
///     }
///     sum
/// };
/// futures::spawn(&mut reactor, sum, |sum, cx| *cx.state = sum)?;
/// let mut sum = 0;
/// reactor.run(&mut sum)?;
/// assert_eq!(sum, 499_500);
/// # Ok(())
/// # }
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { gave_way: None }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct YieldNow {
    /// The pass in which it gave way. 0 outside of a task.
    gave_way: Option<u64>,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(local) = of_thread::current() {
            return local.poll_give_way(&mut self.gave_way, cx.waker());
        }
        if self.gave_way.replace(0).is_some() {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
