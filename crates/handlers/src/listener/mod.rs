//! Listeners: sockets that accept connections, and what becomes of those.
//!
//! Ground rule: a listener never spins and never dies of what a peer or a limit does. An error of `accept(2)` that concerns
//! one connection is that connection's; where the process or the system has no room for another, the listener pauses
//! and tries again by itself, later each time up to a second.

mod bind;
mod limit;

use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Capacity, Closed, Context, Handler, Interest, Io, Key, Next, Registry, Sender, notification_queue};
use rustix::io::Errno;

pub use self::bind::Address;
use self::bind::{BindOptions, Socket, UnixSocket};
pub use self::limit::{ConnectionLimit, Permit};
use crate::connection::{self, ConnectionHandler, ConnectionKey, ConnectionOptions};

/// The first pause when there is no room for another connection; doubled up to the second as long as there is none.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// So many connections are accepted in one call, if nothing else is asked for.
const ACCEPTS_PER_TURN: usize = 64;
/// So many connections may wait in the kernel's queue, `/proc/sys/net/core/somaxconn` permitting. The 128 of the standard
/// library are filled by a burst of clients before a busy loop has had its turn.
const BACKLOG: i32 = 4096;

/// How to listen and accept.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    bind: BindOptions,
    accepts_per_turn: usize,
    limit: Option<ConnectionLimit>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        let bind = BindOptions { backlog: BACKLOG, reuse_port: false, only_v6: false };
        Self { bind, accepts_per_turn: ACCEPTS_PER_TURN, limit: None }
    }
}

impl ListenOptions {
    /// The defaults, as each of the methods below tells them.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many connections may wait in the kernel to be accepted; `/proc/sys/net/core/somaxconn` is the limit of that. 4096.
    pub const fn backlog(mut self, connections: u16) -> Self {
        self.bind.backlog = connections as i32;
        self
    }

    /// Whether several sockets, one for each loop, may listen at one address, among which the kernel spreads the connections
    /// (`SO_REUSEPORT`; TCP only). No.
    pub const fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.bind.reuse_port = reuse_port;
        self
    }

    /// Whether a socket at an IPv6 address leaves IPv4 to others. No: `[::]` is both.
    pub const fn only_v6(mut self, only_v6: bool) -> Self {
        self.bind.only_v6 = only_v6;
        self
    }

    /// How many connections are accepted in one turn at most, so that a flood of them does not hold up the others. 64.
    pub const fn accepts_per_turn(mut self, connections: usize) -> Self {
        self.accepts_per_turn = if connections == 0 { 1 } else { connections };
        self
    }

    /// How many connections may be open at once; more wait in the kernel's queue. Any number.
    pub fn limit(mut self, limit: impl Into<Option<ConnectionLimit>>) -> Self {
        self.limit = limit.into();
        self
    }

    /// Opens a listening socket at `address`.
    ///
    /// The file of a Unix socket whose process has ended is replaced; that of this one is removed with the listener.
    ///
    /// # Errors
    /// Those of `bind(2)`, with the address: `AddrInUse`, `PermissionDenied`, ….
    pub fn bind(self, address: &Address) -> io::Result<Listener> {
        let bind = self.bind;
        let socket = match address {
            Address::Tcp(address) => bind::bind_tcp(*address, bind).map(Socket::Tcp),
            Address::Unix(path) => bind::bind_unix(path, bind).map(Socket::Unix),
            Address::Abstract(name) => bind::bind_abstract(name, bind).map(Socket::Unix),
        };
        let socket = socket.map_err(|error| io::Error::new(error.kind(), format!("bind to {address}: {error}")))?;
        Ok(Listener { socket, options: self })
    }

    /// Takes a socket that listens already, of either family: inherited, for example.
    ///
    /// # Errors
    /// `InvalidInput` for what is no listening stream socket; those of `getsockopt(2)`.
    pub fn adopt(self, socket: impl Into<OwnedFd>) -> io::Result<Listener> {
        let fd = socket.into();
        let number = fd.as_raw_fd();
        let none = || io::Error::new(ErrorKind::InvalidInput, format!("fd {number} is no listening stream socket"));
        let socket = bind::adopt(fd)?.ok_or_else(none)?;
        Ok(Listener { socket, options: self })
    }

    /// Takes the sockets that a service manager has opened for this process, in their order: `LISTEN_FDS` and `LISTEN_PID`, of
    /// which children are told nothing any more. None if there are none; also when they are asked for again. Call it before
    /// any thread is started: it changes the environment, which is not safe while another thread reads it.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt), for the first that is none.
    ///
    /// # Source
    /// `sd_listen_fds(3)`.
    pub fn inherited(self) -> io::Result<Vec<Listener>> {
        let mut inherited = listenfd::ListenFd::from_env();
        let mut listeners = Vec::new();
        for place in 0..inherited.len() {
            let is_unix = inherited.take_unix_listener(place);
            let fd: Option<OwnedFd> = match is_unix {
                Ok(listener) => listener.map(Into::into),
                Err(_) => inherited.take_tcp_listener(place)?.map(Into::into),
            };
            if let Some(fd) = fd {
                listeners.push(self.clone().adopt(fd)?);
            }
        }
        Ok(listeners)
    }
}

