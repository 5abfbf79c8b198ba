//! The promises of a buffered connection, on real streams.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod batches;
mod closing;
mod commands;
mod cuts;
mod deadlines;
mod ends;
mod failures;
mod finishing;
mod frames;
mod keys;
mod layered;
mod pauses;
mod rates;
mod reading;
mod replacing;
mod sent;
mod streams;
mod times;
mod writing;

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionMetrics,
    ConnectionOptions, Stream, Timeout,
};
use reactor::{Context, IoState, ManualClock, Reactor};
use support::{PATIENCE, Result, ms, tcp_pair};

/// One wait for bytes on their way between two sockets.
const MOMENT: Duration = Duration::from_millis(5);

/// The notes of handlers, to be compared.
#[derive(Debug, Default)]
struct World {
    log: Vec<String>,
    received: Vec<u8>,
    /// Each timeout with the milliseconds until it.
    timeouts: Vec<(Timeout, u64)>,
    /// The final metrics of the last connection that has ended.
    metrics: Option<ConnectionMetrics>,
}

impl World {
    /// Returns how often `event` has been noted.
    fn count(&self, event: &str) -> usize {
        self.log.iter().filter(|entry| *entry == event).count()
    }

    fn has(&self, event: &str) -> bool {
        self.count(event) > 0
    }

    /// Returns `true` once a connection has ended.
    fn is_closed(&self) -> bool {
        self.log.iter().any(|entry| entry.starts_with("close"))
    }
}

