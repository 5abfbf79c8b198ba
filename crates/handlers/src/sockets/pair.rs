//! The sockets of the wire of `StreamCheck`, which are connected with each other and belong to no
//! loop on one side.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
#[cfg(feature = "simulation")]
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

#[cfg(feature = "simulation")]
use crate::simulation;

/// Returns `true` if a simulation provides the sockets. Their bytes take some virtual time.
pub(crate) fn is_simulated() -> bool {
    #[cfg(feature = "simulation")]
    let is_simulated = simulation::installed().is_some();
    #[cfg(not(feature = "simulation"))]
    let is_simulated = false;
    is_simulated
}

/// Returns two connected stream sockets: of TCP if the wire must reset them, and otherwise of the
/// Unix family. Those of a simulation are always of TCP.
pub(crate) fn pair(is_reset: bool) -> io::Result<[OwnedFd; 2]> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::installed() {
        return sockets.pair();
    }
    if is_reset {
        tcp_pair()
    } else {
        UnixStream::pair().map(|(one, two)| [one.into(), two.into()])
    }
}

fn tcp_pair() -> io::Result<[OwnedFd; 2]> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    near.set_nodelay(true)?;
    loop {
        let (far, peer) = listener.accept()?;
        // Another program may have connected first.
        if peer == near.local_addr()? {
            far.set_nodelay(true)?;
            return Ok([near.into(), far.into()]);
        }
    }
}

/// Reads from a socket of [`pair`], which need not be of the Unix family.
pub(crate) fn read(mut socket: &UnixStream, buf: &mut [u8]) -> io::Result<usize> {
    #[cfg(feature = "simulation")]
    if simulation::owner(socket.as_fd()).is_some()
        && let Some(system) = reactor::simulation::installed()
    {
        return system.read(socket.as_raw_fd(), &mut [io::IoSliceMut::new(buf)]);
    }
    socket.read(buf)
}

/// Writes to a socket of [`pair`], which need not be of the Unix family.
pub(crate) fn write(mut socket: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(feature = "simulation")]
    if simulation::owner(socket.as_fd()).is_some()
        && let Some(system) = reactor::simulation::installed()
    {
        return system.write(socket.as_raw_fd(), &[io::IoSlice::new(bytes)]);
    }
    socket.write(bytes)
}
