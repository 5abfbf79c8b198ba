//! Back-off: growing delays between attempts that fail. It is arithmetic that knows no clock.
//!
//! The delay before jitter is `min(maximum, initial * multiplier^n)`. It is kept as the delay of
//! the next attempt and not as `n`, so no number of attempts overflows.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::splitmix;

/// How a [`Backoff`] draws its delays, so that clients that have failed together do not all try
/// again together.
///
/// # Source
/// Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015. There `Full` causes the
/// fewest calls and `Equal` takes the most time. The third kind, `Decorrelated`, causes a few more
/// calls than `Full` and takes a little less time. It is left out, because its delays grow by
/// chance and not by the multiplier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// Each delay is exact. Use this if nothing else makes attempts at the same times, for example
    /// for the restarts of one child.
    None,
    /// Each delay is drawn evenly from zero up to the exact delay. This spreads the attempts most.
    #[default]
    Full,
    /// Each delay is drawn evenly from half of the exact delay up to the exact delay. Use this if
    /// an attempt after almost no delay does harm.
    Equal,
}

/// Growing delays between attempts: exponential back-off with [jitter](Jitter).
///
/// The first delay is the initial delay. Each further delay is longer by the
/// [multiplier](Self::multiplier), up to the maximum. After a success, [`reset`](Self::reset)
/// returns to the initial delay. The back-off reads no clock and arms no timer: you wait for the
/// delay, for example with [`Registry::after`](reactor::Registry::after).
///
/// ```
/// use std::time::Duration;
/// use handlers::{Backoff, Jitter};
///
/// let ms = Duration::from_millis;
/// let mut backoff = Backoff::new(ms(100), ms(350)).jitter(Jitter::None);
/// let delays = [(); 4].map(|()| backoff.next_delay());
/// assert_eq!(delays, [ms(100), ms(200), ms(350), ms(350)]);
/// backoff.reset(); // an attempt has succeeded
/// assert_eq!(backoff.next_delay(), ms(100));
///
/// // With a seed, the drawn delays are the same in every run.
/// let mut seeded = Backoff::new(ms(100), ms(350)).seed(7);
/// assert!(seeded.next_delay() <= ms(100));
/// assert_eq!(seeded.clone().next_delay(), seeded.next_delay());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    initial_delay: Duration,
    max_delay: Duration,
    multiplier: u32,
    jitter: Jitter,
    /// The next delay before jitter. `None` for the initial delay.
    next: Option<Duration>,
    /// The state of the generator. `None` until the first draw, unless a seed was set.
    random: Option<u64>,
}

impl Backoff {
    /// Returns a back-off from `initial_delay` to `max_delay`, which doubles each time and has
    /// [`Jitter::Full`].
    ///
    /// An initial delay above the maximum counts as the maximum. An initial delay of zero stays
    /// zero. Up to [`Duration::MAX`] no delay overflows.
    pub const fn new(initial_delay: Duration, max_delay: Duration) -> Self {
        Self {
            initial_delay,
            max_delay,
            multiplier: 2,
            jitter: Jitter::Full,
            next: None,
            random: None,
        }
    }

    /// Sets the factor from one delay to the next. With 1 all delays are the initial delay; 0
    /// counts as 1. Default: 2.
    #[must_use]
    pub const fn multiplier(mut self, multiplier: u32) -> Self {
        self.multiplier = if multiplier == 0 { 1 } else { multiplier };
        self
    }

    /// Sets how delays are drawn. Default: [`Jitter::Full`].
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets the seed of the draws, for tests. All back-offs with one seed draw alike, so do not use
    /// a fixed seed in production. Default: a random seed, which is chosen at the first draw, so
    /// clones made before it draw differently.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.random = Some(seed);
        self
    }

    /// Returns the delay to wait before the next attempt, and makes the following delay longer.
    ///
    /// # Cost
    /// O(1). No allocation and no system call.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next.unwrap_or(self.initial_delay).min(self.max_delay);
        self.next = Some(delay.saturating_mul(self.multiplier));
        match self.jitter {
            Jitter::None => delay,
            Jitter::Full => self.draw_up_to(delay),
            Jitter::Equal => delay.saturating_sub(self.draw_up_to(delay / 2)),
        }
    }

    /// Returns to the initial delay, after a success. The sequence of draws goes on.
    pub const fn reset(&mut self) {
        self.next = None;
    }

    /// Draws a duration of at most `most`.
    fn draw_up_to(&mut self, most: Duration) -> Duration {
        let random = self
            .random
            .get_or_insert_with(|| RandomState::new().hash_one(()));
        fraction(most, splitmix::next(random))
    }
}

/// Returns `whole * (numerator + 1) / 2^64`, rounded down.
fn fraction(whole: Duration, numerator: u64) -> Duration {
    // The nanoseconds of a duration have 94 bits, so the product is computed in two halves.
    let (nanos, factor) = (whole.as_nanos(), u128::from(numerator) + 1);
    let low = nanos & u128::from(u64::MAX);
    let part = (nanos >> u64::BITS) * factor + ((low * factor) >> u64::BITS);
    Duration::new((part / NANOS) as u64, (part % NANOS) as u32)
}

