//! Periodic ticks within a future.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
use reactor::Missed;

use super::time::{self, Sleep};

/// Returns an [`Interval`] whose first tick is due one `period` after now, as that of
/// [`Registry::every`](reactor::Registry::every). Within a task, now is the time of this
/// [turn](reactor::Reactor::turn). Outside of a task it is the time of the first poll.
///
/// ```
/// use std::time::Duration;
/// use handlers::futures;
/// use reactor::{ManualClock, Reactor};
///
/// # fn main() -> Result<(), futures::BlockOnError> {
/// let mut reactor = Reactor::<()>::builder().clock(ManualClock::jumping()).build()?;
/// let minutes = futures::block_on(&mut reactor, &mut (), async {
///     let mut minute = futures::interval(Duration::from_secs(60));
///     let first = minute.tick().await;
///     let tenth = {
///         for _ in 0..8 {
///             minute.tick().await;
///         }
///         minute.tick().await
///     };
///     (tenth - first).as_secs() / 60
/// })?;
/// assert_eq!(minutes, 9);
/// # Ok(())
/// # }
/// ```
#[doc(alias("every", "ticker", "setInterval"))]
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    Interval::new(time::sleep(period), period)
}

/// Returns an [`Interval`] whose first tick is due at `first`.
#[track_caller]
pub fn interval_at(first: Instant, period: Duration) -> Interval {
    Interval::new(time::sleep_until(first), period)
}

/// Ticks at multiples of a period. Also a [`Stream`] of the times of the ticks, without an end.
///
/// With a period of zero there is a tick in every turn.
///
/// # Cost
/// O(1), no allocation.
///
/// # Panics
/// If it is polled outside of a task of this module, as a [`Sleep`] is.
#[derive(Debug)]
#[must_use = "an interval does nothing unless its ticks are awaited"]
pub struct Interval {
    sleep: Sleep,
    period: Duration,
    missed: Missed,
}

impl Interval {
    const fn new(sleep: Sleep, period: Duration) -> Self {
        Self {
            sleep,
            period,
            missed: Missed::Skip,
        }
    }

    /// Sets what happens to the ticks that were missed, because the loop was busy or no tick was
    /// awaited. Default: [`Missed::Skip`].
    ///
    /// The multiples of the period count from the first tick. With [`Missed::Burst`] each call of
    /// [`tick`](Self::tick) returns one missed tick, one in each turn.
    pub const fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Returns the period.
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// Moves the next tick to one period after the present turn, and the ticks after it too.
    /// Does nothing outside of a task.
    pub fn reset(&mut self) {
        if let Some(now) = time::now() {
            self.sleep.reset(time::later(now, self.period));
        }
    }

    /// Waits for the next tick. Returns the time at which the tick was due.
    ///
    /// If the returned future is dropped, no tick is lost.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// Returns the time of the next tick if the tick is due. Otherwise wakes the task when it is.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        ready!(Pin::new(&mut self.sleep).poll(cx));
        // Both are known, since the sleep has elapsed in a task.
        let now = time::now().or(self.sleep.deadline());
        let due = self.sleep.deadline().or(now).unwrap_or_else(Instant::now);
        let next = next(self.missed, due, self.period, now.unwrap_or(due));
        self.sleep.reset(next);
        Poll::Ready(due)
    }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.poll_tick(cx).map(Some)
    }
}

/// Returns the time of the tick after the one that was due at `last`.
fn next(missed: Missed, last: Instant, period: Duration, now: Instant) -> Instant {
    let next = time::later(last, period);
    match missed {
        Missed::Burst => next,
        Missed::Delay => time::later(now, period),
        // `Skip`, and policies that are added later.
        _ if next > now || period.is_zero() => next,
        _ => {
            let behind = (now - next).as_nanos() % period.as_nanos();
            // It is less than a period, so its seconds fit into u64.
            let behind = Duration::new(
                (behind / NANOS_PER_SEC) as u64,
                (behind % NANOS_PER_SEC) as u32,
            );
            time::later(now, period - behind)
        }
    }
}

const NANOS_PER_SEC: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_next_tick_is_that_of_its_policy(period in 1..50_u64, late in 0..500_u64) {
            let (begin, ms) = (Instant::now(), Duration::from_millis);
            let now = begin + ms(late);
            let [skip, burst, delay] = [Missed::Skip, Missed::Burst, Missed::Delay]
                .map(|missed| next(missed, begin, ms(period), now));
            prop_assert_eq!(burst, begin + ms(period));
            prop_assert_eq!(delay, now + ms(period));
            // The first multiple that has not passed.
            let multiples = (1..).map(|n| begin + ms(n * period));
            prop_assert_eq!(Some(skip), multiples.into_iter().find(|tick| *tick > now));
        }
    }
}
