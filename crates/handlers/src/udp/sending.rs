//! Sending: tries the socket first, queues datagrams that would block, and records datagrams that
//! the kernel refuses.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use reactor::{Interest, Io};
use rustix::io::Errno;

use super::send_queue::{Route, Run, SendQueue};
use super::socket::{Datagram, Outgoing, UdpSocket};
use crate::error::errno;
use crate::sockets::udp::{self, BindOptions};

/// The maximum number of calls that one turn makes to empty the queue. Each call sends at most 64
/// KiB.
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
    /// Successful calls of `recvmmsg`. Each call receives one batch of datagrams.
    pub receives: u64,
    /// Datagrams that the kernel has accepted for sending.
    pub sent: u64,
    /// Successful calls of `sendmsg`. Each call sends one datagram, or several datagrams of the
    /// queue together.
    pub sends: u64,
    /// Datagrams that had to wait in the queue.
    pub queued: u64,
    /// Datagrams that were refused because the queue was full.
    pub dropped: u64,
    /// Errors of datagrams. The kernel refused to send a datagram, or reported an error of a
    /// datagram that was sent earlier. The errors are also passed to
    /// [`DatagramHandler::on_failure`](super::DatagramHandler::on_failure). If more than 64 errors
    /// wait to be passed to `on_failure`, the further errors are only counted.
    pub failed: u64,
}

/// The result of sending a datagram by [`Sending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has accepted the datagram. This does not mean that it will arrive.
    Now,
    /// The datagram waits in the queue until the socket has room.
    Queued,
    /// The kernel refused the datagram.
    /// [`DatagramHandler::on_failure`](super::DatagramHandler::on_failure) is called with the
    /// reason.
    Failed,
}

/// The error of a datagram that could not be sent at once, and could not be queued either, because
/// the queue is full.
///
/// The datagram is counted in [`UdpMetrics::dropped`]. You can send it again when
/// [`DatagramHandler::on_drain`](super::DatagramHandler::on_drain) is called, or drop it: UDP
/// allows a loss. If a callback of the handler returns this error by `?`, the registration of the
/// socket ends.
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
/// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded). The error then ends the handler's registration.
impl From<Full> for io::Error {
    fn from(full: Full) -> Self {
        Self::new(ErrorKind::QuotaExceeded, full)
    }
}

/// The error of one datagram, which was not delivered. The socket stays usable.
///
/// Displays as "sendmsg to 192.0.2.1:53: Message too long (os error 90)".
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The system call that reported the error. `recvmmsg` reports errors of datagrams that were
    /// sent earlier.
    pub call: &'static str,
    /// The destination of the datagram. `None` if the destination is not known.
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
    /// Set if a datagram was refused since the queue was last empty. `on_drain` is then due when
    /// the queue is empty again.
    pub(super) refused_since_drain: bool,
}

/// The counters, and the failures that `on_failure` has not reported yet.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Passed to `on_failure` when no other callback is running.
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
                // Sends the datagrams of the run singly, so that each gets its own result.
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
    /// Sends the run again if `error` concerns an earlier datagram, or the source address of this
    /// run. Otherwise returns `error`.
    #[cold]
    fn transmit_again(
        &mut self,
        io: &mut Io<UdpSocket>,
        run: &Run<'_>,
        error: io::Error,
    ) -> io::Result<()> {
        match errno(&error) {
            // This error is always the answer of a peer to an earlier datagram.
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
    /// If an earlier datagram has caused an error, a connected socket reports that error and does
    /// not send this run. The error is recorded, and the run is sent again.
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

/// Returns `true` if `address` is the broadcast address of a network. No datagram can be sent from
/// such an address. Only the kernel knows the networks, so this function asks it: the kernel
/// refuses to connect a socket without `SO_BROADCAST` to such an address.
fn is_broadcast(address: IpAddr) -> bool {
    let IpAddr::V4(address) = address.to_canonical() else {
        return false;
    };
    udp::connect_from_any_port((address, 9).into(), &BindOptions::default())
        .is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// The sending side of a socket. The callbacks of the socket get it as an argument. Other callbacks
/// get it by [`UdpKey::with`](super::UdpKey::with).
#[derive(Debug)]
pub struct Sending<'a> {
    pub(super) io: &'a mut Io<UdpSocket>,
    pub(super) send: &'a mut SendState,
}

impl Sending<'_> {
    /// Sends `bytes` to the peer of a connected socket. In all other respects this method works
    /// like [`send_datagram`](Self::send_datagram).
    ///
    /// If the socket is not connected, the datagram fails with `EDESTADDRREQ`. This method then
    /// returns [`Sent::Failed`], and the error is passed to
    /// [`DatagramHandler::on_failure`](super::DatagramHandler::on_failure).
    ///
    /// # Errors
    /// [`Full`] if the datagram cannot be sent at once and the queue has no room for it.
    pub fn send(&mut self, bytes: &[u8]) -> Result<Sent, Full> {
        if let Some(peer) = self.io.get_ref().peer_addr() {
            return self.send_to(bytes, peer);
        }
        self.send
            .log
            .report_failure("sendmsg", None, Errno::DESTADDRREQ.into());
        Ok(Sent::Failed)
    }

    /// Sends `bytes` to the address `to`. Otherwise this works like
    /// [`send_datagram`](Self::send_datagram).
    ///
    /// # Errors
    /// [`Full`] if the datagram cannot be sent at once and the queue has no room for it.
    pub fn send_to(&mut self, bytes: &[u8], to: SocketAddr) -> Result<Sent, Full> {
        self.send_datagram(&Outgoing::new(bytes, to))
    }

    /// Sends `bytes` as the answer to `datagram`. [`Outgoing::reply`] chooses the addresses.
    /// Otherwise this works like [`send_datagram`](Self::send_datagram).
    ///
    /// # Errors
    /// [`Full`] if the datagram cannot be sent at once and the queue has no room for it.
    pub fn reply(&mut self, datagram: &Datagram<'_>, bytes: &[u8]) -> Result<Sent, Full> {
        self.send_datagram(&Outgoing::reply(datagram, bytes))
    }

    /// Sends a datagram. If it cannot be sent at once, it is queued after the datagrams that are
    /// already queued.
    ///
    /// If the queue is empty, the datagram is sent at once, by one `sendmsg`. If the socket has no
    /// room, or if the queue is not empty, the datagram is copied into the queue. The queued
    /// datagrams are sent when the socket has room again. If the kernel supports segmentation
    /// offload, several queued datagrams of the same size, addresses and congestion mark are sent
    /// by one call.
    ///
    /// If the kernel refuses the datagram (`EMSGSIZE`, `ENETUNREACH`, `EHOSTUNREACH`, `EPERM`), the
    /// socket stays usable. This method then returns [`Sent::Failed`], and the error is passed to
    /// [`DatagramHandler::on_failure`](super::DatagramHandler::on_failure).
    ///
    /// # Errors
    /// [`Full`] if the datagram cannot be sent at once and the queue has no room for it. The
    /// datagram is not copied.
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

    /// Returns the socket, to read its addresses and options.
    pub const fn socket(&self) -> &UdpSocket {
        self.io.get_ref()
    }
}
