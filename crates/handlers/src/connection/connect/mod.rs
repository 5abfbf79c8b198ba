//! Connecting: over a list of addresses, of which the first that answers wins.
//!
//! Each attempt is a registration of its own, without the handler; the attempt that is connected first becomes the
//! connection and gets it, and the others are removed.
//!
//! Source: RFC 8305, "Happy Eyeballs Version 2", sections 4 and 5: families take turns, and an attempt that has not been
//! answered within 250 ms gets company. Unlike there, names are not resolved here, since `getaddrinfo` blocks: that
//! is for the worker pool.

mod attempt;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::mem::take;
use std::net::SocketAddr;
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{Interest, Key, Registry, Then, TimerKey};

use self::attempt::start_connect;
pub(super) use self::attempt::{Attempt, Outcome};
use super::close::CloseReason;
use super::handler::ConnectionHandler;
use super::options::ConnectionOptions;
use super::registration::Registration;
use crate::answer::named;

/// RFC 8305, section 5: "Connection Attempt Delay", recommended.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects by TCP to the first of `addresses` that answers.
///
/// The handler is told of the connection by [`on_open`](ConnectionHandler::on_open), or by
/// [`on_close`](ConnectionHandler::on_close) that none came about: with [`CloseReason::Failed`] and what the last
/// attempt failed with, or [`CloseReason::TimedOut`] after [`ConnectionOptions::connect_timeout`]. Neither is called from within
/// this call, nor is anything else but the first `connect(2)`.
///
/// A socket that the kernel has connected to itself, which happens at ports that it gives to clients and where nobody listens, is
/// closed: that attempt fails with `ECONNREFUSED`.
///
/// Attempts alternate between the families of the addresses, in their order otherwise; the next begins when one fails, or
/// after 250 ms.
///
/// ```no_run
/// use handlers::{ConnectionOptions, connect, on_data};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = reactor::Reactor::<()>::new()?;
/// let addresses = ["[::1]:7777".parse().unwrap(), "127.0.0.1:7777".parse().unwrap()];
/// connect(&mut reactor, addresses, &ConnectionOptions::new(), on_data(|data, _connection, _cx| {
///     println!("{}", data.escape_ascii());
///     Ok(data.len())
/// }));
/// reactor.run(&mut ())?;
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn connect<S, H>(
    registry: &mut Registry<S>,
    addresses: impl IntoIterator<Item = SocketAddr>,
    options: &ConnectionOptions,
    handler: H,
) -> Connecting<H>
where
    H: ConnectionHandler<S>,
{
    let race = Rc::new(RefCell::new(Race {
        handler: Some(handler),
        addresses: alternate(addresses.into_iter().collect()),
        options: options.clone(),
        attempts: Vec::new(),
        gives_up_at: options.0.connect_timeout.and_then(|timeout| registry.now().checked_add(timeout)),
        next_attempt_timer: None,
        last_error: None,
        origin: Location::caller(),
    }));
    let connecting = Connecting { race };
    connecting.next(registry);
    connecting
}

/// An attempt to connect, to be given up.
pub struct Connecting<H> {
    race: Rc<RefCell<Race<H>>>,
}

/// What the attempts of one connection share. It is borrowed for as long as it takes to look, and never while a callback runs.
struct Race<H> {
    /// `None` when it is over.
    handler: Option<H>,
    /// Not tried yet.
    addresses: VecDeque<SocketAddr>,
    options: ConnectionOptions,
    /// Under way.
    attempts: Vec<Key>,
    /// When the attempts that are under way fail. It is the timeout of each of them and no timer: one that has succeeded meanwhile, in
    /// the kernel, is told of that first.
    gives_up_at: Option<Instant>,
    /// When the next attempt begins beside those that are under way.
    next_attempt_timer: Option<TimerKey>,
    last_error: Option<io::Error>,
    /// The line that has called [`connect`].
    origin: &'static Location<'static>,
}

