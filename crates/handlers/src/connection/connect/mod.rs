//! Connecting: tries a list of addresses. The first one that answers wins.
//!
//! Each attempt is a registration of its own, without the handler. The attempt that is connected
//! first becomes the connection and gets the handler. The other attempts are removed.
//!
//! Source: RFC 8305, "Happy Eyeballs Version 2", sections 4 and 5. Address families alternate, and
//! if an attempt is not answered within 250 ms, the next one starts beside it. Unlike in the RFC,
//! names are not resolved here, since `getaddrinfo` blocks. Use the worker pool for that.

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
    /// If a connection is made, [`on_open`](ConnectionHandler::on_open) is called. If not,
    /// [`on_close`](ConnectionHandler::on_close) is called with one of these reasons:
    /// - [`CloseReason::Failed`] with the error of the last attempt.
    /// - [`CloseReason::TimedOut`] after [`ConnectionOptions::connect_timeout`].
    ///
    /// No callback runs before `connect` returns. Only the first `connect(2)` is issued here.
    ///
    /// Attempts alternate between the address families. Within a family they follow the order of
    /// `addresses`. The next attempt starts when one fails, or after 250 ms.
    ///
    /// The kernel can connect a socket to itself, if nothing listens at the target port and the
    /// port is one that the kernel assigns to clients. Such a socket is closed, and that attempt
    /// fails with `ECONNREFUSED`.
    ///
    /// ```no_run
    /// use handlers::{Connection, ConnectionOptions, on_data};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let addresses = ["[::1]:7777".parse().unwrap(), "127.0.0.1:7777".parse().unwrap()];
    /// let print = on_data(|data, _connection, _cx| {
    ///     println!("{}", data.escape_ascii());
    ///     Ok(data.len())
    /// });
    /// Connection::connect(&mut reactor, addresses, &ConnectionOptions::new(), print);
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

/// A connection attempt that [`Connection::connect`](crate::Connection::connect) has started. Use
/// it to cancel the attempt. Its type does not name the handler's type, so attempts with different
/// handlers can be kept in one field.
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
    /// Cancels the attempt. The handler is notified of [`CloseReason::Closed`] with the deferred
    /// callbacks. Does nothing if the connection is open already, or has failed.
    pub fn cancel(&self, registry: &mut Registry<S>) {
        self.race.cancel(registry);
    }

    /// Returns `true` while the handler was notified neither of a connection nor of a failure.
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
