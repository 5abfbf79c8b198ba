//! Echo server, on the ready-made handlers. Shows: listeners and buffered connections,
//! back-pressure, limits and timeouts, several loops, graceful shutdown, TLS. `echo_raw` is the
//! same on the reactor alone, without TLS.
//!
//! Run: cargo run --release --example echo_server -- --listen 127.0.0.1:7777
//! Try: nc 127.0.0.1 7777
//! With TLS: add --tls-certificate certificate.pem --tls-key key.pem, made as docs/tls.md says;
//!     then openssl s_client -connect 127.0.0.1:7777
//! Simulated: tests/simulation/tests/daemons/echo.rs

#[path = "tls/mod.rs"]
mod tls;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use handlers::tls::{TlsServerConfig, TlsServerOptions};
use handlers::{
    Address, CloseReason, Connection, ConnectionHandler, ConnectionLimit, ConnectionOptions,
    ListenOptions, Listener, Peer, ServerKey, signal, signal::Signal,
};
use reactor::{Builder, Context, LoopPool, Missed, Next, PanicPolicy, Reactor, Registry, Spin};
use tracing_subscriber::EnvFilter;

/// The time that connections have to send their queued data when the server ends.
const GRACE: Duration = Duration::from_secs(5);

/// Sends back what it receives. SIGINT or SIGTERM ends it gracefully, another one a second later at
/// once.
#[derive(Clone, Parser)]
pub(crate) struct Options {
    /// Where to listen, may be repeated: IP:PORT (port 0: any that is free), unix:PATH or
    /// unix:@NAME
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7777")]
    listen: Vec<Address>,
    /// Maximum number of open connections; more wait in the kernel's queue
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// Close connections that have been silent for this long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: Option<u64>,
    /// Serve on this many loops, each on its own thread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// Write a line of counters at this interval
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    stats: Option<u64>,
    /// Poll for up to this long before sleeping: answers come sooner, and cost more processor time
    #[arg(long, value_name = "MICROSECONDS")]
    spin: Option<u64>,
    #[command(flatten)]
    tls: tls::TlsFiles,
}

/// The state that the connections of one loop share.
#[derive(Default)]
pub(crate) struct Server {
    listeners: Vec<ServerKey<Self>>,
    connections: usize,
    accepted: u64,
    bytes: u64,
}

impl Server {
    pub(crate) fn stop(cx: &mut Context<'_, Self>, grace: Duration) {
        for listener in std::mem::take(&mut cx.state.listeners) {
            listener.stop(cx.registry, grace);
        }
    }
}

#[derive(Default)]
struct Echo {
    /// A client whose handshake of TLS fails has a connection that is never open.
    is_open: bool,
}

impl ConnectionHandler<Server> for Echo {
    fn on_open(
        &mut self,
        _: &mut Connection<'_, Server>,
        cx: &mut Context<'_, Server>,
    ) -> io::Result<()> {
        self.is_open = true;
        cx.state.accepted += 1;
        cx.state.connections += 1;
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Server>,
        cx: &mut Context<'_, Server>,
    ) -> io::Result<usize> {
        cx.state.bytes += data.len() as u64;
        let _ = connection.write(data)?; // while the queue is full, the connection does not read
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Server>) {
        cx.state.connections -= usize::from(self.is_open);
        tracing::debug!(%reason, connections = cx.state.connections, "closed");
    }
}

