//! How to listen: from options to a listening socket.

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

/// So many connections are accepted in one call, if nothing else is asked for.
const ACCEPTS_PER_TURN: usize = 64;
/// So many connections may wait in the kernel's queue, `/proc/sys/net/core/somaxconn` permitting. The 128 of the
/// standard library are filled by a burst of clients before a busy loop has had its turn.
const BACKLOG: i32 = 4096;

/// How to listen and accept.
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
    /// The defaults, as each of the methods below tells them.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many connections may wait in the kernel to be accepted; `/proc/sys/net/core/somaxconn` is the limit of that.
    /// 4096.
    #[must_use]
    pub const fn backlog(mut self, connections: u16) -> Self {
        self.bind.backlog = connections as i32;
        self
    }

    /// Sets whether several sockets, one for each loop, may listen at one address (`SO_REUSEPORT`). The kernel spreads
    /// the connections among them. A Unix socket cannot share its address: [`bind`](Self::bind) refuses this option
    /// there. Default: `false`.
    #[must_use]
    pub const fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.bind.reuse_port = reuse_port;
        self
    }

    /// Sets the permissions of the file of a Unix socket: with `0o660` its owner and group may connect. The file has
    /// exactly these, whatever the umask says, before the first client can connect, and never more. Other addresses and
    /// a mode beyond `0o777` are refused by [`bind`](Self::bind). Default: `0o777` less the umask.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.bind.mode = Some(mode);
        self
    }

    /// Sets whether a socket at an IPv6 address leaves IPv4 to others (`IPV6_V6ONLY`). Other addresses are not
    /// concerned. Default: `false`, so that `[::]` accepts both; the peers' addresses are shown in [plain
    /// form](super::Peer::Tcp).
    #[must_use]
    pub const fn only_v6(mut self, only_v6: bool) -> Self {
        self.bind.only_v6 = only_v6;
        self
    }

    /// How many connections are accepted in one turn at most, so that a flood of them does not hold up the others. 64.
    #[must_use]
    pub const fn max_accepts_per_turn(mut self, connections: usize) -> Self {
        self.max_accepts_per_turn = if connections == 0 { 1 } else { connections };
        self
    }

    /// How many connections may be open at once; more wait in the kernel's queue. Any number.
    #[must_use]
    pub fn limit(mut self, limit: impl Into<Option<ConnectionLimit>>) -> Self {
        self.limit = limit.into();
        self
    }

    /// Opens a listening socket at `address`.
    ///
    /// The file of a Unix socket whose process has ended is replaced; that of this one is removed with the listener.
    /// Servers of this library that start or end at one path at once take turns, by a lock on a file beside it
    /// (`.handlers-NAME.lock`, removed afterwards): one of them listens, and the others fail with `AddrInUse`. If the
    /// holder of the lock is stopped, this waits for a second.
    ///
    /// # Errors
    /// Those of `bind(2)`, with the address: `AddrInUse`, `PermissionDenied`, …. `InvalidInput` for an option that the
    /// address cannot have: [`reuse_port`](Self::reuse_port), [`mode`](Self::mode). Those of making and locking the
    /// file beside a Unix socket.
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

    /// Takes a socket that listens already, of either family: inherited, for example. The options of the socket itself
    /// (backlog, `reuse_port`, `only_v6`, mode) were decided when it was made, and are not changed.
    ///
    /// # Errors
    /// `InvalidInput`, with the fd and what it is, for anything but a listening stream socket; those of
    /// `getsockopt(2)`.
    pub fn adopt(self, socket: impl Into<OwnedFd>) -> io::Result<Listener> {
        let fd = socket.into();
        let socket = bind::adopt(fd)?;
        Ok(Listener {
            socket,
            options: self,
        })
    }

    /// Takes the sockets that a service manager has opened for this process, in their order: as many as `LISTEN_FDS`
    /// says, if `LISTEN_PID` is the number of this process. Returns none if there are none, also when it is called
    /// again.
    ///
    /// In each case `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` are removed from the environment, so that children
    /// are told nothing of them. Call it before any thread is started: it changes the environment, which is not safe
    /// while another thread reads it.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt), for the first that is not a listening stream socket; `InvalidInput` for a
    /// `LISTEN_PID` or `LISTEN_FDS` that is no such number, and for `LISTEN_FDS_FIRST_FD`, which other tools know and
    /// service managers do not set.
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
