//! The configuration of servers.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use super::certificate::{TlsCertificate, fault_at};
use super::error::TlsError;
use super::names::Names;
use super::reload::Reloadable;
use super::roots::TlsRoots;
use super::session::{Recorded, Session};
use super::stream::Tls;
use super::{key_log, provider};

/// The options of a TLS server: its certificates, and what it asks of clients.
///
/// ```no_run
/// use handlers::tls::{TlsCertificate, TlsServerOptions};
///
/// # fn main() -> std::io::Result<()> {
/// let config = TlsServerOptions::new()
///     .certificate(TlsCertificate::files("chain.pem", "key.pem"))
///     .certificate_for("other.example", TlsCertificate::files("other.pem", "other-key.pem"))
///     .alpn(["h2", "http/1.1"])
///     .load()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until they are loaded"]
pub struct TlsServerOptions {
    default: Option<TlsCertificate>,
    by_name: Vec<(String, TlsCertificate)>,
    alpn: Vec<Vec<u8>>,
    clients: Clients,
    logs_keys: bool,
}

/// The certificate that a server asks of a client.
#[derive(Clone, Debug, Default)]
enum Clients {
    #[default]
    Anonymous,
    Requested(TlsRoots),
    Required(TlsRoots),
}

impl TlsServerOptions {
    /// Returns the default options. They have no certificate yet, so they cannot be loaded.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the certificate for clients that ask for no name, or for a name without a certificate
    /// of its own. Without it, the handshake of such a client fails: the alert is
    /// `unrecognized_name`, or `missing_extension` if it asks for no name (RFC 6066 section 3, RFC
    /// 8446 section 9.2). Default: none.
    pub fn certificate(mut self, certificate: TlsCertificate) -> Self {
        self.default = Some(certificate);
        self
    }

    /// Adds the certificate for clients that ask for this name (SNI). `*.example.com` stands for
    /// every name of one more label, which has no certificate of its own. Default: none.
    pub fn certificate_for(mut self, name: impl Into<String>, certificate: TlsCertificate) -> Self {
        self.by_name.push((name.into(), certificate));
        self
    }

    /// Sets the application protocols, the preferred one first (ALPN, RFC 7301). If a client offers
    /// protocols and none of them is in the list, the handshake fails with the alert
    /// `no_application_protocol`. A client that offers none is accepted. Default: none, and then
    /// the offers of clients are ignored.
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Requests a certificate from clients, which may have none. A certificate that no root has
    /// issued fails the handshake. Default: no certificate is requested.
    pub fn request_client_certificates(mut self, roots: TlsRoots) -> Self {
        self.clients = Clients::Requested(roots);
        self
    }

    /// Requires a certificate from clients, issued by one of the roots. A client without one gets
    /// the alert `certificate_required`. Default: no certificate is requested.
    pub fn require_client_certificates(mut self, roots: TlsRoots) -> Self {
        self.clients = Clients::Required(roots);
        self
    }

    /// Appends the keys of all sessions to the file that the environment variable `SSLKEYLOGFILE`
    /// names, so that a tool can decrypt a capture of the network. Does nothing if the variable is
    /// not set. Each handshake writes to the file. Default: no keys are written.
    pub const fn log_keys(mut self) -> Self {
        self.logs_keys = true;
        self
    }

    /// Reads the files and makes the configuration. A certificate that is not valid now is logged
    /// as a warning, because others may be.
    ///
    /// The session tickets of all clones of the configuration have the same keys, which change
    /// every 6 hours. So a session can be resumed by every loop of a pool. Tickets are sent after
    /// the handshake, with the first bytes that the handler writes, or alone if it writes none.
    ///
    /// # Errors
    /// - An error of kind [`Configuration`](super::TlsErrorKind::Configuration) if a certificate,
    ///   a key or a name cannot be used. Its text names the file.
    /// - The error of the file, if it cannot be read.
    ///
    /// # Cost
    /// Reads each file. Platform roots take some milliseconds.
    pub fn load(self) -> io::Result<TlsServerConfig> {
        let config = self.build(tickets()?, |fault| {
            tracing::warn!("{fault}");
            Ok(())
        })?;
        Ok(TlsServerConfig(Arc::new(Reloadable::new(
            Some(self),
            Arc::new(config),
        ))))
    }

