//! Connecting: a list of addresses is tried. The first address that answers wins.
//!
//! Each attempt is a registration of its own, without the handler. The attempt that is connected
//! first becomes the connection and gets the handler. The other attempts are removed.
//!
//! Source: RFC 8305, "Happy Eyeballs Version 2", sections 4 and 5. Address families alternate. If
//! an attempt is not answered within 250 ms, the next one starts beside it. Unlike in the RFC,
//! names are not resolved here, since `getaddrinfo` blocks. Use the worker pool for that.

mod attempt;
mod full_queue;
mod open_as;
mod order;
mod race;

use std::fmt;
use std::net::SocketAddr;
use std::panic::Location;
use std::rc::Rc;
use std::time::Instant;

use reactor::Registry;

pub(super) use self::attempt::{Attempt, Outcome};
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
        let addresses = addresses.into_iter().map(Address::Tcp).collect();
        connect_first(registry, addresses, options, handler, line)
    }

    /// Connects to `address`, by TCP or to a Unix socket.
    ///
    /// The handler is notified as [`connect`](Self::connect) describes. The stream is a
    /// [`TcpStream`](std::net::TcpStream) or a [`UnixStream`](std::os::unix::net::UnixStream).
    ///
    /// The kernel completes or refuses the connection to a Unix socket at once, except if the queue
    /// of the listener is full (`EAGAIN`). Then a new socket tries again after 1 ms, 2 ms, 4 ms and
    /// so on up to 64 ms, until [`ConnectionOptions::connect_timeout`] expires.
    /// [`ConnectionOptions::prepare`] is called with each of these sockets.
    ///
    /// # Errors
    /// [`CloseReason::Failed`] has one of the errors of [`connect`](Self::connect), such as
    /// "connect to unix:/run/app.sock: No such file or directory (os error 2)". For a Unix socket,
    /// the errors of `connect(2)` are for example:
    /// - `ENOENT` if there is no file at the path.
    /// - `ECONNREFUSED` if no socket listens at the path or the name.
    /// - `EACCES` if this process may not write to the file of the socket.
    /// - `EPROTOTYPE` if the socket is not of the stream type.
    /// - `ECONNRESET` if the listener was closed before it has accepted the connection.
    ///
    /// The kernel is not asked, and the error is of kind `InvalidInput`, if no socket can have the
    /// address: if the path or the abstract name is empty or longer than 107 bytes, or if the path
    /// has a NUL.
    ///
    /// ```no_run
    /// use handlers::{Address, Connection, ConnectionOptions, on_data};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let address: Address = "unix:/run/app.sock".parse()?;
    /// let print = on_data(|data, _connection, _cx| {
    ///     println!("{}", data.escape_ascii());
    ///     Ok(data.len())
    /// });
    /// Connection::connect_to(&mut reactor, &address, &ConnectionOptions::new(), print);
    /// reactor.run(&mut ())?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("uv_pipe_connect", "UnixStream", "unix"))]
    #[track_caller]
    pub fn connect_to<H>(
        registry: &mut Registry<S>,
        address: &Address,
        options: &ConnectionOptions,
        handler: H,
    ) -> Connecting<S>
    where
        H: ConnectionHandler<S>,
    {
        let line = Location::caller();
        connect_first(registry, vec![address.clone()], options, handler, line)
    }
}

/// Connects to the first of `addresses` that answers.
fn connect_first<S, H: ConnectionHandler<S>>(
    registry: &mut Registry<S>,
    addresses: Vec<Address>,
    options: &ConnectionOptions,
    handler: H,
    line: &'static Location<'static>,
) -> Connecting<S> {
    let gives_up_at = gives_up_at(registry, options);
    let race = start_race(registry, addresses, options, gives_up_at, handler, line);
    Connecting {
        race: Rc::new(race),
    }
}

/// Returns the time at which all attempts fail that begin now.
fn gives_up_at<S>(registry: &Registry<S>, options: &ConnectionOptions) -> Option<Instant> {
    let timeout = options.0.connect_timeout?;
    registry.now().checked_add(timeout)
}

/// Starts the attempts of one connection.
fn start_race<S, H: ConnectionHandler<S>>(
    registry: &mut Registry<S>,
    addresses: Vec<Address>,
    options: &ConnectionOptions,
    gives_up_at: Option<Instant>,
    handler: H,
    line: &'static Location<'static>,
) -> Race<H> {
    let race = Race::new(handler, addresses, options, gives_up_at, line);
    race.next(registry);
    race
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
    /// Cancels all attempts. The handler's [`on_close`](ConnectionHandler::on_close) is called with
    /// [`CloseReason::Closed`]. This call is [deferred](Registry::defer), so it does not happen
    /// before `cancel` returns. Does nothing if the connection is already open, or has failed.
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
