//! The options of connections that are set on their sockets.
//!
//! Ground rule: of the options that this file adds, each connection has one pointer, which is null
//! until the first of them is set. So a daemon without them makes no call for them.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::options::ConnectionOptions;
use crate::sockets::{Family, Prepare, SocketOptions, TcpKeepalive, tcp};

impl ConnectionOptions {
    /// Sets the options of a socket that was accepted.
    pub(crate) fn set_on_accepted(&self, fd: BorrowedFd<'_>, family: Family) -> io::Result<()> {
        if family == Family::Internet {
            tcp::set_nodelay(fd, self.0.no_delay)?;
        }
        match &self.0.socket {
            Some(socket) => socket.set_on_accepted(fd, family),
            None => Ok(()),
        }
    }

    fn with_socket(self, change: impl FnOnce(&mut SocketOptions)) -> Self {
        self.with(|settings| change(settings.socket.get_or_insert_default()))
    }

    /// Sets whether small packets are sent without delay (`TCP_NODELAY`). With either value, the
    /// small writes of one callback are sent together. See [options of the
    /// socket](Self#options-of-the-socket). Default: `true`.
    #[doc(alias("TCP_NODELAY", "uv_tcp_nodelay"))]
    #[must_use]
    pub fn no_delay(self, no_delay: bool) -> Self {
        self.with(|settings| settings.no_delay = no_delay)
    }

    /// Lets the kernel probe an idle connection (`SO_KEEPALIVE`), so that a peer that has vanished
    /// is noticed. The connection then ends with
    /// [`CloseReason::Failed`](crate::CloseReason::Failed) and `ETIMEDOUT`. With
    /// [`user_timeout`](Self::user_timeout), the kernel ends the connection after that time, and
    /// not after the count of probes. See [options of the socket](Self#options-of-the-socket).
    /// Default: none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use handlers::{ConnectionOptions, TcpKeepalive};
    ///
    /// let probes = TcpKeepalive::new(Duration::from_secs(60));
    /// let options = ConnectionOptions::new().keepalive(probes);
    /// let without = options.keepalive(None);
    /// # let _ = without;
    /// ```
    #[doc(alias("SO_KEEPALIVE", "uv_tcp_keepalive"))]
    #[must_use]
    pub fn keepalive(self, keepalive: impl Into<Option<TcpKeepalive>>) -> Self {
        self.with_socket(|socket| socket.keepalive = keepalive.into())
    }

