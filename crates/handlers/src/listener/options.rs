//! Options of a listener, and the ways to get a listening socket.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::Listener;
use super::admission::WhenFull;
use super::bind::{self, BindOptions, Socket};
use super::unix;
use crate::connection::RateLimit;
use crate::error::named;
use crate::limit::ConnectionLimit;
#[cfg(feature = "proxy-protocol")]
use crate::proxy_protocol::ProxyProtocol;
use crate::sockets::{Address, Prepare, SocketOptions};

/// The default of `max_accepts_per_turn`.
const ACCEPTS_PER_TURN: usize = 64;
/// The default length of the kernel's accept queue, which `/proc/sys/net/core/somaxconn` caps. The
/// default of the standard library is 128: a burst of clients fills such a queue before a busy loop
/// has had its turn.
const BACKLOG: i32 = 4096;

/// Options of a listener. They determine how its socket is made, and how it accepts connections.
///
/// ```
/// use handlers::ListenOptions;
///
/// # fn main() -> std::io::Result<()> {
/// let options = ListenOptions::new().backlog(512).max_accepts_per_turn(16);
/// let listener = options.bind(&"127.0.0.1:0".parse()?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ListenOptions {
    bind: BindOptions,
    before_bind: SocketOptions,
    pub(super) max_accepts_per_turn: usize,
    pub(super) limit: Option<ConnectionLimit>,
    pub(super) when_full: WhenFull,
    pub(super) accept_rate: Option<RateLimit>,
    #[cfg(feature = "proxy-protocol")]
    pub(super) proxy_protocol: Option<ProxyProtocol>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        let bind = BindOptions {
            backlog: BACKLOG,
            reuse_port: false,
            only_v6: false,
            mode: None,
        };
        Self {
            bind,
            before_bind: SocketOptions::default(),
            max_accepts_per_turn: ACCEPTS_PER_TURN,
            limit: None,
            when_full: WhenFull::Pause,
            accept_rate: None,
            #[cfg(feature = "proxy-protocol")]
            proxy_protocol: None,
        }
    }
}

impl ListenOptions {
    /// Returns the default options. The default of each option is stated at the method that sets
    /// it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the maximum number of connections that wait in the kernel's accept queue. If the number
    /// is greater than the value in `/proc/sys/net/core/somaxconn`, the kernel uses the value in
    /// that file. Default: 4096.
    #[must_use]
    pub const fn backlog(mut self, connections: u16) -> Self {
        self.bind.backlog = connections as i32;
        self
    }