impl<H: 'static> Connecting<H> {
    /// Gives up: the handler is told [`CloseReason::Closed`] with the deferred callbacks. Nothing happens if the connection is
    /// open already, or has failed.
    pub fn cancel<S>(&self, registry: &mut Registry<S>)
    where
        H: ConnectionHandler<S>,
    {
        self.give_up(registry, CloseReason::Closed);
    }

    /// Whether the handler has been told neither of a connection nor of a failure.
    pub fn is_pending(&self) -> bool {
        self.race.borrow().handler.is_some()
    }

    fn give_up<S>(&self, registry: &mut Registry<S>, reason: CloseReason)
    where
        H: ConnectionHandler<S>,
    {
        if let Some(mut handler) = self.finish(registry, Key::NULL) {
            registry.defer_from(self.race.borrow().origin, move |cx| handler.on_close(reason, cx));
        }
    }

    /// Ends all attempts but the winner, and gives the handler, if nobody has it yet.
    fn finish<S>(&self, registry: &mut Registry<S>, winner: Key) -> Option<H> {
        let (handler, attempts, next_attempt_timer) = {
            let mut race = self.race.borrow_mut();
            race.addresses.clear();
            (race.handler.take(), take(&mut race.attempts), race.next_attempt_timer.take())
        };
        // What has ended meanwhile needs no end.
        attempts.into_iter().filter(|attempt| *attempt != winner).for_each(|attempt| drop(registry.remove(attempt)));
        next_attempt_timer.map(|timer| registry.cancel(timer));
        handler
    }

    /// Begins the next attempt; gives up when there is none left, and none under way.
    fn next<S>(&self, registry: &mut Registry<S>)
    where
        H: ConnectionHandler<S>,
    {
        loop {
            let (address, options, next_attempt_timer) = {
                let race = &mut *self.race.borrow_mut();
                (race.addresses.pop_front(), race.options.clone(), race.next_attempt_timer.take())
            };
            next_attempt_timer.map(|timer| registry.cancel(timer));
            let Some(address) = address else { break };
            match self.attempt(registry, address, &options) {
                Ok(key) => return self.record_attempt(registry, key),
                Err(error) => self.record_failure(address, error),
            }
        }
        let (is_lost, error) = {
            let race = &mut *self.race.borrow_mut();
            (race.attempts.is_empty() && race.handler.is_some(), race.last_error.take())
        };
        if is_lost {
            let none = || io::Error::new(ErrorKind::AddrNotAvailable, "connect: no address to connect to");
            self.give_up(registry, CloseReason::Failed(error.unwrap_or_else(none)));
        }
    }

    fn record_attempt<S>(&self, registry: &mut Registry<S>, key: Key)
    where
        H: ConnectionHandler<S>,
    {
        let mut race = self.race.borrow_mut();
        race.attempts.push(key);
        if !race.addresses.is_empty() {
            let connecting = self.clone();
            let timer = registry.after(ATTEMPT_DELAY, move |cx| {
                connecting.next(cx.registry);
                Ok(Then::Done)
            });
            let _ = registry.set_timer_origin(timer, race.origin); // it is there
            race.next_attempt_timer = Some(timer);
        }
    }

    fn record_failure(&self, address: SocketAddr, error: io::Error) {
        tracing::debug!(%address, %error, "an attempt to connect has failed");
        self.race.borrow_mut().last_error = Some(named(format_args!("connect to {address}"), error));
    }

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
        let attempt = Attempt { connecting: self.clone(), address };
        let key = registry.add_handler(stream, Interest::WRITABLE, Registration::connecting(options, attempt))?;
        let race = self.race.borrow();
        registry.set_origin(key, race.origin)?;
        let left = race.gives_up_at.map(|at| at.saturating_duration_since(registry.now()));
        registry.set_timeout(key, left)?;
        Ok(key)
    }
}

impl<H> Clone for Connecting<H> {
    fn clone(&self) -> Self {
        Self { race: Rc::clone(&self.race) }
    }
}

impl<H> fmt::Debug for Connecting<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").field("attempts", &self.race.borrow().attempts).finish_non_exhaustive()
    }
}

/// The families take turns, beginning with that of the first address.
fn alternate(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let Some(first) = addresses.first() else { return VecDeque::new() };
    let (mut ours, mut others): (VecDeque<_>, VecDeque<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv4() == first.is_ipv4());
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
        let parse = |list: &[&str]| list.iter().map(|address| address.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let addresses = parse(&["[::1]:1", "[::2]:1", "127.0.0.1:1", "[::3]:1", "127.0.0.2:1"]);
        let expected = parse(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "[::3]:1"]);
        assert_eq!(alternate(addresses), expected);
        assert_eq!(alternate(Vec::new()), []);
    }
}
