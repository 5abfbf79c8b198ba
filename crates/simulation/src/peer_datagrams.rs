//! A blocking datagram socket for the peers of a daemon.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::peer::Owned;

/// A UDP socket of a peer, whose receives block.
pub struct PeerDatagrams {
    socket: Owned,
}

impl PeerDatagrams {
    /// Binds a socket. With port 0, the simulation chooses the port.
    ///
    /// # Errors
    /// `EADDRINUSE`.
    ///
    /// # Panics
    /// Outside of a simulation.
    #[track_caller]
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Owned::new(|network| network.bind_datagrams(address, None))?;
        Ok(Self { socket })
    }

    /// Returns the address of this socket.
    ///
    /// # Errors
    /// None.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.call(|network, id| network.local_addr(id))
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// `EMSGSIZE` for more than 65 507 bytes.
    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket
            .call(|network, id| network.send_datagram(id, to, bytes))
    }

    /// Blocks until a datagram arrives, at most for `timeout`. Returns its length and its sender.
    ///
    /// # Errors
    /// `TimedOut`.
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
