//! The race of the attempts of one connection: the time at which each address is tried, and the
//! attempt that wins.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem::take;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{Interest, Key, Registry, Then, TimerKey};

use super::attempt::{Attempt, start_connect};
use crate::connection::handler::ConnectionHandler;
use crate::connection::options::ConnectionOptions;
use crate::connection::reason::CloseReason;
use crate::connection::registration::Registration;
use crate::error::{named, panic_message};

/// RFC 8305, section 5: "Connection Attempt Delay", recommended.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The state that the attempts of one connection share. It is borrowed only to read or change a
/// field, never while a callback runs.
pub(in crate::connection) struct Race<H>(Rc<RefCell<RaceState<H>>>);

struct RaceState<H> {
    /// `None` when the race is over.
    handler: Option<H>,
    /// The addresses that are not tried yet.
    addresses: VecDeque<SocketAddr>,
    options: ConnectionOptions,
    /// The attempts that are in progress.
    attempts: Vec<Key>,
    /// The time at which the attempts in progress fail. It is the timeout of each attempt, and not
    /// a timer of its own. So if the kernel has completed an attempt meanwhile, the loop reports
    /// the connection first.
    gives_up_at: Option<Instant>,
    /// The timer that starts the next attempt beside those in progress.
    next_attempt_timer: Option<TimerKey>,
    last_error: Option<io::Error>,
    /// The line that called `connect`.
    origin: &'static Location<'static>,
}

