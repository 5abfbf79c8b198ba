//! Connecting: a list of addresses is tried. The first address that answers wins.
//!
//! Each attempt is a registration of its own, without the handler. The attempt that is connected
//! first becomes the connection and gets the handler. The other attempts are removed.
//!
//! Source: RFC 8305, "Happy Eyeballs Version 2", sections 4 and 5. Address families alternate. If
//! an attempt is not answered within 250 ms, the next one starts beside it. Unlike in section 3,
//! the attempts begin when all addresses of a name are known, since `getaddrinfo` returns them
//! together.

mod attempt;
mod by_target;
mod full_queue;
mod open_as;
mod order;
mod race;

use std::fmt;
use std::net::SocketAddr;
use std::panic::Location;
use std::rc::Rc;

use reactor::Registry;

pub(super) use self::attempt::{Attempt, Outcome};
pub(crate) use self::by_target::connect_next;
pub(crate) use self::open_as::connect_next_as;
use self::race::Race;
use super::handler::ConnectionHandler;
use super::options::ConnectionOptions;
use super::reason::CloseReason;
use crate::sockets::Address;

impl<S> crate::Connection<'_, S> {
    /// Connects by TCP to the first of `addresses` that answers. To connect to a Unix socket, use
    /// [`connect_to`](Self::connect_to).
    ///
    /// If a connection is made, [`on_open`](ConnectionHandler::on_open) is called. Otherwise
    /// [`on_close`](ConnectionHandler::on_close) is called with one of these reasons:
    /// - [`CloseReason::Failed`] with the error of the attempt that was the last to fail.
    /// - [`CloseReason::TimedOut`] with [`Timeout::Connect`](crate::Timeout::Connect), after
    ///   [`ConnectionOptions::connect_timeout`].
    /// - [`CloseReason::Closed`] after [`Connecting::cancel`].
    /// - [`CloseReason::Panicked`] if the closure of [`ConnectionOptions::prepare`] panics.
    ///
    /// No callback runs before `connect` returns.
    ///
    /// Attempts alternate between the address families, beginning with the family of the first
    /// address. Within a family, attempts follow the order of `addresses`. The first attempt starts
    /// in this call. The next attempt starts when an attempt fails, or 250 ms after the last start.
    /// If `connect(2)` fails at once, the next attempt starts in the same call.
    ///
    /// If nothing listens at a target port of this machine, and the port is in the range that the
    /// kernel assigns to clients, the kernel may connect the socket to itself. Such a socket is
    /// closed, and the attempt fails with `ECONNREFUSED`.
    ///
    /// # Errors
    /// [`CloseReason::Failed`] has one of these errors:
    /// - A [`SystemError`](crate::SystemError) such as "connect to 127.0.0.1:80", with the errno of
    ///   the attempt. The errno comes from `connect(2)`, for example `ECONNREFUSED`, `EHOSTUNREACH`
    ///   or `ETIMEDOUT`, or from `socket(2)`, for example `EMFILE`. With
    ///   [`local_addr`](ConnectionOptions::local_addr) the errno can also come from `bind(2)`, for
    ///   example `EADDRNOTAVAIL`. With [options of the
    ///   socket](ConnectionOptions#options-of-the-socket) it can come from `setsockopt(2)`, for
    ///   example `EPERM` or `ENODEV`.
    /// - A `SystemError` around an error of [`ConnectionOptions::prepare`], such as "connect to
    ///   127.0.0.1:80: prepare of fd 7: …".
    /// - A `SystemError` around [`Error::Full`](reactor::Error::Full) at the registration limit of
    ///   the loop.
    /// - An error of kind `AddrNotAvailable` if `addresses` is empty.
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
        let line = Location::caller();
        let race = new_race(registry, options, handler, line);
        race.begin(registry, addresses.into_iter().map(Address::Tcp).collect());
        Connecting {
            race: Rc::new(race),
        }
    }
}

/// Makes a race whose time begins now. It has no addresses yet.
fn new_race<S, H: ConnectionHandler<S>>(
    registry: &Registry<S>,
    options: &ConnectionOptions,
    handler: H,
    line: &'static Location<'static>,
) -> Race<H> {
    let timeout = options.0.connect_timeout;
    let gives_up_at = timeout.and_then(|timeout| registry.now().checked_add(timeout));
    Race::new(handler, options, gives_up_at, line)
}

/// A pending connect: all attempts that one call of
/// [`Connection::connect`](crate::Connection::connect) or
/// [`connect_to`](crate::Connection::connect_to) makes. Use it to cancel the attempts. The type of
/// the handler is not a part of this type, so one field can hold a `Connecting` for any handler.
///
/// ```
/// use std::net::SocketAddr;
/// use handlers::{Connecting, Connection, ConnectionOptions, on_data};
/// use reactor::Context;
///
/// /// The state of a loop, with its pending connect.
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
    /// Cancels the lookup of the name and all attempts. The handler's
    /// [`on_close`](ConnectionHandler::on_close) is called with [`CloseReason::Closed`]. This call
    /// is [deferred](Registry::defer), so it does not happen before `cancel` returns. Does nothing
    /// if the connection is already open, or has failed. With the feature `request-context`,
    /// `on_close` runs in the context of the call that connects, and not in that of the caller of
    /// `cancel`.
    pub fn cancel(&self, registry: &mut Registry<S>) {
        self.race.cancel(registry);
    }

    /// Returns `true` until an attempt succeeds, all attempts have failed, or
    /// [`cancel`](Self::cancel) is called. With [`connect_as`](crate::Connection::connect_as) it
    /// also returns `true` until the new stream is registered, before its handshake.
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
