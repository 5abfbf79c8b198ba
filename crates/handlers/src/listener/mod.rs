//! Listeners: sockets that accept connections, and what becomes of those.
//!
//! Ground rule: a listener never spins and never dies of what a peer or a limit does. An error of `accept(2)` that
//! concerns one connection is that connection's; where the process or the system has no room for another, the listener
//! pauses and tries again by itself, later each time up to a second.

mod accepted;
mod acceptor;
mod address;
mod bind;
#[cfg(feature = "inherited")]
mod inherited;
mod on_end;
mod options;
mod server;
mod stopping;
mod unix;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use reactor::{Context, Key, Registry};

pub use self::accepted::{Accepted, Peer};
pub use self::address::{Address, AddressParseError};
use self::bind::Socket;
pub use self::on_end::on_listener_end;
pub use self::options::ListenOptions;
pub use self::server::ServerKey;

/// A listening socket, to be put on a loop.
///
/// By [`AsFd`] its socket options can be set and asked for, also those that [`ListenOptions`] does not know:
///
/// ```
/// use handlers::ListenOptions;
/// use socket2::SockRef;
///
/// # fn main() -> std::io::Result<()> {
/// let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
/// SockRef::from(&listener).set_recv_buffer_size(64 * 1024)?; // inherited by what it accepts
/// # Ok(())
/// # }
/// ```
#[doc(alias("evconnlistener", "AsyncServerSocket", "TcpListener"))]
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    options: ListenOptions,
}

impl Listener {
    /// Returns the address it listens at; with the port that the kernel has chosen, if it was asked to.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Address> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Socket::Unix(socket) => bind::unix_address(&socket.listener.local_addr()?)
                .ok_or_else(|| ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// Accepts connections and hands each to `accept`: to open it, on this loop or [another](Accepted), or to refuse it
    /// by dropping it. An error drops that connection, and no other. Paused, and ended by itself, as one that
    /// [serves](Self::serve).
    ///
    /// # Errors
    /// As [`Registry::add`].
    #[track_caller]
    pub fn accept<S>(
        self,
        registry: &mut Registry<S>,
        accept: impl FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()> + 'static,
    ) -> io::Result<Key> {
        acceptor::add(self.socket, self.options, registry, accept)
    }
}

/// The listening socket: to set its options, or to ask for them. What is accepted from it directly passes by the limits
/// and counts here.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
