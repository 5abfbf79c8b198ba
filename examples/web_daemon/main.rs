//! HTTP/1.1 and HTTP/2 by hyper. Shows: connections whose protocol is a future, the state of the
//! loop within a future, files by the worker pool, uploads with back-pressure, a graceful stop,
//! TLS with the choice of the protocol (ALPN). Leaves out: ranges, caching, folders.
//!
//! Run: cargo run --release --example web_daemon -- --listen 127.0.0.1:8080 --root /srv/files
//! Try: curl -v http://127.0.0.1:8080/
//!     curl -T big.iso http://127.0.0.1:8080/files/big.iso
//!     curl --http2-prior-knowledge -O http://127.0.0.1:8080/files/big.iso
//! With TLS: add --tls-certificate certificate.pem --tls-key key.pem, made as docs/tls.md says;
//!     then curl -v --http2 --cacert certificate.pem https://localhost:8080/

mod connection;
mod files;
mod routes;
#[path = "../tls/mod.rs"]
mod tls;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use handlers::signal::{self, Signal};
use handlers::tls::TlsServerConfig;
use handlers::{
    Address, ConnectionLimit, ConnectionOptions, ListenOptions, Listener, PoolHandle, ServerKey,
    SocketStream, WorkerPool,
};
use reactor::{PanicPolicy, Reactor, Registry};
use tracing_subscriber::EnvFilter;

use self::connection::serve_connection;
use self::routes::Failures;

/// The time in which the requests of a stopping daemon are finished.
const GRACE: Duration = Duration::from_secs(10);

/// Serves the files of a folder and takes new ones. SIGINT or SIGTERM ends it gracefully, another
/// one a second later at once.
#[derive(Parser)]
struct Options {
    /// Where to listen: IP:PORT (port 0: any that is free), unix:PATH or unix:@NAME
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: Address,
    /// The folder with the files
    #[arg(long, value_name = "PATH", default_value = ".")]
    root: PathBuf,
    /// Maximum number of open connections; more wait in the kernel's queue
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_connections: usize,
    /// Close connections that have been silent for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: u64,
    /// Close connections whose next request does not begin, or whose head is incomplete, for this
    /// long
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    request_timeout: u64,
    /// Store uploads at this rate at most, each
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    upload_rate: Option<u64>,
    /// Threads that read and write files
    #[arg(long, value_name = "N", default_value_t = 4)]
    workers: usize,
    #[command(flatten)]
    tls: tls::TlsFiles,
}

/// The state of the loop.
struct Daemon {
    began: Instant,
    connections: u64,
    requests: u64,
    uploaded_bytes: u64,
    failures: Failures,
}

/// The settings that all connections share.
struct Site {
    root: PathBuf,
    pool: PoolHandle<Daemon>,
    request_timeout: Duration,
    upload_rate: Option<u64>,
}

fn serve(
    registry: &mut Registry<Daemon>,
    listener: Listener,
    options: &Options,
    site: Site,
    tls: Option<&TlsServerConfig>,
) -> io::Result<ServerKey<Daemon>> {
    let connections =
        ConnectionOptions::new().idle_timeout(Duration::from_secs(options.idle_timeout));
    let site = Rc::new(site);
    let Some(tls) = tls.cloned() else {
        return listener.serve_async(registry, &connections, move |stream, connection, cx| {
            cx.state.connections += 1;
            serve_connection(stream, connection, Rc::clone(&site))
        });
    };
    if matches!(listener.local_addr()?, Address::Tcp(_)) {
        let protect = move |stream: SocketStream| tls.accept(stream.into_tcp()?);
        listener.serve_async_as(
            registry,
            &connections,
            protect,
            move |stream, connection, cx| {
                cx.state.connections += 1;
                serve_connection(stream, connection, Rc::clone(&site))
            },
        )
    } else {
        let protect = move |stream: SocketStream| tls.accept(stream.into_unix()?);
        listener.serve_async_as(
            registry,
            &connections,
            protect,
            move |stream, connection, cx| {
                cx.state.connections += 1;
                serve_connection(stream, connection, Rc::clone(&site))
            },
        )
    }
}

fn run(options: &Options) -> io::Result<()> {
    let mut reactor = Reactor::<Daemon>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    let listener = ListenOptions::new()
        .limit(ConnectionLimit::new(options.max_connections))
        .bind(&options.listen)?;
    let address = listener.local_addr()?;
    let root = options.root.canonicalize().map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", options.root.display()))
    })?;
    let pool = WorkerPool::builder()
        .workers(options.workers)
        .build(&mut reactor)?;
    let tls = options.tls.options();
    let tls = tls
        .map(|tls| tls.alpn(["h2", "http/1.1"]).load())
        .transpose()?;
    let site = Site {
        root,
        pool: pool.handle(),
        request_timeout: Duration::from_secs(options.request_timeout),
        upload_rate: options.upload_rate,
    };
    let server = serve(&mut reactor, listener, options, site, tls.as_ref())?;
    tls::reload_on_hangup(tls.as_ref(), &mut reactor)?;
    signal::shutdown_on(
        &mut reactor,
        [Signal::INT, Signal::TERM],
        move |_arrival, cx| server.stop(cx.registry, GRACE),
    )?;

    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address}")
        .and_then(|()| stdout.flush())
        .map_err(|error| io::Error::new(error.kind(), format!("standard output: {error}")))?;
    let mut state = Daemon {
        began: reactor.now(),
        connections: 0,
        requests: 0,
        uploaded_bytes: 0,
        failures: Failures::default(),
    };
    // Returns after a signal has stopped the listener and its connections have ended.
    reactor.run(&mut state)?;
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse(); // exits with 2 on bad arguments, and names them
    // h2 warns of each client that resets many streams.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,h2=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false) // else a panic when standard error is on a full disk
        .init();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("web_daemon: {error}");
            ExitCode::FAILURE
        }
    }
}