/// Registers listeners on a loop.
pub(crate) fn serve(
    registry: &mut Registry<Server>,
    number: usize,
    listeners: Vec<Listener>,
    options: &Options,
    tls: Option<&TlsServerConfig>,
) -> io::Result<Server> {
    let connections =
        ConnectionOptions::new().idle_timeout(options.idle_timeout.map(Duration::from_secs));
    let mut server = Server::default();
    for listener in listeners {
        let echo = |_peer: &Peer, _cx: &mut Context<'_, Server>| Ok(Echo::default());
        let key = tls::serve(listener, registry, &connections, tls, echo)?;
        server.listeners.push(key);
    }
    if let Some(seconds) = options.stats {
        let stats = registry.every(Duration::from_secs(seconds), Missed::Skip, move |cx| {
            let Server {
                connections,
                accepted,
                bytes,
                ..
            } = cx.state;
            // An error ends this timer and is logged. The server goes on.
            writeln!(
                io::stdout(),
                "loop {number}: {connections} connections, {accepted} accepted, {bytes} bytes"
            )?;
            Ok(Next::Keep)
        });
        registry.set_timer_background(stats)?;
    }
    Ok(server)
}

fn builder<S>(spin: Option<u64>) -> Builder<S> {
    let spin = spin.map_or(Spin::Off, |spin| {
        Spin::Adaptive(Duration::from_micros(spin))
    });
    Reactor::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .spin(spin)
}

fn run(options: &Options) -> io::Result<()> {
    let limit = options.max_connections.map(ConnectionLimit::new);
    let threads = options.threads;
    let listen = move |address: &Address| {
        // A Unix socket cannot be shared.
        let is_shared = threads > 1 && matches!(address, Address::Tcp(_));
        ListenOptions::new()
            .limit(limit.clone())
            .reuse_port(is_shared)
            .bind(address)
    };
    // The first loop opens the sockets, so that all loops share a port that the kernel has chosen.
    let bound: Vec<_> = options
        .listen
        .iter()
        .map(&listen)
        .collect::<io::Result<_>>()?;
    let addresses: Vec<_> = bound
        .iter()
        .map(Listener::local_addr)
        .collect::<io::Result<_>>()?;

    let tls = options.tls.options().map(TlsServerOptions::load);
    let tls = tls.transpose()?; // one for all loops, so that each can resume the sessions of others
    let mut reactor = builder(options.spin).build()?;
    let mut server = serve(&mut reactor, 0, bound, options, tls.as_ref())?;
    tls::reload_on_hangup(tls.as_ref(), &mut reactor)?;
    let (others, spin) = (usize::from(options.threads) - 1, options.spin);
    let pool = LoopPool::spawn_with(others, "echo", move || builder(spin), {
        let (addresses, options) = (addresses.clone(), options.clone());
        move |number, registry| {
            // Only the first loop has the Unix sockets.
            let tcp = addresses
                .iter()
                .filter(|address| matches!(address, Address::Tcp(_)));
            let listeners = tcp.map(&listen).collect::<io::Result<_>>()?;
            serve(registry, number + 1, listeners, &options, tls.as_ref())
        }
    })?;
    let pool = std::rc::Rc::new(pool);
    signal::shutdown_on(&mut reactor, [Signal::INT, Signal::TERM], {
        let pool = pool.clone();
        move |_arrival, cx| {
            tracing::info!(connections = cx.state.connections, "ending");
            Server::stop(cx, GRACE);
            let _ = pool.broadcast(|cx| Server::stop(cx, GRACE)); // a loop that has ended needs no stop
        }
    })?;

    let mut stdout = io::stdout().lock();
    addresses
        .iter()
        .try_for_each(|address| writeln!(stdout, "listening on {address}"))
        .and_then(|()| stdout.flush())
        .map_err(|error| io::Error::new(error.kind(), format!("standard output: {error}")))?;
    drop(stdout);
    // Returns after a signal has stopped the listeners and their connections have ended.
    reactor.run(&mut server)?;
    drop(reactor);
    std::rc::Rc::into_inner(pool).map_or(Ok(()), |pool| pool.join().map(drop))
}

fn main() -> ExitCode {
    let options = Options::parse(); // exits with 2 on bad arguments, and names them
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false) // else a panic when standard error is on a full disk
        .init();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_server: {error}");
            ExitCode::FAILURE
        }
    }
}
