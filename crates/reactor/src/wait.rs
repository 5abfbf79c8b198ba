//! The wait of a turn: for the kernel, for other threads and for the next timer, whichever comes first.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::poller::{WAIT_MAX, Waited};
use crate::reactor::Reactor;
use crate::registry::Registry;

/// So many looks at what other threads have sent come between two looks at what the kernel has, each of which is a
/// system call.
const LOOKS_A_CALL: u32 = 32;

/// What a look for work has come to.
enum Spun {
    Found,
    /// There is none, and the loop may wait so long for it from now on.
    Nothing {
        left: Option<Duration>,
    },
}

impl<S> Reactor<S> {
    /// Gets ready for a wait that somebody else makes, and gives how long that may last: `None` for as long as it likes.
    ///
    /// For a reactor within another loop: that of a toolkit, or another reactor. There, watch the reactor itself, which is [`AsFd`],
    /// for reading; wait no longer than this says; take a [`turn`](Self::turn) that does not wait; and ask again. A reactor that
    /// has been stopped, or has something at hand, says [`Duration::ZERO`].
    ///
    /// From this call to the next turn the loop counts as asleep: of the threads that send to it meanwhile, the first writes its
    /// eventfd. What its owner adds or arms meanwhile is not in the answer: ask anew. Reads the clock if a timer is armed; no
    /// other system call. The answer is not rounded; [`Builder::spin`](crate::Builder::spin) means nothing to it.
    ///
    /// ```
    /// # use std::{io, time::Duration};
    /// use reactor::{Interest, Next, Reactor, Then};
    ///
    /// # fn main() -> io::Result<()> {
    /// let mut inner = Reactor::<Vec<&str>>::new()?;
    /// inner.after(Duration::from_millis(1), |cx| {
    ///     cx.state.push("inside");
    ///     Ok(Then::Done)
    /// });
    /// let mut outer = Reactor::<Vec<&str>>::new()?;
    /// let wait = inner.prepare_to_wait();
    /// let key = outer.add(inner, Interest::READABLE, |inner, cx| {
    ///     inner.get_mut().turn(cx.state, Some(Duration::ZERO))?;
    ///     cx.registry.set_timeout(cx.key(), inner.get_mut().prepare_to_wait())?;
    ///     if cx.state.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(Next::Remove) }
    /// })?;
    /// outer.set_timeout(key, wait)?;
    /// let mut log = Vec::new();
    /// outer.run(&mut log)?;
    /// assert_eq!(log, ["inside"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn prepare_to_wait(&mut self) -> Option<Duration> {
        self.registry.heed_manual_wall();
        let is_busy =
            !self.registry.events.is_empty() || self.registry.has_work_at_hand() || self.registry.timers.has_due();
        if is_busy || !self.registry.may_sleep() {
            return Some(Duration::ZERO);
        }
        self.registry.metrics.sleeps += 1;
        let due = self.registry.timers.next_deadline()?;
        Some(due.saturating_duration_since(self.registry.clock.read()))
    }

    /// Waits until there is something to do, but no longer than `timeout`: what the kernel has is in `events` then.
    #[inline(always)]
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.registry.clock.forget(); // hooks see the time before the wait
        // Events left over from a turn that a panic cut short come first.
        if self.registry.events.is_empty() {
            let timeout = if self.registry.has_work_at_hand() { Some(Duration::ZERO) } else { timeout };
            if self.registry.only_sources {
                self.registry.metrics.sleeps += u64::from(timeout != Some(Duration::ZERO));
                self.registry.poller.wait(&mut self.registry.events, timeout)?;
            } else {
                self.wait_for_all(timeout)?;
            }
            self.registry.metrics.events += self.registry.events.len() as u64;
        }
        Ok(())
    }

    /// The same where timers, other threads or both may end it too.
    #[inline(never)]
    fn wait_for_all(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        let waited = if self.spin.is_some() && timeout != Some(Duration::ZERO) {
            self.spin_and_sleep(timeout)
        } else {
            self.sleep(timeout)
        };
        // Behind the wait, which has told when the last turn was over.
        self.registry.timers.begin_turn(self.registry.metrics.turns);
        waited
    }

    /// Waits, and where that may take time has other threads know that they have to end it.
    #[inline]
    fn sleep(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        let may_sleep = timeout != Some(Duration::ZERO) && self.registry.may_sleep();
        self.registry.metrics.sleeps += u64::from(may_sleep);
        if !may_sleep {
            self.registry.answer_wake();
        }
        let waited = self.wait_for_timers(if may_sleep { timeout } else { Some(Duration::ZERO) });
        self.registry.wake_up();
        waited
    }

    /// Looks for work first.
    #[cold]
    #[inline(never)]
    fn spin_and_sleep(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        match self.spin_for_work(timeout)? {
            Spun::Found => self.registry.answer_wake(),
            Spun::Nothing { left } => self.sleep(left)?,
        }
        if let Some(spin) = &mut self.spin {
            let posted = self.registry.hub.as_ref().is_some_and(|hub| hub.is_posted());
            spin.end(posted || !self.registry.events.is_empty());
        }
        Ok(())
    }

    /// Looks for work for as long as it is worth it.
    ///
    /// While it looks the loop counts as awake: nobody writes to its eventfd.
    fn spin_for_work(&mut self, timeout: Option<Duration>) -> Result<Spun, Error> {
        let not_spun = Ok(Spun::Nothing { left: timeout });
        let Some(spin) = &mut self.spin else { return not_spun };
        let Registry { timers, clock, poller, events, hub, announced, metrics, .. } = &mut self.registry;
        if clock.manual().is_some() {
            return not_spun; // it stands still meanwhile
        }
        let began = Instant::now();
        timers.pauses.close(began);
        let mut now = began;
        let budget_ends = spin.begin(began);
        let due = timers.next_deadline();
        let last = [timeout.and_then(|timeout| began.checked_add(timeout)), due];
        let end = last.into_iter().flatten().fold(budget_ends, Instant::min);
        if end <= now || !announced.is_empty() || timers.has_due() {
            return not_spun;
        }
        metrics.spins += 1;
        while now < end {
            // First the kernel, once a turn at least: a stream of messages must not hide what it has.
            poller.wait(events, Some(Duration::ZERO))?;
            if !events.is_empty() {
                self.registry.note_asked(now);
                return Ok(Spun::Found);
            }
            for _ in 0..LOOKS_A_CALL {
                if hub.as_ref().is_some_and(|hub| hub.is_posted()) {
                    return Ok(Spun::Found);
                }
                std::hint::spin_loop();
            }
            now = Instant::now();
        }
        metrics.spins_in_vain += 1;
        let is_due = due.is_some_and(|due| due <= now);
        let left = timeout.map(|timeout| timeout.saturating_sub(now - began));
        Ok(Spun::Nothing { left: if is_due { Some(Duration::ZERO) } else { left } })
    }

    /// Waits until the next timer is due, but no longer than `timeout`.
    #[inline]
    fn wait_for_timers(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.registry.heed_manual_wall();
        if timeout == Some(Duration::ZERO) {
            return self.ask();
        }
        let Registry { timers, clock, poller, events, .. } = &mut self.registry;
        let due = timers.next_deadline();
        if due.is_none() && timeout.is_none() {
            timers.pauses.forget_open();
            return poller.wait(events, None).map(drop);
        }
        // Read anew: what the last turn took must not be slept on top.
        let now = clock.read();
        timers.pauses.close(now);
        let end = match (due, timeout.and_then(|timeout| now.checked_add(timeout))) {
            (Some(due), Some(times_out)) => due.min(times_out),
            (Some(end), None) | (None, Some(end)) => end,
            (None, None) => return poller.wait(events, None).map(drop),
        };
        if end <= now {
            return self.ask_at(now);
        }
        if clock.manual().is_some() {
            return self.wait_by_manual_clock(now, end, timeout);
        }
        match poller.wait_until(events, end, end - now)? {
            Waited::Through if events.is_silence() && !events.is_full() => {
                self.registry.asked.note_all(end.min(now + WAIT_MAX))
            }
            Waited::Through => self.registry.note_asked(now),
            // The process may have been stopped meanwhile, past any deadline.
            Waited::Interrupted => self.ask()?,
        }
        Ok(())
    }

    /// Collects what the kernel has now. Where a timer may be due the time of this turn is read before: what is due at that
    /// time need not wait for another turn.
    #[inline]
    fn ask(&mut self) -> Result<(), Error> {
        let Registry { timers, clock, poller, events, .. } = &mut self.registry;
        if let Some(manual) = clock.manual() {
            let now = manual.now(); // which stands: the time of this turn is read when a callback asks
            return self.ask_at(now);
        }
        if timers.is_empty() || timers.are_at_rest() {
            timers.pauses.forget_open();
            return poller.wait(events, Some(Duration::ZERO)).map(drop);
        }
        let now = clock.read();
        timers.pauses.close(now);
        self.ask_at(now)
    }

    /// The same where the time is `now`.
    #[inline]
    fn ask_at(&mut self, now: Instant) -> Result<(), Error> {
        let Registry { clock, poller, events, .. } = &mut self.registry;
        if clock.manual().is_none() {
            clock.keep(now);
        }
        poller.wait(events, Some(Duration::ZERO))?;
        self.registry.note_asked(now);
        Ok(())
    }

    /// Waits where the clock is driven by hand: it stands meanwhile, or jumps to the `end` if there is nothing to wait
    /// for.
    #[cold]
    fn wait_by_manual_clock(&mut self, now: Instant, end: Instant, timeout: Option<Duration>) -> Result<(), Error> {
        let Registry { clock, poller, events, hub, asked, .. } = &mut self.registry;
        if let Some(manual) = clock.manual().filter(|_| clock.jumps()) {
            poller.wait(events, Some(Duration::ZERO))?;
            if !events.is_empty() {
                self.registry.note_asked(now);
                return Ok(());
            }
            // Other threads work in the time of the system, which they are given.
            if !hub.as_ref().is_some_and(|hub| hub.is_expected()) {
                manual.advance(end - now);
                asked.note_all(end);
                return Ok(());
            }
        }
        poller.wait(events, timeout)?;
        self.registry.note_asked(now);
        Ok(())
    }
}

