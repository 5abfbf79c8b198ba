//! The reports of a listener about trouble that clients can cause.
//!
//! Ground rule: no client can fill the log. A report that comes too soon after the last one of its
//! kind is logged at DEBUG, and counted for the next.

use std::io;
use std::time::{Duration, Instant};

use crate::limit::ConnectionLimit;

/// The least time between two reports of one kind.
const INTERVAL: Duration = Duration::from_secs(60);

/// The reports of one listener, by kind.
#[derive(Debug, Default)]
pub(super) struct Reports {
    at_limit: Throttle,
    refused: Throttle,
    dropped: Throttle,
    out_of_resources: Throttle,
}

impl Reports {
    #[cold]
    pub(super) fn at_limit(&mut self, limit: &ConnectionLimit, now: Instant) {
        const TEXT: &str = "connection limit reached: accepting paused";
        match self.at_limit.due(now) {
            Some(suppressed) => tracing::info!(?limit, suppressed, "{TEXT}"),
            None => tracing::debug!(?limit, "{TEXT}"),
        }
    }

    /// Unlike the other reports, nothing is logged between two reports: the listener does what it
    /// was told, at any rate that clients choose.
    #[cold]
    pub(super) fn refused(&mut self, limit: &ConnectionLimit, now: Instant) {
        if let Some(suppressed) = self.refused.due(now) {
            tracing::info!(
                ?limit,
                suppressed,
                "connection limit reached: refusing clients"
            );
        }
    }

    #[cold]
    pub(super) fn dropped(&mut self, error: &io::Error, now: Instant) {
        const TEXT: &str = "connection dropped";
        match self.dropped.due(now) {
            Some(suppressed) => tracing::warn!(%error, suppressed, "{TEXT}"),
            None => tracing::debug!(%error, "{TEXT}"),
        }
    }

    #[cold]
    pub(super) fn out_of_resources(&mut self, error: &io::Error, pause: Duration, now: Instant) {
        const TEXT: &str = "out of resources for another connection: accepting paused";
        match self.out_of_resources.due(now) {
            Some(suppressed) => tracing::warn!(%error, ?pause, suppressed, "{TEXT}"),
            None => tracing::debug!(%error, ?pause, "{TEXT}"),
        }
    }
}

/// The reports of one kind.
#[derive(Debug, Default)]
struct Throttle {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Returns how many reports were suppressed since the last one, if a report is due at `now`.
    /// Otherwise the report of `now` is suppressed.
    fn due(&mut self, now: Instant) -> Option<u64> {
        let is_due = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL);
        if is_due {
            self.last = Some(now);
            Some(std::mem::take(&mut self.suppressed))
        } else {
            self.suppressed += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_due_once_a_minute_with_the_number_of_those_between() {
        let (mut throttle, began) = (Throttle::default(), Instant::now());
        let mut due = |after: Duration| throttle.due(began + after);
        assert_eq!(due(Duration::ZERO), Some(0));
        assert_eq!(due(Duration::ZERO), None);
        assert_eq!(due(INTERVAL - Duration::from_nanos(1)), None);
        assert_eq!(due(INTERVAL), Some(2));
        assert_eq!(due(INTERVAL), None);
        assert_eq!(due(INTERVAL * 3), Some(1));
    }
}
