//! Cache server that speaks enough RESP2 and RESP3 for the clients of Redis, `redis-cli` and
//! `redis-benchmark`. Shows: a custom protocol, pipelining, a timer for each key that
//! expires, messages from one client to others, TLS with certificates of clients. Leaves out:
//! persistence, eviction.
//!
//! Run: cargo run --release --example kv_server -- --listen 127.0.0.1:6400
//! Try: redis-cli -p 6400
//! With TLS: add --tls-certificate certificate.pem --tls-key key.pem, made as docs/tls.md says;
//!     then redis-cli -p 6400 --tls --cacert certificate.pem
//! Simulated: tests/simulation/tests/daemons/kv.rs

mod handshake;
mod protocol;
pub(crate) mod server;
mod store;
#[path = "../tls/mod.rs"]
mod tls;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use handlers::signal::{self, Signal};
use handlers::tls::{TlsRoots, TlsServerConfig};
use handlers::{
    Address, ConnectionLimit, ConnectionOptions, ListenOptions, Listener, Peer, ServerKey,
};
use reactor::{Context, PanicPolicy, Reactor, Registry, Spin};
use tracing_subscriber::EnvFilter;

use self::protocol::Limits;
use self::server::{Client, GRACE, REPLY_MAX, Server};

/// The maximum length of a command. A client that sends a longer one is closed.
const COMMAND_MAX: usize = 64 << 20;

/// Serves keys and values to clients of Redis. SIGINT or SIGTERM ends it gracefully, another one a
/// second later at once.
#[derive(Parser)]
pub(crate) struct Options {
    /// Where to listen: IP:PORT (port 0: any that is free), unix:PATH or unix:@NAME
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6400")]
    listen: Address,
    /// Maximum number of open connections; more wait in the kernel's queue
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) max_connections: usize,
    /// Close clients that have been silent for this long; CONFIG SET timeout changes it
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: Option<u64>,
    /// Poll for up to this long before sleeping, while that finds work; 0 disables it
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 50)]
    spin: u64,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    tls: tls::TlsFiles,
    /// Serve only clients with a certificate of an issuer in this file of PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_client_roots: Option<PathBuf>,
}

impl Options {
    /// Returns the configuration of TLS, or `None` if the server speaks without TLS.
    fn tls(&self) -> io::Result<Option<TlsServerConfig>> {
        let Some(mut tls) = self.tls.options() else {
            return Ok(None);
        };
        if let Some(roots) = &self.tls_client_roots {
            tls = tls.require_client_certificates(TlsRoots::file(roots));
        }
        tls.load().map(Some)
    }
}

/// Serves the clients of a listener. Returns the state of the loop that they share.
pub(crate) fn serve(
    registry: &mut Registry<Server>,
    listener: Listener,
    options: &Options,
    clients: ConnectionLimit,
    tls: Option<&TlsServerConfig>,
) -> io::Result<(Server, ServerKey<Server>)> {
    let connections = ConnectionOptions::new()
        .idle_timeout(options.idle_timeout.map(Duration::from_secs))
        .max_buffered_input(COMMAND_MAX)
        .max_write_queue(2 * REPLY_MAX);
    let client = |_peer: &Peer, cx: &mut Context<'_, Server>| Ok(Client::new(cx.state));
    let server = tls::serve(listener, registry, &connections, tls, client)?;
    let mut state = Server::new(options.limits.clone(), clients);
    state.listener = Some((server, connections));
    Ok((state, server))
}

fn run(options: &Options) -> io::Result<()> {
    // A sender to a sleeping loop pays for the wakeup. Clients that do little else lose a sixth of
    // their speed by that.
    let spin = Spin::Adaptive(Duration::from_micros(options.spin));
    let mut reactor = Reactor::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .spin(spin)
        .build()?;
    let limit = ConnectionLimit::new(options.max_connections);
    let listener = ListenOptions::new()
        .limit(limit.clone())
        .bind(&options.listen)?;
    let address = listener.local_addr()?;
    let tls = options.tls()?;
    let (mut state, server) = serve(&mut reactor, listener, options, limit, tls.as_ref())?;
    tls::reload_on_hangup(tls.as_ref(), &mut reactor)?;
    signal::shutdown_on(
        &mut reactor,
        [Signal::INT, Signal::TERM],
        move |_arrival, cx| {
            server.stop(cx.registry, GRACE);
        },
    )?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address}")
        .and_then(|()| stdout.flush())
        .map_err(|error| io::Error::new(error.kind(), format!("standard output: {error}")))?;
    let exit = reactor.run(&mut state)?;
    tracing::info!(%exit, "ended");
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse(); // exits with 2 on bad arguments, and names them
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false) // else a panic when standard error is on a full disk
        .init();
    if let Err(error) = run(&options) {
        eprintln!("kv_server: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
