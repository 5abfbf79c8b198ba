//! Rate limits: token buckets, of one connection or shared by many.
//!
//! A bucket holds up to `burst` units and fills by `rate` units a second. A unit is a byte, a
//! request or an accepted connection. Time enters as an argument, so the arithmetic can be tested
//! without waiting. The level is counted in parts of a unit. One part is the amount that a rate of
//! one unit a second adds in a nanosecond. So the level is exact for every rate and every burst
//! that fit in 64 bits.
//!
//! Bytes and accepted connections are deducted after the fact, so the level can become negative.
//! [`RateLimit::try_take`] asks first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A rate limit, which allows bursts. It is a token bucket: the bucket fills at the rate, and holds
/// at most a burst. Each byte that a connection reads or writes is taken out of it. With
/// [`try_take`](Self::try_take) you take the units yourself, for example requests or logins.
/// [`ListenOptions::accept_rate`](crate::ListenOptions::accept_rate) takes a unit for each
/// connection.
///
/// Clones share one bucket. [`shared_read_rate`](crate::ConnectionOptions::shared_read_rate) and
/// [`shared_write_rate`](crate::ConnectionOptions::shared_write_rate) use this bucket: all
/// connections with a clone, even on different loops, together keep to the limit.
/// [`read_rate`](crate::ConnectionOptions::read_rate) and
/// [`write_rate`](crate::ConnectionOptions::write_rate) only copy the rate and the burst, so each
/// connection has a bucket of its own.
///
/// ```
/// use handlers::{ConnectionOptions, RateLimit};
///
/// let each = RateLimit::new(1024 * 1024, 64 * 1024); // 1 MiB a second
/// let together = RateLimit::new(8 * 1024 * 1024, 1024 * 1024);
/// let options = ConnectionOptions::new()
///     .write_rate(each)
///     .shared_write_rate(together);
/// ```
#[doc(alias("bufferevent_set_rate_limit", "ev_token_bucket_cfg"))]
#[derive(Clone, Debug)]
pub struct RateLimit(Arc<Mutex<Bucket>>);

impl RateLimit {
    /// Returns a limit of `per_second` units on average, with bursts of up to `burst` units. If one
    /// of the two values is 0, it counts as 1. The bucket is full at first, so the first `burst`
    /// units are not delayed.
    ///
    /// See the example of [`RateLimit`].
    pub fn new(per_second: u64, burst: u64) -> Self {
        Self(Arc::new(Mutex::new(Bucket::new(per_second, burst))))
    }

    /// Takes `amount` units at the time `now`, or none of them. Use it for anything that has a
    /// rate: requests of a client, logins of an account, messages to an upstream. Pass
    /// [`Context::now`](reactor::Context::now) as `now`.
    ///
    /// For a rate below one a second, let each event take several units. With
    /// `RateLimit::new(5, 300)` and 60 units for each login, five logins a minute are allowed.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use handlers::RateLimit;
    ///
    /// let logins = RateLimit::new(1, 3); // one a second, three at once
    /// let now = Instant::now();
    /// for _ in 0..3 {
    ///     assert_eq!(logins.try_take(1, now), Ok(()));
    /// }
    /// assert_eq!(logins.try_take(1, now), Err(Duration::from_secs(1)));
    /// ```
    ///
    /// # Errors
    /// The time from `now` until the bucket holds `amount` units, if nobody takes any meanwhile.
    /// Nothing was taken. The bucket never holds more than a burst, so for a greater amount the
    /// error is [`Duration::MAX`].
    ///
    /// # Cost
    /// O(1): one lock, which is held for a few instructions.
    pub fn try_take(&self, amount: u64, now: Instant) -> Result<(), Duration> {
        self.bucket().try_take(amount, now)
    }

    /// Returns a limit with the same rate and burst, and a bucket of its own.
    pub(super) fn separate(&self) -> Self {
        let Bucket { rate, burst, .. } = *self.bucket();
        Self::new(rate, burst)
    }

    /// Returns how many units the bucket holds at `now`.
    pub(super) fn available(&self, now: Instant) -> usize {
        self.bucket().available(now)
    }

    /// Deducts units that were used: bytes that were sent or read, or accepted connections. The
    /// level of a shared bucket can become negative, because other loops may have taken units
    /// meanwhile.
    pub(crate) fn take(&self, units: usize, now: Instant) {
        self.bucket().take(units as u64, now);
    }

    /// Returns the time from `now` until the bucket holds `amount` units.
    pub(crate) fn time_until(&self, amount: u64, now: Instant) -> Duration {
        self.bucket().time_until(amount, now)
    }