    /// Sets how long sent bytes may stay without an acknowledgement of the peer
    /// (`TCP_USER_TIMEOUT`). The time also applies to bytes that the kernel cannot send because the
    /// peer takes none. After this time the kernel ends the connection with `ETIMEDOUT`. The range
    /// is 1 ms to 2147483647 ms, about 24.8 days. The time is rounded up to whole milliseconds and
    /// clamped to the range. See [options of the socket](Self#options-of-the-socket). Default:
    /// none. The kernel then gives up after about 15 minutes: see `tcp_retries2` in `tcp(7)`.
    ///
    /// Unlike [`write_timeout`](Self::write_timeout), this time also runs for the bytes that the
    /// kernel has taken and that the peer has not acknowledged.
    #[doc(alias("TCP_USER_TIMEOUT", "set_tcp_user_timeout"))]
    #[must_use]
    pub fn user_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with_socket(|socket| socket.user_timeout = timeout.into())
    }

    /// Sets the size of the kernel's receive buffer (`SO_RCVBUF`). The kernel doubles the value, to
    /// have room for its own data, and no longer adapts the size to the connection. It raises a
    /// small value, for example 0, to its minimum, and limits the value by
    /// `/proc/sys/net/core/rmem_max`. An accepted socket gets the size after its handshake. For a
    /// size that holds from the first packet, set the option on the
    /// [`Listener`](crate::Listener). See [options of the socket](Self#options-of-the-socket).
    /// Default: none.
    ///
    /// # Source
    /// `socket(7)`, `tcp(7)`.
    #[doc(alias("SO_RCVBUF", "set_recv_buffer_size"))]
    #[must_use]
    pub fn receive_buffer(self, bytes: impl Into<Option<usize>>) -> Self {
        self.with_socket(|socket| socket.receive_buffer = bytes.into())
    }

    /// Sets the size of the kernel's send buffer (`SO_SNDBUF`). The kernel doubles the value, to
    /// have room for its own data, and no longer adapts the size to the connection. It raises a
    /// small value, for example 0, to its minimum, and limits the value by
    /// `/proc/sys/net/core/wmem_max`. See [options of the socket](Self#options-of-the-socket).
    /// Default: none.
    ///
    /// # Source
    /// `socket(7)`.
    #[doc(alias("SO_SNDBUF", "set_send_buffer_size"))]
    #[must_use]
    pub fn send_buffer(self, bytes: impl Into<Option<usize>>) -> Self {
        self.with_socket(|socket| socket.send_buffer = bytes.into())
    }

    /// Sets the mark of each packet that the socket sends (`SO_MARK`), for rules of routing and of
    /// firewalls. It needs the capability `CAP_NET_ADMIN`, or `CAP_NET_RAW` since Linux 5.17.
    /// Without it, the error has the errno `EPERM` and names the capability. An accepted socket
    /// gets the mark after its handshake. For a mark on all packets, set the option on the
    /// [`Listener`](crate::Listener) too. See [options of the socket](Self#options-of-the-socket).
    /// Default: none.
    #[doc(alias("SO_MARK", "set_mark"))]
    #[must_use]
    pub fn mark(self, mark: impl Into<Option<u32>>) -> Self {
        self.with_socket(|socket| socket.mark = mark.into())
    }

    /// Binds the sockets of [`Connection::connect`](crate::Connection::connect) to a network
    /// interface (`SO_BINDTODEVICE`), for example `eth0`. All packets then use this interface. The
    /// name has 1 to 15 bytes, none of them NUL. For accepted sockets the option has no effect: see
    /// [`ListenOptions::bind_device`](crate::ListenOptions::bind_device). `None` ends the binding.
    /// Default: none.
    ///
    /// If no interface has this name, the attempt fails with `ENODEV`. Before Linux 5.7, the option
    /// needs the capability `CAP_NET_RAW`.
    ///
    /// ```
    /// use handlers::ConnectionOptions;
    ///
    /// let options = ConnectionOptions::new().bind_device("eth0");
    /// let without = options.bind_device(None);
    /// # let _ = without;
    /// ```
    #[doc(alias("SO_BINDTODEVICE"))]
    #[must_use]
    pub fn bind_device<'a>(self, interface: impl Into<Option<&'a str>>) -> Self {
        let interface = interface.into().map(Into::into);
        self.with_socket(|socket| socket.device = interface)
    }

    /// Sets a closure that is called with each socket before the socket is used. Use it for options
    /// that `ConnectionOptions` does not have.
    ///
    /// - For [`Connection::connect`](crate::Connection::connect), the closure is called for each
    ///   attempt, after `socket(2)` and before `bind(2)` and `connect(2)`. If it returns an error,
    ///   the attempt fails with it, and the next address is tried.
    /// - For a listener, the closure is called after `accept(2)`, when the connection is opened. If
    ///   it returns an error, this connection is dropped.
    ///
    /// The closure is called after all other options have been set on the socket, so it can replace
    /// them. It must not block. It is called on the thread of the loop that opens the connection.
    /// A second closure replaces the first one. Default: none.
    ///
    /// The error shows which closure has failed, for example "prepare of fd 7: Operation not
    /// permitted (os error 1)". If the closure panics, the panic unwinds through the call that
    /// connects or opens the connection. If an attempt to connect panics, all attempts of this call
    /// end, and the handler is notified by [`on_close`](crate::ConnectionHandler::on_close) with
    /// [`CloseReason::Panicked`](crate::CloseReason::Panicked).
    ///
    /// There is no option for TCP fast open, because no library with a safe interface that this
    /// crate uses can set it. Do not set `TCP_FASTOPEN_CONNECT` in the closure. With it, the kernel
    /// reports a socket as writable and not connected until bytes are written. So the attempt would
    /// be pending until the [`connect_timeout`](Self::connect_timeout).
    ///
    /// ```
    /// use handlers::ConnectionOptions;
    /// use socket2::SockRef;
    ///
    /// // The packets of IPv4 get the type of service "low delay".
    /// let options = ConnectionOptions::new().prepare(|fd| SockRef::from(&fd).set_tos_v4(0x10));
    /// # let _ = options;
    /// ```
    #[doc(alias("IP_TOS", "TCP_CONGESTION", "TCP_FASTOPEN_CONNECT", "setsockopt"))]
    #[must_use]
    pub fn prepare(
        self,
        prepare: impl Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.with_socket(|socket| socket.prepare = Some(Prepare::new(prepare)))
    }
}