/// A listening socket, to be put on a loop.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    options: ListenOptions,
}

impl Listener {
    /// Where it listens; with the port that the kernel has chosen, if it was asked to.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_address(&self) -> io::Result<Address> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Socket::Unix(socket) => {
                bind::unix_address(&socket.listener.local_addr()?).ok_or_else(|| ErrorKind::AddrNotAvailable.into())
            }
        }
    }

    /// Accepts connections and opens each with the handler that `handler` makes for it.
    ///
    /// An error of `handler` drops that connection, and no other. The listener keeps [`Reactor::run`](reactor::Reactor::run)
    /// alive until it is [stopped](ServerKey::stop).
    ///
    /// # Errors
    /// As [`Registry::add`].
    ///
    /// ```no_run
    /// use handlers::{ConnectionOptions, ListenOptions, on_data};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let listener = ListenOptions::new().bind(&"127.0.0.1:7777".parse().unwrap())?;
    /// listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
    ///     Ok(on_data(|data, connection, _cx| {
    ///         let _ = connection.write(data)?;
    ///         Ok(data.len())
    ///     }))
    /// })?;
    /// reactor.run(&mut ())?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn serve<S, H>(
        self,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        mut handler: impl FnMut(&Peer, &mut Context<'_, S>) -> io::Result<H> + 'static,
    ) -> io::Result<ServerKey<S>>
    where
        H: ConnectionHandler<S>,
    {
        let stop = match &self.socket {
            Socket::Tcp(_) => connection::close_accepted::<S, TcpStream, H>,
            Socket::Unix(..) => connection::close_accepted::<S, UnixStream, H>,
        };
        let options = options.clone();
        let key = self.accept(registry, move |accepted, cx| {
            let handler = handler(&accepted.peer, cx)?;
            let listener = cx.key();
            if !cx.registry.contains(listener) {
                return Ok(()); // it was stopped just now, and so is this connection
            }
            accepted.open_for(listener, cx, &options, handler).map(drop)
        })?;
        Ok(ServerKey { key, stop })
    }

    /// Accepts connections and hands each to `accept`: to open it, on this loop or [another](Accepted), or to refuse it by
    /// dropping it. An error drops that connection, and no other.
    ///
    /// # Errors
    /// As [`Registry::add`].
    #[track_caller]
    pub fn accept<S>(
        self,
        registry: &mut Registry<S>,
        accept: impl FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()> + 'static,
    ) -> io::Result<Key> {
        let Self { socket, options } = self;
        let own_key = Rc::new(Cell::new(Key::NULL));
        let admission = options.limit.map(|limit| Admission::new(limit, registry, Rc::clone(&own_key))).transpose()?;
        let room = admission.as_ref().map_or(Key::NULL, |admission| admission.room);
        let accepts_per_turn = options.accepts_per_turn;
        let acceptor = Acceptor { accepts_per_turn, accept, admission, pause: PAUSES.0 };
        let added = match socket {
            Socket::Tcp(listener) => registry.add_handler(listener, Interest::READABLE, acceptor).map_err(Into::into),
            Socket::Unix(socket) => registry.add_handler(socket, Interest::READABLE, acceptor).map_err(Into::into),
        };
        if added.is_err() {
            let _ = registry.remove(room); // there may be none
        }
        own_key.set(*added.as_ref().unwrap_or(&Key::NULL));
        added
    }
}

