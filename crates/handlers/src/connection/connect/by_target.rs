//! Connecting to a target: to an address, or to the addresses of a name.

use std::panic::Location;
use std::rc::Rc;

#[cfg(feature = "names")]
use std::io::{self, ErrorKind};
#[cfg(feature = "names")]
use std::net::SocketAddr;
#[cfg(feature = "names")]
use std::time::Duration;

use reactor::Registry;

use super::race::Race;
use super::{Connecting, PendingRace, new_race};
use crate::connection::connection::Connection;
use crate::connection::handler::ConnectionHandler;
use crate::connection::options::ConnectionOptions;
use crate::connection::reason::CloseReason;
use crate::error::named;
#[cfg(feature = "names")]
use crate::names::Lookup;
use crate::names::{Step, Target};
#[cfg(feature = "names")]
use crate::sockets::Address;

impl<S: 'static> Connection<'_, S> {
    /// Connects to `target`: to an address of TCP, to a Unix socket, or to the host of a name.
    ///
    /// A name is looked up by the resolver of [`ConnectionOptions::resolver`], on a thread. The
    /// handler stays on the loop. The addresses of the name are then tried as the list of
    /// [`connect`](Self::connect) is. The address families alternate, and within a family the
    /// order is that of the lookup. If an attempt is refused, the next one starts at once. If it is
    /// not answered, the next one starts after 250 ms. [`ConnectionOptions::connect_timeout`]
    /// includes the lookup, and [`Connecting::cancel`] cancels it.
    ///
    /// The handler is notified as [`connect`](Self::connect) describes, never before this method
    /// returns. The stream is a [`TcpStream`](std::net::TcpStream) or a
    /// [`UnixStream`](std::os::unix::net::UnixStream).
    ///
    /// The kernel completes or refuses the connection to a Unix socket at once, except if the queue
    /// of the listener is full (`EAGAIN`). Then a new socket tries again after 1 ms, 2 ms, 4 ms and
    /// so on up to 64 ms, until [`ConnectionOptions::connect_timeout`] expires.
    /// [`ConnectionOptions::prepare`] is called with each of these sockets.
    ///
    /// # Errors
    /// [`CloseReason::Failed`] has one of the errors of [`connect`](Self::connect), such as
    /// "connect to unix:/run/app.sock: No such file or directory (os error 2)". If a name was
    /// looked up, the error has the name and the address, such as "connect to db.example:5432
    /// (192.0.2.1:5432): Connection refused (os error 111)". If the lookup fails, the error is the
    /// one that [`Resolver::resolve`] lists, such as "resolve db.example:5432: Name or service not
    /// known".
    ///
    /// For a Unix socket, the errors of `connect(2)` are for example:
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
    /// use handlers::{Connection, ConnectionOptions, Target, on_data};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let target: Target = "db.example:5432".parse()?; // or "unix:/run/app.sock"
    /// let print = on_data(|data, _connection, _cx| {
    ///     println!("{}", data.escape_ascii());
    ///     Ok(data.len())
    /// });
    /// Connection::connect_to(&mut reactor, target, &ConnectionOptions::new(), print);
    /// reactor.run(&mut ())?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg_attr(
        feature = "names",
        doc = "[`Resolver::resolve`]: crate::Resolver::resolve"
    )]
    #[cfg_attr(not(feature = "names"), doc = "[`Resolver::resolve`]: crate#features")]
    #[cfg_attr(
        not(feature = "names"),
        doc = "[`ConnectionOptions::resolver`]: crate#features"
    )]
    #[doc(alias(
        "bufferevent_socket_connect_hostname",
        "uv_pipe_connect",
        "UnixStream",
        "unix"
    ))]
    #[track_caller]
    pub fn connect_to<H>(
        registry: &mut Registry<S>,
        target: impl Into<Target>,
        options: &ConnectionOptions,
        handler: H,
    ) -> Connecting<S>
    where
        H: ConnectionHandler<S>,
    {
        let target = Some(target.into());
        connect_next(registry, target, options, handler, Location::caller())
    }
}

/// Connects to `target` on behalf of the call at `line`. Without a target, it fails as without an
/// address.
pub(crate) fn connect_next<S: 'static, H: ConnectionHandler<S>>(
    registry: &mut Registry<S>,
    target: Option<Target>,
    options: &ConnectionOptions,
    handler: H,
    line: &'static Location<'static>,
) -> Connecting<S> {
    let race = new_race(registry, options, handler, line);
    connect_race(registry, &race.clone(), target.as_ref(), race)
}

/// Lets `race` connect to `target`, if there is one. `pending` is the race, or what the race is a
/// part of.
pub(super) fn connect_race<S: 'static, H: ConnectionHandler<S>>(
    registry: &mut Registry<S>,
    race: &Race<H>,
    target: Option<&Target>,
    pending: impl PendingRace<S> + 'static,
) -> Connecting<S> {
    let Some(target) = target else {
        race.begin(registry, Vec::new());
        return Connecting {
            race: Rc::new(pending),
        };
    };
    match target.first_step() {
        Ok(Step::Connect(address)) => race.begin(registry, vec![address]),
        #[cfg(feature = "names")]
        Ok(Step::LookUp) => {
            let lookup = race.look_up(registry, target);
            return Connecting {
                race: Rc::new(LookedUp { pending, lookup }),
            };
        }
        Err(error) => {
            let error = named(format_args!("connect to {target}"), error);
            race.give_up(registry, CloseReason::Failed(error));
        }
    }
    Connecting {
        race: Rc::new(pending),
    }
}

/// A race that begins when its addresses have been looked up.
#[cfg(feature = "names")]
struct LookedUp<R, S: 'static> {
    pending: R,
    lookup: Lookup<S>,
}

#[cfg(feature = "names")]
impl<S: 'static, R: PendingRace<S>> PendingRace<S> for LookedUp<R, S> {
    fn cancel(&self, registry: &mut Registry<S>) {
        self.pending.cancel(registry);
        self.lookup.cancel(registry);
    }

    fn is_pending(&self) -> bool {
        self.pending.is_pending()
    }

    fn attempts(&self) -> usize {
        self.pending.attempts()
    }
}

#[cfg(feature = "names")]
impl<H: 'static> Race<H> {
    /// Begins with the addresses of `target` when they are known.
    fn look_up<S: 'static>(&self, registry: &mut Registry<S>, target: &Target) -> Lookup<S>
    where
        H: ConnectionHandler<S>,
    {
        let (options, line) = {
            let mut race = self.0.borrow_mut();
            race.target = Some(target.to_string());
            (race.options.clone(), race.origin)
        };
        let race = self.clone();
        let begin = move |found: io::Result<Vec<SocketAddr>>, cx: &mut reactor::Context<'_, S>| {
            race.found(found, cx.registry);
        };
        let (resolver, timeout) = (&options.0.resolver, options.0.connect_timeout);
        resolver.resolve_within(timeout, registry, target, begin, line)
    }

    fn found<S>(&self, found: io::Result<Vec<SocketAddr>>, registry: &mut Registry<S>)
    where
        H: ConnectionHandler<S>,
    {
        let left = self.0.borrow().time_left(registry);
        match found {
            Ok(found) => self.begin(registry, found.into_iter().map(Address::Tcp).collect()),
            Err(error) if error.kind() == ErrorKind::TimedOut && left == Some(Duration::ZERO) => {
                tracing::debug!(%error, "lookup failed");
                self.time_is_over(registry);
            }
            Err(error) => self.give_up(registry, CloseReason::Failed(error)),
        }
    }
}
