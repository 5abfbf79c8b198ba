//! A blocking datagram socket for the peers of a daemon.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::peer::Owned;

/// A UDP socket of a peer. Receiving blocks, and sending does not.
pub struct PeerDatagrams {
    socket: Owned,
}

impl PeerDatagrams {
    /// Binds a socket to `address`. If the port is 0, the simulation chooses a port.
    ///
    /// # Errors
    /// `EADDRINUSE` if a UDP socket of the simulation is bound to this address already, or to this
    /// port of all addresses.
    ///
    /// # Panics
    /// Outside of a simulation.
    #[track_caller]
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Owned::new(|network| network.bind_datagrams(address, None))?;
        Ok(Self { socket })
    }

    /// Returns the address to which this socket is bound.
    ///
    /// # Errors
    /// None.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.call(|network, id| network.local_addr(id))
    }

    /// Sends a datagram to `to`. A socket keeps up to 256 datagrams that it has not received yet.
    /// Further datagrams to it are dropped.
    ///
    /// # Errors
    /// `EMSGSIZE` for more than 65 507 bytes.
    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket
            .call(|network, id| network.send_datagram(id, to, bytes))
    }

    /// Receives a datagram into `buf`, and returns the number of bytes and the address of the
    /// sender. The bytes that do not fit into `buf` are lost. Blocks until a datagram arrives, but
    /// no longer than `timeout`. With a timeout of `None` it blocks forever.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut) if no datagram arrives within `timeout`.
    pub fn receive_from(
        &self,
        buf: &mut [u8],
        timeout: Option<Duration>,
    ) -> io::Result<(usize, SocketAddr)> {
        self.socket.block("peer receives", timeout, |network, id| {
            network.receive_datagram(id, buf)
        })
    }
}

impl fmt::Debug for PeerDatagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerDatagrams")
            .field("socket", &self.socket.id)
            .finish_non_exhaustive()
    }
}
