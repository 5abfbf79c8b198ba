//! Rate limits: token buckets, of one connection or shared by many.
//!
//! A bucket holds up to `burst` bytes and fills by `rate` bytes a second. Time enters as an argument, so the arithmetic can
//! be tested without waiting. What falls due between two looks is counted in full, to the byte: the time that the
//! bytes taken are worth is what moves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A rate in bytes a second, with a burst. Clones share one bucket: a limit for all the connections that are given one
/// together, also those of other loops.
#[derive(Clone, Debug)]
pub struct RateLimit(Arc<Mutex<Bucket>>);

impl RateLimit {
    /// At most `bytes_per_second` over time and `burst` bytes at once; neither less than 1. A new bucket is full.
    pub fn new(bytes_per_second: u64, burst: u64) -> Self {
        Self(Arc::new(Mutex::new(Bucket::new(bytes_per_second, burst))))
    }

    /// The same rate and burst with a bucket of its own.
    pub(super) fn separate(&self) -> Self {
        let Bucket { rate, burst, .. } = *self.bucket();
        Self::new(rate, burst)
    }

    /// How many bytes may go at `now`.
    pub(super) fn available(&self, now: Instant) -> usize {
        self.bucket().available(now)
    }

    /// Takes what has gone. Other loops may have taken from a shared one meanwhile: then it owes.
    pub(super) fn take(&self, bytes: usize, now: Instant) {
        self.bucket().take(bytes, now);
    }

    /// From `now` until it is worth to look again: when an eighth of the burst is there, so that little is not sent often.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.bucket().wait(now)
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Bucket {
    rate: u64,
    burst: u64,
    /// When it would have been empty, had it filled ever since: the later, the emptier. `None` while it has never been used.
    empty_at: Option<Instant>,
}

impl Bucket {
    fn new(rate: u64, burst: u64) -> Self {
        Self { rate: rate.max(1), burst: burst.max(1), empty_at: None }
    }

    /// How long so many bytes take, rounded up.
    fn time_of(&self, bytes: u64) -> Duration {
        Duration::from_nanos_u128((u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(self.rate)))
    }

    /// How full it is, as the time that it took to fill.
    fn level(&self, now: Instant) -> Duration {
        let full = self.time_of(self.burst);
        self.empty_at.map_or(full, |empty_at| now.saturating_duration_since(empty_at).min(full))
    }

    fn available(&self, now: Instant) -> usize {
        let bytes = self.level(now).as_nanos() * u128::from(self.rate) / 1_000_000_000;
        usize::try_from(bytes.min(u128::from(self.burst))).unwrap_or(usize::MAX)
    }

    fn take(&mut self, bytes: usize, now: Instant) {
        let emptied = match self.empty_at {
            Some(empty_at) if empty_at > now => empty_at, // it owes already
            _ => now.checked_sub(self.level(now)).unwrap_or(now),
        };
        // A debt of more than time has room for is no debt that anybody waits for.
        self.empty_at = emptied.checked_add(self.time_of(bytes as u64)).or(Some(emptied));
    }

    fn wait(&self, now: Instant) -> Duration {
        let worth = self.time_of((self.burst / 8).max(1));
        let debt = self.empty_at.map_or(Duration::ZERO, |empty_at| empty_at.saturating_duration_since(now));
        debt.saturating_add(worth).saturating_sub(self.level(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_goes_at_once_and_then_the_rate_holds() {
        let now = Instant::now();
        let limit = RateLimit::new(1000, 500);
        assert_eq!(limit.available(now), 500);
        limit.take(500, now);
        assert_eq!(limit.available(now), 0);
        assert_eq!(limit.available(now + SECOND / 10), 100);
        assert_eq!(limit.available(now + SECOND * 100), 500, "never more than the burst");
    }

    #[test]
    fn what_was_taken_too_much_is_waited_for() {
        let now = Instant::now();
        let limit = RateLimit::new(1000, 80);
        limit.take(1080, now);
        assert_eq!(limit.available(now + SECOND), 0);
        assert_eq!(limit.wait(now), SECOND + SECOND / 100);
        assert!(limit.available(now + limit.wait(now)) >= 10);
    }

    #[test]
    fn clones_share_a_bucket_and_separate_ones_do_not() {
        let now = Instant::now();
        let limit = RateLimit::new(10, 10);
        let (shared, own) = (limit.clone(), limit.separate());
        limit.take(10, now);
        assert_eq!((shared.available(now), own.available(now)), (0, 10));
    }

    #[test]
    fn rates_and_bursts_of_any_size_do_not_overflow() {
        let now = Instant::now();
        for (rate, burst) in [(0, 0), (1, u64::MAX / 2_000_000_000), (u64::MAX, u64::MAX), (u64::MAX, 1)] {
            let limit = RateLimit::new(rate, burst);
            assert!(limit.available(now) > 0);
            limit.take(1, now);
            let _ = limit.wait(now);
        }
    }

    proptest! {
        /// However it is asked, never more goes than the burst and the rate allow, and a taker who waits gets it all.
        #[test]
        fn over_any_time_no_more_goes_than_burst_and_rate(
            rate in 1..10_000_u64,
            burst in 1..10_000_u64,
            steps in prop::collection::vec((0..2_000_000_u64, 1..20_000_usize), 1..200),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(rate, burst);
            let (mut now, mut taken) = (start, 0_u64);
            for (micros, wanted) in steps {
                now += Duration::from_micros(micros);
                let bytes = wanted.min(bucket.available(now));
                bucket.take(bytes, now);
                taken += bytes as u64;
                let allowed = u128::from(burst) + (now - start).as_nanos() * u128::from(rate) / 1_000_000_000;
                prop_assert!(u128::from(taken) <= allowed, "{taken} of {allowed}");
                prop_assert!(bucket.available(now + bucket.wait(now)) as u64 >= (burst / 8).max(1));
            }
        }
    }
}
