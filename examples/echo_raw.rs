//! Echo server, on the reactor alone. Shows: accepting, back-pressure, half-close, idle timeouts,
//! running out of file descriptors. Leaves out: signals, TLS.
//!
//! Run: cargo run --release --example echo_raw -- --listen 127.0.0.1:7777
//! Try: nc 127.0.0.1 7777

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::replace;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use reactor::{
    CloseReason, Context, Handler, Interest, Io, Key, Next, PanicPolicy, Reactor, Spin, Then,
    TimerKey,
};
use rustix::io::Errno;
use tracing_subscriber::EnvFilter;

/// The maximum number of bytes read from one connection in one call, so that no peer delays the
/// others.
const READ_MAX: usize = 64 * 1024;
/// The maximum number of bytes kept for a peer that does not read. At this limit we stop reading
/// from it.
const BACKLOG_MAX: usize = 256 * 1024;
/// The length of the kernel's accept queue, within `/proc/sys/net/core/somaxconn`. `bind` asks for
/// 128, which a burst of clients fills before the loop has had its turn.
const QUEUE_MAX: i32 = 4096;
/// The maximum number of connections accepted in one call.
const ACCEPTS_PER_CALL_MAX: usize = 64;
/// The pause after which we try to accept again, if none of our file descriptors was closed
/// meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Sends back what it receives.
#[derive(Parser)]
struct Options {
    /// Where to listen: IP:PORT (port 0: any that is free), or unix:PATH
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7777")]
    listen: Address,
    /// Maximum number of open connections; more wait in the kernel's queue
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    max_connections: usize,
    /// Close connections that have been silent for this long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: Option<u64>,
    /// Poll for up to this long before sleeping: answers come sooner, and cost more processor time
    #[arg(long, value_name = "MICROSECONDS")]
    spin: Option<u64>,
}

#[derive(Clone)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a path is missing after unix:".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "neither IP:PORT nor unix:PATH".to_owned()),
        }
    }
}

/// The state that all handlers share.
struct Server {
    connections: usize,
    connections_max: usize,
    listener: Key,
    /// The timer that ends a pause of the listener.
    retry: TimerKey,
    idle_timeout: Option<Duration>,
    /// Set after the first report: any client can cause the trouble again and again.
    out_of_resources_reported: bool,
    scratch: Vec<u8>,
}

/// A listening socket of either family.
trait Accept: AsFd + 'static {
    type Stream: Read + Write + AsFd + 'static;

    fn accept(&self) -> io::Result<Self::Stream>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _peer) = Self::accept(self)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).map(|(stream, _peer)| stream)
    }
}

/// Accepts connections.
struct Acceptor;

impl<L: Accept> Handler<Server, L> for Acceptor {
    fn ready(&mut self, listener: &mut Io<L>, cx: &mut Context<'_, Server>) -> io::Result<Next> {
        for _ in 0..ACCEPTS_PER_CALL_MAX {
            if cx.state.connections >= cx.state.connections_max {
                // At DEBUG, since any client can cause it again and again.
                tracing::debug!(
                    connections = cx.state.connections,
                    "connection limit reached: accepting paused"
                );
                cx.registry.set_interest(cx.key(), Interest::NONE)?;
                break;
            }
            match listener.try_io(Interest::READABLE, |listener| listener.accept()) {
                Ok(stream) => {
                    match cx
                        .registry
                        .add_handler(stream, Interest::READABLE, Echo::default())
                    {
                        Ok(key) => {
                            cx.registry.set_timeout(key, cx.state.idle_timeout)?;
                            cx.state.connections += 1;
                            tracing::debug!(%key, connections = cx.state.connections, "accepted");
                        }
                        Err(refused) => tracing::debug!(%refused, "connection dropped"),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                Err(error) if out_of_resources(&error) => {
                    if !replace(&mut cx.state.out_of_resources_reported, true) {
                        tracing::warn!(%error, "accepting paused; this is not reported again");
                    }
                    cx.registry.set_interest(cx.key(), Interest::NONE)?;
                    cx.registry.reset(cx.state.retry, ACCEPT_PAUSE)?;
                    break;
                }
                // accept(2) passes on errors of that one connection. The next connection may be
                // fine.
                Err(error) => tracing::debug!(%error, "accept(2) failed for one connection"),
            }
        }
        Ok(Next::Keep)
    }

    /// Without its listener the server is of no use, so the process ends with it.
    fn closed(&mut self, reason: CloseReason, cx: &mut Context<'_, Server>) {
        tracing::error!(%reason, "listener ended");
        cx.registry.stop();
    }
}

/// Returns `true` if the process, the system or the kernel's memory has no resources left for
/// another connection.
fn out_of_resources(error: &io::Error) -> bool {
    let resources = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| resources.contains(&errno))
}

/// Ends a pause of the listener, whatever its cause was.
fn resume_accepting(cx: &mut Context<'_, Server>) -> io::Result<()> {
    Ok(cx
        .registry
        .set_interest(cx.state.listener, Interest::READABLE)?)
}

/// One connection.
#[derive(Default)]
struct Echo {
    /// Bytes from the peer that are not sent back yet, in order.
    backlog: VecDeque<u8>,
    /// Set when the peer has closed its write side.
    ended: bool,
}

impl Echo {
    /// Sends `bytes`, and keeps the rest if the peer does not read.
    fn send(&mut self, stream: &mut Io<impl Write + AsFd>, bytes: &[u8]) -> io::Result<()> {
        let sent = if self.backlog.is_empty() {
            written(stream.write(bytes))?
        } else {
            0
        };
        if sent < bytes.len() {
            self.backlog.extend(&bytes[sent..]);
        }
        Ok(())
    }

