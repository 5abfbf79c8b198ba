//! TCP forwarder. Shows: connecting to a name or to one of several addresses, two connections piped
//! into each other with back-pressure and half-close both ways, limits, graceful shutdown, TLS on
//! either side.
//!
//! Run: cargo run --release --example proxy -- --listen 127.0.0.1:7778 --to 127.0.0.1:7777
//! Try: nc 127.0.0.1 7778
//! With TLS: openssl s_client -connect 127.0.0.1:7778
//! Simulated: tests/simulation/tests/daemons/proxy.rs, and relay.rs and restarts.rs beside it

#[path = "tls/mod.rs"]
mod tls;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use handlers::proxy_protocol::ProxyProtocol;
use handlers::signal::{self, Signal};
use handlers::tls::{TlsClientConfig, TlsClientOptions, TlsServerConfig, TlsServerOptions};
use handlers::{
    Address, Connecting, Connection, ConnectionLimit, ConnectionOptions, ListenOptions, Listener,
    Peer, Relay, ServerKey, SocketStream, Target,
};
use reactor::{Context, PanicPolicy, Reactor, Registry};
use tracing_subscriber::EnvFilter;

/// The time that connections may go on when the proxy ends.
const GRACE: Duration = Duration::from_secs(5);

/// Forwards each connection to another address. SIGINT or SIGTERM ends it gracefully, another one a
/// second later at once.
#[derive(Parser)]
pub(crate) struct Options {
    /// Where to listen: IP:PORT (port 0: any that is free), unix:PATH or unix:@NAME
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7778")]
    listen: Address,
    /// Target: HOST:PORT, IP:PORT, unix:PATH or unix:@NAME; several IP:PORT may be given, then the
    /// first address that answers is used
    #[arg(long, value_name = "TARGET", required = true)]
    to: Vec<Target>,
    /// Maximum number of open connections; more wait in the kernel's queue
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// How long to wait for the target to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    connect_timeout: u64,
    /// Close connections that have been silent for this long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: Option<u64>,
    /// Expect a PROXY header from this address, and close connections of others; may be repeated
    #[arg(long, value_name = "IP")]
    accept_proxy: Vec<IpAddr>,
    #[command(flatten)]
    tls: tls::TlsFiles,
    /// Speak TLS to the target, whose certificate must be for this name; the environment variable
    /// SSL_CERT_FILE replaces the roots of this machine
    #[arg(long, value_name = "NAME")]
    tls_to: Option<String>,
}

/// Returns the proxies that connections come from, or `None` if clients connect directly.
fn in_front(proxies: &[IpAddr]) -> Option<ProxyProtocol> {
    let proxies = (!proxies.is_empty()).then(|| proxies.to_vec())?;
    Some(ProxyProtocol::trusting(
        move |peer| matches!(peer, Peer::Tcp(address) if proxies.contains(&address.ip())),
    ))
}

/// The place that connections are forwarded to.
pub(crate) enum To {
    /// A name is looked up for each client.
    Target(Target),
    /// The first address that answers.
    FirstOf(Vec<SocketAddr>),
}

impl To {
    fn of(targets: &[Target]) -> io::Result<Self> {
        if let [target] = targets {
            return Ok(Self::Target(target.clone()));
        }
        let addresses = targets.iter().map(|target| match target.address() {
            Some(Address::Tcp(address)) => Ok(*address),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("--to {target}: one of several targets must be IP:PORT"),
            )),
        });
        addresses.collect::<io::Result<_>>().map(Self::FirstOf)
    }

    fn connect(
        &self,
        registry: &mut Registry<()>,
        options: &ConnectionOptions,
        tls: Option<(TlsClientConfig, String)>,
        side: Relay<()>,
    ) -> Connecting<()> {
        let Some((tls, name)) = tls else {
            return match self {
                Self::Target(target) => Connection::connect_to(registry, target, options, side),
                Self::FirstOf(addresses) => {
                    Connection::connect(registry, addresses.iter().copied(), options, side)
                }
            };
        };
        match self {
            Self::Target(target) => {
                let protect = move |stream: SocketStream| tls.connect(stream.into_tcp()?, &name);
                Connection::connect_to_as(registry, target, options, protect, side)
            }
            Self::FirstOf(addresses) => {
                let protect = move |stream| tls.connect(stream, &name);
                let addresses = addresses.iter().copied();
                Connection::connect_as(registry, addresses, options, protect, side)
            }
        }
    }
}

/// The configurations of TLS, on the side of the clients and on the side of the target.
#[derive(Default)]
pub(crate) struct Tls {
    pub(crate) server: Option<TlsServerConfig>,
    /// With the name that the certificate of the target must be for.
    pub(crate) client: Option<(TlsClientConfig, String)>,
}

impl Tls {
    fn load(options: &Options) -> io::Result<Self> {
        let server = options.tls.options().map(TlsServerOptions::load);
        let client = options.tls_to.as_ref().map(|name| {
            let client = TlsClientOptions::new().load()?;
            client.connect((), name)?; // an error now if this is no name
            io::Result::Ok((client, name.clone()))
        });
        Ok(Self {
            server: server.transpose()?,
            client: client.transpose()?,
        })
    }
}

/// Forwards the connections of a listener.
pub(crate) fn serve(
    registry: &mut Registry<()>,
    listener: Listener,
    options: &Options,
    tls: &Tls,
) -> io::Result<ServerKey<()>> {
    let connections = ConnectionOptions::new()
        .connect_timeout(Duration::from_secs(options.connect_timeout))
        .idle_timeout(options.idle_timeout.map(Duration::from_secs));
    let (to, client) = (To::of(&options.to)?, tls.client.clone());
    let accepted = connections.clone();
    let forward = move |peer: &Peer, cx: &mut Context<'_, ()>| {
        tracing::debug!(%peer, "accepted");
        let (client_side, server_side) = Relay::pair();
        client_side.gives_up(to.connect(cx.registry, &connections, client.clone(), server_side));
        Ok(client_side)
    };
    tls::serve(listener, registry, &accepted, tls.server.as_ref(), forward)
}

fn run(options: &Options) -> io::Result<()> {
    let mut reactor = Reactor::<()>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    let listener = ListenOptions::new()
        .limit(options.max_connections.map(ConnectionLimit::new))
        .proxy_protocol(in_front(&options.accept_proxy))
        .bind(&options.listen)?;
    let address = listener.local_addr()?;
    let tls = Tls::load(options)?;
    let server = serve(&mut reactor, listener, options, &tls)?;
    tls::reload_on_hangup(tls.server.as_ref(), &mut reactor)?;
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
            eprintln!("proxy: {error}");
            ExitCode::FAILURE
        }
    }
}
