//! Unix sockets whose queue is full.
//!
//! The kernel accepts no connect then (`EAGAIN`), and reports nothing when there is room: `unix(7)`
//! and `connect(2)`. So the address is tried again after a pause, which doubles each time.

use std::mem::take;
use std::time::Duration;

use reactor::{Registry, Then, TimerKey};

use super::race::Race;
use crate::backoff::Backoff;
use crate::connection::handler::ConnectionHandler;
use crate::sockets::{Address, unix};

/// The addresses of a race whose queue was full when they were tried.
pub(super) struct FullQueues {
    pub(super) addresses: Vec<Address>,
    /// Runs when the addresses are tried again.
    pub(super) timer: Option<TimerKey>,
    pauses: Backoff,
}

impl Default for FullQueues {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            timer: None,
            pauses: unix::full_queue_pauses(),
        }
    }
}

impl FullQueues {
    /// Takes the addresses, because they are tried now.
    fn take(&mut self) -> Vec<Address> {
        self.timer = None; // it runs
        take(&mut self.addresses)
    }
}

impl<H: 'static> Race<H> {
    /// Starts a timer that tries the addresses with a full queue again.
    pub(super) fn retry_later<S>(&self, registry: &mut Registry<S>)
    where
        H: ConnectionHandler<S>,
    {
        let mut race = self.0.borrow_mut();
        if race.full.addresses.is_empty() || race.full.timer.is_some() {
            return;
        }
        let left = race.time_left(registry).unwrap_or(Duration::MAX);
        let pause = race.full.pauses.next_delay().min(left);
        let race_on = self.clone();
        let timer = registry.after(pause, move |cx| {
            race_on.retry(cx.registry);
            Ok(Then::Done)
        });
        let _ = registry.set_timer_origin(timer, race.origin); // the timer was just made
        race.full.timer = Some(timer);
    }

    /// Tries the addresses with a full queue again.
    fn retry<S>(&self, registry: &mut Registry<S>)
    where
        H: ConnectionHandler<S>,
    {
        let addresses = self.0.borrow_mut().full.take();
        let mut has_failed = false;
        for address in addresses {
            has_failed |= !self.start(registry, address);
        }
        if self.0.borrow().time_left(registry) == Some(Duration::ZERO)
            && !self.0.borrow_mut().full.take().is_empty()
        {
            self.time_is_over(registry);
        } else if has_failed {
            self.next(registry);
        } else {
            self.retry_later(registry);
        }
    }
}
