//! UDP sockets. One system call sends or receives many datagrams. The send queue is bounded. An
//! error of one datagram does not end the socket.
//!
//! Ground rule: if a batch of received datagrams is not full, the socket is empty, because
//! `recvmmsg(2)` stops only when no datagram is left or the batch is full. The loop waits for the
//! socket again only after a batch that is not full. After a full batch, the next batch is received
//! next turn, after the other sources.

mod handler;
mod key;
mod multicast;
mod options;
mod receiving;
mod send_queue;
mod sending;
mod socket;

use std::io;

use reactor::{AddError, CloseReason, Context, Interest, Next, Registry};

pub use self::handler::Udp;
pub use self::key::UdpKey;
pub use self::multicast::MulticastInterface;
pub use self::options::UdpOptions;
pub use self::sending::{Failure, Full, Sending, Sent, UdpMetrics};
pub use self::socket::{Datagram, Ecn, Outgoing, UdpSocket};

/// Callbacks for the datagrams of a socket. If a closure is enough, use [`add`].
///
/// ```
/// use std::io;
/// use handlers::udp::{Datagram, DatagramHandler, Sending};
/// use reactor::{Context, Next};
///
/// struct Echo;
///
/// impl<S> DatagramHandler<S> for Echo {
///     fn on_datagram(
///         &mut self,
///         datagram: &Datagram<'_>,
///         socket: &mut Sending<'_>,
///         _cx: &mut Context<'_, S>,
///     ) -> io::Result<Next> {
///         let _ = socket.reply(datagram, datagram.bytes); // dropped if the queue is full
///         Ok(Next::Keep)
///     }
/// }
/// ```
pub trait DatagramHandler<S> {
    /// Called for each received datagram, in the order of arrival.
    ///
    /// # Errors
    /// The errors `WouldBlock` and `Interrupted` have the same effect as [`Next::Keep`]. Any other
    /// error ends the registration and closes the socket, as [`Next::Remove`] does. When the socket
    /// is closed, the remaining datagrams of the batch and the queued datagrams are dropped.
    fn on_datagram(
        &mut self,
        datagram: &Datagram<'_>,
        socket: &mut Sending<'_>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next>;

    /// Called for each error of a datagram. The kernel has refused to send this datagram, or
    /// reports an error of a datagram that was sent earlier. The errors of a turn are reported
    /// after the other callbacks of the socket in this turn. At most 64 errors are kept until that
    /// time. [`UdpMetrics::failed`] counts all errors. By default each error is logged.
    ///
    /// The kernel reports `ECONNREFUSED` only for connected sockets.
    fn on_failure(&mut self, failure: &Failure, cx: &mut Context<'_, S>) {
        let _ = cx;
        tracing::debug!(%failure, "datagram lost");
    }

    /// Called when the send queue is empty and the socket has room, if a datagram was refused with
    /// [`Full`] before. Send the refused datagrams here. Does nothing by default.
    ///
    /// # Errors
    /// The errors `WouldBlock` and `Interrupted` have the same effect as [`Next::Keep`]. Any other
    /// error ends the registration and closes the socket.
    fn on_drain(&mut self, socket: &mut Sending<'_>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        let _ = (socket, cx);
        Ok(Next::Keep)
    }

    /// Called when the timeout that you have set with [`Registry::set_timeout`] has elapsed. The
    /// default closes the socket.
    ///
    /// # Errors
    /// The errors `WouldBlock` and `Interrupted` have the same effect as [`Next::Keep`]. Any other
    /// error ends the registration and closes the socket.
    fn on_timeout(
        &mut self,
        socket: &mut Sending<'_>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        let _ = (socket, cx);
        Ok(Next::Remove)
    }

    /// Called once, after the socket was closed. [`Handler::closed`](reactor::Handler::closed)
    /// describes when this happens. Does nothing by default.
    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        let _ = (reason, cx);
    }
}

/// A handler that passes datagrams to a closure.
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

/// Registers `socket` with a closure that is called for each datagram. Returns a key, by which
/// other callbacks can send.
///
/// The closure is called in place of [`DatagramHandler::on_datagram`], and its result has the same
/// meaning. The other callbacks of [`DatagramHandler`] do what they do by default. The send queue
/// has the limits that [`Udp::new`] sets.
///
/// # Errors
/// [`AddError`] returns the socket. Its error is one of:
/// - [`Error::AlreadyRegistered`](reactor::Error::AlreadyRegistered) if the fd is registered in
///   this reactor.
/// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop.
/// - [`Error::Os`](reactor::Error::Os) if epoll refuses the fd; see [`Registry::add`].
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

/// Registers `socket` with the handler and the limits of `udp`. Returns a key, by which other
/// callbacks can send.
///
/// # Errors
/// [`AddError`] returns the socket. Its error is one of:
/// - [`Error::AlreadyRegistered`](reactor::Error::AlreadyRegistered) if the fd is registered in
///   this reactor.
/// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop.
/// - [`Error::Os`](reactor::Error::Os) if epoll refuses the fd; see [`Registry::add`].
///
/// ```
/// use std::io;
/// use handlers::udp::{self, Datagram, DatagramHandler, Sending, Udp, UdpSocket};
/// use reactor::{Context, Next, Reactor};
///
/// /// Answers each question, unless eight answers are queued already.
/// struct Answers;
///
/// impl DatagramHandler<()> for Answers {
///     fn on_datagram(
///         &mut self,
///         question: &Datagram<'_>,
///         socket: &mut Sending<'_>,
///         _cx: &mut Context<'_, ()>,
///     ) -> io::Result<Next> {
///         let _ = socket.reply(question, b"42"); // a client without an answer asks again
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
