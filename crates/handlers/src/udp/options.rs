//! The options that a UDP socket is made with.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use super::UdpSocket;
use crate::error::named;
use crate::sockets::Prepare;
use crate::sockets::udp::{self, BindOptions};

/// The options of a UDP socket that are set before the socket is bound or connected.
///
/// ```
/// use handlers::udp::UdpOptions;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // One socket for each loop: the kernel spreads the peers among them.
/// let options = UdpOptions::new().reuse_port(true).receive_buffer(1024 * 1024);
/// let first = options.bind("127.0.0.1:0".parse()?)?;
/// let second = options.bind(first.local_addr()?)?;
/// assert_eq!(first.local_addr()?, second.local_addr()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct UdpOptions(BindOptions);

impl UdpOptions {
    /// Returns the default options. The default of each option is stated at the method that sets
    /// it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether several sockets may be bound to one address (`SO_REUSEPORT`). The kernel sends
    /// all datagrams of one peer to the same socket. Multicast datagrams go to all of them.
    /// Default: `false`.
    #[doc(alias("SO_REUSEPORT", "UV_UDP_REUSEADDR"))]
    #[must_use]
    pub const fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.0.reuse_port = reuse_port;
        self
    }

    /// Sets whether a socket at an IPv6 address sends and receives only IPv6 (`IPV6_V6ONLY`). With
    /// `true`, another socket can be bound to the same port for IPv4. With `false`, a socket at
    /// `[::]` uses both families. The option has no effect on other addresses. Default: `false`.
    #[doc(alias("IPV6_V6ONLY", "UV_UDP_IPV6ONLY"))]
    #[must_use]
    pub const fn only_v6(mut self, only_v6: bool) -> Self {
        self.0.only_v6 = only_v6;
        self
    }

    /// Sets the size of the kernel's receive buffer in bytes (`SO_RCVBUF`). The kernel doubles the
    /// value, to have room for its own data. It raises a small value, for example 0, to its
    /// minimum, and limits the value by `/proc/sys/net/core/rmem_max`. When the buffer is full, the
    /// kernel drops datagrams. Default: the value in `/proc/sys/net/core/rmem_default`.
    ///
    /// # Source
    /// `socket(7)`, `udp(7)`.
    #[doc(alias("SO_RCVBUF"))]
    #[must_use]
    pub fn receive_buffer(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.0.before_bind.receive_buffer = bytes.into();
        self
    }

    /// Sets the size of the kernel's send buffer in bytes (`SO_SNDBUF`). The kernel doubles the
    /// value, to have room for its own data. It raises a small value, for example 0, to its
    /// minimum, and limits the value by `/proc/sys/net/core/wmem_max`. Default: the value in
    /// `/proc/sys/net/core/wmem_default`.
    ///
    /// # Source
    /// `socket(7)`, `udp(7)`.
    #[doc(alias("SO_SNDBUF"))]
    #[must_use]
    pub fn send_buffer(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.0.before_bind.send_buffer = bytes.into();
        self
    }

    /// Binds the socket to a network interface (`SO_BINDTODEVICE`), for example `eth0`: it sends
    /// and receives only through this interface. `None` ends the binding. The name has 1 to 15
    /// bytes, none of them NUL. Default: none.
    ///
    /// Before Linux 5.7, this option needs the capability `CAP_NET_RAW`.
    #[doc(alias("SO_BINDTODEVICE"))]
    #[must_use]
    pub fn bind_device<'a>(mut self, interface: impl Into<Option<&'a str>>) -> Self {
        self.0.before_bind.device = interface.into().map(Into::into);
        self
    }

    /// Sets a closure that [`bind`](Self::bind) and [`connect`](Self::connect) call with the
    /// socket, after `socket(2)`. Use it for options that `UdpOptions` does not have and that must
    /// be set before the socket is bound. The other options have been set on the socket by then,
    /// so the closure can replace them. A second closure replaces the first one. Default: none.
    ///
    /// If the closure returns an error, `bind` or `connect` fails with it. A panic of the closure
    /// unwinds out of them, and the socket is closed.
    ///
    /// ```
    /// use handlers::udp::UdpOptions;
    /// use socket2::SockRef;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // Several programs of this host receive the datagrams of a multicast group.
    /// let socket = UdpOptions::new()
    ///     .prepare(|fd| SockRef::from(&fd).set_reuse_address(true))
    ///     .bind("0.0.0.0:0".parse()?)?;
    /// # let _ = socket;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("SO_REUSEADDR", "IP_FREEBIND"))]
    #[must_use]
    pub fn prepare(
        mut self,
        prepare: impl Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.0.before_bind.prepare = Some(Prepare::new(prepare));
        self
    }

    /// Creates a socket bound to `address`. With port 0 the kernel chooses a free port.
    ///
    /// # Errors
    /// All errors name the address.
    /// - `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` and the other errors of `bind(2)`.
    /// - `EMFILE` and the other errors of `socket(2)`.
    /// - The errors of `setsockopt(2)`, after "bind 127.0.0.1:80: setsockopt(SO_RCVBUF) on fd 7".
    /// - An error of [`prepare`](Self::prepare), after "bind 127.0.0.1:80: prepare of fd 7".
    pub fn bind(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        udp::bind(address, &self.0)
            .and_then(UdpSocket::of)
            .map_err(|error| named(format_args!("bind {address}"), error))
    }

    /// Creates a socket connected to `peer`. See [`UdpSocket::connect`].
    ///
    /// # Errors
    /// All errors name the address.
    /// - `EINVAL` if the port of `peer` is 0.
    /// - `ENETUNREACH`, `EACCES` for a broadcast address, and the other errors of `connect(2)`.
    /// - `EMFILE` and the other errors of `socket(2)`.
    /// - The errors of `setsockopt(2)`, and of [`prepare`](Self::prepare).
    pub fn connect(&self, peer: SocketAddr) -> io::Result<UdpSocket> {
        udp::connect(peer, &self.0)
            .and_then(UdpSocket::of)
            .map_err(|error| named(format_args!("connect {peer}"), error))
    }
}