/// Nanoseconds in a second.
const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: Duration = Duration::from_nanos(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn delays<const N: usize>(backoff: &mut Backoff) -> [Duration; N] {
        [(); N].map(|()| backoff.next_delay())
    }

    fn exact(initial: Duration, max: Duration) -> Backoff {
        Backoff::new(initial, max).jitter(Jitter::None)
    }

    #[test]
    fn a_delay_grows_by_the_multiplier_up_to_the_maximum_until_a_reset() {
        let mut backoff = exact(SECOND, 20 * SECOND).multiplier(3);
        assert_eq!(
            delays(&mut backoff),
            [1, 3, 9, 20, 20].map(|secs| secs * SECOND)
        );
        backoff.reset();
        assert_eq!(delays(&mut backoff), [SECOND, 3 * SECOND]);
    }

    #[test]
    fn a_multiplier_of_one_keeps_the_initial_delay_and_zero_counts_as_one() {
        for multiplier in [0, 1] {
            let mut backoff = exact(SECOND, Duration::MAX).multiplier(multiplier);
            assert_eq!(delays(&mut backoff), [SECOND; 3]);
        }
        let mut backoff = exact(ONE, Duration::MAX).multiplier(u32::MAX);
        assert_eq!(delays(&mut backoff), [ONE, ONE * u32::MAX]);
    }

    #[test]
    fn the_least_and_the_greatest_delays_are_kept() {
        let (zero, max) = (Duration::ZERO, Duration::MAX);
        assert_eq!(delays(&mut exact(zero, max)), [zero; 3]);
        assert_eq!(delays(&mut exact(SECOND, zero)), [zero; 3]);
        assert_eq!(delays(&mut exact(2 * SECOND, SECOND)), [SECOND; 3]);
        assert_eq!(delays(&mut exact(ONE, 3 * ONE)), [1, 2, 3].map(|n| n * ONE));
        assert_eq!(delays(&mut exact(max - ONE, max)), [max - ONE, max, max]);
        assert_eq!(delays(&mut exact(max, max)), [max; 3]);
    }

    #[test]
    fn a_row_of_any_length_reaches_the_greatest_delay_and_stays_there() {
        let mut backoff = exact(ONE, Duration::MAX);
        let last = (0..1000).map(|_| backoff.next_delay()).last();
        assert_eq!(last, Some(Duration::MAX));
    }

    #[test]
    fn a_fraction_is_exact_for_every_duration() {
        for whole in [Duration::ZERO, ONE, SECOND, Duration::MAX] {
            assert_eq!(fraction(whole, u64::MAX), whole);
            assert_eq!(fraction(whole, u64::MAX / 2), whole / 2);
        }
        assert_eq!(fraction(SECOND, 0), Duration::ZERO);
    }

    #[test]
    fn without_a_seed_two_back_offs_draw_different_delays() {
        let unseeded = Backoff::new(Duration::MAX, Duration::MAX);
        let (mut one, mut other) = (unseeded.clone(), unseeded);
        // They are equal once in 2^94 runs.
        assert_ne!(one.next_delay(), other.next_delay());
    }

    #[test]
    fn a_seed_fixes_the_draws_and_a_reset_does_not_repeat_them() {
        let seeded = Backoff::new(SECOND, SECOND).seed(1);
        let (mut one, mut other) = (seeded.clone(), seeded);
        let first: [_; 8] = delays(&mut one);
        assert_eq!(delays(&mut other), first);
        one.reset();
        assert_ne!(delays(&mut one), first);
    }

    /// Returns the number of draws in each tenth of the range from `least` to `most`.
    fn tenths(backoff: &mut Backoff, least: Duration, most: Duration) -> [usize; 10] {
        let mut counts = [0; 10];
        for _ in 0..DRAWS {
            let delay = backoff.next_delay();
            assert!(
                least <= delay && delay <= most,
                "{least:?}, {delay:?}, {most:?}"
            );
            let at = (delay - least).as_nanos() * 10 / (most - least).as_nanos();
            counts[(at as usize).min(9)] += 1;
        }
        counts
    }

    const DRAWS: usize = 4000;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The count of a tenth is binomial, with a standard deviation of 19: 150 is 7.9 of them.
        #[test]
        fn jitter_draws_evenly_from_its_range(
            seed: u64,
            delay in prop_oneof![1000..10_000_000_000_u64, Just(u64::MAX)],
        ) {
            let delay = Duration::from_nanos(delay);
            for (jitter, least) in [(Jitter::Full, Duration::ZERO), (Jitter::Equal, delay - delay / 2)] {
                let mut backoff = Backoff::new(delay, delay).jitter(jitter).seed(seed);
                for count in tenths(&mut backoff, least, delay) {
                    prop_assert!(count.abs_diff(DRAWS / 10) < 150, "{jitter:?}: {count}");
                }
            }
        }

        #[test]
        fn a_drawn_delay_lies_in_the_range_of_its_exact_delay(
            initial: Duration,
            max: Duration,
            multiplier: u32,
            seed: u64,
        ) {
            let plain = Backoff::new(initial, max).multiplier(multiplier).seed(seed);
            let mut exact = plain.clone().jitter(Jitter::None);
            let (mut full, mut equal) = (plain.clone(), plain.jitter(Jitter::Equal));
            for _ in 0..40 {
                let delay = exact.next_delay();
                prop_assert!(delay <= max);
                prop_assert!(full.next_delay() <= delay);
                let drawn = equal.next_delay();
                prop_assert!(delay / 2 <= drawn && drawn <= delay);
            }
        }
    }
}
