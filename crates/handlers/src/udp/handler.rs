//! The handler object of a UDP socket: it receives, sends queued datagrams, and calls the user's
//! handler.

use std::fmt;
use std::io;

use reactor::{CloseReason, Context, Error, Handler, Interest, Io, Key, Next, Registry};

use super::DatagramHandler;
use super::receiving::{ReceiveBuffers, ReceivedBatch};
use super::send_queue::SendQueue;
use super::sending::{SendState, Sending, UdpMetrics};
use super::socket::UdpSocket;
use crate::error;

/// The handler of a [`UdpSocket`]. It receives datagrams in batches, calls a [`DatagramHandler`]
/// with each datagram, and queues datagrams that cannot be sent at once. To register a socket with
/// this handler, pass both to [`udp::add_handler`](super::add_handler).
///
/// Fairness: in one turn the socket receives one batch, by one `recvmmsg`. A batch has up to 32
/// buffers of 64 KiB. Each buffer holds one datagram, or up to 64 datagrams that the kernel has
/// merged (GRO). If more datagrams are waiting, the next batch is received next turn. Before that,
/// other sources of the same priority that are ready are called.
///
/// To pause receiving, set the interest of the socket's [key](super::UdpKey::key) to
/// [`Interest::NONE`]. The datagrams of the current batch are still delivered. If you pause outside
/// of the socket's callbacks, the queued datagrams are not sent either. To resume receiving and
/// sending, set the interest to `READABLE | WRITABLE`. With [`Interest::READABLE`] alone, the
/// queued datagrams are sent only when the next datagram arrives, or after the next call of
/// [`UdpKey::with`](super::UdpKey::with).
///
/// Memory: all sockets of a loop receive into one shared buffer of 2 MiB. A page of this buffer
/// takes physical memory only after a datagram was received into it.
///
/// ```
/// use handlers::udp::{self, Datagram, DatagramHandler, Sending, Udp, UdpSocket};
/// use reactor::{Context, Next, Reactor};
///
/// struct Discard;
///
/// impl DatagramHandler<()> for Discard {
///     fn on_datagram(
///         &mut self,
///         _datagram: &Datagram<'_>,
///         _socket: &mut Sending<'_>,
///         _cx: &mut Context<'_, ()>,
///     ) -> std::io::Result<Next> {
///         Ok(Next::Keep)
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = Reactor::<()>::new()?;
/// let socket = UdpSocket::bind("127.0.0.1:0".parse()?)?;
/// let udp = Udp::new(Discard).max_queued_datagrams(100).max_queued_bytes(64 * 1024);
/// let key = udp::add_handler(&mut reactor, socket, udp)?;
/// # let _ = key;
/// # Ok(())
/// # }
/// ```
pub struct Udp<S: 'static> {
    handler: Box<dyn DatagramHandler<S>>,
    pub(super) send: SendState,
}

impl<S> Udp<S> {
    /// Creates the handler of one socket. Its send queue holds at most 1024 datagrams and 1 MiB.
    pub fn new(handler: impl DatagramHandler<S> + 'static) -> Self {
        Self {
            handler: Box::new(handler),
            send: SendState::new(SendQueue::new(1024, 1 << 20)),
        }
    }

    /// Sets the maximum number of queued datagrams. If the queue is full, a datagram that cannot be
    /// sent at once is refused with [`Full`](super::Full). With 0, no datagram is queued. Default:
    /// 1024.
    #[must_use]
    pub fn max_queued_datagrams(mut self, datagrams: usize) -> Self {
        self.send.queue.datagrams_max = datagrams;
        self
    }

    /// Sets the maximum number of queued bytes, summed over all queued datagrams. The queue may
    /// allocate twice as much memory. Default: 1 MiB.
    #[must_use]
    pub fn max_queued_bytes(mut self, bytes: usize) -> Self {
        self.send.queue.bytes_max = bytes;
        self
    }

