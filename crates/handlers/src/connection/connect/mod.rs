//! Connecting: over a list of addresses, of which the first that answers wins.
//!
//! Each attempt is a registration of its own, without the handler; the attempt that is connected first becomes the
//! connection and gets it, and the others are removed.
//!
//! Source: RFC 8305, "Happy Eyeballs Version 2", sections 4 and 5: families take turns, and an attempt that has not
//! been answered within 250 ms gets company. Unlike there, names are not resolved here, since `getaddrinfo` blocks:
//! that is for the worker pool.

mod attempt;
mod race;

use std::fmt;
use std::net::SocketAddr;
use std::panic::Location;
use std::rc::Rc;

use reactor::Registry;

pub(super) use self::attempt::{Attempt, Outcome};
use self::race::Race;
use super::handler::ConnectionHandler;
use super::options::ConnectionOptions;
use super::reason::CloseReason;

impl<S> crate::Connection<'_, S> {
    /// Connects by TCP to the first of `addresses` that answers.
    ///
    /// The handler is told of the connection by [`on_open`](ConnectionHandler::on_open), or by
    /// [`on_close`](ConnectionHandler::on_close) that none came about: with [`CloseReason::Failed`] and what the last
    /// attempt failed with, or [`CloseReason::TimedOut`] after [`ConnectionOptions::connect_timeout`]. Neither is called
    /// from within this call, nor is anything else but the first `connect(2)`.
    ///
    /// A socket that the kernel has connected to itself, which happens at ports that it gives to clients and where nobody
    /// listens, is closed: that attempt fails with `ECONNREFUSED`.
    ///
    /// Attempts alternate between the families of the addresses, in their order otherwise; the next begins when one fails,
    /// or after 250 ms.
    ///
    /// ```no_run
    /// use handlers::{Connection, ConnectionOptions, on_data};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let addresses = ["[::1]:7777".parse().unwrap(), "127.0.0.1:7777".parse().unwrap()];
    /// Connection::connect(&mut reactor, addresses, &ConnectionOptions::new(), on_data(|data, _connection, _cx| {
    ///     println!("{}", data.escape_ascii());
    ///     Ok(data.len())
    /// }));
    /// reactor.run(&mut ())?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("bufferevent_socket_connect", "uv_tcp_connect"))]
    #[track_caller]
    pub fn connect<H>(
        registry: &mut Registry<S>,
        addresses: impl IntoIterator<Item = SocketAddr>,
        options: &ConnectionOptions,
        handler: H,
    ) -> Connecting<S>
    where
        H: ConnectionHandler<S>,
    {
        let gives_up_at = options
            .0
            .connect_timeout
            .and_then(|timeout| registry.now().checked_add(timeout));
        let addresses = addresses.into_iter().collect();
        let race = Race::new(handler, addresses, options, gives_up_at, Location::caller());
        race.next(registry);
        Connecting {
            race: Rc::new(race),
        }
    }
}

/// An attempt to connect, whatever its handler is, to be given up.
///
/// ```
/// use std::net::SocketAddr;
/// use handlers::{Connecting, Connection, ConnectionOptions, on_data};
/// use reactor::Context;
///
/// /// The state of a loop, with what it connects to.
/// struct App {
///     upstream: Option<Connecting<App>>,
/// }
///
/// fn reconnect(to: SocketAddr, cx: &mut Context<'_, App>) {
///     let handler = on_data(|data, _connection, _cx| Ok(data.len()));
///     let connecting = Connection::connect(cx.registry, [to], &ConnectionOptions::new(), handler);
///     if let Some(earlier) = cx.state.upstream.replace(connecting) {
///         earlier.cancel(cx.registry);
///     }
/// }
/// ```
pub struct Connecting<S> {
    race: Rc<dyn PendingRace<S>>,
}

/// A [`Race`] without the type of its handler.
trait PendingRace<S> {
    fn cancel(&self, registry: &mut Registry<S>);
    fn is_pending(&self) -> bool;
    fn attempts(&self) -> usize;
}

impl<S, H: ConnectionHandler<S>> PendingRace<S> for Race<H> {
    fn cancel(&self, registry: &mut Registry<S>) {
        self.give_up(registry, CloseReason::Closed);
    }

    fn is_pending(&self) -> bool {
        self.is_pending()
    }

    fn attempts(&self) -> usize {
        self.attempts()
    }
}

impl<S> Connecting<S> {
    /// Gives up: the handler is notified by [`CloseReason::Closed`] with the deferred callbacks. Does nothing if the
    /// connection is open already, or has failed.
    pub fn cancel(&self, registry: &mut Registry<S>) {
        self.race.cancel(registry);
    }

    /// Returns whether the handler was notified neither of a connection nor of a failure.
    pub fn is_pending(&self) -> bool {
        self.race.is_pending()
    }
}

impl<S> Clone for Connecting<S> {
    fn clone(&self) -> Self {
        Self {
            race: Rc::clone(&self.race),
        }
    }
}

impl<S> fmt::Debug for Connecting<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting")
            .field("attempts", &self.race.attempts())
            .finish_non_exhaustive()
    }
}
