//! One attempt to connect: how it begins, and what becomes of it.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use reactor::{Context, Io};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::race::Race;
use crate::connection::close::reset_on_close;
use crate::connection::handler::ConnectionHandler;
use crate::connection::options::ConnectionOptions;
use crate::connection::reason::CloseReason;
use crate::connection::stream::Stream;
use crate::connection::times::Timeout;
use crate::error::{errno, named};

/// Returns a socket that has begun to connect.
pub(super) fn start_connect(
    address: SocketAddr,
    options: &ConnectionOptions,
) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        None,
    )?;
    socket.set_tcp_nodelay(options.0.no_delay)?;
    if let Some(local) = options
        .0
        .local_addr
        .filter(|local| local.is_ipv4() == address.is_ipv4())
    {
        // Attempts at several addresses come from one port, where one is given.
        socket.set_reuse_address(local.port() != 0)?;
        socket
            .bind(&local.into())
            .map_err(|error| named(format_args!("bind to {local}"), error))?;
    }
    match socket.connect(&address.into()) {
        // connect(2): interrupted, it goes on all the same.
        Err(error) if !matches!(errno(&error), Some(Errno::INPROGRESS | Errno::INTR)) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// One attempt, as its registration has it.
pub(in crate::connection) struct Attempt<H> {
    pub(super) race: Race<H>,
    pub(super) address: SocketAddr,
}

/// What has become of an attempt.
pub(in crate::connection) enum Outcome<H> {
    Pending,
    /// With the error of a peer that has spoken and gone by now.
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
        let socket = SockRef::from(io);
        let outcome = match socket.take_error() {
            Ok(None) => match socket.peer_addr() {
                Err(error) if error.kind() == ErrorKind::NotConnected => return Outcome::Pending,
                Ok(peer) if is_itself(&socket, &peer) => {
                    reset_on_close(io.as_fd()); // which leaves the port to whoever is to listen there
                    Err(Errno::CONNREFUSED.into())
                }
                other => other.map(|_| None),
            },
            // A connection was made, and reset before we looked: what it has brought is there to be read.
            Ok(Some(failed)) if Stream::has_unread(io) => Ok(Some(failed)),
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

    /// It is still pending when the time for all attempts is over.
    pub(in crate::connection) fn timed_out<S>(&self, cx: &mut Context<'_, S>)
    where
        H: ConnectionHandler<S>,
    {
        self.race.stop();
        if !self.race.remove_attempt(cx.key()) {
            self.race
                .give_up(cx.registry, CloseReason::TimedOut(Timeout::Connect));
        }
    }

    /// Its registration was removed from outside.
    pub(in crate::connection) fn removed<S>(&self, reason: CloseReason, cx: &mut Context<'_, S>)
    where
        H: ConnectionHandler<S>,
    {
        // By the end of the race, in nearly every case.
        if self.race.is_pending() {
            self.failed(
                io::Error::other(format!("the attempt was removed: {reason:?}")),
                cx,
            );
        }
    }

    fn failed<S>(&self, error: io::Error, cx: &mut Context<'_, S>)
    where
        H: ConnectionHandler<S>,
    {
        self.race.record_failure(self.address, error);
        self.race.remove_attempt(cx.key());
        self.race.next(cx.registry);
    }
}

/// Whether a socket has become its own peer, as the kernel allows: the port that was chosen for it was that of the
/// target, where nobody listens. RFC 793 calls it a simultaneous open.
fn is_itself(socket: &SockRef<'_>, peer: &SockAddr) -> bool {
    socket.local_addr().is_ok_and(|local| local == *peer)
}
