//! Sending: tries the socket first, queues datagrams that would block, and records those that the
//! kernel refuses.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use reactor::{Interest, Io};
use rustix::io::Errno;

use super::send_queue::{Route, Run, SendQueue};
use super::socket::{Datagram, Outgoing, UdpSocket};
use crate::error::errno;
use crate::sockets;

/// The maximum number of calls that one turn makes to empty the queue, of at most 64 KiB each.
const SENDS_PER_CALL_MAX: usize = 64;

/// The maximum number of failures that are kept for `on_failure`. Further failures are only
/// counted.
const FAILURES_MAX: usize = 64;

/// Counters of a socket since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpMetrics {
    /// Datagrams received.
    pub received: u64,
    /// Calls that received datagrams, one batch each.
    pub receives: u64,
    /// Datagrams that the kernel has accepted for sending.
    pub sent: u64,
    /// Calls that sent them.
    pub sends: u64,
    /// Datagrams that had to wait in the queue.
    pub queued: u64,
    /// Datagrams that were refused because the queue was full.
    pub dropped: u64,
    /// Errors of datagrams: of datagrams that could not be sent, and of datagrams that were lost on
    /// the way.
    pub failed: u64,
}

/// The result of sending a datagram by [`Sending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has accepted the datagram. Nothing more is known about a UDP datagram.
    Now,
    /// The datagram waits in the queue until the socket has room.
    Queued,
    /// The kernel refused the datagram.
    /// [`DatagramHandler::on_failure`](super::DatagramHandler::on_failure) is called with the
    /// reason.
    Failed,
}

/// An error for a datagram that could not be sent at once, and for which the queue has no room.
///
/// The datagram is counted as dropped. Send it again when
/// [`DatagramHandler::on_drain`](super::DatagramHandler::on_drain) is called, or drop it, as the
/// network would. If a handler passes this error on by `?`, the registration of the socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Full {
    /// The number of queued datagrams.
    pub datagrams: usize,
    /// The number of queued bytes.
    pub bytes: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { datagrams, bytes } = self;
        write!(
            f,
            "the send queue is full ({datagrams} datagrams, {bytes} bytes): retry in on_drain"
        )
    }
}

impl std::error::Error for Full {}

/// Lets `?` pass the error on from a handler, with the kind
/// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded). This ends the handler's registration.
impl From<Full> for io::Error {
    fn from(full: Full) -> Self {
        Self::new(ErrorKind::QuotaExceeded, full)
    }
}

/// An error of one datagram. The socket goes on.
///
/// Displays as "sendmsg to 192.0.2.1:53: Message too long (os error 90)".
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The system call that reported the error. `recvmmsg` reports errors of datagrams that were
    /// sent earlier.
    pub call: &'static str,
    /// The destination of the datagram. `None` if it is not known.
    pub to: Option<SocketAddr>,
    /// The error from the kernel.
    pub error: io::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, to, error } = self;
        match to {
            Some(to) => write!(f, "{call} to {to}: {error}"),
            None => write!(f, "{call}: {error}"),
        }
    }
}

impl Failure {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// Returns the errno from the kernel.
    pub fn raw_os_error(&self) -> Option<i32> {
        reactor::errno(&self.error)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The sending state of a socket: its queue, and the failures to report.
#[derive(Debug)]
pub(super) struct SendState {
    pub(super) queue: SendQueue,
    pub(super) log: Log,
    /// Set if a datagram was refused since the queue was last empty: `on_drain` is due when it is
    /// empty again.
    pub(super) refused_since_drain: bool,
}

/// The counters, and the failures that are not reported yet.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Reported when no callback is running.
    pub(super) failures: Vec<Failure>,
    pub(super) metrics: UdpMetrics,
}

impl SendState {
    pub(super) fn new(queue: SendQueue) -> Self {
        Self {
            queue,
            log: Log::default(),
            refused_since_drain: false,
        }
    }

