//! Sending: the socket first, the queue when it would block, and a note of what the kernel refuses.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use reactor::{Interest, Io};
use rustix::io::Errno;

use super::send_queue::{Route, Run, SendQueue};
use super::socket::{Datagram, Outgoing, UdpSocket};
use crate::error::errno;

/// So many calls may be made to empty the queue, of 64 KiB at most each; the rest goes next turn.
const SENDS_PER_CALL_MAX: usize = 64;

/// So many failures are kept to be told after a call; more are only counted.
const FAILURES_MAX: usize = 64;

/// What a socket has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpMetrics {
    /// Datagrams that were received.
    pub received: u64,
    /// Calls that received them, a batch each.
    pub receives: u64,
    /// Datagrams that the kernel has taken.
    pub sent: u64,
    /// Calls in which it took them.
    pub sends: u64,
    /// Datagrams that had to wait in the queue.
    pub queued: u64,
    /// Datagrams that were given back, since the queue was full.
    pub dropped: u64,
    /// Errors of datagrams, of those that were to be sent and those that were lost on the way.
    pub failed: u64,
}

/// What has become of a datagram that was given to [`Sending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has it. More is not known of any datagram.
    Now,
    /// It waits in the queue until the socket has room.
    Queued,
    /// The kernel refused it; [`DatagramHandler::on_failure`](super::DatagramHandler::on_failure) is told why.
    Failed,
}

/// A datagram that was not taken: the socket has no room just now, and the queue is full.
///
/// It is counted as dropped. Send it again when [`DatagramHandler::on_drain`](super::DatagramHandler::on_drain) is
/// called, or let it be lost, as the network would. Passed on by `?` it ends the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Full {
    /// So many datagrams are queued.
    pub datagrams: usize,
    /// And so many bytes.
    pub bytes: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { datagrams, bytes } = self;
        write!(
            f,
            "the queue is full with {datagrams} datagrams of {bytes} bytes: send again when it has drained"
        )
    }
}

impl std::error::Error for Full {}

/// So that `?` passes it on from a handler, as [`QuotaExceeded`](io::ErrorKind::QuotaExceeded), and ends its
/// registration.
impl From<Full> for io::Error {
    fn from(full: Full) -> Self {
        Self::new(ErrorKind::QuotaExceeded, full)
    }
}

/// Something that went wrong with one datagram; the socket goes on.
///
/// Displays as "sendmsg to 192.0.2.1:53: Message too long (os error 90)".
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The system call that told it. `recvmmsg` tells of a datagram that was sent earlier.
    pub call: &'static str,
    /// Where the datagram was to go; `None` if that is not known.
    pub to: Option<SocketAddr>,
    /// What the kernel answered.
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

    /// Returns the errno of the kernel.
    pub fn raw_os_error(&self) -> Option<i32> {
        reactor::errno(&self.error)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// What a socket has still to send, and to report.
#[derive(Debug)]
pub(super) struct SendState {
    pub(super) queue: SendQueue,
    pub(super) log: Log,
    /// A datagram was refused since the queue was empty for the last time: `on_drain` is due when it is again.
    pub(super) refused_since_drain: bool,
}

/// What has happened.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// To be told when no callback is running.
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

    /// Sends what is queued, as far as there is room.
    pub(super) fn flush(&mut self, io: &mut Io<UdpSocket>) {
        for _ in 0..SENDS_PER_CALL_MAX {
            let Some(run) = self.queue.next_run(io.get_ref().segments_max()) else {
                break;
            };
            let (datagrams, to) = (run.datagrams, run.route.to);
            match self.log.transmit(io, &run) {
                Ok(()) => self.queue.pop_run(datagrams),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) if datagrams > 1 => self.queue.split_run(datagrams), // so that each gets an answer of its own
                Err(error) => {
                    self.log.report_failure("sendmsg", Some(to), error);
                    self.queue.pop_run(datagrams);
                }
            }
        }
    }
}

