//! The wait of a turn, which ends by an event of the kernel, a message of another thread, or the
//! next timer.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::registry::Registry;
use crate::sys::Sleep;
use crate::sys::poller::Broken;

/// The number of looks at the messages of other threads between two looks at the kernel, each of
/// which is a system call.
const LOOKS_A_CALL: u32 = 32;

/// The result of looking for work.
enum Spun {
    Found,
    /// No work was found. From now on the loop may wait for `left`.
    Nothing {
        left: Option<Duration>,
    },
}

impl<S> Registry<S> {
    /// Waits until there is something to do, but no longer than `timeout`. Stores the events of the
    /// kernel in `sys.events`.
    #[inline(always)]
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.time.forget(); // hooks see the time before the wait
        // Events left over from a turn that a panic cut short come first.
        if self.sys.events.is_empty() {
            let timeout = if self.has_work_at_hand() {
                Some(Duration::ZERO)
            } else {
                timeout
            };
            if !self.turn.needs_full_turn {
                self.metrics.sleeps += u64::from(timeout != Some(Duration::ZERO));
                self.sys.wait(timeout)?;
            } else {
                let waited = match timeout {
                    Some(Duration::ZERO) => self.look(),
                    timeout => self.wait_for_all(timeout),
                };
                // After the wait, which has recorded when the last turn ended.
                self.time
                    .pauses
                    .begin(self.metrics.turns, self.timers.armings());
                waited?;
            }
            self.metrics.events += self.sys.events.len() as u64;
        }
        Ok(())
    }

    /// Waits if timers, other threads or both may end the wait too.
    #[inline(never)]
    fn wait_for_all(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        if self.turn.spin.is_some() {
            self.spin_and_sleep(timeout)
        } else {
            self.sleep(timeout)
        }
    }

    /// Waits. If the wait may take time, other threads are asked to end it.
    #[inline]
    fn sleep(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        if !self.may_sleep() {
            return self.look();
        }
        self.metrics.sleeps += 1;
        let waited = self.wait_for_timers(timeout);
        self.wake_up();
        waited
    }

    /// Collects what there is, without a wait.
    #[inline(never)]
    fn look(&mut self) -> Result<(), Error> {
        self.answer_wake();
        self.rearm_if_wall_was_set();
        let asked = self.ask();
        self.wake_up();
        asked
    }

    /// Looks for work, and waits only if there is none.
    #[cold]
    #[inline(never)]
    fn spin_and_sleep(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        match self.spin_for_work(timeout)? {
            Spun::Found => self.answer_wake(),
            Spun::Nothing {
                left: Some(Duration::ZERO),
            } => self.look()?,
            Spun::Nothing { left } => self.sleep(left)?,
        }
        if let Some(spin) = &mut self.turn.spin {
            let posted = self.inbox.hub.as_ref().is_some_and(|hub| hub.has_pending());
            spin.end(posted || !self.sys.events.is_empty(), || {
                self.time.clock.read()
            });
        }
        Ok(())
    }

    /// Looks for work while that pays.
    ///
    /// Meanwhile the loop counts as awake: no thread writes to its eventfd.
    fn spin_for_work(&mut self, timeout: Option<Duration>) -> Result<Spun, Error> {
        let not_spun = Ok(Spun::Nothing { left: timeout });
        let Some(spin) = &mut self.turn.spin else {
            return not_spun;
        };
        let Self {
            timers,
            time,
            sys,
            inbox,
            metrics,
            ..
        } = self;
        // A clock that stands still would never end the spin.
        if time.clock.standing().is_some() {
            return not_spun;
        }
        let began = time.clock.read();
        time.pauses.close(began);
        let mut now = began;
        let budget_ends = spin.begin(began);
        let due = timers.next_deadline();
        // A spin is part of the wait: it ends with the timeout, and when a timer is due.
        let last = [timeout.and_then(|timeout| began.checked_add(timeout)), due];
        let end = last.into_iter().flatten().fold(budget_ends, Instant::min);
        if end <= now || !inbox.announced.is_empty() || timers.has_due() {
            return not_spun;
        }
        metrics.spins += 1;
        while now < end {
            // First the kernel, at least once a turn: a stream of messages must not hide its
            // events.
            sys.wait(Some(Duration::ZERO))?;
            if !sys.events.is_empty() {
                sys.record_wait(now);
                return Ok(Spun::Found);
            }
            for _ in 0..LOOKS_A_CALL {
                if inbox.hub.as_ref().is_some_and(|hub| hub.has_pending()) {
                    return Ok(Spun::Found);
                }
                std::hint::spin_loop();
            }
            now = time.clock.read();
        }
        metrics.idle_spins += 1;
        let is_due = due.is_some_and(|due| due <= now);
        let left = timeout.map(|timeout| timeout.saturating_sub(now - began));
        Ok(Spun::Nothing {
            left: if is_due { Some(Duration::ZERO) } else { left },
        })
    }

    /// Waits until the next timer is due, but no longer than `timeout`.
    #[inline]
    fn wait_for_timers(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.rearm_if_wall_was_set();
        let due = self.timers.next_deadline();
        if due.is_none() && timeout.is_none() {
            self.time.pauses.forget_open();
            return self.sys.wait(None).map(drop);
        }
        // The clock is read again. With the time of the last turn, the wait would be too long by
        // the duration of that turn.
        let now = self.time.read();
        self.time.pauses.close(now);
        let end = match (due, timeout.and_then(|timeout| now.checked_add(timeout))) {
            (Some(due), Some(times_out)) => due.min(times_out),
            (Some(end), None) | (None, Some(end)) => end,
            (None, None) => return self.sys.wait(None).map(drop),
        };
        if end <= now {
            return self.ask_at(now);
        }
        let Self {
            sys, time, inbox, ..
        } = self;
        let is_awaited = || inbox.hub.as_ref().is_some_and(|hub| hub.must_stay_alive());
        sys.sleep(&time.clock, Sleep { now, end, timeout }, is_awaited)
            .or_else(|broken| self.after_broken(broken))
    }

    /// Handles a wait that was cut short. The process may have been stopped meanwhile, past any
    /// deadline.
    #[cold]
    #[inline(never)]
    fn after_broken(&mut self, broken: Broken) -> Result<(), Error> {
        match broken {
            Broken::Interrupted => self.ask(),
            Broken::Failed(error) => Err(error),
        }
    }

    /// Collects the events that the kernel has now. If a timer may be due, the time of this turn is
    /// read first, so that such a timer runs in this turn and not in the next one.
    #[inline]
    fn ask(&mut self) -> Result<(), Error> {
        if let Some(now) = self.time.clock.standing() {
            return self.ask_at(now);
        }
        if self.timers.is_empty() || self.timers.are_at_rest() {
            self.time.pauses.forget_open();
            return self.sys.wait(Some(Duration::ZERO)).map(drop);
        }
        let now = self.time.read();
        self.time.pauses.close(now);
        self.ask_at(now)
    }

    /// Collects the events that the kernel has now, if the time is `now`.
    #[inline]
    fn ask_at(&mut self, now: Instant) -> Result<(), Error> {
        self.time.keep(now);
        self.sys.collect(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::Reactor;
    use crate::turn::spin::Spin;

    #[test]
    fn the_rest_of_a_timeout_after_a_spin_excludes_the_time_spun() {
        let ms = Duration::from_millis;
        let mut reactor = Reactor::<()>::builder()
            .spin(Spin::Fixed(ms(2)))
            .build()
            .unwrap();
        for (timeout, most) in [
            (ms(3600), ms(3598)),
            (ms(2), Duration::ZERO),
            (ms(1), Duration::ZERO),
        ] {
            let Spun::Nothing { left: Some(left) } =
                reactor.registry.spin_for_work(Some(timeout)).unwrap()
            else {
                unreachable!("no thread brings work")
            };
            assert!(left <= most, "{left:?} of {timeout:?}");
        }
        let Spun::Nothing { left: None } = reactor.registry.spin_for_work(None).unwrap() else {
            unreachable!("there is no limit")
        };
    }
}
