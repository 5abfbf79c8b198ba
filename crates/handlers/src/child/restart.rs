//! When a child that has ended is started again: arithmetic, which knows no process and no clock.

use std::time::Duration;

/// Whether and when a child that has ended is started again, by [`supervise`](super::supervise).
///
/// The delay doubles with each restart, from the first to the greatest; a child that ran long enough begins anew. Times
/// are those of the loop's clock.
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

    /// It is not started again.
    pub const fn never() -> Self {
        Self::new(When::Never)
    }

    /// It is started again unless it ended with exit code 0; also if it could not be started.
    pub const fn on_failure() -> Self {
        Self::new(When::OnFailure)
    }

    /// It is started again however it ended.
    pub const fn always() -> Self {
        Self::new(When::Always)
    }

    /// The delay before the first restart in a row; by default 100 ms, as systemd has it.
    pub const fn initial_delay(mut self, delay: Duration) -> Self {
        self.initial_delay = delay;
        self
    }

    /// The greatest delay; by default 30 s.
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// How long a child must have run to count as steady, so that its next restart is the first in a row again; by default
    /// 10 s.
    pub const fn steady_after(mut self, ran: Duration) -> Self {
        self.steady_after = ran;
        self
    }

    /// How many restarts in a row there may be; by default any number.
    pub const fn max_restarts(mut self, restarts: u32) -> Self {
        self.max_restarts = restarts;
        self
    }
}

/// A policy, and how far it has gone.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: RestartPolicy,
    /// Since the child was steady.
    restarts: u32,
}

impl Backoff {
    pub(super) const fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            restarts: 0,
        }
    }

    /// The delay before the next start, `None` if there is none, for a child that ran so long.
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
        assert_eq!(
            backoff.next(false, AT_ONCE),
            None,
            "as many as there may be"
        );
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
