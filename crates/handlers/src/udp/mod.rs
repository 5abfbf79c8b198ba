//! Datagram sockets: many datagrams a system call in both directions, a bounded queue for what has to wait, and errors
//! that concern one datagram and not the socket.
//!
//! Ground rule: a batch that is not full has emptied the socket, since `recvmmsg(2)` stops at the first datagram that is not
//! there. Only then the socket counts as read; a full batch is followed by another one next turn, after the neighbours.

mod outbox;
mod receiving;
mod sending;
mod socket;

use std::fmt;
use std::io;

use reactor::{AddError, Closed, Context, Handler, Interest, Io, Key, Next, Registry};

use self::outbox::Outbox;
use self::receiving::{Batch, Scratch};
use self::sending::Dispatch;
pub use self::sending::{Failure, Full, Sending, Sent, UdpMetrics};
pub use self::socket::{Datagram, Ecn, Outgoing, UdpSocket};
use crate::answer;

/// What is done with the datagrams of a socket. Where a closure does, use [`add`].
pub trait DatagramHandler<S> {
    /// Called for each datagram that is received, in the order of their arrival.
    ///
    /// # Errors
    /// `WouldBlock` and `Interrupted` are [`Next::Keep`]. Any other ends the socket, as [`Next::Remove`] does; what else has
    /// been received with this datagram is dropped, and so is what is queued.
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
    fn on_timeout(&mut self, socket: &mut Sending<'_>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        let _ = (socket, cx);
        Ok(Next::Remove)
    }

    /// Called once after the socket has been closed, as [`Handler::closed`].
    fn on_close(&mut self, reason: Closed, cx: &mut Context<'_, S>) {
        let _ = (reason, cx);
    }
}

/// A closure, for datagrams alone.
struct Closure<F>(F);

impl<S, F> DatagramHandler<S> for Closure<F>
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

/// Registers `socket` with a closure that is called for each datagram; with the limits of [`Udp::new`].
///
/// # Errors
/// As [`Registry::add`].
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
pub fn add<S, F>(registry: &mut Registry<S>, socket: UdpSocket, on_datagram: F) -> Result<Key, AddError<UdpSocket>>
where
    S: 'static,
    F: FnMut(&Datagram<'_>, &mut Sending<'_>, &mut Context<'_, S>) -> io::Result<Next> + 'static,
{
    Udp::new(Closure(on_datagram)).add_to(registry, socket)
}

/// The handler of a [`UdpSocket`]: it receives in batches, keeps what has to wait, and calls a [`DatagramHandler`].
///
/// Fairness: a call receives one batch, of up to 32 buffers in one `recvmmsg`. Each holds a datagram, or a run of up to 64
/// that the kernel has merged (GRO), 64 KiB together. If more are waiting it is called again next turn, after all others. To
/// receive nothing for a while, set the interest to [`Interest::NONE`]; what came in the same batch is told all the same. Where that is done
/// outside of its callbacks, what is queued rests too.
///
/// Memory: the sockets of a loop share one buffer of 2 MiB, of which no more is touched than is received at a time. An idle
/// socket holds none.
pub struct Udp<S: 'static> {
    handler: Box<dyn DatagramHandler<S>>,
    dispatch: Dispatch,
}

impl<S> Udp<S> {
    /// Calls `handler`; 1024 datagrams of 1 MiB together may be queued.
    pub fn new(handler: impl DatagramHandler<S> + 'static) -> Self {
        Self { handler: Box::new(handler), dispatch: Dispatch::new(Outbox::new(1024, 1 << 20)) }
    }

    /// How many datagrams may be queued; one more gives [`Full`]. With 0 nothing is.
    #[must_use]
    pub fn queued_max(mut self, datagrams: usize) -> Self {
        self.dispatch.outbox.datagrams_max = datagrams;
        self
    }

    /// How many bytes may be queued, all datagrams together. Up to twice as much memory is held.
    #[must_use]
    pub fn queued_bytes_max(mut self, bytes: usize) -> Self {
        self.dispatch.outbox.bytes_max = bytes;
        self
    }

    /// Registers `socket` with this.
    ///
    /// # Errors
    /// As [`Registry::add`].
    #[track_caller]
    pub fn add_to(self, registry: &mut Registry<S>, socket: UdpSocket) -> Result<Key, AddError<UdpSocket>> {
        registry.add_handler(socket, Interest::READABLE, self)
    }