impl Log {
    /// Tries again where an error is not about this datagram as it can be sent.
    #[cold]
    fn transmit_again(
        &mut self,
        io: &mut Io<UdpSocket>,
        run: &Run<'_>,
        error: io::Error,
    ) -> io::Result<()> {
        match errno(&error) {
            // Nothing but the answer of a peer gives this one.
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
    /// A connected socket answers with what became of an earlier datagram, and does not even try this one: that is
    /// noted, and this one tried again.
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

/// Whether nothing can be sent from `address`, since it is that of all hosts of a network. Only the kernel knows the
/// networks: it refuses to connect a socket to such an address that has not asked for it.
fn is_broadcast(address: IpAddr) -> bool {
    let IpAddr::V4(address) = address.to_canonical() else {
        return false;
    };
    let probe = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let refusal = probe
        .and_then(|probe| probe.connect((address, 9)))
        .map_err(|error| error.kind());
    refusal == Err(ErrorKind::PermissionDenied)
}

/// The sending side of a socket, as lent to callbacks and by [`UdpKey::with`](super::UdpKey::with).
#[derive(Debug)]
pub struct Sending<'a> {
    pub(super) io: &'a mut Io<UdpSocket>,
    pub(super) send: &'a mut SendState,
}

impl Sending<'_> {
    /// Sends `bytes` to the peer of a connected socket; otherwise as [`send_datagram`](Self::send_datagram). On a
    /// socket without a peer it fails with `EDESTADDRREQ`.
    ///
    /// # Errors
    /// [`Full`].
    pub fn send(&mut self, bytes: &[u8]) -> Result<Sent, Full> {
        if let Some(peer) = self.io.get_ref().peer_addr() {
            return self.send_to(bytes, peer);
        }
        self.send
            .log
            .report_failure("sendmsg", None, Errno::DESTADDRREQ.into());
        Ok(Sent::Failed)
    }

    /// Sends `bytes` to `to`; otherwise as [`send_datagram`](Self::send_datagram).
    ///
    /// # Errors
    /// [`Full`].
    pub fn send_to(&mut self, bytes: &[u8], to: SocketAddr) -> Result<Sent, Full> {
        self.send_datagram(&Outgoing::new(bytes, to))
    }

    /// Answers `datagram`, as [`Outgoing::reply`] says; otherwise as [`send_datagram`](Self::send_datagram).
    ///
    /// # Errors
    /// [`Full`].
    pub fn reply(&mut self, datagram: &Datagram<'_>, bytes: &[u8]) -> Result<Sent, Full> {
        self.send_datagram(&Outgoing::reply(datagram, bytes))
    }

    /// Sends a datagram, behind those that are queued.
    ///
    /// With nothing queued the socket is tried at once, by one `sendmsg`. If it would block, the datagram is copied
    /// into the queue, which goes out when the socket is writable again, datagrams of one size to one address in one
    /// call where the kernel has segmentation offload. What the kernel refuses, `EMSGSIZE`, `ENETUNREACH`,
    /// `EHOSTUNREACH`, `EPERM`, ends neither the socket nor the caller: [`Sent::Failed`], and the reason goes to
    /// [`DatagramHandler::on_failure`](super::DatagramHandler::on_failure).
    ///
    /// # Errors
    /// [`Full`], and the datagram is still in the caller's hands.
    pub fn send_datagram(&mut self, datagram: &Outgoing<'_>) -> Result<Sent, Full> {
        let Outgoing {
            bytes,
            to,
            from,
            ecn,
        } = *datagram;
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

    /// How many datagrams are queued.
    pub fn queued(&self) -> usize {
        self.send.queue.datagrams()
    }

    /// How many bytes are queued.
    pub fn queued_bytes(&self) -> usize {
        self.send.queue.bytes()
    }

    /// What the socket has done so far.
    pub const fn metrics(&self) -> UdpMetrics {
        self.send.log.metrics
    }

    /// The socket.
    pub const fn socket(&self) -> &UdpSocket {
        self.io.get_ref()
    }
}