    fn send_backlog(&mut self, stream: &mut Io<impl Write + AsFd>) -> io::Result<()> {
        if !self.backlog.is_empty() {
            let sent = written(stream.write(self.backlog.as_slices().0))?;
            self.backlog.drain(..sent);
            if self.backlog.is_empty() {
                self.backlog = VecDeque::new(); // an idle connection holds no buffer
            }
        }
        Ok(())
    }

    /// Returns the interest: writing while bytes are waiting, reading while there is room for more.
    fn interest(&self) -> Interest {
        let write = if self.backlog.is_empty() {
            Interest::NONE
        } else {
            Interest::WRITABLE
        };
        let read = if self.ended || self.backlog.len() >= BACKLOG_MAX {
            Interest::NONE
        } else {
            Interest::READABLE
        };
        read | write
    }
}

/// Treats a write that would block as a write of 0 bytes.
fn written(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Ok(0) => Err(ErrorKind::WriteZero.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

impl<T: Read + Write + AsFd> Handler<Server, T> for Echo {
    fn ready(&mut self, stream: &mut Io<T>, cx: &mut Context<'_, Server>) -> io::Result<Next> {
        let interest = self.interest();
        if cx.readiness().is_timeout() {
            return Ok(Next::Remove); // every other call has restarted the timeout
        }
        if cx.state.idle_timeout.is_some() {
            cx.registry.set_timeout(cx.key(), cx.state.idle_timeout)?;
        }
        self.send_backlog(stream)?;
        let room = READ_MAX.min(BACKLOG_MAX.saturating_sub(self.backlog.len()));
        if room > 0 && !self.ended {
            match stream.read(&mut cx.state.scratch[..room]) {
                Ok(0) => self.ended = true,
                Ok(n) => self.send(stream, &cx.state.scratch[..n])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if self.ended && self.backlog.is_empty() {
            return Ok(Next::Remove);
        }
        if self.interest() != interest {
            cx.registry.set_interest(cx.key(), self.interest())?;
        }
        Ok(Next::Keep)
    }

    fn closed(&mut self, reason: CloseReason, cx: &mut Context<'_, Server>) {
        cx.state.connections -= 1;
        tracing::debug!(%reason, connections = cx.state.connections, "closed");
        if let Err(error) = resume_accepting(cx) {
            tracing::error!(%error, "cannot resume accepting");
        }
    }
}

/// Serves until the listener ends, which is always an error.
fn serve(options: Options) -> Result<Infallible, Box<dyn std::error::Error>> {
    let spin = options.spin.map_or(Spin::Off, |spin| {
        Spin::Adaptive(Duration::from_micros(spin))
    });
    let mut reactor = Reactor::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .spin(spin)
        .build()?;
    let (listener, address) = match &options.listen {
        Address::Tcp(address) => {
            let listener =
                TcpListener::bind(*address).map_err(|error| format!("bind {address}: {error}"))?;
            rustix::net::listen(&listener, QUEUE_MAX)?;
            let address = listener.local_addr()?.to_string();
            (
                reactor.add_handler(listener, Interest::READABLE, Acceptor)?,
                address,
            )
        }
        Address::Unix(path) => {
            let address = format!("unix:{}", path.display());
            let listener =
                UnixListener::bind(path).map_err(|error| format!("bind {address}: {error}"))?;
            rustix::net::listen(&listener, QUEUE_MAX)?;
            (
                reactor.add_handler(listener, Interest::READABLE, Acceptor)?,
                address,
            )
        }
    };
    // Armed by the acceptor when it runs out of file descriptors.
    let retry = reactor.after(Duration::MAX, |cx| {
        resume_accepting(cx)?;
        Ok(Then::After(Duration::MAX)) // it rests until it is reset again
    });

    let stdout = io::stdout();
    writeln!(stdout.lock(), "listening on {address}")
        .and_then(|()| stdout.lock().flush())
        .map_err(|error| io::Error::new(error.kind(), format!("standard output: {error}")))?;
    let mut server = Server {
        connections: 0,
        connections_max: options.max_connections,
        listener,
        retry,
        idle_timeout: options.idle_timeout.map(Duration::from_secs),
        out_of_resources_reported: false,
        scratch: vec![0; READ_MAX],
    };
    reactor.run(&mut server)?;
    Err("the listener has ended".into())
}

fn main() -> ExitCode {
    let options = Options::parse(); // exits with 2 on bad arguments, and names them
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false) // else a panic when standard error is on a full disk
        .init();
    let Err(error) = serve(options);
    eprintln!("echo_raw: {error}");
    ExitCode::FAILURE
}