    /// Sends queued datagrams while the socket has room.
    pub(super) fn flush(&mut self, io: &mut Io<UdpSocket>) {
        for _ in 0..SENDS_PER_CALL_MAX {
            let Some(run) = self.queue.next_run(io.get_ref().segments_max()) else {
                break;
            };
            let (datagrams, to) = (run.datagrams, run.route.to);
            match self.log.transmit(io, &run) {
                Ok(()) => self.queue.pop_run(datagrams),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Sends them singly, so that each gets its own result.
                Err(_) if datagrams > 1 => self.queue.split_run(datagrams),
                Err(error) => {
                    self.log.report_failure("sendmsg", Some(to), error);
                    self.queue.pop_run(datagrams);
                }
            }
        }
    }
}

impl Log {
    /// Tries again if the error does not concern this datagram, or is due to its source address.
    #[cold]
    fn transmit_again(
        &mut self,
        io: &mut Io<UdpSocket>,
        run: &Run<'_>,
        error: io::Error,
    ) -> io::Result<()> {
        match errno(&error) {
            // Only the answer of a peer to an earlier datagram causes this error.
            Some(Errno::CONNREFUSED) => {
                self.report_failure("sendmsg", io.get_ref().peer_addr(), error);
                io.try_io(Interest::WRITABLE, |socket| socket.transmit(run))
            }
            Some(Errno::NETUNREACH | Errno::INVAL) if run.route.from.is_some_and(is_broadcast) => {
                let run = Run {
                    route: Route {
                        from: None,
                        ..run.route
                    },
                    ..*run
                };
                io.try_io(Interest::WRITABLE, |socket| socket.transmit(&run))
            }
            _ => Err(error),
        }
    }

    pub(super) fn report_failure(
        &mut self,
        call: &'static str,
        to: Option<SocketAddr>,
        error: io::Error,
    ) {
        self.metrics.failed += 1;
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(Failure { call, to, error });
        }
    }

    /// Sends one run.
    ///
    /// A connected socket reports the error of an earlier datagram and does not send this one. The
    /// error is recorded, and this run is tried again.
    fn transmit(&mut self, io: &mut Io<UdpSocket>, run: &Run<'_>) -> io::Result<()> {
        let mut result = io.try_io(Interest::WRITABLE, |socket| socket.transmit(run));
        if let Err(error) = result {
            result = self.transmit_again(io, run, error);
        }
        result?;
        self.metrics.sent += run.datagrams as u64;
        self.metrics.sends += 1;
        Ok(())
    }
}

/// Returns `true` if `address` is a broadcast address of a network, so nothing can be sent from it.
/// Only the kernel knows the networks: it refuses to connect a socket without `SO_BROADCAST` to
/// such an address.
fn is_broadcast(address: IpAddr) -> bool {
    let IpAddr::V4(address) = address.to_canonical() else {
        return false;
    };
    sockets::udp::connect_from_any_port((address, 9).into())
        .is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// The sending side of a socket. Callbacks get it as an argument, and
/// [`UdpKey::with`](super::UdpKey::with) passes it to a closure.
#[derive(Debug)]
pub struct Sending<'a> {
    pub(super) io: &'a mut Io<UdpSocket>,
    pub(super) send: &'a mut SendState,
}

