//! The certificate of the TLS servers, and its key: one file in PEM.
//!
//! The key is made anew for each run, so no private key is part of the sources. rcgen makes no keys
//! of RSA with `ring`. Such a certificate can be passed in.

use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use workloads::Result;

/// The file of a certificate and its key.
pub(crate) enum Certificate {
    /// It is removed when this value is dropped.
    Made(NamedTempFile),
    Given(PathBuf),
}

impl Certificate {
    /// Makes a certificate of ECDSA with P-256, which is signed by its own key.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn new() -> Result<Self> {
        let mut file = NamedTempFile::new()?;
        file.write_all(make()?.as_bytes())?;
        Ok(Self::Made(file))
    }

    /// Uses a file that exists.
    pub(crate) fn of(file: &Path) -> Self {
        Self::Given(file.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Made(file) => file.path(),
            Self::Given(path) => path,
        }
    }
}

/// Returns a new certificate and its key.
pub(crate) fn make() -> Result<String> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    Ok(made.cert.pem() + &made.signing_key.serialize_pem())
}

/// Returns a session of a server that has a new certificate.
#[cfg(test)]
pub(crate) fn server_session() -> handlers::tls::rustls::ServerConnection {
    use handlers::tls::rustls::pki_types::pem::PemObject;
    use handlers::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use handlers::tls::rustls::{ServerConfig, ServerConnection};
    let pem = make().unwrap();
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    ServerConnection::new(std::sync::Arc::new(config.unwrap())).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_file_has_the_certificate_and_the_key_until_it_is_dropped() {
        let made = Certificate::new().unwrap();
        let path = made.path().to_owned();
        let pem = std::fs::read_to_string(&path).unwrap();
        assert!(pem.contains("BEGIN CERTIFICATE") && pem.contains("BEGIN PRIVATE KEY"));
        drop(made);
        assert!(!path.exists());
    }

    #[test]
    fn a_given_file_is_left_as_it_is() {
        let file = NamedTempFile::new().unwrap();
        assert_eq!(Certificate::of(file.path()).path(), file.path());
        assert!(file.path().exists());
    }
}
