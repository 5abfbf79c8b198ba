//! Spin: how long the loop looks for work before it sleeps.
//!
//! A wakeup from sleep costs tens of microseconds between two cores. If work arrives sooner than
//! that, it is cheaper to look for it than to sleep. The lengths of the last idle times show
//! whether work is likely to arrive so soon.
//!
//! Source: halt polling of KVM (Documentation/virt/kvm/halt-polling.rst), whose polling time grows
//! and shrinks in the same way.

use std::time::{Duration, Instant};

/// The time for which a loop spins before it sleeps. To *spin* is to look for work without
/// sleeping: see [`Builder::spin`](crate::Builder::spin).
///
/// ```
/// use std::time::Duration;
/// use reactor::{Reactor, Spin};
///
/// # fn main() -> Result<(), reactor::Error> {
/// let spin = Spin::Fixed(Duration::from_micros(50));
/// let mut reactor = Reactor::<()>::builder().spin(spin).build()?;
/// # reactor.run(&mut ())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spin {
    /// The loop sleeps without spinning. This is the default.
    #[default]
    Off,
    /// The loop spins for this long before each sleep. Times over one hour count as one hour. Zero
    /// is the same as [`Off`](Self::Off).
    Fixed(Duration),
    /// The loop adapts the time of its spins, from zero up to this maximum. Maxima over one hour
    /// count as one hour. The time doubles whenever new work has come within the maximum. It
    /// halves, and finally becomes zero, whenever the loop was idle for longer.
    Adaptive(Duration),
}

/// The smallest budget is the longest one divided by this number. A smaller budget is not worth its
/// clock readings.
const LEAST_PART: u32 = 16;

/// The longest spin. No program needs more, and adding it to a time does not overflow.
const LONGEST: Duration = Duration::from_secs(3600);

/// The budget of the next spin, and the data it is learned from.
#[derive(Debug)]
pub(crate) struct SpinPolicy {
    longest: Duration,
    budget: Duration,
    adaptive: bool,
    /// The time at which the loop became idle.
    idle_since: Option<Instant>,
}

impl SpinPolicy {
    /// Returns the policy, or `None` if spinning is off.
    pub(crate) fn new(spin: Spin) -> Option<Self> {
        let (longest, adaptive) = match spin {
            Spin::Fixed(time) => (time, false),
            Spin::Adaptive(time) => (time, true),
            Spin::Off => return None,
        };
        let longest = longest.min(LONGEST);
        let budget = if adaptive { Duration::ZERO } else { longest };
        (!longest.is_zero()).then_some(Self {
            longest,
            budget,
            adaptive,
            idle_since: None,
        })
    }

    /// Records that the loop is idle from `now` on. Returns the time until which it looks for work.
    pub(crate) fn begin(&mut self, now: Instant) -> Instant {
        self.idle_since = Some(now);
        now + self.budget
    }

    /// Records that the loop is not idle any more. `brought` is `true` if work has come, and
    /// `false` if only time has passed.
    pub(crate) fn end(&mut self, brought: bool, now: impl FnOnce() -> Instant) {
        if let Some(since) = self.idle_since.take() {
            self.learn(if brought {
                now().saturating_duration_since(since)
            } else {
                Duration::MAX
            });
        }
    }

    fn learn(&mut self, idle: Duration) {
        if !self.adaptive {
            return;
        }
        let least = self.longest / LEAST_PART;
        self.budget = if idle <= self.longest {
            (self.budget * 2).clamp(least, self.longest)
        } else if self.budget > least {
            self.budget / 2
        } else {
            Duration::ZERO
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(microseconds: u64) -> Duration {
        Duration::from_micros(microseconds)
    }

    /// Returns how long the loop spins in each of the idle times `idles`.
    fn spun(policy: &mut SpinPolicy, idles: &[Duration]) -> Vec<Duration> {
        let mut now = Instant::now();
        let mut spun = Vec::new();
        for idle in idles {
            let end = policy.begin(now);
            spun.push((end - now).min(*idle));
            policy.learn(*idle);
            now += *idle;
        }
        spun
    }

    #[test]
    fn it_grows_while_work_comes_soon_and_is_given_up_when_it_does_not() {
        let mut policy = SpinPolicy::new(Spin::Adaptive(us(160))).unwrap();
        let soon = spun(&mut policy, &[us(160); 7]);
        assert_eq!(soon, [0, 10, 20, 40, 80, 160, 160].map(us));
        let late = spun(&mut policy, &[us(161); 7]);
        assert_eq!(late, [160, 80, 40, 20, 10, 0, 0].map(us));
    }

    #[test]
    fn an_idle_loop_spins_for_less_than_a_fiftieth_of_its_time() {
        let mut policy = SpinPolicy::new(Spin::Adaptive(us(100))).unwrap();
        spun(&mut policy, &[us(10); 100]); // a busy time, so that the budget has grown
        let second: Duration = spun(&mut policy, &[Duration::from_millis(10); 100])
            .into_iter()
            .sum();
        assert!(second < us(200) && second >= us(100), "{second:?}");
        let seldom: Duration = spun(&mut policy, &[[us(10), us(20_000)]; 50].concat())
            .into_iter()
            .sum();
        assert!(
            seldom < us(1_000_000 / 50),
            "{seldom:?} of a second with a request each 20 ms"
        );
    }

    #[test]
    fn a_fixed_bound_neither_grows_nor_shrinks_and_off_is_off() {
        let mut policy = SpinPolicy::new(Spin::Fixed(us(30))).unwrap();
        assert_eq!(
            spun(&mut policy, &[us(10), us(1000), us(1000)]),
            [10, 30, 30].map(us)
        );
        let mut endless = SpinPolicy::new(Spin::Adaptive(Duration::MAX)).unwrap();
        assert_eq!(
            spun(&mut endless, &[us(10), us(10), us(10)]),
            [0, 10, 10].map(us)
        );
        assert!(SpinPolicy::new(Spin::Off).is_none());
        assert!(SpinPolicy::new(Spin::Adaptive(Duration::ZERO)).is_none());
    }
}
