//! The race of the attempts of one connection: the time at which each address is tried, and the
//! attempt that wins.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem::take;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{Context, Interest, Key, Registry, Then, TimerKey};

use super::attempt::{Attempt, connect_unix, start_tcp};
use super::full_queue::FullQueues;
use super::order::alternate;
use crate::carried::CallerContext;
use crate::connection::handler::ConnectionHandler;
use crate::connection::options::ConnectionOptions;
use crate::connection::reason::CloseReason;
use crate::connection::registration::Registration;
use crate::connection::stream::Stream;
use crate::connection::times::Timeout;
use crate::error::{named, panic_message};
use crate::sockets::Address;
use crate::sockets::address::{of_name, of_path};

/// RFC 8305, section 5: "Connection Attempt Delay", recommended.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The state that the attempts of one connection share. It is borrowed only to read or change a
/// field, never while a callback runs.
pub(in crate::connection) struct Race<H>(pub(super) Rc<RefCell<RaceState<H>>>);

pub(in crate::connection) struct RaceState<H> {
    /// The handler, and the context of the call that connects, which is that of its `on_close`.
    /// `None` when the race is over.
    handler: Option<(H, CallerContext)>,
    /// The addresses that are not tried yet.
    addresses: VecDeque<Address>,
    /// The name that the addresses were looked up for, as it is shown.
    pub(super) target: Option<String>,
    pub(super) options: ConnectionOptions,
    /// The attempts that are in progress, without those at full queues.
    attempts: Vec<Key>,
    pub(super) full: FullQueues,
    /// The time at which the attempts in progress fail. It is the timeout of each attempt, and not
    /// a timer of its own. So if the kernel has completed an attempt meanwhile, the loop reports
    /// the connection first.
    gives_up_at: Option<Instant>,
    /// The timer that starts the next attempt beside those in progress.
    next_attempt_timer: Option<TimerKey>,
    last_error: Option<io::Error>,
    /// The line that called `connect`.
    pub(super) origin: &'static Location<'static>,
}

