//! Blocking sockets for the peers of a daemon: plain code instead of callbacks.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use handlers::Address;
use reactor::simulation::{System, block_until};
use rustix::io::Errno;

use crate::network::unix::Name;
use crate::network::{Network, SocketId};
use crate::simulation::world;
use crate::world::{State, World};

/// A socket of the simulation without a descriptor. Dropping an `Owned` closes the socket.
pub(crate) struct Owned {
    world: Rc<World>,
    pub(crate) id: SocketId,
}

impl Owned {
    #[track_caller]
    pub(crate) fn new(
        make: impl FnOnce(&mut Network) -> Result<SocketId, Errno>,
    ) -> io::Result<Self> {
        let world = world();
        let id = world.peer_call(make)?;
        Ok(Self { world, id })
    }

    /// Does `call`, and blocks while it returns `EAGAIN`.
    pub(crate) fn block<R>(
        &self,
        what: &str,
        timeout: Option<Duration>,
        mut call: impl FnMut(&mut Network, SocketId) -> Result<R, Errno>,
    ) -> io::Result<R> {
        let deadline = timeout.map(|timeout| self.world.now() + timeout);
        let mut called = Err(Errno::AGAIN);
        let is_over = || {
            // A look that finds nothing is no progress: otherwise two peers that wait would wake
            // each other for ever.
            called = self.world.with(|state| call(&mut state.network, self.id));
            !matches!(called, Err(Errno::AGAIN))
        };
        block_until(deadline, is_over);
        let errno = called
            .as_ref()
            .err()
            .map_or(0, |errno| -errno.raw_os_error());
        self.world.peer_call(|_| {});
        self.world
            .with(|state| state.record(what, self.id, i64::from(errno)));
        called.map_err(|errno| match errno {
            Errno::AGAIN => io::ErrorKind::TimedOut.into(),
            errno => errno.into(),
        })
    }

    pub(crate) fn call<R>(
        &self,
        call: impl FnOnce(&mut Network, SocketId) -> Result<R, Errno>,
    ) -> io::Result<R> {
        Ok(self.world.peer_call(|network| call(network, self.id))?)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let id = self.id;
        self.world.peer_call(|network| network.close(id));
    }
}

/// The peer's end of a connection to a daemon. Its reads and writes block. Dropping a `Peer` closes
/// the connection as `close(2)` does. If bytes have arrived that were not read, the daemon then
/// sees a reset. On a Unix socket, it reads `ECONNRESET` after the bytes that were sent.
///
/// ```no_run
/// use std::io::{Read, Write};
///
/// # fn main() -> std::io::Result<()> {
/// let mut peer = simulation::Peer::connect("127.0.0.1:7777".parse().unwrap())?;
/// peer.write_all(b"hello\n")?;
/// peer.shutdown_write()?;
/// let mut answer = Vec::new();
/// peer.read_to_end(&mut answer)?;
/// # Ok(())
/// # }
/// ```
pub struct Peer {
    socket: Owned,
    timeout: Option<Duration>,
}