impl Sending<'_> {
    /// Sends `bytes` to the peer of a connected socket, in the way that
    /// [`send_datagram`](Self::send_datagram) describes. On a socket without a peer it fails with
    /// `EDESTADDRREQ`: it returns [`Sent::Failed`], and the error is passed to
    /// [`DatagramHandler::on_failure`](super::DatagramHandler::on_failure).
    ///
    /// # Errors
    /// [`Full`] if the socket has no room and the queue is full.
    pub fn send(&mut self, bytes: &[u8]) -> Result<Sent, Full> {
        if let Some(peer) = self.io.get_ref().peer_addr() {
            return self.send_to(bytes, peer);
        }
        self.send
            .log
            .report_failure("sendmsg", None, Errno::DESTADDRREQ.into());
        Ok(Sent::Failed)
    }

    /// Sends `bytes` to `to`, in the way that [`send_datagram`](Self::send_datagram) describes.
    ///
    /// # Errors
    /// [`Full`] if the socket has no room and the queue is full.
    pub fn send_to(&mut self, bytes: &[u8], to: SocketAddr) -> Result<Sent, Full> {
        self.send_datagram(&Outgoing::new(bytes, to))
    }

    /// Sends `bytes` as the answer to `datagram`, with the addresses that [`Outgoing::reply`]
    /// chooses, in the way that [`send_datagram`](Self::send_datagram) describes.
    ///
    /// # Errors
    /// [`Full`] if the socket has no room and the queue is full.
    pub fn reply(&mut self, datagram: &Datagram<'_>, bytes: &[u8]) -> Result<Sent, Full> {
        self.send_datagram(&Outgoing::reply(datagram, bytes))
    }

    /// Sends a datagram, after the queued ones.
    ///
    /// If nothing is queued, the socket is tried at once, by one `sendmsg`. If that would block,
    /// the datagram is copied into the queue, which is sent when the socket is writable again.
    /// Queued datagrams of one size to one address are sent by one call if the kernel has
    /// segmentation offload.
    ///
    /// If the kernel refuses the datagram (`EMSGSIZE`, `ENETUNREACH`, `EHOSTUNREACH`, `EPERM`), the
    /// socket goes on. This method returns [`Sent::Failed`], and the error is passed to
    /// [`DatagramHandler::on_failure`](super::DatagramHandler::on_failure).
    ///
    /// # Errors
    /// [`Full`] if the socket has no room and the queue is full. The caller still has the datagram.
    ///
    /// ```
    /// use handlers::udp::{self, Ecn, Outgoing, UdpSocket};
    /// use reactor::{Next, Reactor};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let socket = UdpSocket::bind("127.0.0.1:0".parse()?)?;
    /// udp::add(&mut reactor, socket, |datagram, socket, _cx| {
    ///     let mut answer = Outgoing::reply(datagram, b"pong");
    ///     answer.ecn = Some(Ecn::Ect0);
    ///     let _ = socket.send_datagram(&answer);
    ///     Ok(Next::Keep)
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_datagram(&mut self, datagram: &Outgoing<'_>) -> Result<Sent, Full> {
        let Outgoing {
            bytes,
            to,
            from,
            ecn,
        } = *datagram;
        // A datagram must not overtake the queued ones.
        if self.send.queue.is_empty() {
            let run = Run {
                route: Route { to, from, ecn },
                bytes,
                segment_bytes: bytes.len(),
                datagrams: 1,
            };
            match self.send.log.transmit(self.io, &run) {
                Ok(()) => return Ok(Sent::Now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.send.log.report_failure("sendmsg", Some(to), error);
                    return Ok(Sent::Failed);
                }
            }
        }
        let queue = &mut self.send.queue;
        if queue.push(datagram) {
            self.send.log.metrics.queued += 1;
            return Ok(Sent::Queued);
        }
        self.send.log.metrics.dropped += 1;
        self.send.refused_since_drain = true;
        Err(Full {
            datagrams: queue.datagrams(),
            bytes: queue.bytes(),
        })
    }

    /// Returns the number of queued datagrams.
    pub fn queued(&self) -> usize {
        self.send.queue.datagrams()
    }

    /// Returns the number of queued bytes.
    pub fn queued_bytes(&self) -> usize {
        self.send.queue.bytes()
    }

    /// Returns the counters of the socket.
    pub const fn metrics(&self) -> UdpMetrics {
        self.send.log.metrics
    }

    /// Returns the socket.
    pub const fn socket(&self) -> &UdpSocket {
        self.io.get_ref()
    }
}
