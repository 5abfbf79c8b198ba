//! HTTP/1 server that says hello. Shows: a protocol on a buffered connection, keep-alive,
//! pipelining, limits on the size and the time of a request, responses to bad requests, TLS. Leaves
//! out: bodies (they are skipped), chunked ones (refused).
//!
//! Run: cargo run --release --example http_hello -- --listen 127.0.0.1:8080
//! Try: curl -v http://127.0.0.1:8080/
//! With TLS: add --tls-certificate certificate.pem --tls-key key.pem, made as docs/tls.md says;
//!     then curl -v --cacert certificate.pem https://localhost:8080/
//! Simulated: tests/simulation/tests/daemons/http.rs

mod protocol;
#[path = "../tls/mod.rs"]
mod tls;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use handlers::signal::{self, Signal};
use handlers::tls::TlsServerConfig;
use handlers::{Address, ConnectionLimit, ConnectionOptions, ListenOptions, Listener, ServerKey};
use reactor::{PanicPolicy, Reactor, Registry};
use tracing_subscriber::EnvFilter;

use protocol::{GRACE, Http};

/// Answers every GET and HEAD with a greeting. SIGINT or SIGTERM ends it gracefully, another one a
/// second later at once.
#[derive(Parser)]
pub(crate) struct Options {
    /// Where to listen: IP:PORT (port 0: any that is free), unix:PATH or unix:@NAME
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: Address,
    /// Maximum number of open connections; more wait in the kernel's queue
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// Close connections that have been silent for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: u64,
    /// Close connections whose request, its body included, is incomplete for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    request_timeout: u64,
    #[command(flatten)]
    tls: tls::TlsFiles,
}

/// Answers the requests of a listener's clients.
pub(crate) fn serve(
    registry: &mut Registry<()>,
    listener: Listener,
    options: &Options,
    tls: Option<&TlsServerConfig>,
) -> io::Result<ServerKey<()>> {
    let connections =
        ConnectionOptions::new().idle_timeout(Duration::from_secs(options.idle_timeout));
    let request_timeout = Duration::from_secs(options.request_timeout);
    tls::serve(listener, registry, &connections, tls, move |_peer, _cx| {
        Ok(Http::new(request_timeout))
    })
}

fn run(options: &Options) -> io::Result<()> {
    let mut reactor = Reactor::<()>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    let listener = ListenOptions::new()
        .limit(options.max_connections.map(ConnectionLimit::new))
        .bind(&options.listen)?;
    let address = listener.local_addr()?;
    let tls = options.tls.options();
    let tls = tls.map(|tls| tls.alpn(["http/1.1"]).load()).transpose()?;
    let server = serve(&mut reactor, listener, options, tls.as_ref())?;
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
    // Returns after a signal has stopped the listener and its connections have ended.
    reactor.run(&mut ())?;
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
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http_hello: {error}");
            ExitCode::FAILURE
        }
    }
}