    /// Lends the sending side of the socket `key` to `act`: to send from the callback of another source, or of a timer. Then
    /// tells of failures, and sees to it that what was queued goes out. Its own callbacks have that side in their hands.
    ///
    /// # Errors
    /// [`reactor::Error::StaleKey`]; [`reactor::Error::Running`] in its own callbacks; [`reactor::Error::OtherType`] for what is
    /// no socket of this; what the kernel says of the interest.
    pub fn with<R>(
        key: Key,
        cx: &mut Context<'_, S>,
        act: impl FnOnce(&mut Sending<'_>, &mut Context<'_, S>) -> R,
    ) -> io::Result<R> {
        cx.visit(key, |io: &mut Io<UdpSocket>, udp: &mut Self, cx| {
            let result = act(&mut Sending { io, dispatch: &mut udp.dispatch }, cx);
            udp.tell_failures(cx);
            if cx.registry.contains(key) {
                udp.want_room(key, cx)?;
            }
            Ok(result)
        })?
    }

    /// What the socket has done so far.
    pub const fn metrics(&self) -> UdpMetrics {
        self.dispatch.log.metrics
    }

    /// Calls one of the callbacks that may end the socket; whether it goes on.
    fn call(
        &mut self,
        io: &mut Io<UdpSocket>,
        cx: &mut Context<'_, S>,
        callback: impl FnOnce(&mut dyn DatagramHandler<S>, &mut Sending<'_>, &mut Context<'_, S>) -> io::Result<Next>,
    ) -> io::Result<Next> {
        match answer::next(callback(&mut *self.handler, &mut Sending { io, dispatch: &mut self.dispatch }, cx)) {
            Ok(Next::Keep) if !cx.registry.contains(cx.key()) => Ok(Next::Remove),
            result => result,
        }
    }

    /// Receives one batch and tells of it.
    fn receive(&mut self, io: &mut Io<UdpSocket>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if !cx.registry.interest(cx.key())?.contains(Interest::READABLE) {
            return Ok(Next::Keep);
        }
        let mut scratch = std::mem::take(cx.registry.local::<Scratch>());
        let result = scratch.fill(io, &mut self.dispatch.log).and_then(|batch| self.tell(&batch, io, cx));
        *cx.registry.local::<Scratch>() = scratch;
        result
    }

    fn tell(&mut self, batch: &Batch<'_>, io: &mut Io<UdpSocket>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        for datagram in batch.datagrams() {
            self.dispatch.log.metrics.received += 1;
            let next = self.call(io, cx, |handler, socket, cx| handler.on_datagram(&datagram, socket, cx))?;
            if next == Next::Remove {
                return Ok(next);
            }
        }
        Ok(Next::Keep)
    }

    fn tell_failures(&mut self, cx: &mut Context<'_, S>) {
        for failure in std::mem::take(&mut self.dispatch.log.failures) {
            self.handler.on_failure(&failure, cx);
        }
    }

    /// Lets the queue go on, and whoever it has refused.
    fn drain(&mut self, io: &mut Io<UdpSocket>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        self.dispatch.flush(io);
        let drained = self.dispatch.outbox.is_empty() && io.readiness().is_writable();
        if !drained || !std::mem::take(&mut self.dispatch.owes_drained) {
            return Ok(Next::Keep);
        }
        self.call(io, cx, |handler, socket, cx| handler.on_drain(socket, cx))
    }

    /// To be called for room to write while something is queued, and not otherwise.
    fn want_room(&self, key: Key, cx: &mut Context<'_, S>) -> io::Result<()> {
        let interest = cx.registry.interest(key)?;
        let room = !self.dispatch.outbox.is_empty() || self.dispatch.owes_drained;
        let wanted = if room { interest | Interest::WRITABLE } else { interest.without(Interest::WRITABLE) };
        if wanted != interest {
            cx.registry.set_interest(key, wanted)?;
        }
        Ok(())
    }

    /// What there is to do, in order; ends early with the socket.
    fn take_call(&mut self, io: &mut Io<UdpSocket>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if cx.readiness().is_timeout() {
            let next = self.call(io, cx, |handler, socket, cx| handler.on_timeout(socket, cx))?;
            if next == Next::Remove {
                return Ok(next);
            }
        }
        match self.drain(io, cx)? {
            Next::Keep => self.receive(io, cx),
            Next::Remove => Ok(Next::Remove),
        }
    }
}

impl<S> Handler<S, UdpSocket> for Udp<S> {
    fn ready(&mut self, io: &mut Io<UdpSocket>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        let result = self.take_call(io, cx);
        self.tell_failures(cx); // also where the socket ends: they may be why
        if !matches!(result, Ok(Next::Keep)) || !cx.registry.contains(cx.key()) {
            return result;
        }
        self.want_room(cx.key(), cx)?;
        Ok(Next::Keep)
    }

    fn closed(&mut self, reason: Closed, cx: &mut Context<'_, S>) {
        self.handler.on_close(reason, cx);
    }
}

impl<S> fmt::Debug for Udp<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Udp")
            .field("queued", &self.dispatch.outbox.datagrams())
            .field("metrics", &self.dispatch.log.metrics)
            .finish_non_exhaustive()
    }
}
