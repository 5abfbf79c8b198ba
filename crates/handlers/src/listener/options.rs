//! Options of a listener, and the ways to get a listening socket.

use std::io;
use std::os::fd::OwnedFd;

use super::Listener;
use super::address::{Address, BindOptions};
use super::bind::{self, Socket};
#[cfg(feature = "inherited")]
use super::inherited;
use super::unix;
use crate::error::named;
use crate::limit::ConnectionLimit;

/// The default of `max_accepts_per_turn`.
const ACCEPTS_PER_TURN: usize = 64;
/// The default length of the kernel's accept queue, within `/proc/sys/net/core/somaxconn`. A burst
/// of clients fills the 128 entries of the standard library before a busy loop has had its turn.
const BACKLOG: i32 = 4096;

/// Options of a listener: how its socket is made, and how it accepts.
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
    pub(super) max_accepts_per_turn: usize,
    pub(super) limit: Option<ConnectionLimit>,
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
            max_accepts_per_turn: ACCEPTS_PER_TURN,
            limit: None,
        }
    }
}

impl ListenOptions {
    /// Returns the default options. Each method below states its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the maximum number of connections that wait in the kernel's accept queue. The kernel
    /// caps it at `/proc/sys/net/core/somaxconn`. Default: 4096.
    #[must_use]
    pub const fn backlog(mut self, connections: u16) -> Self {
        self.bind.backlog = connections as i32;
        self
    }

    /// Sets whether several sockets, one for each loop, may listen at one address (`SO_REUSEPORT`).
    /// The kernel spreads the connections among them. A Unix socket cannot share its address;
    /// [`bind`](Self::bind) refuses the option there. Default: `false`.
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

    /// Sets the permissions of a Unix socket's file: with `0o660`, its owner and group may connect.
    /// The file has exactly these permissions before the first client can connect, whatever the
    /// umask is, and never has more. [`bind`](Self::bind) refuses other addresses and a mode
    /// greater than `0o777`. Default: `0o777` less the umask.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.bind.mode = Some(mode);
        self
    }

    /// Sets whether a socket at an IPv6 address leaves IPv4 to other sockets (`IPV6_V6ONLY`). The
    /// option has no effect on other addresses. With `false`, `[::]` accepts both families, and the
    /// peers' addresses are in [plain form](super::Peer::Tcp). Default: `false`.
    #[must_use]
    pub const fn only_v6(mut self, only_v6: bool) -> Self {
        self.bind.only_v6 = only_v6;
        self
    }

    /// Sets the maximum number of connections that are accepted in one turn (at least 1). It keeps
    /// a flood of connections from delaying the other sources. Default: 64.
    #[must_use]
    pub const fn max_accepts_per_turn(mut self, connections: usize) -> Self {
        self.max_accepts_per_turn = if connections == 0 { 1 } else { connections };
        self
    }

    /// Sets the limit on open connections. Further clients wait in the kernel's accept queue. A
    /// reached limit is logged at INFO, at most once a minute. Default: no limit.
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

    /// Opens a listening socket at `address`.
    ///
    /// If the file of a Unix socket is left over from a process that has ended, it is replaced. The
    /// file of this socket is removed with the listener. A lock on a file beside it
    /// (`.handlers-NAME.lock`, removed afterwards) serialises servers of this library that start or
    /// end at one path at the same time: one of them listens, and the others fail with `AddrInUse`.
    /// If the lock's holder is stopped, this call waits for up to a second.
    ///
    /// # Errors
    /// - The errors of `bind(2)`, with the address: `AddrInUse`, `PermissionDenied` and others.
    /// - `InvalidInput` for an option that is impossible at this address:
    ///   [`reuse_port`](Self::reuse_port), [`mode`](Self::mode).
    /// - For a Unix socket, the errors of creating and locking the file beside it.
    pub fn bind(self, address: &Address) -> io::Result<Listener> {
        let bind = self.bind;
        let socket = bind.expect_possible(address).and_then(|()| match address {
            Address::Tcp(address) => bind::bind_tcp(*address, bind).map(Socket::Tcp),
            Address::Unix(path) => unix::bind(path, bind).map(Socket::Unix),
            Address::Abstract(name) => bind::bind_abstract(name, bind).map(Socket::Unix),
        });
        let socket = socket.map_err(|error| named(format_args!("bind to {address}"), error))?;
        Ok(Listener {
            socket,
            options: self,
        })
    }

    /// Takes over a socket that listens already, of IPv4, IPv6 or the Unix family: an inherited
    /// one, for example. The options of the socket itself (backlog, `reuse_port`, `only_v6`, mode)
    /// were set when it was made and are not changed.
    ///
    /// # Errors
    /// - `InvalidInput`, with the fd and its kind, if the fd is not a listening stream socket.
    /// - The errors of `getsockopt(2)`.
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

    /// Takes the sockets that a service manager has opened for this process, in their order. Their
    /// number is `LISTEN_FDS`; they are taken only if `LISTEN_PID` is the id of this process.
    /// Returns an empty vector if no sockets were passed, and on every further call.
    ///
    /// `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` are removed from the environment in every
    /// case, so that child processes do not inherit them. Call this function before any thread is
    /// started: it changes the environment, which is not safe while another thread reads it.
    ///
    /// # Errors
    /// - `InvalidInput`, with the fd and its kind, for the first socket that is not a listening
    ///   stream socket; the errors of `getsockopt(2)`. See [`adopt`](Self::adopt).
    /// - `InvalidInput` if `LISTEN_PID` or `LISTEN_FDS` is not a number in its range.
    /// - `InvalidInput` if `LISTEN_FDS_FIRST_FD` is set, which other tools know and service
    ///   managers do not set.
    ///
    /// # Source
    /// `sd_listen_fds(3)`.
    #[cfg(feature = "inherited")]
    pub fn inherited(self) -> io::Result<Vec<Listener>> {
        let mut listeners = Vec::new();
        for fd in inherited::take()? {
            listeners.push(self.clone().adopt(fd)?);
        }
        Ok(listeners)
    }
}
