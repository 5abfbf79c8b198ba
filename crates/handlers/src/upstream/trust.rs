//! The proof that a connection is of use, and the delay before the next attempt. Knows no clock:
//! times are passed in.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// The proof that a connection of an [`Upstream`](crate::Upstream) is of use. A connection that has
/// been of use resets the back-off when it ends. A connection that was only accepted never does: a
/// peer that accepts and closes would be tried again and again after the initial delay.
///
/// [`Upstream::confirm`](crate::Upstream::confirm) is a proof in addition to each of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// The connection has been open for this time.
    Uptime(Duration),
    /// The peer has sent at least one byte. Use this only if the peer sends nothing before it has
    /// received something, so not for a protocol with a greeting.
    FirstBytes,
    /// Only [`Upstream::confirm`](crate::Upstream::confirm) is a proof.
    Confirmation,
}

/// The shortest delay before an attempt. Without it, attempts that fail at once would spin the loop
/// if the back-off has a delay of zero.
pub(super) const MIN_DELAY: Duration = Duration::from_millis(1);

/// The back-off of an upstream, and how far the present connection is proved.
#[derive(Debug)]
pub(super) struct Trust {
    backoff: Backoff,
    proof: Proof,
    /// The time at which the present connection has opened.
    opened: Option<Instant>,
    is_proved: bool,
}

impl Trust {
    pub(super) const fn new(backoff: Backoff, proof: Proof) -> Self {
        Self {
            backoff,
            proof,
            opened: None,
            is_proved: false,
        }
    }

    pub(super) const fn opened(&mut self, now: Instant) {
        self.opened = Some(now);
    }

    /// Records that the peer has sent bytes.
    pub(super) fn received(&mut self) {
        if self.proof == Proof::FirstBytes {
            self.is_proved = true;
        }
    }

    /// Records that the user has confirmed the present connection.
    pub(super) const fn confirm(&mut self) {
        self.is_proved = self.opened.is_some();
    }

    /// Records that the connection, or the attempt, has ended. Returns the delay before the next
    /// attempt.
    pub(super) fn closed(&mut self, now: Instant) -> Duration {
        let up = self
            .opened
            .take()
            .map(|opened| now.saturating_duration_since(opened));
        let has_lasted = match (self.proof, up) {
            (Proof::Uptime(needed), Some(up)) => up >= needed,
            _ => false,
        };
        if has_lasted || self.is_proved {
            self.backoff.reset();
        }
        self.is_proved = false;
        self.backoff.next_delay().max(MIN_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Jitter;

    const SECOND: Duration = Duration::from_secs(1);

    fn trust(proof: Proof) -> Trust {
        let backoff = Backoff::new(SECOND, 8 * SECOND).jitter(Jitter::None);
        Trust::new(backoff, proof)
    }

    /// Returns the delay after two failures and a connection that was up for `up`.
    fn delay_after(proof: Proof, up: Duration, happens: fn(&mut Trust)) -> Duration {
        let (mut trust, now) = (trust(proof), Instant::now());
        assert_eq!([trust.closed(now), trust.closed(now)], [SECOND, 2 * SECOND]);
        trust.opened(now);
        happens(&mut trust);
        trust.closed(now + up)
    }

    #[test]
    fn a_mere_accept_never_resets_the_delay() {
        for proof in [
            Proof::Uptime(SECOND),
            Proof::FirstBytes,
            Proof::Confirmation,
        ] {
            assert_eq!(delay_after(proof, Duration::ZERO, |_| {}), 4 * SECOND);
        }
    }

    #[test]
    fn each_proof_resets_the_delay_and_no_other_does() {
        let day = 86_400 * SECOND;
        let uptime = Proof::Uptime(SECOND);
        let nanosecond = Duration::from_nanos(1);
        assert_eq!(
            delay_after(uptime, SECOND - nanosecond, Trust::received),
            4 * SECOND
        );
        assert_eq!(delay_after(uptime, SECOND, |_| {}), SECOND);
        assert_eq!(delay_after(Proof::FirstBytes, day, |_| {}), 4 * SECOND);
        assert_eq!(
            delay_after(Proof::FirstBytes, Duration::ZERO, Trust::received),
            SECOND
        );
        assert_eq!(
            delay_after(Proof::Confirmation, day, Trust::received),
            4 * SECOND
        );
        for proof in [uptime, Proof::FirstBytes, Proof::Confirmation] {
            assert_eq!(delay_after(proof, Duration::ZERO, Trust::confirm), SECOND);
        }
    }

    #[test]
    fn an_uptime_of_zero_is_any_connection_and_the_greatest_is_none() {
        assert_eq!(
            delay_after(Proof::Uptime(Duration::ZERO), Duration::ZERO, |_| {}),
            SECOND
        );
        let greatest = Proof::Uptime(Duration::MAX);
        assert_eq!(
            delay_after(greatest, 1_000_000 * SECOND, |_| {}),
            4 * SECOND
        );
    }

    #[test]
    fn a_proof_counts_for_its_own_connection_only() {
        let (mut trust, now) = (trust(Proof::Confirmation), Instant::now());
        trust.confirm(); // nothing is open
        assert_eq!(trust.closed(now), SECOND);
        trust.opened(now);
        trust.confirm();
        assert_eq!([trust.closed(now), trust.closed(now)], [SECOND, 2 * SECOND]);
    }

    #[test]
    fn a_delay_of_zero_rests_and_the_greatest_is_kept() {
        for (delay, expected) in [(Duration::ZERO, MIN_DELAY), (Duration::MAX, Duration::MAX)] {
            let backoff = Backoff::new(delay, delay).jitter(Jitter::None);
            let mut trust = Trust::new(backoff, Proof::FirstBytes);
            assert_eq!(
                [(); 3].map(|()| trust.closed(Instant::now())),
                [expected; 3]
            );
        }
    }
}