    /// Makes the configuration of rustls. `on_fault` gets the text for each certificate that is not
    /// valid now.
    fn build(
        &self,
        tickets: Arc<dyn ProducesTickets>,
        on_fault: impl Fn(String) -> io::Result<()>,
    ) -> io::Result<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::of_config(&error))?
            .with_client_cert_verifier(self.verifier()?)
            .with_cert_resolver(recorded(Arc::new(self.names(on_fault)?)));
        config.alpn_protocols.clone_from(&self.alpn);
        config.ticketer = tickets;
        if self.logs_keys {
            config.key_log = key_log()?;
        }
        Ok(config)
    }

    fn names(&self, on_fault: impl Fn(String) -> io::Result<()>) -> io::Result<Names> {
        let load = |certificate: &TlsCertificate| -> io::Result<Arc<CertifiedKey>> {
            let certified = certificate.load()?;
            if let Some(fault) = fault_at(&certified, &certificate.names().0, UnixTime::now()) {
                on_fault(fault)?;
            }
            Ok(certified)
        };
        if self.default.is_none() && self.by_name.is_empty() {
            let text = "a server needs a certificate: none is configured";
            return Err(TlsError::config(text).into());
        }
        let mut names = Names::new(self.default.as_ref().map(load).transpose()?);
        for (name, certificate) in &self.by_name {
            names.add(name, load(certificate)?)?;
        }
        Ok(names)
    }

    fn verifier(&self) -> io::Result<Arc<dyn ClientCertVerifier>> {
        let (roots, is_required) = match &self.clients {
            Clients::Anonymous => return Ok(Arc::new(NoClientAuth)),
            Clients::Requested(roots) => (roots, false),
            Clients::Required(roots) => (roots, true),
        };
        let builder = WebPkiClientVerifier::builder_with_provider(roots.load()?, provider());
        let builder = match is_required {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        let built = builder.build();
        built.map_err(|error| {
            TlsError::config(format!("the roots for clients cannot be used: {error}")).into()
        })
    }
}

/// The configuration of a TLS server. Clones share it, also between threads.
///
/// Sessions that exist keep the certificates that they began with, so a [`reload`](Self::reload)
/// interrupts none of them.
#[derive(Clone, Debug)]
pub struct TlsServerConfig(Arc<Reloadable<TlsServerOptions, ServerConfig>>);

impl TlsServerConfig {
    /// Makes a configuration of one of rustls, for everything that [`TlsServerOptions`] does not
    /// offer. The resolver of the certificates is wrapped, to see the name that a client asks for.
    ///
    /// # Errors
    /// An error of kind [`Configuration`](super::TlsErrorKind::Configuration) if the configuration
    /// accepts early data (0-RTT). Early data can be replayed, and is not supported.
    pub fn from_rustls(config: Arc<ServerConfig>) -> io::Result<Self> {
        let config = of_rustls(config)?;
        Ok(Self(Arc::new(Reloadable::new(None, config))))
    }

    /// Reads all files again. Handshakes that begin afterwards use their content. If clients show
    /// certificates, the keys of the session tickets change too, because a resumed session would
    /// not be checked against the new roots.
    ///
    /// # Errors
    /// The errors of [`TlsServerOptions::load`], and an error for a certificate that is not valid
    /// now. The configuration is then unchanged. A configuration made by
    /// [`from_rustls`](Self::from_rustls) has no files: use [`replace`](Self::replace).
    ///
    /// # Cost
    /// Reads each file. Platform roots take some milliseconds.
    pub fn reload(&self) -> io::Result<()> {
        self.0.reload(|options, current| {
            let tickets = match options.clients {
                Clients::Anonymous => Arc::clone(&current.ticketer),
                Clients::Requested(_) | Clients::Required(_) => tickets()?,
            };
            options.build(tickets, |fault| Err(TlsError::config(fault).into()))
        })
    }

    /// Replaces the configuration for handshakes that begin afterwards.
    ///
    /// # Errors
    /// The errors of [`from_rustls`](Self::from_rustls). The configuration is then unchanged.
    pub fn replace(&self, config: Arc<ServerConfig>) -> io::Result<()> {
        self.0.replace(of_rustls(config)?);
        Ok(())
    }

    /// Makes the server side of a session over a stream. Sends and reads nothing yet.
    ///
    /// # Errors
    /// An error of kind [`Configuration`](super::TlsErrorKind::Configuration) if rustls refuses the
    /// configuration, for example its `max_fragment_size`.
    pub fn accept<T>(&self, stream: T) -> io::Result<Tls<T>> {
        let session = Session::server(self.0.current())?;
        Ok(Tls::new(stream, session))
    }
}

fn of_rustls(config: Arc<ServerConfig>) -> Result<Arc<ServerConfig>, TlsError> {
    if config.max_early_data_size > 0 {
        let text = "early data can be replayed and is not supported: set max_early_data_size to 0";
        return Err(TlsError::config(text));
    }
    let mut config = Arc::unwrap_or_clone(config);
    config.cert_resolver = recorded(config.cert_resolver);
    Ok(Arc::new(config))
}

fn recorded(resolver: Arc<dyn ResolvesServerCert>) -> Arc<dyn ResolvesServerCert> {
    Arc::new(Recorded(resolver))
}

fn tickets() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    Ticketer::new().map_err(|error| TlsError::of_config(&error))
}