impl<S> Registry<S> {
    /// Notes a wait that has begun at the time `began`, and what it has brought.
    #[inline]
    fn note_asked(&mut self, began: Instant) {
        if self.events.is_full() { self.asked.note_some(self.events.len()) } else { self.asked.note_all(began) }
    }

    /// How many fds the kernel may have to report at most.
    pub(crate) fn watched(&self) -> usize {
        let own = [self.hub.is_some(), self.poller.has_alarm(), self.timers.watch_wall_clock()];
        self.sources.len() + own.into_iter().filter(|is_watched| *is_watched).count()
    }
}

/// To be watched for reading by another loop: [`Reactor::prepare_to_wait`].
impl<S> AsFd for Reactor<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registry.poller.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spin::Spin;

    #[test]
    fn what_is_left_of_a_timeout_after_a_spin_is_what_was_not_spun() {
        let ms = Duration::from_millis;
        let mut reactor = Reactor::<()>::builder().spin(Spin::Fixed(ms(2))).build().unwrap();
        for (timeout, most) in [(ms(3600), ms(3598)), (ms(2), Duration::ZERO), (ms(1), Duration::ZERO)] {
            let Spun::Nothing { left: Some(left) } = reactor.spin_for_work(Some(timeout)).unwrap() else {
                unreachable!("nobody brings work")
            };
            assert!(left <= most, "{left:?} of {timeout:?}");
        }
        let Spun::Nothing { left: None } = reactor.spin_for_work(None).unwrap() else {
            unreachable!("nobody has set a limit")
        };
    }
}