    /// Returns the time from `now` until another try is worthwhile, so that small amounts are not
    /// used often. The time ends when the least of these is available: `wanted` bytes, an eighth of
    /// the burst, the bytes of a tenth of a second.
    pub(super) fn wait(&self, wanted: usize, now: Instant) -> Duration {
        self.bucket().wait(wanted, now)
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of parts of a unit.
const PARTS: i128 = 1_000_000_000;
/// A wait lasts at most until the bytes of a tenth of a second are available, and at least until
/// one byte is.
const LOOKS_PER_SECOND: u64 = 10;

#[derive(Debug)]
struct Bucket {
    rate: u64,
    burst: u64,
    /// The level in parts of a unit, and the time of that level. The level is negative if too many
    /// units were taken. `None` until the first use.
    level: Option<(i128, Instant)>,
}

const NANOS_PER_SEC: u128 = 1_000_000_000;

impl Bucket {
    fn new(rate: u64, burst: u64) -> Self {
        Self {
            rate: rate.max(1),
            burst: burst.max(1),
            level: None,
        }
    }

    /// Returns the level, in parts of a unit.
    fn level(&self, now: Instant) -> i128 {
        let full = i128::from(self.burst) * PARTS;
        let Some((level, at)) = self.level else {
            return full;
        };
        let nanos =
            i128::try_from(now.saturating_duration_since(at).as_nanos()).unwrap_or(i128::MAX);
        level
            .saturating_add(nanos.saturating_mul(i128::from(self.rate)))
            .min(full)
    }

    fn available(&self, now: Instant) -> usize {
        usize::try_from((self.level(now) / PARTS).max(0)).unwrap_or(usize::MAX)
    }

    fn take(&mut self, amount: u64, now: Instant) {
        // The turn of another loop may have begun later than this one.
        let now = self.level.map_or(now, |(_, at)| at.max(now));
        let taken = i128::from(amount) * PARTS;
        self.level = Some((self.level(now).saturating_sub(taken), now));
    }

    fn try_take(&mut self, amount: u64, now: Instant) -> Result<(), Duration> {
        if amount > self.burst {
            return Err(Duration::MAX);
        }
        let wait = self.time_until(amount, now);
        if amount > 0 && !wait.is_zero() {
            return Err(wait);
        }
        self.take(amount, now);
        Ok(())
    }

    fn wait(&self, wanted: usize, now: Instant) -> Duration {
        let enough = (self.burst / 8)
            .min(self.rate / LOOKS_PER_SECOND)
            .min(wanted as u64)
            .max(1);
        self.time_until(enough, now)
    }

    /// Returns the time from `now` until the bucket holds `amount` units.
    fn time_until(&self, amount: u64, now: Instant) -> Duration {
        let missing = (i128::from(amount) * PARTS)
            .saturating_sub(self.level(now))
            .max(0)
            .unsigned_abs();
        // The level may be that of a later turn, of another loop.
        let ahead = self.level.filter(|_| missing > 0);
        let ahead = ahead.map_or(0, |(_, at)| at.saturating_duration_since(now).as_nanos());
        let nanos = (missing.div_ceil(u128::from(self.rate)) + ahead).min(Duration::MAX.as_nanos());
        Duration::new(
            (nanos / NANOS_PER_SEC) as u64,
            (nanos % NANOS_PER_SEC) as u32,
        )
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
        assert_eq!(
            limit.available(now + SECOND * 100),
            500,
            "never more than the burst"
        );
    }

    #[test]
    fn bytes_taken_beyond_the_limit_are_waited_for() {
        let now = Instant::now();
        let limit = RateLimit::new(1000, 80);
        limit.take(1080, now);
        assert_eq!(limit.available(now + SECOND), 0);
        assert_eq!(limit.wait(usize::MAX, now), SECOND + SECOND / 100);
        assert!(limit.available(now + limit.wait(usize::MAX, now)) >= 10);
    }

    #[test]
    fn clones_share_a_bucket_and_separate_ones_do_not() {
        let now = Instant::now();
        let limit = RateLimit::new(10, 10);
        let (shared, own) = (limit.clone(), limit.separate());
        limit.take(10, now);
        assert_eq!((shared.available(now), own.available(now)), (0, 10));
    }

    const SIZES: [u64; 6] = [0, 1, 2, 1_000_000, u64::MAX - 1, u64::MAX];

    #[test]
    fn a_limit_passes_exactly_its_rate_and_burst() {
        let now = Instant::now();
        for (rate, burst) in SIZES
            .into_iter()
            .flat_map(|rate| SIZES.map(|burst| (rate, burst)))
        {
            let limit = RateLimit::new(rate, burst);
            let (rate, burst) = (rate.max(1), burst.max(1));
            assert_eq!(limit.available(now) as u64, burst, "{rate}, {burst}");
            limit.take(1, now);
            assert_eq!(limit.available(now) as u64, burst - 1, "{rate}, {burst}");
            limit.take(usize::MAX, now);
            assert_eq!(limit.available(now), 0, "{rate}, {burst}");
            let wait = limit.wait(1, now);
            assert_eq!(
                limit.available(now + (wait - Duration::from_nanos(1)).min(SECOND)),
                0,
                "{rate}, {burst}"
            );
            if let Some(then) = now.checked_add(wait) {
                assert!(limit.available(then) >= 1, "{rate}, {burst}");
            }
        }
    }

    /// A rate below 10 bytes a second waits for its next byte.
    #[test]
    fn a_wait_ends_with_the_wanted_bytes_or_after_a_tenth_of_a_second() {
        let now = Instant::now();
        for (rate, burst, wanted, wait) in [
            (10_000, 400_000, usize::MAX, SECOND / 10),
            (10_000, 400_000, 500, SECOND / 20),
            (10_000, 800, usize::MAX, SECOND / 100),
            (1, u64::MAX, usize::MAX, SECOND),
            (1, u64::MAX, 0, SECOND),
            (u64::MAX, u64::MAX, usize::MAX, SECOND / 10),
        ] {
            let limit = RateLimit::new(rate, burst);
            limit.take(usize::try_from(burst).unwrap(), now);
            assert_eq!(limit.wait(wanted, now), wait, "{rate}, {burst}, {wanted}");
        }
    }

    #[test]
    fn taking_more_than_there_is_takes_nothing_and_returns_the_wait() {
        let now = Instant::now();
        let limit = RateLimit::new(10, 5);
        assert_eq!(limit.try_take(3, now), Ok(()));
        assert_eq!(limit.try_take(3, now), Err(SECOND / 10));
        assert_eq!(limit.try_take(2, now), Ok(()), "the refused take took none");
        assert_eq!(limit.try_take(1, now), Err(SECOND / 10));
        let last = SECOND / 10 - Duration::from_nanos(1);
        assert_eq!(limit.try_take(1, now + last), Err(Duration::from_nanos(1)));
        assert_eq!(limit.try_take(1, now + SECOND / 10), Ok(()));
    }

    #[test]
    fn taking_nothing_succeeds_and_more_than_a_burst_never_does() {
        let now = Instant::now();
        for (rate, burst) in SIZES
            .into_iter()
            .flat_map(|rate| SIZES.map(|burst| (rate, burst)))
        {
            let limit = RateLimit::new(rate, burst);
            let burst = burst.max(1);
            if let Some(more) = burst.checked_add(1) {
                assert_eq!(limit.try_take(more, now), Err(Duration::MAX), "{burst}");
            }
            assert_eq!(limit.try_take(burst, now), Ok(()), "{rate}, {burst}");
            let wait = limit.try_take(burst, now).unwrap_err();
            let exact = u128::from(burst) * 1_000_000_000;
            assert_eq!(wait.as_nanos(), exact.div_ceil(u128::from(rate.max(1))));
            assert_eq!(limit.try_take(0, now), Ok(()), "an empty bucket");
            limit.take(usize::MAX, now);
            assert_eq!(limit.try_take(0, now), Ok(()), "a bucket below empty");
        }
    }

    #[test]
    fn the_wait_counts_from_the_time_of_a_loop_that_lags_behind() {
        let now = Instant::now();
        let limit = RateLimit::new(10, 1);
        limit.take(1, now + SECOND);
        let wait = SECOND + SECOND / 10;
        assert_eq!(limit.try_take(1, now), Err(wait));
        assert_eq!(limit.try_take(1, now + wait), Ok(()));
    }

    #[test]
    fn units_taken_first_hold_back_the_bytes_of_connections() {
        let now = Instant::now();
        let limit = RateLimit::new(10, 10);
        assert_eq!(limit.try_take(8, now), Ok(()));
        assert_eq!(limit.available(now), 2);
        limit.take(12, now);
        assert_eq!(limit.try_take(1, now), Err(SECOND + SECOND / 10));
    }

    proptest! {
        #[test]
        fn a_taker_that_waits_as_told_succeeds_and_a_nanosecond_earlier_fails(
            rate in 1..u64::MAX,
            burst in 1..u64::MAX,
            taken: usize,
            amount: u64,
        ) {
            let now = Instant::now();
            let mut bucket = Bucket::new(rate, burst);
            bucket.take(taken as u64, now);
            let amount = amount.clamp(1, burst);
            if let Err(wait) = bucket.try_take(amount, now) {
                let at = |wait| now.checked_add(wait);
                if let Some(early) = at(wait - Duration::from_nanos(1)) {
                    prop_assert!(bucket.try_take(amount, early).is_err());
                }
                if let Some(then) = at(wait) {
                    prop_assert_eq!(bucket.try_take(amount, then), Ok(()));
                }
            }
        }

        /// In any order of calls, never more is allowed than the burst and the rate, and a taker
        /// that waits gets all of it.
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
                bucket.take(bytes as u64, now);
                taken += bytes as u64;
                let allowed = u128::from(burst) + (now - start).as_nanos() * u128::from(rate) / 1_000_000_000;
                prop_assert!(u128::from(taken) <= allowed, "{taken} of {allowed}");
                let enough = (burst / 8).min(rate / 10).min(wanted as u64).max(1);
                prop_assert!(bucket.available(now + bucket.wait(wanted, now)) as u64 >= enough);
            }
        }
    }
}
