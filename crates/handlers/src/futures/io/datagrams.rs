//! Datagrams within a future.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::task::{Context, Poll};

use super::Async;
use crate::error::named;
use crate::sockets::datagram;

/// For many datagrams, `handlers::udp` needs fewer system calls: it sends and receives in batches.
impl Async<UdpSocket> {
    /// Returns a socket that is bound to `address`. Port 0 means any free port.
    ///
    /// # Errors
    /// The error names the call and the address, for example "bind to 192.0.2.1:53: Cannot assign
    /// requested address (os error 99)".
    #[track_caller]
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = datagram::bind(address)
            .map_err(|error| named(format_args!("bind to {address}"), error))?;
        Self::new(socket)
    }

    /// Receives one datagram. Returns its size and its sender. Bytes for which `buf` has no room
    /// are lost. If the future is dropped, no datagram is lost.
    ///
    /// # Errors
    /// The errors of `recvfrom(2)`, and those of a registration: see [`Async`](Self#errors).
    /// `ECONNREFUSED` is reported only if the socket is connected.
    ///
    /// ```
    /// # use std::net::UdpSocket;
    /// # use handlers::futures::{self, Async};
    /// # use reactor::Reactor;
    /// # fn main() -> std::io::Result<()> {
    /// let socket = Async::<UdpSocket>::bind("127.0.0.1:0".parse().unwrap())?;
    /// let own = socket.get_ref().local_addr()?;
    /// let mut reactor = Reactor::<()>::new()?;
    /// let received = futures::block_on(&mut reactor, &mut (), async move {
    ///     socket.send_to(b"hello", own).await?;
    ///     let mut buf = [0; 1500];
    ///     let (length, sender) = socket.recv_from(&mut buf).await?;
    ///     std::io::Result::Ok((buf[..length].to_vec(), sender))
    /// })??;
    /// assert_eq!(received, (b"hello".to_vec(), own));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.poll_recv_from(cx, buf)).await
    }

    /// Sends one datagram, and waits until the socket has room for it. Returns its size.
    ///
    /// # Errors
    /// The errors of `sendto(2)`, for example `EMSGSIZE`, and those of a registration: see
    /// [`Async`](Self#errors).
    pub async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        poll_fn(|cx| self.poll_send_to(cx, bytes, to)).await
    }

    /// Receives one datagram, or wakes the task when there is one. See
    /// [`recv_from`](Self::recv_from).
    ///
    /// # Errors
    /// Those of [`recv_from`](Self::recv_from).
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.poll_read_with(cx, |socket| datagram::receive(socket, buf))
    }

    /// Sends one datagram, or wakes the task when the socket has room. See
    /// [`send_to`](Self::send_to).
    ///
    /// # Errors
    /// Those of [`send_to`](Self::send_to).
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |socket| datagram::send(socket, bytes, to))
    }
}