/// The name of a listener that [serves](Listener::serve).
pub struct ServerKey<S> {
    key: Key,
    stop: fn(&mut Context<'_, S>, Key, Duration),
}

impl<S> ServerKey<S> {
    /// The key of its registration.
    pub const fn key(self) -> Key {
        self.key
    }

    /// Accepts no more, and closes each connection that it has accepted [after what is
    /// queued](crate::Connection::close_after_flush), within `grace`. Once they have ended, nothing of it keeps
    /// [`Reactor::run`](reactor::Reactor::run) alive. O(registrations).
    pub fn stop(self, cx: &mut Context<'_, S>, grace: Duration) {
        let _ = cx.registry.remove(self.key); // it may be gone: its connections are not
        (self.stop)(cx, self.key, grace);
    }
}

impl<S> Clone for ServerKey<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for ServerKey<S> {}

impl<S> fmt::Debug for ServerKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerKey({})", self.key)
    }
}

/// Who has connected.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Peer {
    /// From this address.
    Tcp(SocketAddr),
    /// By a Unix socket, which hardly ever has an address of its own.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

#[derive(Debug)]
enum AcceptedStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection that was accepted and not opened yet. It is `Send`: post it to the loop that is to have it.
///
/// ```
/// use std::io;
/// use handlers::{ConnectionOptions, Listener, on_data};
/// use reactor::{Key, LoopPool, Registry};
///
/// fn spread(listener: Listener, registry: &mut Registry<()>, pool: LoopPool<()>) -> io::Result<Key> {
///     listener.accept(registry, move |accepted, _cx| {
///         let to = pool.round_robin().ok_or_else(|| io::Error::other("an empty pool"))?;
///         let posted = to.post(move |cx| {
///             let echo = on_data(|data, connection, _cx| connection.write(data).map(|_flow| data.len()));
///             if let Err(error) = accepted.open(cx, &ConnectionOptions::new(), echo) {
///                 eprintln!("a connection is dropped: {error}");
///             }
///         });
///         posted.map_err(io::Error::other)
///     })
/// }
/// ```
#[derive(Debug)]
pub struct Accepted {
    stream: AcceptedStream,
    peer: Peer,
    permit: Option<Permit>,
}

impl Accepted {
    /// Who it is.
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Opens the connection on the loop of `cx`; `on_open` is called later this turn.
    ///
    /// # Errors
    /// As [`Registry::add`]; those of `setsockopt(2)`. The connection is dropped then.
    #[track_caller]
    pub fn open<S, H>(
        self,
        cx: &mut Context<'_, S>,
        options: &ConnectionOptions,
        handler: H,
    ) -> io::Result<ConnectionKey<S>>
    where
        H: ConnectionHandler<S>,
    {
        self.open_for(Key::NULL, cx, options, handler)
    }

    #[track_caller]
    fn open_for<S, H>(
        self,
        listener: Key,
        cx: &mut Context<'_, S>,
        options: &ConnectionOptions,
        handler: H,
    ) -> io::Result<ConnectionKey<S>>
    where
        H: ConnectionHandler<S>,
    {
        let Self { stream, permit, .. } = self;
        Ok(match stream {
            AcceptedStream::Tcp(stream) => {
                stream.set_nodelay(options.no_delays())?;
                connection::admit(cx.registry, stream, options, handler, listener, permit)?
            }
            AcceptedStream::Unix(stream) => connection::admit(cx.registry, stream, options, handler, listener, permit)?,
        })
    }
}

/// A socket to accept from.
trait Listen: AsFd + 'static {
    fn accept(&self) -> io::Result<(AcceptedStream, Peer)>;
}

impl Listen for TcpListener {
    fn accept(&self) -> io::Result<(AcceptedStream, Peer)> {
        Self::accept(self).map(|(stream, peer)| (AcceptedStream::Tcp(stream), Peer::Tcp(peer)))
    }
}

