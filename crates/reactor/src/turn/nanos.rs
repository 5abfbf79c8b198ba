//! Times as counts of nanoseconds.

use std::time::Duration;

/// The last nanosecond that is counted, after some 292 years: half of what a deadline can be, so that no sum of a time and a
/// delay of as much goes beyond its end.
pub(crate) const LAST_NS: u64 = u64::MAX / 2;

/// A duration in nanoseconds; the greatest number for anything longer, some 584 years.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(duration.subsec_nanos()))
}
