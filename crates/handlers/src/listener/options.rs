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

    /// Sets the maximum number of connections that are accepted in one turn (at least 1), so that a
    /// flood of connections does not delay the other sources. Default: 64.
    #[must_use]
    pub const fn max_accepts_per_turn(mut self, connections: usize) -> Self {
        self.max_accepts_per_turn = if connections == 0 { 1 } else { connections };
        self
    }

    /// Sets the limit on open connections. While the limit is reached, further clients wait in the
    /// kernel's accept queue. A reached limit is logged at INFO, at most once a minute. Default: no
    /// limit.
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
    /// - `InvalidInput` if [`reuse_port`](Self::reuse_port) or [`mode`](Self::mode) is set and is
    ///   impossible at this address.
    /// - For a Unix socket, `InvalidInput` if the path is too long or has no file name, and the
    ///   errors of creating and locking the lock file.
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

    /// Takes over a socket that listens already, for example an inherited one. The socket can be of
    /// the family IPv4, IPv6 or Unix. The options [`backlog`](Self::backlog),
    /// [`reuse_port`](Self::reuse_port), [`only_v6`](Self::only_v6) and [`mode`](Self::mode) have
    /// no effect on it, since they apply only when a socket is made.
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

    /// Takes the sockets that a service manager has opened for this process, in the order of their
    /// descriptors. The service manager sets the variable `LISTEN_FDS` to the number of sockets,
    /// and `LISTEN_PID` to the id of the process that they are for. If `LISTEN_PID` is not the id
    /// of this process, no socket is taken. Returns an empty vector if no socket was passed, and on
    /// every further call.
    ///
    /// In every case this method removes `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` from the
    /// environment, so that child processes do not inherit the variables. Call it before any thread
    /// is started, because it is not safe to change the environment while another thread reads it.
    ///
    /// # Errors
    /// - `InvalidInput` for the first descriptor that is not a listening stream socket: see
    ///   [`adopt`](Self::adopt). The error names the fd.
    /// - `InvalidInput` if `LISTEN_PID` or `LISTEN_FDS` is not a number, or if `LISTEN_FDS` is not
    ///   in the range from 1 to 1048576.
    /// - `InvalidInput` if the variable `LISTEN_FDS_FIRST_FD` is set. Some tools use it to pass
    ///   descriptors that do not begin at 3, and this method does not support that. Service
    ///   managers do not set this variable.
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