impl Peer {
    /// Connects to `address`, and blocks until the attempt has succeeded or failed.
    ///
    /// # Errors
    /// - `ECONNREFUSED` if nothing listens there, or with the chance
    ///   [`Faults::refusals`](crate::Faults::refusals).
    /// - `ETIMEDOUT` after 127 s without an answer: the queue of the listener stays full, or, with
    ///   the chance [`Faults::hangs`](crate::Faults::hangs), nothing answers.
    ///
    /// # Panics
    /// Outside of a simulation.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = Owned::new(|network| Ok(network.connect(address, None)))?;
        socket.block("connected", None, |network, id| {
            match (network.take_error(id), network.peer_addr(id)) {
                (Some(error), _) => Err(error),
                (None, Err(Errno::NOTCONN)) => Err(Errno::AGAIN),
                (None, other) => other.map(drop),
            }
        })?;
        Ok(Self {
            socket,
            timeout: None,
        })
    }

    /// Connects to the path or the abstract name of a Unix socket, or to a TCP address, as
    /// [`connect`](Self::connect) does. A connect to a Unix socket succeeds or fails at once, and
    /// blocks only while the queue of the listener is full.
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// use handlers::{Address, ConnectionOptions, ListenOptions, on_data};
    /// use simulation::{Daemon, Peer, Seeds};
    ///
    /// Seeds::new(0..20).check(|| {
    ///     let address: Address = "unix:/run/shout".parse().expect("an address");
    ///     let at = address.clone();
    ///     let daemon = Daemon::start("daemon", move |reactor| {
    ///         let listener = ListenOptions::new().bind(&at)?;
    ///         listener.serve(reactor, &ConnectionOptions::new(), |_peer, _cx| {
    ///             Ok(on_data(|data, connection, _cx| {
    ///                 let _flow = connection.write(&data.to_ascii_uppercase())?;
    ///                 Ok(data.len())
    ///             }))
    ///         })?;
    ///         Ok(((), ()))
    ///     });
    ///     let mut peer = Peer::connect_to(&address).expect("it listens");
    ///     peer.write_all(b"hello").expect("it is connected");
    ///     peer.shutdown_write().expect("it is connected");
    ///     let mut answer = String::new();
    ///     peer.read_to_string(&mut answer).expect("an answer");
    ///     assert_eq!(answer, "HELLO");
    ///     daemon.end(|(), cx| cx.registry.stop());
    /// });
    /// ```
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect) for a TCP address. For a Unix socket:
    /// - `ENOENT` if no socket was bound to the path, or its listener has removed the path.
    /// - `ECONNREFUSED` if the process that listened at the path was killed, and if nothing listens
    ///   at the abstract name.
    /// - `EINVAL` if the address is of another kind.
    ///
    /// # Panics
    /// Outside of a simulation.
    #[track_caller]
    pub fn connect_to(address: &Address) -> io::Result<Self> {
        let name = match address {
            Address::Tcp(address) => return Self::connect(*address),
            Address::Unix(path) => Name::path(path),
            Address::Abstract(name) => Name::Abstract(name.clone()),
            _ => return Err(Errno::INVAL.into()),
        };
        world().with(State::settle); // a listener that was just closed accepts nothing
        let socket = Owned::new(|network| Ok(network.unix_stream()))?;
        socket.block("connected", None, |network, id| {
            network.connect_to_name(id, &name)
        })?;
        Ok(Self {
            socket,
            timeout: None,
        })
    }

    /// Makes a connection, and returns its two ends: a connected stream for a daemon, and the peer.
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// use handlers::{Connection, ConnectionOptions, on_data};
    /// use reactor::Reactor;
    /// use simulation::{Faults, Peer, Simulation};
    ///
    /// let report = Simulation::new(1).faults(Faults::none()).run(|| {
    ///     let (stream, mut peer) = Peer::pair().expect("a descriptor");
    ///     let daemon = simulation::process("daemon", move || -> std::io::Result<()> {
    ///         let mut reactor = Reactor::<()>::new()?;
    ///         let shout = on_data(|data, connection, _cx| {
    ///             let _flow = connection.write(&data.to_ascii_uppercase())?;
    ///             Ok(data.len())
    ///         });
    ///         Connection::open(&mut reactor, stream, &ConnectionOptions::new(), shout)?;
    ///         reactor.run(&mut ())?; // until the connection has ended
    ///         Ok(())
    ///     });
    ///     peer.write_all(b"hello").expect("it is connected");
    ///     peer.shutdown_write().expect("it is connected");
    ///     let mut answer = String::new();
    ///     peer.read_to_string(&mut answer).expect("an answer");
    ///     assert_eq!(answer, "HELLO");
    ///     daemon.join().expect("it ends");
    /// });
    /// assert_eq!(report.outcome, Ok(()));
    /// ```
    ///
    /// # Errors
    /// `EMFILE` if the process has no more descriptors.
    ///
    /// # Panics
    /// Outside of a simulation.
    #[track_caller]
    pub fn pair() -> io::Result<(TcpStream, Self)> {
        let world = world();
        let (near, far) = world.peer_call(Network::pair);
        let stream = TcpStream::from(world.descriptor(near)?);
        let socket = Owned { world, id: far };
        Ok((
            stream,
            Self {
                socket,
                timeout: None,
            },
        ))
    }

    /// Sets how long a read or write may block before it fails with
    /// [`TimedOut`](io::ErrorKind::TimedOut). With `None` it blocks forever. Default: `None`.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Ends the direction to the daemon. The daemon reads the bytes that were written before this
    /// call, and then an end of stream.
    ///
    /// # Errors
    /// `ENOTCONN` if the connection has been reset. None for a Unix socket.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.socket.call(Network::shutdown_write)
    }

    /// Closes the connection by a reset. A Unix socket has no reset, and is closed.
    pub fn reset(self) {
        let reset = |network: &mut Network, id| {
            network.reset_on_close(id);
            Ok(())
        };
        let _ = self.socket.call(reset); // it never fails
    }

    /// Returns the address of this end of the connection.
    ///
    /// # Errors
    /// `EINVAL` for a Unix socket. The address of another one stays known after a reset.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.call(|network, id| network.local_addr(id))
    }

    /// Returns the number of bytes that have arrived and have not been read.
    pub fn unread(&self) -> u64 {
        self.socket.call(Network::unread).unwrap_or(0)
    }
}

