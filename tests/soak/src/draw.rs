//! The numbers that clients, faults and timers draw from a seed.

use std::time::Duration;

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

#[derive(Debug)]
pub(crate) struct Draw(Pcg64Mcg);

impl Draw {
    /// Returns a source of its own for each user of the same seed.
    pub(crate) fn new(seed: u64, user: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed ^ mix(user)))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Returns at most `max` milliseconds.
    pub(crate) fn ms(&mut self, max: usize) -> Duration {
        Duration::from_millis(self.below(max + 1) as u64)
    }
}

/// Fills `bytes` with the part of a stream that begins at `position`. Each byte depends on the
/// stream and on its position, so a byte that is lost, doubled or of another stream is seen.
pub(crate) fn fill(stream: u64, position: usize, bytes: &mut [u8]) {
    for (offset, byte) in bytes.iter_mut().enumerate() {
        let at = position + offset;
        *byte = (mix(stream ^ (at as u64 / 8)) >> (at % 8 * 8)) as u8;
    }
}

/// The finalizer of SplitMix64.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