/// A callback of a handler.
#[derive(Debug)]
enum Event<'a> {
    Open,
    Data(&'a [u8]),
    Drain,
    Sent(u64),
    End(&'a [u8]),
    Timeout(Timeout),
    Finish,
    Failure(ErrorKind),
}

/// A handler that notes each call, and calls its closure.
struct Probe<F>(F);

/// The closure returns the number of bytes of [`Event::Data`] that are consumed. Its result does
/// not matter for other events.
fn probe<F>(act: F) -> Probe<F>
where
    F: FnMut(Event<'_>, &mut Connection<'_, World>, &mut Context<'_, World>) -> io::Result<usize>
        + 'static,
{
    Probe(act)
}

/// A handler that keeps its input, and otherwise does the default.
fn sink() -> impl ConnectionHandler<World> {
    probe(|event, connection, cx| Ok(default(&event, connection, cx)))
}

/// Does what handlers do by default, except that data is kept.
fn default(
    event: &Event<'_>,
    connection: &mut Connection<'_, World>,
    cx: &mut Context<'_, World>,
) -> usize {
    match event {
        Event::Data(data) => {
            cx.state.received.extend_from_slice(data);
            return data.len();
        }
        Event::End(_) => connection.shutdown_after_responses(),
        Event::Timeout(_) => connection.close(),
        Event::Open | Event::Drain | Event::Sent(_) | Event::Finish | Event::Failure(_) => {}
    }
    0
}

/// Formats bytes for a log.
fn shown(data: &[u8]) -> String {
    if data.len() > 32 {
        format!("{} bytes", data.len())
    } else {
        data.escape_ascii().to_string()
    }
}

impl<F> Probe<F>
where
    F: FnMut(Event<'_>, &mut Connection<'_, World>, &mut Context<'_, World>) -> io::Result<usize>
        + 'static,
{
    fn note(
        &mut self,
        event: Event<'_>,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<usize> {
        cx.state.log.push(match &event {
            Event::Open => "open".to_owned(),
            Event::Data(data) => format!("data {}", shown(data)),
            Event::Drain => "drain".to_owned(),
            Event::Sent(position) => format!("sent {position}"),
            Event::End(rest) => format!("end {}", shown(rest)),
            Event::Timeout(timeout) => format!("timeout {timeout:?}"),
            Event::Finish => "finish".to_owned(),
            Event::Failure(kind) => format!("failure {kind:?}"),
        });
        (self.0)(event, connection, cx)
    }
}

impl<F> ConnectionHandler<World> for Probe<F>
where
    F: FnMut(Event<'_>, &mut Connection<'_, World>, &mut Context<'_, World>) -> io::Result<usize>
        + 'static,
{
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        self.note(Event::Open, connection, cx).map(drop)
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<usize> {
        self.note(Event::Data(data), connection, cx)
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        self.note(Event::Drain, connection, cx).map(drop)
    }

    fn on_sent(
        &mut self,
        position: u64,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        self.note(Event::Sent(position), connection, cx).map(drop)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        self.note(Event::End(rest), connection, cx).map(drop)
    }

    fn on_timeout(
        &mut self,
        timeout: Timeout,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        self.note(Event::Timeout(timeout), connection, cx).map(drop)
    }

    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        self.note(Event::Finish, connection, cx).map(drop)
    }

    fn on_failure(
        &mut self,
        error: &io::Error,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        self.note(Event::Failure(error.kind()), connection, cx)
            .map(drop)
    }

    fn on_final_metrics(&mut self, metrics: ConnectionMetrics, cx: &mut Context<'_, World>) {
        cx.state.metrics = Some(metrics);
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, World>) {
        cx.state.log.push(match reason {
            CloseReason::Failed(error) => format!("close Failed({:?})", error.kind()),
            reason => format!("close {reason:?}"),
        });
    }
}

/// A loop on a manual clock, and its state.
struct Bench {
    reactor: Reactor<World>,
    world: World,
}

impl Bench {
    fn new() -> Result<Self> {
        Self::with_policy(reactor::PanicPolicy::Propagate)
    }

    fn with_policy(policy: reactor::PanicPolicy) -> Result<Self> {
        let reactor = Reactor::builder()
            .clock(ManualClock::new())
            .on_panic(policy)
            .build()?;
        Ok(Self {
            reactor,
            world: World::default(),
        })
    }

    /// Opens one end of a pair of Unix sockets. Returns the other end, which is non-blocking, for
    /// the peer.
    fn open_unix<H: ConnectionHandler<World>>(
        &mut self,
        options: &ConnectionOptions,
        handler: H,
    ) -> Result<(ConnectionKey<World>, UnixStream)> {
        let (near, far) = UnixStream::pair()?;
        far.set_nonblocking(true)?;
        Ok((
            Connection::open(&mut self.reactor, near, options, handler)?,
            far,
        ))
    }

    /// Opens one end of a pair of TCP sockets, like `open_unix`.
    fn open_tcp<H: ConnectionHandler<World>>(
        &mut self,
        options: &ConnectionOptions,
        handler: H,
    ) -> Result<(ConnectionKey<World>, TcpStream)> {
        let (near, far) = tcp_pair()?;
        far.set_nonblocking(true)?;
        Ok((
            Connection::open(&mut self.reactor, near, options, handler)?,
            far,
        ))
    }

    /// Opens a [`Recorded`] stream, like `open_unix`. Returns its writes as the third value.
    #[allow(clippy::type_complexity, reason = "a helper")]
    fn open_recorded<H: ConnectionHandler<World>>(
        &mut self,
        options: &ConnectionOptions,
        handler: H,
    ) -> Result<(ConnectionKey<World>, UnixStream, Rc<RefCell<Vec<Written>>>)> {
        let (near, far) = UnixStream::pair()?;
        far.set_nonblocking(true)?;
        let writes = Rc::default();
        let near = Recorded {
            stream: near,
            writes: Rc::clone(&writes),
        };
        Ok((
            Connection::open(&mut self.reactor, near, options, handler)?,
            far,
            writes,
        ))
    }

    /// Takes a turn that does not wait.
    #[track_caller]
    fn turn(&mut self) -> usize {
        self.reactor
            .turn(&mut self.world, Some(Duration::ZERO))
            .unwrap()
    }

    /// Takes turns until there is nothing more to do. Fails after 1000 turns.
    #[track_caller]
    fn run_until_idle(&mut self) {
        for _ in 0..1000 {
            if self.turn() == 0 {
                return;
            }
        }
        panic!("the loop never rests: {:?}", self.world);
    }

    /// Takes turns until `done`.
    #[track_caller]
    fn until(&mut self, done: impl Fn(&World) -> bool) {
        let began = Instant::now();
        while !done(&self.world) {
            assert!(
                began.elapsed() < PATIENCE,
                "it does not happen: {:?}\n{:#?}",
                self.world,
                self.reactor
            );
            self.reactor.turn(&mut self.world, Some(MOMENT)).unwrap();
        }
    }

    /// Takes turns until the connection has ended. Returns its last log entry.
    #[track_caller]
    fn until_closed(&mut self) -> String {
        self.until(World::is_closed);
        self.run_until_idle();
        let closes: Vec<_> = self
            .world
            .log
            .iter()
            .filter(|entry| entry.starts_with("close"))
            .cloned()
            .collect();
        assert_eq!(
            closes.len(),
            1,
            "the end is told once: {:?}",
            self.world.log
        );
        assert_eq!(
            self.world.log.last(),
            closes.last(),
            "the end is the last: {:?}",
            self.world.log
        );
        closes.concat()
    }

    /// Accesses the connection from outside of its callbacks, in a deferred callback.
    #[track_caller]
    fn with<R: 'static>(
        &mut self,
        key: ConnectionKey<World>,
        access: impl FnOnce(&mut Connection<'_, World>) -> R + 'static,
    ) -> R {
        let result = Rc::new(RefCell::new(None));
        let place = Rc::clone(&result);
        self.reactor.defer(move |cx| {
            *place.borrow_mut() = Some(key.with(cx, |connection, _cx| access(connection)).unwrap());
        });
        self.turn();
        result.take().unwrap()
    }

    /// Returns the `length` bytes that the peer reads, while the loop turns.
    #[track_caller]
    fn receive(&mut self, far: &mut impl Read, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let (mut count, began) = (0, Instant::now());
        while count < length {
            assert!(
                began.elapsed() < PATIENCE,
                "{count} of {length} bytes came: {:?}",
                self.world
            );
            match far.read(&mut bytes[count..]) {
                Ok(0) => panic!("the end after {count} of {length} bytes: {:?}", self.world),
                Ok(more) => count += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.reactor.turn(&mut self.world, Some(MOMENT)).unwrap();
                }
                Err(error) => panic!("{error} after {count} of {length} bytes: {:?}", self.world),
            }
        }
        bytes
    }

    /// Returns the bytes that the peer reads until the end of the stream, while the loop turns.
    fn receive_all(&mut self, far: &mut impl Read) -> io::Result<Vec<u8>> {
        let (mut bytes, mut buf, began) = (Vec::new(), vec![0; 1 << 16], Instant::now());
        loop {
            assert!(
                began.elapsed() < PATIENCE,
                "no end after {} bytes: {:?}",
                bytes.len(),
                self.world
            );
            match far.read(&mut buf) {
                Ok(0) => return Ok(bytes),
                Ok(count) => bytes.extend_from_slice(&buf[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.reactor.turn(&mut self.world, Some(MOMENT)).unwrap();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends all of `bytes` from the peer, while the loop turns.
    #[track_caller]
    fn send(&mut self, far: &mut impl Write, mut bytes: &[u8]) {
        let began = Instant::now();
        while !bytes.is_empty() {
            assert!(
                began.elapsed() < PATIENCE,
                "{} bytes are left: {:?}",
                bytes.len(),
                self.world
            );
            match far.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.reactor.turn(&mut self.world, Some(MOMENT)).unwrap();
                }
                Err(error) => panic!("{error} with {} bytes left: {:?}", bytes.len(), self.world),
            }
        }
    }

    /// Lets a second pass once the loop is idle.
    #[track_caller]
    fn pass_a_second(&mut self) {
        self.run_until_idle();
        self.advance(secs(1));
    }

    /// Lets time pass.
    #[track_caller]
    fn advance(&mut self, time: Duration) {
        self.reactor.advance(&mut self.world, time).unwrap();
    }
}

/// Returns bytes that are not all alike.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|place| (place * 31 + place / 251) as u8)
        .collect()
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// One system call: the number of bytes it took, and the addresses of its slices.
#[derive(Clone, Debug)]
struct Written {
    bytes: usize,
    slices: Vec<usize>,
}

/// A stream that notes its writes.
struct Recorded {
    stream: UnixStream,
    writes: Rc<RefCell<Vec<Written>>>,
}

impl AsFd for Recorded {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Read for Recorded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

impl Write for Recorded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = self.stream.write_vectored(bufs)?;
        let slices = bufs.iter().map(|slice| slice.as_ptr().addr()).collect();
        self.writes.borrow_mut().push(Written { bytes, slices });
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Recorded {
    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        io.read(self, buf)
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        io.write_vectored(self, bufs)
    }
}
