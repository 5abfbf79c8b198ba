//! The restart policy of a child: arithmetic that knows no process and no clock.

use std::time::Duration;

use crate::backoff::{Backoff, Jitter};

/// A policy for restarting a child that has ended, for [`supervise`](super::supervise).
///
/// Restarts that follow each other without a long run of the child form a *row*. The delays before
/// the restarts of a row are those of a [`Backoff`]. If the child has run for the time that
/// [`steady_after`](Self::steady_after) sets, its next restart begins a new row, and the back-off
/// is [reset](Backoff::reset). All times are measured by the loop's clock.
///
/// ```
/// use std::time::Duration;
/// use handlers::Backoff;
/// use handlers::child::RestartPolicy;
///
/// let policy = RestartPolicy::on_failure()
///     .backoff(Backoff::new(Duration::from_millis(500), Duration::from_secs(60)))
///     .max_restarts(10);
/// # let _ = policy;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a policy is for supervise"]
pub struct RestartPolicy {
    when: When,
    backoff: Backoff,
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
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(30))
                .jitter(Jitter::None),
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

    /// Sets the delays before the restarts of a [row](Self). With a jitter, children that have
    /// failed together, for example on several machines, do not restart together. Default: from
    /// 100 ms, as in systemd, doubling up to 30 s, without jitter.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long a child must run so that its next restart begins a new row. The first restart
    /// of a row has the initial delay, and [`max_restarts`](Self::max_restarts) counts the restarts
    /// of one row. Default: 10 s.
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
pub(super) struct Restarts {
    policy: RestartPolicy,
    /// The number of restarts since the child was steady.
    count: u32,
}

impl Restarts {
    pub(super) const fn new(policy: RestartPolicy) -> Self {
        Self { policy, count: 0 }
    }

    /// Returns the delay before the next start of a child that has run for `ran`. Returns `None` if
    /// the child is not started again.
    pub(super) fn next(&mut self, succeeded: bool, ran: Duration) -> Option<Duration> {
        let Self { policy, count } = self;
        let wanted = match policy.when {
            When::Never => false,
            When::OnFailure => !succeeded,
            When::Always => true,
        };
        if ran >= policy.steady_after {
            *count = 0;
            policy.backoff.reset();
        }
        if !wanted || *count >= policy.max_restarts {
            return None;
        }
        *count += 1;
        Some(policy.backoff.next_delay())
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
            .backoff(Backoff::new(ms(100), ms(350)).jitter(Jitter::None))
            .steady_after(ms(1000));
        let mut restarts = Restarts::new(policy);
        let delays =
            [AT_ONCE, ms(999), AT_ONCE, ms(1000), AT_ONCE].map(|ran| restarts.next(true, ran));
        assert_eq!(
            delays,
            [100, 200, 350, 100, 200].map(|delay| Some(ms(delay)))
        );
    }

    #[test]
    fn no_number_of_restarts_overflows() {
        let mut restarts = Restarts::new(RestartPolicy::on_failure());
        restarts.count = u32::MAX - 1;
        assert_eq!(restarts.next(false, AT_ONCE), Some(ms(100)));
        assert_eq!(restarts.next(false, AT_ONCE), None, "the limit is reached");
    }

    #[test]
    fn each_policy_restarts_what_it_says_and_no_more_often_than_allowed() {
        let is_restarted = |policy: RestartPolicy, succeeded| {
            Restarts::new(policy).next(succeeded, AT_ONCE).is_some()
        };
        assert_eq!(
            [true, false].map(|ok| is_restarted(RestartPolicy::never(), ok)),
            [false, false]
        );
        assert_eq!(
            [true, false].map(|ok| is_restarted(RestartPolicy::on_failure(), ok)),
            [false, true]
        );
        assert_eq!(
            [true, false].map(|ok| is_restarted(RestartPolicy::always(), ok)),
            [true, true]
        );
        let mut restarts = Restarts::new(RestartPolicy::always().max_restarts(2));
        assert_eq!(
            [(); 4].map(|()| restarts.next(true, AT_ONCE).is_some()),
            [true, true, false, false]
        );
    }
}