    /// Returns the counters of the socket.
    pub const fn metrics(&self) -> UdpMetrics {
        self.send.log.metrics
    }

    /// Calls one of the callbacks that may end the registration. Returns [`Next::Remove`] if the
    /// callback has ended it.
    fn call(
        &mut self,
        io: &mut Io<UdpSocket>,
        cx: &mut Context<'_, S>,
        callback: impl FnOnce(
            &mut dyn DatagramHandler<S>,
            &mut Sending<'_>,
            &mut Context<'_, S>,
        ) -> io::Result<Next>,
    ) -> io::Result<Next> {
        match error::next(callback(
            &mut *self.handler,
            &mut Sending {
                io,
                send: &mut self.send,
            },
            cx,
        )) {
            Ok(Next::Keep) if !cx.registry.contains(cx.key()) => Ok(Next::Remove),
            result => result,
        }
    }

    /// Receives one batch and delivers it, unless receiving is paused.
    fn receive(&mut self, io: &mut Io<UdpSocket>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if !cx.registry.interest(cx.key())?.contains(Interest::READABLE) {
            return Ok(Next::Keep);
        }
        let mut buffers = std::mem::take(cx.registry.local::<ReceiveBuffers>());
        let result = buffers
            .fill(io, &mut self.send.log)
            .and_then(|batch| self.deliver(&batch, io, cx));
        *cx.registry.local::<ReceiveBuffers>() = buffers;
        result
    }

    /// Calls the handler for each datagram of a batch, until the registration ends.
    fn deliver(
        &mut self,
        batch: &ReceivedBatch<'_>,
        io: &mut Io<UdpSocket>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        for datagram in batch.datagrams() {
            self.send.log.metrics.received += 1;
            let next = self.call(io, cx, |handler, socket, cx| {
                handler.on_datagram(&datagram, socket, cx)
            })?;
            if next == Next::Remove {
                return Ok(next);
            }
        }
        Ok(Next::Keep)
    }

    pub(super) fn report_failures(&mut self, cx: &mut Context<'_, S>) {
        for failure in std::mem::take(&mut self.send.log.failures) {
            self.handler.on_failure(&failure, cx);
        }
    }

    /// Sends the queued datagrams. Calls `on_drain` if the queue is empty afterwards and has
    /// refused a datagram before.
    fn drain(&mut self, io: &mut Io<UdpSocket>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        self.send.flush(io);
        let drained = self.send.queue.is_empty() && io.readiness().is_writable();
        if !drained || !std::mem::take(&mut self.send.refused_since_drain) {
            return Ok(Next::Keep);
        }
        self.call(io, cx, |handler, socket, cx| handler.on_drain(socket, cx))
    }

    /// Sets the interest in `WRITABLE` while datagrams are queued or `on_drain` is due, and clears
    /// it otherwise.
    pub(super) fn want_room(&self, key: Key, registry: &mut Registry<S>) -> Result<(), Error> {
        let interest = registry.interest(key)?;
        let room = !self.send.queue.is_empty() || self.send.refused_since_drain;
        let wanted = if room {
            interest | Interest::WRITABLE
        } else {
            interest.without(Interest::WRITABLE)
        };
        if wanted != interest {
            registry.set_interest(key, wanted)?;
        }
        Ok(())
    }

    /// Handles one call of the loop in this order: the timeout, the queue, the received datagrams.
    /// Stops early if the registration ends.
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
        self.report_failures(cx); // also if the registration ends: a failure may be the reason
        if !matches!(result, Ok(Next::Keep)) || !cx.registry.contains(cx.key()) {
            return result;
        }
        self.want_room(cx.key(), cx.registry)?;
        Ok(Next::Keep)
    }

    fn closed(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        self.handler.on_close(reason, cx);
    }
}

impl<S> fmt::Debug for Udp<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Udp")
            .field("queued", &self.send.queue.datagrams())
            .field("metrics", &self.send.log.metrics)
            .finish_non_exhaustive()
    }
}
