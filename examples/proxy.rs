//! TCP forwarder. Shows: connecting to a name or to one of several addresses, two connections piped
//! into each other with back-pressure and half-close both ways, limits, graceful shutdown, TLS and
//! the PROXY protocol on either side.
//!
//! Run: cargo run --release --example proxy -- --listen 127.0.0.1:7778 --to 127.0.0.1:7777
//! Try: nc 127.0.0.1 7778
//! With TLS: add --tls-certificate certificate.pem --tls-key key.pem, made as docs/tls.md says;
//!     then openssl s_client -connect 127.0.0.1:7778
//! Simulated: tests/simulation/tests/daemons/proxy.rs, and relay.rs and restarts.rs beside it

#[path = "tls/mod.rs"]
mod tls;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use handlers::proxy_protocol::{Addresses, Header, ProxyProtocol, WithHeader};
use handlers::signal::{self, Signal};
use handlers::tls::{TlsClientConfig, TlsClientOptions, TlsServerConfig, TlsServerOptions};
use handlers::{
    Accepted, Address, BoxedHandler, Connecting, Connection, ConnectionHandler, ConnectionLimit,
    ConnectionOptions, ListenOptions, Listener, Peer, Relay, ServerKey, SocketStream, Stream,
    Target,
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
    /// Speak TLS to the target, whose certificate must be for this name; the environment variables
    /// SSL_CERT_FILE and SSL_CERT_DIR replace the roots of this machine; SIGHUP reads them again
    #[arg(long, value_name = "NAME")]
    tls_to: Option<String>,
    /// Send the target a PROXY header of version 1 with the address of the client, before TLS
    #[arg(long, conflicts_with = "send_proxy_v2")]
    send_proxy: bool,
    /// Send the target a PROXY header of version 2 with the address of the client, before TLS
    #[arg(long)]
    send_proxy_v2: bool,
}

/// Returns the proxies that connections come from, or `None` if clients connect directly.
fn in_front(proxies: &[IpAddr]) -> Option<ProxyProtocol> {
    let proxies = (!proxies.is_empty()).then(|| proxies.to_vec())?;
    Some(ProxyProtocol::trusting(
        move |peer| matches!(peer, Peer::Tcp(address) if proxies.contains(&address.ip())),
    ))
}

/// The version of the PROXY header that the target expects.
#[derive(Clone, Copy)]
enum Version {
    V1,
    V2,
}