impl<H: 'static> Race<H> {
    pub(super) fn new(
        handler: H,
        addresses: Vec<SocketAddr>,
        options: &ConnectionOptions,
        gives_up_at: Option<Instant>,
        origin: &'static Location<'static>,
    ) -> Self {
        Self(Rc::new(RefCell::new(RaceState {
            handler: Some(handler),
            addresses: alternate(addresses),
            options: options.clone(),
            attempts: Vec::new(),
            gives_up_at,
            next_attempt_timer: None,
            last_error: None,
            origin,
        })))
    }

    /// Returns `true` while no attempt has the handler and the race was not given up.
    pub(super) fn is_pending(&self) -> bool {
        self.0.borrow().handler.is_some()
    }

    /// Returns how many attempts are in progress.
    pub(super) fn attempts(&self) -> usize {
        self.0.borrow().attempts.len()
    }

    /// Removes an attempt that has failed. Returns `true` if other attempts are in progress.
    pub(super) fn remove_attempt(&self, key: Key) -> bool {
        let attempts = &mut self.0.borrow_mut().attempts;
        attempts.retain(|attempt| *attempt != key);
        !attempts.is_empty()
    }

    /// Drops the addresses that are not tried yet.
    pub(super) fn stop(&self) {
        self.0.borrow_mut().addresses.clear();
    }

    /// Ends the race without a winner. The handler is notified with the deferred callbacks.
    pub(super) fn give_up<S>(&self, registry: &mut Registry<S>, reason: CloseReason)
    where
        H: ConnectionHandler<S>,
    {
        if let Some(mut handler) = self.end_attempts(registry, Key::NULL) {
            registry.defer_from(self.0.borrow().origin, move |cx| {
                handler.on_close(reason, cx)
            });
        }
    }

    /// Ends all attempts except the winner. Returns the handler, or `None` if it was taken already.
    pub(super) fn end_attempts<S>(&self, registry: &mut Registry<S>, winner: Key) -> Option<H> {
        let (handler, attempts, next_attempt_timer) = {
            let mut race = self.0.borrow_mut();
            race.addresses.clear();
            (
                race.handler.take(),
                take(&mut race.attempts),
                race.next_attempt_timer.take(),
            )
        };
        // An error means that the attempt has ended meanwhile.
        attempts
            .into_iter()
            .filter(|attempt| *attempt != winner)
            .for_each(|attempt| drop(registry.remove(attempt)));
        next_attempt_timer.map(|timer| registry.cancel(timer));
        handler
    }

    /// Starts the next attempt. Gives up if no address is left and no attempt is in progress.
    pub(super) fn next<S>(&self, registry: &mut Registry<S>)
    where
        H: ConnectionHandler<S>,
    {
        loop {
            // The borrow must end before `attempt` is called, which borrows the state again.
            let (address, options, next_attempt_timer) = {
                let race = &mut *self.0.borrow_mut();
                (
                    race.addresses.pop_front(),
                    race.options.clone(),
                    race.next_attempt_timer.take(),
                )
            };
            next_attempt_timer.map(|timer| registry.cancel(timer));
            let Some(address) = address else { break };
            // The user's `prepare` may panic. The handler must learn that it gets no connection.
            let attempt = catch_unwind(AssertUnwindSafe(|| {
                self.attempt(registry, address, &options)
            }));
            match attempt {
                Ok(Ok(key)) => return self.record_attempt(registry, key),
                Ok(Err(error)) => self.record_failure(address, error),
                Err(panic) => {
                    self.give_up(registry, CloseReason::Panicked(panic_message(&*panic)));
                    resume_unwind(panic);
                }
            }
        }
        // No address is left. An attempt that is in progress can still win.
        let (is_lost, error) = {
            let race = &mut *self.0.borrow_mut();
            (
                race.attempts.is_empty() && race.handler.is_some(),
                race.last_error.take(),
            )
        };
        if is_lost {
            let none = || {
                io::Error::new(
                    ErrorKind::AddrNotAvailable,
                    "connect: the list of addresses is empty",
                )
            };
            self.give_up(registry, CloseReason::Failed(error.unwrap_or_else(none)));
        }
    }

    /// Records an attempt that is in progress. Starts a timer for the next attempt.
    fn record_attempt<S>(&self, registry: &mut Registry<S>, key: Key)
    where
        H: ConnectionHandler<S>,
    {
        let mut race = self.0.borrow_mut();
        race.attempts.push(key);
        if !race.addresses.is_empty() {
            let race_on = self.clone();
            let timer = registry.after(ATTEMPT_DELAY, move |cx| {
                race_on.next(cx.registry);
                Ok(Then::Done)
            });
            let _ = registry.set_timer_origin(timer, race.origin); // the timer was just made
            race.next_attempt_timer = Some(timer);
        }
    }

    pub(super) fn record_failure(&self, address: SocketAddr, error: io::Error) {
        tracing::debug!(%address, %error, "connection attempt failed");
        self.0.borrow_mut().last_error = Some(named(format_args!("connect to {address}"), error));
    }

    /// Registers an attempt to connect to `address`.
    fn attempt<S>(
        &self,
        registry: &mut Registry<S>,
        address: SocketAddr,
        options: &ConnectionOptions,
    ) -> io::Result<Key>
    where
        H: ConnectionHandler<S>,
    {
        let stream = start_connect(address, options)?;
        let attempt = Attempt {
            race: self.clone(),
            address,
        };
        let key = registry.add_handler(
            stream,
            Interest::WRITABLE,
            Registration::connecting(options, attempt),
        )?;
        let race = self.0.borrow();
        registry.set_origin(key, race.origin)?;
        let left = race
            .gives_up_at
            .map(|at| at.saturating_duration_since(registry.now()));
        registry.set_timeout(key, left)?;
        Ok(key)
    }
}

impl<H> Clone for Race<H> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

/// Alternates between the address families, beginning with that of the first address.
fn alternate(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let Some(first) = addresses.first() else {
        return VecDeque::new();
    };
    let (mut ours, mut others): (VecDeque<_>, VecDeque<_>) = addresses
        .iter()
        .copied()
        .partition(|address| address.is_ipv4() == first.is_ipv4());
    let mut alternating = VecDeque::with_capacity(addresses.len());
    while !ours.is_empty() || !others.is_empty() {
        alternating.extend(ours.pop_front());
        alternating.extend(others.pop_front());
    }
    alternating
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_beginning_with_the_first() {
        let parse = |list: &[&str]| {
            list.iter()
                .map(|address| address.parse().unwrap())
                .collect::<Vec<SocketAddr>>()
        };
        let addresses = parse(&[
            "[::1]:1",
            "[::2]:1",
            "127.0.0.1:1",
            "[::3]:1",
            "127.0.0.2:1",
        ]);
        let expected = parse(&[
            "[::1]:1",
            "127.0.0.1:1",
            "[::2]:1",
            "127.0.0.2:1",
            "[::3]:1",
        ]);
        assert_eq!(alternate(addresses), expected);
        assert_eq!(alternate(Vec::new()), []);
    }
}
