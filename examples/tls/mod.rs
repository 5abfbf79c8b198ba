//! TLS for the servers of several examples: their options, a listener with and without TLS, and
//! new certificates without a restart.
//!
//! Simulated: tests/simulation/tests/daemons/streams/mod.rs

use std::io;
use std::path::PathBuf;

use clap::Args;
use handlers::signal::{self, Signal};
use handlers::tls::{TlsCertificate, TlsServerConfig, TlsServerOptions};
use handlers::{
    Address, ConnectionHandler, ConnectionOptions, Listener, Peer, ServerKey, SocketStream,
};
use reactor::{Context, Next, Registry};

/// The certificate of a server.
#[derive(Args, Clone, Debug)]
pub(crate) struct TlsFiles {
    /// Serve TLS, with the certificate in this file of PEM, followed by those of its issuers;
    /// SIGHUP reads it again
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The file of PEM with the private key of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

impl TlsFiles {
    /// Returns the options of TLS, or `None` if the server speaks without TLS.
    pub(crate) fn options(&self) -> Option<TlsServerOptions> {
        let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) else {
            return None;
        };
        let certificate = TlsCertificate::files(certificate, key);
        Some(TlsServerOptions::new().certificate(certificate))
    }
}

/// Serves the connections of a listener, by TLS if there is a configuration.
#[allow(
    dead_code,
    reason = "`proxy` and `web_daemon` open connections otherwise"
)]
#[track_caller]
pub(crate) fn serve<S: 'static, H: ConnectionHandler<S>>(
    listener: Listener,
    registry: &mut Registry<S>,
    connections: &ConnectionOptions,
    tls: Option<&TlsServerConfig>,
    handler: impl FnMut(&Peer, &mut Context<'_, S>) -> io::Result<H> + 'static,
) -> io::Result<ServerKey<S>> {
    let Some(tls) = tls.cloned() else {
        return listener.serve(registry, connections, handler);
    };
    if matches!(listener.local_addr()?, Address::Tcp(_)) {
        let protect = move |stream: SocketStream| tls.accept(stream.into_tcp()?);
        listener.serve_as(registry, connections, protect, handler)
    } else {
        let protect = move |stream: SocketStream| tls.accept(stream.into_unix()?);
        listener.serve_as(registry, connections, protect, handler)
    }
}

/// Reads the certificate again at each SIGHUP. Open connections keep the one that they have.
pub(crate) fn reload_on_hangup<S: 'static>(
    tls: Option<&TlsServerConfig>,
    registry: &mut Registry<S>,
) -> io::Result<()> {
    match tls.cloned() {
        Some(tls) => on_hangup(registry, "the certificate", move || tls.reload()),
        None => Ok(()),
    }
}

/// Reads files again at each SIGHUP. `what` names their content in the log.
pub(crate) fn on_hangup<S: 'static>(
    registry: &mut Registry<S>,
    what: &'static str,
    reload: impl Fn() -> io::Result<()> + 'static,
) -> io::Result<()> {
    signal::watch(registry, [Signal::HUP], move |_arrival, _cx| {
        match reload() {
            Ok(()) => tracing::info!("{what} was read again"),
            // The server goes on with what it has.
            Err(error) => tracing::error!(%error, "{what} cannot be read again"),
        }
        Ok(Next::Keep)
    })?;
    Ok(())
}
