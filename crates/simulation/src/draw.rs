//! The numbers that a simulation draws from its seed.

use std::ops::Range;
use std::time::Duration;

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// The source of all chance in a simulation. The same seed gives the same numbers, with every
/// version of the generator.
#[derive(Debug)]
pub(crate) struct Draw(Pcg64Mcg);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// Returns a number below `end`, and 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // The upper half of the product: the bias is at most `end` in 2^64.
        ((u128::from(self.0.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// Returns an index into a list of `len` elements.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Returns a number in `range`, and its start if it is empty.
    pub(crate) fn within(&mut self, range: &Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// Returns a duration in `range`, and its start if it is empty. Short durations are as likely
    /// as long ones, by their order of magnitude.
    pub(crate) fn duration(&mut self, range: &Range<Duration>) -> Duration {
        let (start, end) = (nanos(range.start), nanos(range.end));
        if end <= start {
            return range.start;
        }
        // A random number of leading zeros.
        let span = end - start;
        let bits = u64::BITS - span.leading_zeros();
        let magnitude = self.below(u64::from(bits)) as u32;
        Duration::from_nanos(start + self.below(span >> magnitude))
    }

    /// Returns `true` once in `times` on average, and never for 0.
    pub(crate) fn once_in(&mut self, times: u32) -> bool {
        times > 0 && self.below(u64::from(times)) == 0
    }
}

/// Returns a duration in nanoseconds, at most the 584 years of a `u64`.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut draw = Draw::new(1);
        let drawn: Vec<u64> = (0..4).map(|_| draw.below(1000)).collect();
        assert_eq!(drawn, FIRST_OF_SEED_1);
    }

    const FIRST_OF_SEED_1: [u64; 4] = [856, 137, 470, 726];

    #[test]
    fn bounds_hold_at_their_ends() {
        let mut draw = Draw::new(7);
        let second = Duration::from_secs(1);
        for _ in 0..1000 {
            assert_eq!(draw.below(0), 0);
            assert_eq!(draw.below(1), 0);
            assert!(draw.below(3) < 3);
            assert_eq!(draw.within(&(5..5)), 5);
            assert!((5..9).contains(&draw.within(&(5..9))));
            assert!((second..2 * second).contains(&draw.duration(&(second..2 * second))));
            assert_eq!(draw.duration(&(second..second)), second);
            assert!(!draw.once_in(0));
            assert!(draw.once_in(1));
        }
    }
}
