//! Datagram sockets: many datagrams a system call in both directions, a bounded queue for what has to wait, and errors
//! that concern one datagram and not the socket.
//!
//! Ground rule: a batch that is not full has emptied the socket, since `recvmmsg(2)` stops at the first datagram that
//! is not there. Only then the socket counts as read; a full batch is followed by another one next turn, after the
//! neighbours.

mod handler;
mod key;
mod receiving;
mod send_queue;
mod sending;
mod socket;

use std::io;

use reactor::{AddError, CloseReason, Context, Interest, Next, Registry};

pub use self::handler::Udp;
pub use self::key::UdpKey;
pub use self::sending::{Failure, Full, Sending, Sent, UdpMetrics};
pub use self::socket::{Datagram, Ecn, Outgoing, UdpSocket};

/// What is done with the datagrams of a socket. Where a closure does, see [`add`].
pub trait DatagramHandler<S> {
    /// Called for each datagram that is received, in the order of their arrival.
    ///
    /// # Errors
    /// `WouldBlock` and `Interrupted` are [`Next::Keep`]. Any other ends the socket, as [`Next::Remove`] does; what
    /// else has been received with this datagram is dropped, and so is what is queued.
    fn on_datagram(
        &mut self,
        datagram: &Datagram<'_>,
        socket: &mut Sending<'_>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next>;

    /// Called for each datagram that the kernel refused to send or that got an error for an answer, after the callback
    /// that sent it has returned. Up to 64 are told at a time, all are counted. By default they are logged.
    ///
    /// That nobody listens at an address is only told of connected sockets.
    fn on_failure(&mut self, failure: &Failure, cx: &mut Context<'_, S>) {
        let _ = cx;
        tracing::debug!(%failure, "a datagram is lost");
    }

    /// Called when the queue is empty again after it has been [`Full`]: the time to send what was not taken.
    ///
    /// # Errors
    /// As [`on_datagram`](Self::on_datagram).
    fn on_drain(&mut self, socket: &mut Sending<'_>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        let _ = (socket, cx);
        Ok(Next::Keep)
    }

    /// Called when the timeout has passed that was set with [`Registry::set_timeout`]; ends the socket by default.
    ///
    /// # Errors
    /// As [`on_datagram`](Self::on_datagram).
    fn on_timeout(
        &mut self,
        socket: &mut Sending<'_>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        let _ = (socket, cx);
        Ok(Next::Remove)
    }

    /// Called once after the socket has been closed, as [`Handler::closed`](reactor::Handler::closed).
    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        let _ = (reason, cx);
    }
}

/// A closure, for datagrams alone.
struct OnDatagram<F>(F);

impl<S, F> DatagramHandler<S> for OnDatagram<F>
where
    F: FnMut(&Datagram<'_>, &mut Sending<'_>, &mut Context<'_, S>) -> io::Result<Next>,
{
    fn on_datagram(
        &mut self,
        datagram: &Datagram<'_>,
        socket: &mut Sending<'_>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        (self.0)(datagram, socket, cx)
    }
}

/// Registers `socket` with a closure that is called for each datagram, and with the limits of [`Udp::new`]. Returns the
/// key by which others send through the socket.
///
/// # Errors
/// As [`Registry::add`]: the socket is given back.
///
/// ```
/// use std::time::Duration;
/// use handlers::udp::{self, UdpSocket};
/// use reactor::{Next, Reactor};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = Reactor::<u64>::new()?; // the state: datagrams echoed so far
/// let socket = UdpSocket::bind("127.0.0.1:0".parse()?)?;
/// let address = socket.local_addr()?;
/// udp::add(&mut reactor, socket, |datagram, socket, cx| {
///     if let Err(full) = socket.reply(datagram, datagram.bytes) {
///         eprintln!("an echo is lost: {full}");
///     }
///     *cx.state += 1;
///     Ok(Next::Keep)
/// })?;
///
/// let client = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"hello", address)?;
/// let mut echoed = 0;
/// reactor.turn(&mut echoed, Some(Duration::from_secs(1)))?;
/// assert_eq!((client.recv(&mut [0; 16])?, echoed), (5, 1));
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn add<S, F>(
    registry: &mut Registry<S>,
    socket: UdpSocket,
    on_datagram: F,
) -> Result<UdpKey<S>, AddError<UdpSocket>>
where
    S: 'static,
    F: FnMut(&Datagram<'_>, &mut Sending<'_>, &mut Context<'_, S>) -> io::Result<Next> + 'static,
{
    add_handler(registry, socket, Udp::new(OnDatagram(on_datagram)))
}

/// Registers `socket` with a handler object, and with the limits that `udp` has set. Returns the key by which others
/// send through the socket.
///
/// # Errors
/// As [`Registry::add`]: the socket is given back.
///
/// ```
/// use std::io;
/// use handlers::udp::{self, Datagram, DatagramHandler, Sending, Udp, UdpSocket};
/// use reactor::{Context, Next, Reactor};
///
/// /// Answers each question, unless eight answers wait for the network already.
/// struct Answers;
///
/// impl DatagramHandler<()> for Answers {
///     fn on_datagram(
///         &mut self,
///         question: &Datagram<'_>,
///         socket: &mut Sending<'_>,
///         _cx: &mut Context<'_, ()>,
///     ) -> io::Result<Next> {
///         let _ = socket.reply(question, b"42"); // a client that hears nothing asks again
///         Ok(Next::Keep)
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = Reactor::<()>::new()?;
/// let socket = UdpSocket::bind("127.0.0.1:0".parse()?)?;
/// udp::add_handler(&mut reactor, socket, Udp::new(Answers).max_queued_datagrams(8))?;
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn add_handler<S>(
    registry: &mut Registry<S>,
    socket: UdpSocket,
    udp: Udp<S>,
) -> Result<UdpKey<S>, AddError<UdpSocket>> {
    registry
        .add_handler(socket, Interest::READABLE, udp)
        .map(UdpKey::new)
}
