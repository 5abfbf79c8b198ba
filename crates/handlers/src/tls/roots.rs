//! Roots: the issuers whose certificates are accepted.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::error::TlsError;
use super::pem;

/// The issuers whose certificates are accepted from peers.
///
/// It is a description. Files are read when the configuration is loaded, and again when it is
/// reloaded.
///
/// ```
/// use handlers::tls::{TlsClientOptions, TlsRoots};
///
/// let options = TlsClientOptions::new().roots(TlsRoots::file("/etc/app/company-ca.pem"));
/// ```
#[derive(Clone)]
pub struct TlsRoots(Source);

#[derive(Clone)]
enum Source {
    Platform,
    File(PathBuf),
    Pem(Vec<u8>),
    Given(Arc<RootCertStore>),
}

impl TlsRoots {
    /// Describes the roots that are installed on this machine. The environment variables
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them, as for OpenSSL.
    pub const fn platform() -> Self {
        Self(Source::Platform)
    }

    /// Describes the certificates in a file of PEM.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self(Source::File(path.as_ref().to_owned()))
    }

    /// Describes certificates in PEM.
    pub fn pem(pem: impl Into<Vec<u8>>) -> Self {
        Self(Source::Pem(pem.into()))
    }

    /// Describes the roots of rustls.
    pub fn given(roots: impl Into<Arc<RootCertStore>>) -> Self {
        Self(Source::Given(roots.into()))
    }

    pub(super) fn load(&self) -> io::Result<Arc<RootCertStore>> {
        match &self.0 {
            Source::Platform => Ok(platform()?),
            Source::File(path) => {
                let name = path.display().to_string();
                Ok(parsed(pem::certificates(&pem::read(path)?, &name)?, &name)?)
            }
            Source::Pem(pem) => {
                let name = "the given roots";
                Ok(parsed(pem::certificates(pem, name)?, name)?)
            }
            Source::Given(roots) => Ok(Arc::clone(roots)),
        }
    }
}

impl fmt::Debug for TlsRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.0 {
            Source::Platform => "platform".to_owned(),
            Source::File(path) => path.display().to_string(),
            Source::Pem(_) | Source::Given(_) => "given".to_owned(),
        };
        f.debug_tuple("TlsRoots").field(&source).finish()
    }
}

/// Returns the installed roots. Some of them may be too old for rustls, which is no error.
fn platform() -> Result<Arc<RootCertStore>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map(ToString::to_string);
        let text = format!(
            "no roots are installed on this machine: install ca-certificates, or set SSL_CERT_FILE \
             ({})",
            reason.as_deref().unwrap_or("no file was found")
        );
        return Err(TlsError::config(text));
    }
    Ok(Arc::new(roots))
}

/// Returns roots that were chosen by hand, so each of them must be valid.
fn parsed(
    certificates: Vec<CertificateDer<'static>>,
    name: &str,
) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| {
            TlsError::config(format!("a root in {name} cannot be used: {error}")).caused_by(&error)
        })?;
    }
    Ok(Arc::new(roots))
}
