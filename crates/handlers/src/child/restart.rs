//! The restart policy of a child: arithmetic that knows no process and no clock.

use std::time::Duration;

/// A policy for restarting a child that has ended, for [`supervise`](super::supervise).
///
/// Restarts that follow each other without a long run of the child form a *row*. The first restart
/// of a row has the [initial delay](Self::initial_delay). The delay then doubles with each restart
/// of the row, up to the [maximum delay](Self::max_delay). If the child has run for the time that
/// [`steady_after`](Self::steady_after) sets, its next restart begins a new row. All times are
/// measured by the loop's clock.
///
/// ```
/// use std::time::Duration;
/// use handlers::child::RestartPolicy;
///
/// let policy = RestartPolicy::on_failure()
///     .initial_delay(Duration::from_millis(500))
///     .max_delay(Duration::from_secs(60))
///     .max_restarts(10);
/// # let _ = policy;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a policy is for supervise"]
pub struct RestartPolicy {
    when: When,
    initial_delay: Duration,
    max_delay: Duration,
    steady_after: Duration,
    max_restarts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Never,
    OnFailure,
    Always,
}

impl RestartPolicy {
    const fn new(when: When) -> Self {
        Self {
            when,
            initial_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(30),
            steady_after: Duration::from_secs(10),
            max_restarts: u32::MAX,
        }
    }

    /// Returns a policy that never restarts the child, and does not try a failed start again.
    pub const fn never() -> Self {
        Self::new(When::Never)
    }

    /// Returns a policy that restarts the child unless it has ended with exit code 0. A start that
    /// fails is also tried again.
    pub const fn on_failure() -> Self {
        Self::new(When::OnFailure)
    }

    /// Returns a policy that restarts the child in any case. A start that fails is also tried
    /// again.
    pub const fn always() -> Self {
        Self::new(When::Always)
    }

    /// Sets the delay before the first restart of a [row](Self). Default: 100 ms, as in systemd.
    pub const fn initial_delay(mut self, delay: Duration) -> Self {
        self.initial_delay = delay;
        self
    }

    /// Sets the maximum delay before a restart. Default: 30 s.
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Sets how long a child must run so that its next restart begins a new row. The first restart
    /// of a row uses the initial delay, and [`max_restarts`](Self::max_restarts) counts the
    /// restarts of one row. Default: 10 s.
    pub const fn steady_after(mut self, ran: Duration) -> Self {
        self.steady_after = ran;
        self
    }

    /// Sets the maximum number of restarts in a [row](Self). After the last of them, the
    /// supervision ends when the child ends, or cannot be started. Default: no limit.
    pub const fn max_restarts(mut self, restarts: u32) -> Self {
        self.max_restarts = restarts;
        self
    }
}

/// A policy, and the number of restarts so far.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: RestartPolicy,
    /// The number of restarts since the child was steady.
    restarts: u32,
}

impl Backoff {
    pub(super) const fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            restarts: 0,
        }
    }

    /// Returns the delay before the next start of a child that has run for `ran`. Returns `None` if
    /// the child is not started again.
    pub(super) fn next(&mut self, succeeded: bool, ran: Duration) -> Option<Duration> {
        let Self { policy, restarts } = self;
        let wanted = match policy.when {
            When::Never => false,
            When::OnFailure => !succeeded,
            When::Always => true,
        };
        if ran >= policy.steady_after {
            *restarts = 0;
        }
        if !wanted || *restarts >= policy.max_restarts {
            return None;
        }
        let factor = 1_u32.checked_shl(*restarts).unwrap_or(u32::MAX);
        *restarts += 1;
        Some(
            policy
                .initial_delay
                .saturating_mul(factor)
                .min(policy.max_delay),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::ZERO;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_delay_doubles_up_to_its_maximum_and_begins_anew_after_a_steady_run() {
        let policy = RestartPolicy::always()
            .initial_delay(ms(100))
            .max_delay(ms(350))
            .steady_after(ms(1000));
        let mut backoff = Backoff::new(policy);
        let delays =
            [AT_ONCE, ms(999), AT_ONCE, ms(1000), AT_ONCE].map(|ran| backoff.next(true, ran));
        assert_eq!(
            delays,
            [100, 200, 350, 100, 200].map(|delay| Some(ms(delay)))
        );
    }

    #[test]
    fn no_number_of_restarts_overflows() {
        let mut backoff = Backoff::new(RestartPolicy::on_failure().max_delay(Duration::MAX));
        backoff.restarts = u32::MAX - 1;
        assert_eq!(backoff.next(false, AT_ONCE), Some(ms(100) * u32::MAX));
        assert_eq!(backoff.next(false, AT_ONCE), None, "the limit is reached");
    }

    #[test]
    fn each_policy_restarts_what_it_says_and_no_more_often_than_allowed() {
        let restarts = |policy: RestartPolicy, succeeded| {
            Backoff::new(policy).next(succeeded, AT_ONCE).is_some()
        };
        assert_eq!(
            [true, false].map(|ok| restarts(RestartPolicy::never(), ok)),
            [false, false]
        );
        assert_eq!(
            [true, false].map(|ok| restarts(RestartPolicy::on_failure(), ok)),
            [false, true]
        );
        assert_eq!(
            [true, false].map(|ok| restarts(RestartPolicy::always(), ok)),
            [true, true]
        );
        let mut backoff = Backoff::new(RestartPolicy::always().max_restarts(2));
        assert_eq!(
            [(); 4].map(|()| backoff.next(true, AT_ONCE).is_some()),
            [true, true, false, false]
        );
    }
}