impl Read for Peer {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket
            .block("peer reads", self.timeout, |network, id| {
                network.read_stream(id, &mut [IoSliceMut::new(buf)])
            })
    }
}

impl Write for Peer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket
            .block("peer writes", self.timeout, |network, id| {
                network.write_stream(id, &[IoSlice::new(buf)])
            })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("socket", &self.socket.id)
            .finish_non_exhaustive()
    }
}

/// A listening socket of a peer, for a daemon that connects to others.
pub struct PeerListener {
    socket: Owned,
    address: SocketAddr,
}

impl PeerListener {
    /// Listens at `address`. If the port is 0, the simulation chooses a port.
    ///
    /// # Errors
    /// `EADDRINUSE` if a socket of the simulation listens at this address already, or at this port
    /// of all addresses.
    ///
    /// # Panics
    /// Outside of a simulation.
    #[track_caller]
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Owned::new(|network| network.listen_at(address, 128))?;
        let address = socket.call(|network, id| network.local_addr(id))?;
        Ok(Self { socket, address })
    }

    /// Returns the address at which this socket listens. If [`bind`](Self::bind) was called with
    /// port 0, the address has the chosen port.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts a connection, and returns it with the address of the daemon. Blocks until there is a
    /// connection.
    ///
    /// # Errors
    /// - `EMFILE` with the chance
    ///   [`Faults::out_of_descriptors`](crate::Faults::out_of_descriptors).
    /// - `ECONNABORTED` if the connection has ended before it is accepted.
    pub fn accept(&self) -> io::Result<(Peer, SocketAddr)> {
        self.accept_or_give_up(None)
    }

    /// Blocks until a connection is accepted, at most for `timeout`.
    ///
    /// # Errors
    /// `TimedOut`; `EMFILE` by the faults of the simulation; `ECONNABORTED`.
    pub fn accept_within(&self, timeout: Duration) -> io::Result<(Peer, SocketAddr)> {
        self.accept_or_give_up(Some(timeout))
    }

    fn accept_or_give_up(&self, timeout: Option<Duration>) -> io::Result<(Peer, SocketAddr)> {
        let accepted = self.socket.block("peer accepts", timeout, Network::accept);
        let (id, address) = accepted?;
        let world = Rc::clone(&self.socket.world);
        let socket = Owned { world, id };
        Ok((
            Peer {
                socket,
                timeout: None,
            },
            address,
        ))
    }
}

impl fmt::Debug for PeerListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerListener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
