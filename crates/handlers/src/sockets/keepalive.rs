//! The keepalive probes of TCP, within the limits of the kernel.

use std::time::Duration;

/// The greatest time of the kernel in seconds: `MAX_TCP_KEEPIDLE` and `MAX_TCP_KEEPINTVL` in its
/// `include/net/tcp.h`. It refuses any greater value, and 0.
const SECONDS_MAX: u64 = 32_767;

/// The greatest number of probes: `MAX_TCP_KEEPCNT` in the same file.
const COUNT_MAX: u32 = 127;

/// The keepalive probes of a TCP connection. The kernel sends them while the connection is idle. If
/// the peer answers none of them, the connection fails with `ETIMEDOUT`. So a peer that has
/// vanished is noticed, even if nothing is ever written to it.
///
/// A peer is noticed after about `idle + interval * count`. Times are whole seconds: a fraction is
/// rounded up. Values out of range are clamped.
///
/// ```
/// use std::time::Duration;
/// use handlers::{ConnectionOptions, TcpKeepalive};
///
/// // A peer that has vanished is noticed after 60 + 4 * 10 seconds.
/// let probes = TcpKeepalive::new(Duration::from_secs(60))
///     .interval(Duration::from_secs(10))
///     .count(4);
/// let options = ConnectionOptions::new().keepalive(probes);
/// # let _ = options;
/// ```
///
/// # Source
/// `tcp(7)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpKeepalive {
    idle: Duration,
    interval: Option<Duration>,
    count: Option<u32>,
}

impl TcpKeepalive {
    /// Returns probes that begin when the connection has been idle for `idle` (`TCP_KEEPIDLE`):
    /// 1 to 32767 s. The interval and the count of the probes are those of the kernel until you set
    /// them.
    #[doc(alias("TCP_KEEPIDLE"))]
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        Self {
            idle: within_limits(idle),
            interval: None,
            count: None,
        }
    }

    /// Sets the time between two probes (`TCP_KEEPINTVL`): 1 to 32767 s. Default: that of the
    /// kernel, `/proc/sys/net/ipv4/tcp_keepalive_intvl`, usually 75 s.
    #[doc(alias("TCP_KEEPINTVL"))]
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(within_limits(interval));
        self
    }

    /// Sets the number of probes without an answer after which the connection fails
    /// (`TCP_KEEPCNT`): 1 to 127. Default: that of the kernel,
    /// `/proc/sys/net/ipv4/tcp_keepalive_probes`, usually 9.
    #[doc(alias("TCP_KEEPCNT"))]
    #[must_use]
    pub fn count(mut self, probes: u32) -> Self {
        self.count = Some(probes.clamp(1, COUNT_MAX));
        self
    }

    /// Returns the parameters of the calls that set these probes.
    pub(super) fn parameters(self) -> socket2::TcpKeepalive {
        let mut parameters = socket2::TcpKeepalive::new().with_time(self.idle);
        if let Some(interval) = self.interval {
            parameters = parameters.with_interval(interval);
        }
        if let Some(count) = self.count {
            parameters = parameters.with_retries(count);
        }
        parameters
    }
}

/// Returns a time as whole seconds that the kernel accepts.
fn within_limits(time: Duration) -> Duration {
    let fraction = u64::from(time.subsec_nanos() > 0);
    let seconds = time.as_secs().saturating_add(fraction);
    Duration::from_secs(seconds.clamp(1, SECONDS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_up_to_whole_seconds_within_the_limits() {
        let nanosecond = Duration::from_nanos(1);
        let second = Duration::from_secs(1);
        let greatest = Duration::from_secs(SECONDS_MAX);
        for (time, expected) in [
            (Duration::ZERO, second),
            (nanosecond, second),
            (second, second),
            (second + nanosecond, 2 * second),
            (greatest - nanosecond, greatest),
            (greatest, greatest),
            (greatest + nanosecond, greatest),
            (Duration::MAX, greatest),
        ] {
            assert_eq!(within_limits(time), expected, "{time:?}");
        }
    }
}
