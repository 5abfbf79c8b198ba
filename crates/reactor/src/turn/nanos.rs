//! Times as counts of nanoseconds.

use std::time::Duration;

/// The last nanosecond that is counted, after some 292 years. It is half of the largest deadline,
/// so the sum of a time and a delay of the same size stays in range.
pub(crate) const LAST_NS: u64 = u64::MAX / 2;

/// Returns a duration in nanoseconds. A duration over some 584 years is returned as the greatest
/// number.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(duration.subsec_nanos()))
}
