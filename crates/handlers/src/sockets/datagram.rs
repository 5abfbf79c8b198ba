//! Calls on UDP sockets, for one datagram at a time. Batches are sent by `udp`.

use std::io;
use std::net::{SocketAddr, UdpSocket};
#[cfg(feature = "simulation")]
use std::os::fd::AsFd;

#[cfg(feature = "simulation")]
use crate::simulation;

/// Returns a socket that is bound to `address`.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::installed() {
        return sockets.bind_udp(address).map(Into::into);
    }
    UdpSocket::bind(address)
}

/// Receives one datagram. Returns its size and its sender. Bytes for which `buf` has no room are
/// lost.
pub(crate) fn receive(socket: &UdpSocket, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(socket.as_fd()) {
        let mut datagram = vec![0; usize::from(u16::MAX)];
        let (length, from, _to) = sockets.receive_from(socket.as_fd(), &mut datagram)?;
        let kept = length.min(buf.len());
        buf[..kept].copy_from_slice(&datagram[..kept]);
        return Ok((kept, from));
    }
    socket.recv_from(buf)
}

/// Sends one datagram. Returns its size.
pub(crate) fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(socket.as_fd()) {
        return sockets
            .send_to(socket.as_fd(), to, bytes)
            .map(|()| bytes.len());
    }
    socket.send_to(bytes, to)
}
