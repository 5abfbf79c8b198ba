//! The configuration of clients.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;

use super::certificate::{TlsCertificate, fault_at};
use super::error::TlsError;
use super::reload::Reloadable;
use super::roots::TlsRoots;
use super::session::Session;
use super::stream::Tls;
use super::{key_log, provider};

/// The options of a TLS client: which servers it trusts, and what it shows them.
///
/// ```no_run
/// use handlers::tls::{TlsClientOptions, TlsRoots};
///
/// # fn main() -> std::io::Result<()> {
/// let public = TlsClientOptions::new().alpn(["http/1.1"]).load()?;
/// let internal = TlsClientOptions::new()
///     .roots(TlsRoots::file("/etc/app/company-ca.pem"))
///     .load()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until they are loaded"]
pub struct TlsClientOptions {
    roots: TlsRoots,
    alpn: Vec<Vec<u8>>,
    certificate: Option<TlsCertificate>,
    logs_keys: bool,
}

impl TlsClientOptions {
    /// Returns the default options.
    pub const fn new() -> Self {
        Self {
            roots: TlsRoots::platform(),
            alpn: Vec::new(),
            certificate: None,
            logs_keys: false,
        }
    }

    /// Sets the roots: the issuers whose certificates are accepted from servers. Default: the roots
    /// that are installed on this machine.
    pub fn roots(mut self, roots: TlsRoots) -> Self {
        self.roots = roots;
        self
    }

    /// Sets the application protocols that are offered, the preferred one first (ALPN, RFC 7301).
    /// [`TlsInfo::alpn`](super::TlsInfo::alpn) returns the one that the server has chosen. Default:
    /// none.
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the certificate for servers that request one. Default: none.
    pub fn certificate(mut self, certificate: TlsCertificate) -> Self {
        self.certificate = Some(certificate);
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
    /// as a warning. Up to 256 sessions are remembered, to be resumed.
    ///
    /// # Errors
    /// - An error of kind [`Configuration`](super::TlsErrorKind::Configuration) if a certificate,
    ///   a key or a root cannot be used. Its text names the file.
    /// - The error of the file, if it cannot be read.
    ///
    /// # Cost
    /// Reads each file. Platform roots take some milliseconds.
    pub fn load(self) -> io::Result<TlsClientConfig> {
        let config = self.build(|fault| {
            tracing::warn!("{fault}");
            Ok(())
        })?;
        Ok(TlsClientConfig(Arc::new(Reloadable::new(
            Some(self),
            Arc::new(config),
        ))))
    }

    fn build(&self, on_fault: impl Fn(String) -> io::Result<()>) -> io::Result<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::of_config(&error))?
            .with_root_certificates(self.roots.load()?);
        let mut config = match &self.certificate {
            Some(certificate) => {
                builder.with_client_cert_resolver(resolver(certificate, on_fault)?)
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        if self.logs_keys {
            config.key_log = key_log()?;
        }
        Ok(config)
    }
}

impl Default for TlsClientOptions {
    fn default() -> Self {
        Self::new()
    }
}

fn resolver(
    certificate: &TlsCertificate,
    on_fault: impl Fn(String) -> io::Result<()>,
) -> io::Result<Arc<dyn ResolvesClientCert>> {
    let certified = certificate.load()?;
    if let Some(fault) = fault_at(&certified, &certificate.names().0, UnixTime::now()) {
        on_fault(fault)?;
    }
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

/// The configuration of a TLS client. Clones share it and the sessions to resume, also between
/// threads.
#[derive(Clone, Debug)]
pub struct TlsClientConfig(Arc<Reloadable<TlsClientOptions, ClientConfig>>);

impl TlsClientConfig {
    /// Makes a configuration of one of rustls, for everything that [`TlsClientOptions`] does not
    /// offer.
    pub fn from_rustls(config: Arc<ClientConfig>) -> Self {
        Self(Arc::new(Reloadable::new(None, config)))
    }

    /// Reads all files again. Handshakes that begin afterwards use their content, and resume no
    /// session of before.
    ///
    /// # Errors
    /// The errors of [`TlsClientOptions::load`], and an error for a certificate that is not valid
    /// now. The configuration is then unchanged. A configuration made by
    /// [`from_rustls`](Self::from_rustls) has no files: use [`replace`](Self::replace).
    ///
    /// # Cost
    /// Reads each file. Platform roots take some milliseconds.
    pub fn reload(&self) -> io::Result<()> {
        self.0
            .reload(|options, _| options.build(|fault| Err(TlsError::config(fault).into())))
    }

    /// Replaces the configuration for handshakes that begin afterwards.
    pub fn replace(&self, config: Arc<ClientConfig>) {
        self.0.replace(config);
    }

    /// Makes the client side of a session over a stream. Sends and reads nothing yet. `host` is
    /// the name or the IP address that the certificate of the server must be for. A name is sent to
    /// the server (SNI, RFC 6066).
    ///
    /// # Errors
    /// An error of kind [`Configuration`](super::TlsErrorKind::Configuration) if `host` is neither
    /// a DNS name nor an IP address, or if rustls refuses the configuration.
    pub fn connect<T>(&self, stream: T, host: &str) -> io::Result<Tls<T>> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            TlsError::config(format!(
                "\"{}\" is neither a DNS name nor an IP address: give it without port and brackets",
                host.escape_debug()
            ))
        })?;
        let session = Session::client(self.0.current(), name)?;
        Ok(Tls::new(stream, session))
    }
}