impl<H: 'static> Race<H> {
    pub(super) fn new(
        handler: H,
        options: &ConnectionOptions,
        gives_up_at: Option<Instant>,
        origin: &'static Location<'static>,
    ) -> Self {
        Self(Rc::new(RefCell::new(RaceState {
            handler: Some((handler, CallerContext::current())),
            addresses: VecDeque::new(),
            target: None,
            options: options.clone(),
            attempts: Vec::new(),
            full: FullQueues::default(),
            gives_up_at,
            next_attempt_timer: None,
            last_error: None,
            origin,
        })))
    }

    /// Tries the first of `addresses`, and the others later.
    pub(super) fn begin<S>(&self, registry: &mut Registry<S>, addresses: Vec<Address>)
    where
        H: ConnectionHandler<S>,
    {
        self.0.borrow_mut().addresses = alternate(addresses);
        self.next(registry);
    }

    /// Returns `true` while no attempt has the handler and the race was not given up.
    pub(super) fn is_pending(&self) -> bool {
        self.0.borrow().handler.is_some()
    }

    /// Returns how many attempts are in progress.
    pub(super) fn attempts(&self) -> usize {
        let race = self.0.borrow();
        race.attempts.len() + race.full.addresses.len()
    }

    /// Removes an attempt that has failed.
    pub(super) fn remove_attempt(&self, key: Key) {
        self.0.borrow_mut().attempts.retain(|other| *other != key);
    }

    /// Ends the race if the time for all attempts is over and none is in progress.
    pub(super) fn time_is_over<S>(&self, registry: &mut Registry<S>)
    where
        H: ConnectionHandler<S>,
    {
        self.0.borrow_mut().addresses.clear();
        if self.attempts() == 0 {
            self.give_up(registry, CloseReason::TimedOut(Timeout::Connect));
        }
    }

    /// Ends the race without a winner. The handler is notified with the deferred callbacks.
    pub(super) fn give_up<S>(&self, registry: &mut Registry<S>, reason: CloseReason)
    where
        H: ConnectionHandler<S>,
    {
        if let Some((mut handler, context)) = self.end(registry, Key::NULL) {
            let line = self.0.borrow().origin;
            let on_close = move |cx: &mut Context<'_, S>| handler.on_close(reason, cx);
            context.scope(|| registry.defer_from(line, on_close));
        }
    }

    /// Ends all attempts except the winner. Returns the handler, or `None` if it was taken already.
    pub(super) fn end_attempts<S>(&self, registry: &mut Registry<S>, winner: Key) -> Option<H> {
        self.end(registry, winner).map(|(handler, _)| handler)
    }

    fn end<S>(&self, registry: &mut Registry<S>, winner: Key) -> Option<(H, CallerContext)> {
        let (handler, attempts, timers) = {
            let mut race = self.0.borrow_mut();
            race.addresses.clear();
            race.full.addresses.clear();
            (
                race.handler.take(),
                take(&mut race.attempts),
                [race.next_attempt_timer.take(), race.full.timer.take()],
            )
        };
        // An error means that the attempt has ended meanwhile.
        attempts
            .into_iter()
            .filter(|attempt| *attempt != winner)
            .for_each(|attempt| drop(registry.remove(attempt)));
        timers
            .into_iter()
            .flatten()
            .for_each(|timer| drop(registry.cancel(timer)));
        handler
    }

    /// Starts the next attempt. Gives up if no address is left and no attempt is in progress.
    pub(super) fn next<S>(&self, registry: &mut Registry<S>)
    where
        H: ConnectionHandler<S>,
    {
        while let Some(address) = self.next_address(registry) {
            if self.start(registry, address) {
                break;
            }
        }
        self.end_if_lost(registry);
        self.start_timer(registry);
        self.retry_later(registry);
    }

    fn next_address<S>(&self, registry: &mut Registry<S>) -> Option<Address> {
        let (address, timer) = {
            let mut race = self.0.borrow_mut();
            (race.addresses.pop_front(), race.next_attempt_timer.take())
        };
        timer.map(|timer| registry.cancel(timer));
        address
    }

    /// Starts an attempt. Returns `true` if it is in progress then.
    pub(super) fn start<S>(&self, registry: &mut Registry<S>, address: Address) -> bool
    where
        H: ConnectionHandler<S>,
    {
        // The borrow must end before `attempt` is called, which borrows the state again.
        let options = self.0.borrow().options.clone();
        // The user's `prepare` may panic. The handler must learn that it gets no connection.
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            self.attempt(registry, &address, &options)
        }));
        match attempt {
            Ok(Ok(Some(key))) => self.0.borrow_mut().attempts.push(key),
            Ok(Ok(None)) => self.0.borrow_mut().full.addresses.push(address),
            Ok(Err(error)) => {
                self.record_failure(&address, error);
                return false;
            }
            Err(panic) => {
                self.give_up(registry, CloseReason::Panicked(panic_message(&*panic)));
                resume_unwind(panic);
            }
        }
        true
    }

    /// Gives up if no attempt is in progress. There is no other address then.
    fn end_if_lost<S>(&self, registry: &mut Registry<S>)
    where
        H: ConnectionHandler<S>,
    {
        if self.is_pending() && self.attempts() == 0 {
            let error = self.0.borrow_mut().last_error.take();
            let none = || {
                io::Error::new(
                    ErrorKind::AddrNotAvailable,
                    "connect: the list of addresses is empty",
                )
            };
            self.give_up(registry, CloseReason::Failed(error.unwrap_or_else(none)));
        }
    }

    /// Starts a timer for the next attempt.
    fn start_timer<S>(&self, registry: &mut Registry<S>)
    where
        H: ConnectionHandler<S>,
    {
        let mut race = self.0.borrow_mut();
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

    pub(super) fn record_failure(&self, address: &Address, error: io::Error) {
        tracing::debug!(%address, %error, "connection attempt failed");
        let mut race = self.0.borrow_mut();
        let call = match &race.target {
            Some(name) => format!("connect to {name} ({address})"),
            None => format!("connect to {address}"),
        };
        race.last_error = Some(named(call, error));
    }

    /// Registers an attempt to connect to `address`. Returns `None` if the queue there is full.
    fn attempt<S>(
        &self,
        registry: &mut Registry<S>,
        address: &Address,
        options: &ConnectionOptions,
    ) -> io::Result<Option<Key>>
    where
        H: ConnectionHandler<S>,
    {
        let name = match address {
            Address::Tcp(to) => {
                let stream = start_tcp(*to, options)?;
                return self.register(registry, stream, address, options).map(Some);
            }
            Address::Unix(path) => of_path(path)?,
            Address::Abstract(name) => of_name(name)?,
        };
        let stream = connect_unix(&name, options)?;
        stream
            .map(|stream| self.register(registry, stream, address, options))
            .transpose()
    }

    /// Registers the socket of an attempt.
    fn register<S>(
        &self,
        registry: &mut Registry<S>,
        stream: impl Stream,
        address: &Address,
        options: &ConnectionOptions,
    ) -> io::Result<Key>
    where
        H: ConnectionHandler<S>,
    {
        let attempt = Attempt {
            race: self.clone(),
            address: address.clone(),
        };
        let key = registry.add_handler(
            stream,
            Interest::WRITABLE,
            Registration::connecting(options, attempt),
        )?;
        let race = self.0.borrow();
        registry.set_origin(key, race.origin)?;
        registry.set_timeout(key, race.time_left(registry))?;
        Ok(key)
    }
}

impl<H> RaceState<H> {
    /// Returns the time that is left for all attempts. Returns `None` if it is not limited.
    pub(super) fn time_left<S>(&self, registry: &Registry<S>) -> Option<Duration> {
        self.gives_up_at
            .map(|at| at.saturating_duration_since(registry.now()))
    }
}

impl<H> Clone for Race<H> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}
