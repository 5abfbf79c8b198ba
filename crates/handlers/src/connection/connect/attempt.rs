//! One attempt to connect: how it starts, and its outcome.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};

use reactor::{Context, Io};
use rustix::io::Errno;

use super::race::Race;
use crate::connection::handler::ConnectionHandler;
use crate::connection::options::ConnectionOptions;
use crate::connection::reason::CloseReason;
use crate::connection::stream::Stream;
use crate::error::named_on;
use crate::sockets::{self, Address, reset_on_close, tcp, unix};

/// Returns a TCP socket that has started to connect.
pub(super) fn start_tcp(address: SocketAddr, options: &ConnectionOptions) -> io::Result<TcpStream> {
    let from = options
        .0
        .local_addr
        .filter(|local| local.is_ipv4() == address.is_ipv4());
    let socket = options.0.socket.as_deref();
    tcp::start_connect(address, from, options.0.no_delay, socket)
}

/// Returns a Unix socket that is connected, or `None` while the queue of the listener is full.
pub(super) fn connect_unix(
    address: &UnixAddr,
    options: &ConnectionOptions,
) -> io::Result<Option<UnixStream>> {
    unix::connect(address, options.0.socket.as_deref())
}

/// One attempt, held by its registration.
pub(in crate::connection) struct Attempt<H> {
    pub(super) race: Race<H>,
    pub(super) address: Address,
}

/// The outcome of an attempt.
pub(in crate::connection) enum Outcome<H> {
    Pending,
    /// The connection was made. If the peer has sent bytes and has failed since, the error is that
    /// failure.
    Won(H, Option<io::Error>),
    Lost,
}

impl<H> Attempt<H> {
    pub(in crate::connection) fn outcome<S>(
        &self,
        io: &Io<impl Stream>,
        cx: &mut Context<'_, S>,
    ) -> Outcome<H>
    where
        H: ConnectionHandler<S>,
    {
        let outcome = match sockets::take_error(io.as_fd()) {
            Ok(None) => match self.expect_connected(io.as_fd()) {
                Err(error) if error.kind() == ErrorKind::NotConnected => return Outcome::Pending,
                connected => connected.map(|()| None),
            },
            // The connection was made and then reset. The bytes of the peer can still be read.
            Ok(Some(failed)) if io.get_ref().has_unread() => {
                Ok(Some(named_on(io.as_fd(), "SO_ERROR", failed)))
            }
            Ok(Some(failed)) | Err(failed) => Err(failed),
        };
        match outcome {
            Ok(failed) => match self.race.end_attempts(cx.registry, cx.key()) {
                Some(handler) => Outcome::Won(handler, failed),
                None => Outcome::Lost,
            },
            Err(error) => {
                self.failed(error, cx);
                Outcome::Lost
            }
        }
    }

    /// Returns an error of kind `NotConnected` while the attempt is pending.
    fn expect_connected(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        if !matches!(self.address, Address::Tcp(_)) {
            return Ok(()); // a Unix socket is connected at once, or not at all
        }
        if is_itself(fd, sockets::peer_addr(fd)?) {
            reset_on_close(fd); // so that the port is free for a listener
            return Err(Errno::CONNREFUSED.into());
        }
        Ok(())
    }

    /// Ends an attempt that is still pending when the time for all attempts is over.
    pub(in crate::connection) fn timed_out<S>(&self, cx: &mut Context<'_, S>)
    where
        H: ConnectionHandler<S>,
    {
        self.race.remove_attempt(cx.key());
        self.race.time_is_over(cx.registry);
    }

    /// Handles the removal of the registration from outside.
    pub(in crate::connection) fn removed<S>(&self, reason: CloseReason, cx: &mut Context<'_, S>)
    where
        H: ConnectionHandler<S>,
    {
        // If the race is over, its end has removed this registration, and nothing is left to do.
        // This is nearly always so.
        if self.race.is_pending() {
            self.failed(
                io::Error::other(format!("the connection attempt was removed: {reason:?}")),
                cx,
            );
        }
    }

    fn failed<S>(&self, error: io::Error, cx: &mut Context<'_, S>)
    where
        H: ConnectionHandler<S>,
    {
        self.race.record_failure(&self.address, error);
        self.race.remove_attempt(cx.key());
        self.race.next(cx.registry);
    }
}

/// Returns `true` if a socket is connected to itself. The kernel allows that if nothing listens at
/// the target port and it has chosen this port as the local port. RFC 793 calls it a simultaneous
/// open.
fn is_itself(fd: BorrowedFd<'_>, peer: SocketAddr) -> bool {
    sockets::local_addr(fd).is_ok_and(|local| local == peer)
}