impl Options {
    fn sent_version(&self) -> Option<Version> {
        match (self.send_proxy, self.send_proxy_v2) {
            (_, true) => Some(Version::V2),
            (true, false) => Some(Version::V1),
            (false, false) => None,
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

/// The place that connections are forwarded to.
enum To {
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

    fn is_unix(&self) -> bool {
        match self {
            Self::Target(target) => !matches!(target.address(), None | Some(Address::Tcp(_))),
            Self::FirstOf(_) => false,
        }
    }
}

/// The target, and how to connect to it.
struct Route {
    to: To,
    connections: ConnectionOptions,
    tls: Option<(TlsClientConfig, String)>,
    header: Option<Version>,
}

impl Route {
    /// Connects to the target. It gets `header` first, then TLS begins.
    fn connect(
        &self,
        registry: &mut Registry<()>,
        header: Option<Vec<u8>>,
        side: Relay<()>,
    ) -> Connecting<()> {
        if self.to.is_unix() {
            self.connect_by(registry, header, SocketStream::into_unix, side)
        } else {
            self.connect_by(registry, header, SocketStream::into_tcp, side)
        }
    }

    fn connect_by<T: Stream>(
        &self,
        registry: &mut Registry<()>,
        header: Option<Vec<u8>>,
        of_family: fn(SocketStream) -> io::Result<T>,
        side: Relay<()>,
    ) -> Connecting<()> {
        match (self.tls.clone(), header) {
            (None, None) => self.connect_as(registry, of_family, side),
            (None, Some(header)) => {
                let make = move |stream| Ok(WithHeader::new(of_family(stream)?, header));
                self.connect_as(registry, make, side)
            }
            (Some((tls, name)), header) => {
                // Without a header, nothing is sent before TLS.
                let header = header.unwrap_or_default();
                let make =
                    move |stream| tls.connect(WithHeader::new(of_family(stream)?, header), &name);
                self.connect_as(registry, make, side)
            }
        }
    }

    fn connect_as<T: Stream>(
        &self,
        registry: &mut Registry<()>,
        make: impl FnOnce(SocketStream) -> io::Result<T> + 'static,
        side: Relay<()>,
    ) -> Connecting<()> {
        match &self.to {
            To::Target(target) => {
                Connection::connect_to_as(registry, target, &self.connections, make, side)
            }
            To::FirstOf(addresses) => {
                let make = move |stream| make(SocketStream::Tcp(stream));
                let addresses = addresses.iter().copied();
                Connection::connect_as(registry, addresses, &self.connections, make, side)
            }
        }
    }
}

/// A client that can be forwarded. The target is connected to once the handshake of the client is
/// complete, so clients that never complete it cost the target nothing.
struct Client {
    peer: Peer,
    /// The addresses in the header of a proxy in front.
    proxied: Option<Addresses>,
    route: Rc<Route>,
}

impl Client {
    fn new(accepted: &Accepted, route: &Rc<Route>) -> Self {
        Self {
            peer: accepted.peer().clone(),
            proxied: accepted
                .proxy_header()
                .map(|header| header.addresses().clone()),
            route: Rc::clone(route),
        }
    }

    /// Returns the header that names this client.
    fn header(&self, connection: &Connection<'_, ()>) -> Header {
        match (&self.proxied, &self.peer, connection.local_addr()) {
            (
                Some(Addresses::Internet {
                    source,
                    destination,
                }),
                ..,
            ) => Header::internet(*source, *destination),
            (None, Peer::Tcp(source), Ok(destination)) => Header::internet(*source, destination),
            _ => Header::local(),
        }
    }
}

impl ConnectionHandler<()> for Client {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, ()>,
        cx: &mut Context<'_, ()>,
    ) -> io::Result<()> {
        let header = self.route.header.map(|version| match version {
            Version::V1 => self.header(connection).to_v1(),
            Version::V2 => self.header(connection).to_v2(),
        });
        let (client_side, server_side) = Relay::pair();
        let attempt = self.route.connect(cx.registry, header, server_side);
        client_side.gives_up(attempt);
        Ok(connection.replace_handler(Box::new(client_side))?)
    }

    fn on_data(
        &mut self,
        _data: &[u8],
        _connection: &mut Connection<'_, ()>,
        _cx: &mut Context<'_, ()>,
    ) -> io::Result<usize> {
        Ok(0) // not called: the relay is the handler from the beginning
    }
}

/// Opens an accepted connection, by TLS if there is a configuration.
fn open(
    accepted: Accepted,
    registry: &mut Registry<()>,
    options: &ConnectionOptions,
    tls: Option<&TlsServerConfig>,
    handler: BoxedHandler<()>,
) -> io::Result<()> {
    match (tls, accepted.socket_peer()) {
        (None, _) => accepted.open(registry, options, handler)?,
        (Some(tls), Peer::Tcp(_)) => accepted
            .map(|stream| tls.accept(stream.into_tcp()?))?
            .open(registry, options, handler)?,
        (Some(tls), _) => accepted
            .map(|stream| tls.accept(stream.into_unix()?))?
            .open(registry, options, handler)?,
    };
    Ok(())
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
    let route = Rc::new(Route {
        to: To::of(&options.to)?,
        connections: connections.clone(),
        tls: tls.client.clone(),
        header: options.sent_version(),
    });
    let tls = tls.server.clone();
    listener.accept(registry, move |accepted, cx| {
        tracing::debug!(peer = %accepted.peer(), "accepted");
        let client = Client::new(&accepted, &route);
        open(
            accepted,
            cx.registry,
            &connections,
            tls.as_ref(),
            Box::new(client),
        )
    })
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
    if let Some((client, _name)) = tls.client.clone() {
        tls::on_hangup(&mut reactor, "the list of roots", move || client.reload())?;
    }
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