impl Listen for UnixSocket {
    fn accept(&self) -> io::Result<(AcceptedStream, Peer)> {
        self.listener.accept().map(|(stream, _peer)| (AcceptedStream::Unix(stream), Peer::Unix))
    }
}

/// What a listener needs to keep to a limit.
struct Admission {
    limit: ConnectionLimit,
    /// Tells this listener that there is room again.
    wake: Sender<()>,
    /// The registration of the queue by which it is told.
    room: Key,
}

impl Admission {
    /// The queue is there before the listener, whose key is known afterwards.
    #[track_caller]
    fn new<S>(limit: ConnectionLimit, registry: &mut Registry<S>, listener: Rc<Cell<Key>>) -> io::Result<Self> {
        let (wake, receiver) = notification_queue(Capacity::Unbounded);
        let room = registry.consume(receiver, move |room, cx| match room {
            Some(()) if cx.registry.contains(listener.get()) => resume(listener.get(), cx),
            _ => Ok(Next::Remove),
        })?;
        registry.set_background(room)?;
        Ok(Self { limit, wake, room })
    }
}

struct Acceptor<F> {
    accepts_per_turn: usize,
    accept: F,
    admission: Option<Admission>,
    /// How long the next pause is.
    pause: Duration,
}

impl<S, L: Listen, F> Handler<S, L> for Acceptor<F>
where
    F: FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    fn ready(&mut self, listener: &mut Io<L>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if cx.readiness().is_timeout() {
            resume(cx.key(), cx)?;
        }
        for _ in 0..self.accepts_per_turn {
            if !cx.registry.interest(cx.key()).is_ok_and(|interest| interest.contains(Interest::READABLE)) {
                break; // who was told of the last one has removed or paused this listener
            }
            let permit = match &self.admission {
                None => None,
                Some(Admission { limit, wake, .. }) => match limit.acquire_or_wait(wake) {
                    Some(permit) => Some(permit),
                    None => {
                        tracing::info!(?limit, "as many connections as allowed: accepting pauses");
                        cx.registry.set_interest(cx.key(), Interest::NONE)?;
                        break;
                    }
                },
            };
            match listener.try_io(Interest::READABLE, |listener| Listen::accept(listener)) {
                Ok((stream, peer)) => {
                    self.pause = PAUSES.0;
                    if let Err(error) = (self.accept)(Accepted { stream, peer, permit }, cx) {
                        tracing::warn!(%error, "a connection is dropped");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                Err(error) if is_out_of_resources(&error) => {
                    tracing::warn!(%error, pause = ?self.pause, "no room for another connection: accepting pauses");
                    cx.registry.set_interest(cx.key(), Interest::NONE)?;
                    cx.registry.set_timeout(cx.key(), Some(self.pause))?;
                    self.pause = (self.pause * 2).min(PAUSES.1);
                    break;
                }
                Err(error) if listens_no_more(&error) => return Err(error),
                // accept(2) passes on what went wrong with that one connection: the next one is another matter.
                Err(error) => tracing::debug!(%error, "a connection failed before it was accepted"),
            }
        }
        Ok(Next::Keep)
    }

    fn closed(&mut self, reason: Closed, cx: &mut Context<'_, S>) {
        if let Some(admission) = &self.admission {
            let _ = cx.registry.remove(admission.room); // it is gone if it was told of room meanwhile
        }
        if !matches!(reason, Closed::ByKey) {
            tracing::error!(?reason, "a listener has ended");
        }
    }
}

/// Ends a pause, for whatever reason it was made.
fn resume<S>(listener: Key, cx: &mut Context<'_, S>) -> io::Result<Next> {
    cx.registry.set_interest(listener, Interest::READABLE)?;
    Ok(Next::Keep)
}

/// The socket is none that listens, or not any more: `shutdown(2)` ends that, also from another process that has it.
fn listens_no_more(error: &io::Error) -> bool {
    let ends = [Errno::INVAL, Errno::BADF, Errno::NOTSOCK];
    Errno::from_io_error(error).is_some_and(|errno| ends.contains(&errno))
}

/// The process, the system or the kernel's memory has nothing left for another connection.
fn is_out_of_resources(error: &io::Error) -> bool {
    let resources = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| resources.contains(&errno))
}