    /// Sets whether several sockets may listen at one address (`SO_REUSEPORT`), for example one for
    /// each loop. The kernel spreads the connections among the sockets. A Unix socket cannot share
    /// its address, so [`bind`](Self::bind) at a Unix address fails if this option is set. Default:
    /// `false`.
    ///
    /// ```
    /// use handlers::ListenOptions;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let options = ListenOptions::new().reuse_port(true);
    /// let first = options.clone().bind(&"127.0.0.1:0".parse()?)?;
    /// let second = options.bind(&first.local_addr()?)?; // the same port
    /// assert_eq!(first.local_addr()?, second.local_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.bind.reuse_port = reuse_port;
        self
    }

    /// Sets the permissions of a Unix socket's file. With `0o660`, its owner and its group may
    /// connect. The umask has no effect on this mode: the file has exactly these permissions before
    /// the first client can connect, and it never has more permissions. [`bind`](Self::bind) fails
    /// if a mode is set at an address that is not the path of a Unix socket, or if the mode is
    /// greater than `0o777`. Default: `0o777` restricted by the umask.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.bind.mode = Some(mode);
        self
    }

    /// Sets whether a socket at an IPv6 address accepts only IPv6 (`IPV6_V6ONLY`). With `true`,
    /// another socket can listen at the same port for IPv4. With `false`, a socket at `[::]`
    /// accepts both families, and IPv4 peers have addresses in [plain form](super::Peer::Tcp). The
    /// option has no effect on other addresses. Default: `false`.
    #[must_use]
    pub const fn only_v6(mut self, only_v6: bool) -> Self {
        self.bind.only_v6 = only_v6;
        self
    }

    /// Binds the listening socket to a network interface (`SO_BINDTODEVICE`), for example `eth0`:
    /// only clients that come in through this interface can connect. `None` ends the binding. The
    /// name has 1 to 15 bytes, none of them NUL. [`bind`](Self::bind) fails if this option is set
    /// at the address of a Unix socket. Default: none.
    ///
    /// Before Linux 5.7, this option needs the capability `CAP_NET_RAW`.
    ///
    /// ```
    /// use handlers::ListenOptions;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let local = ListenOptions::new().bind_device("lo").bind(&"0.0.0.0:0".parse()?)?;
    /// # let _ = local;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("SO_BINDTODEVICE"))]
    #[must_use]
    pub fn bind_device<'a>(mut self, interface: impl Into<Option<&'a str>>) -> Self {
        self.before_bind.device = interface.into().map(Into::into);
        self
    }

    /// Sets a closure that [`bind`](Self::bind) calls with the socket, after `socket(2)` and before
    /// `bind(2)` and `listen(2)`. Use it for options that `ListenOptions` does not have and that
    /// must be set that early, for example `IP_TRANSPARENT` or `IP_FREEBIND`. Options that can be
    /// set later can also be set on the [`Listener`], which is `AsFd`. The closure is called for
    /// the address of a Unix socket too. The other options have been set on the socket by then, so
    /// the closure can replace them. A second closure replaces the first one. Default: none.
    ///
    /// If the closure returns an error, `bind` fails with it. The closure may be called on any
    /// thread. A panic of it unwinds out of `bind`, which leaves nothing behind.
    ///
    /// ```
    /// use handlers::ListenOptions;
    /// use socket2::SockRef;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// // Listens at an address that this host will get later.
    /// let listener = ListenOptions::new()
    ///     .prepare(|fd| SockRef::from(&fd).set_freebind_v4(true))
    ///     .bind(&"192.0.2.1:0".parse()?)?;
    /// # let _ = listener;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("IP_TRANSPARENT", "IP_FREEBIND", "TCP_FASTOPEN", "TCP_DEFER_ACCEPT"))]
    #[must_use]
    pub fn prepare(
        mut self,
        prepare: impl Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.before_bind.prepare = Some(Prepare::new(prepare));
        self
    }

    /// Sets the maximum number of connections that are accepted in one turn (at least 1), so that a
    /// flood of connections does not delay the other sources. Default: 64.
    #[must_use]
    pub const fn max_accepts_per_turn(mut self, connections: usize) -> Self {
        self.max_accepts_per_turn = if connections == 0 { 1 } else { connections };
        self
    }

    /// Sets the limit on open connections. While the limit is reached, further clients wait in the
    /// kernel's accept queue, or are refused: see [`when_full`](Self::when_full). A reached limit
    /// is logged at INFO, at most once a minute. Default: no limit.
    ///
    /// ```
    /// use handlers::{ConnectionLimit, ListenOptions};
    ///
    /// let limit = ConnectionLimit::new(10_000);
    /// let public = ListenOptions::new().limit(limit.clone());
    /// let admin = ListenOptions::new().limit(limit); // both listeners share the limit
    /// # let _ = (public, admin);
    /// ```
    #[must_use]
    pub fn limit(mut self, limit: impl Into<Option<ConnectionLimit>>) -> Self {
        self.limit = limit.into();
        self
    }

    /// Sets what happens to clients that connect while the [limit](Self::limit) is reached. Without
    /// a limit, this option has no effect. Default: [`WhenFull::Pause`].
    ///
    /// ```
    /// use handlers::{ConnectionLimit, ListenOptions, WhenFull};
    ///
    /// const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    /// let options = ListenOptions::new()
    ///     .limit(ConnectionLimit::new(10_000))
    ///     .when_full(WhenFull::Refuse(BUSY.into()));
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Limits the rate at which connections are accepted, refused ones included. Clients above the
    /// rate wait in the kernel's accept queue. Listeners with a clone of the same `limit`, even on
    /// different loops, keep to it together. Default: no limit.
    ///
    /// ```
    /// use handlers::{ListenOptions, RateLimit};
    ///
    /// let options = ListenOptions::new().accept_rate(RateLimit::new(1000, 200)); // per second
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn accept_rate(mut self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.accept_rate = limit.into();
        self
    }

    /// Expects a PROXY header at the beginning of each connection, from the proxies that
    /// `proxy_protocol` trusts: see [`proxy_protocol`](crate::proxy_protocol). The header must be
    /// there, in version 1 or 2. The connection is passed on when its header has arrived. Until
    /// then it counts for the [limit](Self::limit). If the header is malformed or does not arrive
    /// within the [timeout](ProxyProtocol::timeout), the connection is reset. This is logged at
    /// DEBUG. Default: none, so a header is passed on as data.
    ///
    /// [`Accepted::peer`](crate::Accepted::peer), and the address that the closure of
    /// [`Listener::serve`] is called with, are then those of the client. If the header has no
    /// address, because the proxy checks the server or does not know the client, they are those of
    /// the proxy. [`Connection::peer_addr`](crate::Connection::peer_addr) still returns the address
    /// of the proxy. [`Accepted::proxy_header`](crate::Accepted::proxy_header) returns the header.
    ///
    /// When the server [stops](crate::ServerKey::stop), connections whose header has not arrived
    /// are reset. When the listener ends, all connections that have not been passed on are reset.
    ///
    /// # Cost
    /// One registration for each connection until its header has arrived, with a timer: two
    /// `epoll_ctl` and two allocations more than for other connections. The header takes 3 `read`
    /// in version 2, and about 6 in version 1.
    #[cfg(feature = "proxy-protocol")]
    #[doc(alias("accept-proxy"))]
    #[must_use]
    pub fn proxy_protocol(mut self, proxy_protocol: impl Into<Option<ProxyProtocol>>) -> Self {
        self.proxy_protocol = proxy_protocol.into();
        self
    }

    /// Opens a listening socket at `address`.
    ///
    /// A process that is killed leaves the file of its Unix socket behind. If this method finds
    /// such a file at the path, it replaces the file. When the listener ends, the file of its
    /// socket is removed.
    ///
    /// If several servers of this library start at one path at the same time, one of them listens,
    /// and the others fail with `AddrInUse`. If a server starts while another server ends, the new
    /// server either listens or fails with `AddrInUse`. To ensure this, each server locks a file
    /// beside the socket while it starts or ends, and then removes this lock file. Its name is
    /// `.handlers-NAME.lock`, where `NAME` is the file name of the socket. If another process
    /// holds the lock and is stopped, for example by `SIGSTOP`, this call waits for up to a second,
    /// and then fails with `AddrInUse`.
    ///
    /// # Errors
    /// All errors name the address:
    /// - `AddrInUse`, `PermissionDenied` and the other errors of `socket(2)`, `bind(2)` and
    ///   `listen(2)`.
    /// - `InvalidInput` if [`reuse_port`](Self::reuse_port), [`mode`](Self::mode) or
    ///   [`bind_device`](Self::bind_device) is set and is impossible at this address.
    /// - The errors of `setsockopt(2)`, for example `ENODEV` if no interface has the name that
    ///   [`bind_device`](Self::bind_device) has set.
    /// - An error of [`prepare`](Self::prepare), after "bind to 127.0.0.1:80: prepare of fd 7".
    /// - For a Unix socket, `InvalidInput` if the path is too long or has no file name, and the
    ///   errors of creating and locking the lock file.
    pub fn bind(self, address: &Address) -> io::Result<Listener> {
        let (bind, before) = (self.bind, &self.before_bind);
        let possible = bind.expect_possible(address, before);
        let socket = possible.and_then(|()| match address {
            Address::Tcp(address) => bind::bind_tcp(*address, bind, before).map(Socket::Tcp),
            Address::Unix(path) => unix::bind(path, bind, before).map(Socket::Unix),
            Address::Abstract(name) => bind::bind_abstract(name, bind, before).map(Socket::Unix),
        });
        let socket = socket.map_err(|error| named(format_args!("bind to {address}"), error))?;
        Ok(Listener {
            socket,
            options: self,
        })
    }

    /// Takes over a socket that listens already, for example an inherited one. The socket can be of
    /// the family IPv4, IPv6 or Unix. The options [`backlog`](Self::backlog),
    /// [`reuse_port`](Self::reuse_port), [`only_v6`](Self::only_v6), [`mode`](Self::mode),
    /// [`bind_device`](Self::bind_device) and [`prepare`](Self::prepare) have no effect on it,
    /// since they apply only when a socket is made.
    ///
    /// # Errors
    /// - `InvalidInput` if the fd is not a listening stream socket of one of these families. The
    ///   error names the fd and its type.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use handlers::ListenOptions;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let made_elsewhere = TcpListener::bind("127.0.0.1:0")?;
    /// let listener = ListenOptions::new().max_accepts_per_turn(8).adopt(made_elsewhere)?;
    /// # let _ = listener;
    /// # Ok(())
    /// # }
    /// ```
    pub fn adopt(self, socket: impl Into<OwnedFd>) -> io::Result<Listener> {
        let fd = socket.into();
        let socket = bind::adopt(fd)?;
        Ok(Listener {
            socket,
            options: self,
        })
    }
}
