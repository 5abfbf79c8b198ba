//! Certificates with their keys: from files, from PEM, or given.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore};

use super::error::{Day, TlsError};
use super::{pem, provider};

/// A certificate with the certificates of its issuers and its private key.
///
/// It is a description. The files are read when the configuration is loaded, and again when it is
/// reloaded.
///
/// ```
/// use handlers::tls::TlsCertificate;
///
/// let certificate = TlsCertificate::files("/etc/app/chain.pem", "/etc/app/key.pem");
/// ```
#[derive(Clone)]
pub struct TlsCertificate(Source);

#[derive(Clone)]
enum Source {
    Files { chain: PathBuf, key: PathBuf },
    Pem { chain: Vec<u8>, key: Vec<u8> },
    Given(Arc<CertifiedKey>),
}

impl TlsCertificate {
    /// Describes a certificate in files of PEM. `chain` holds the certificate first and those of
    /// its issuers after it. `key` holds its private key, without a password: PKCS#8, PKCS#1 or
    /// SEC1. Both may be the same file.
    pub fn files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        Self(Source::Files {
            chain: chain.as_ref().to_owned(),
            key: key.as_ref().to_owned(),
        })
    }

    /// Describes a certificate in PEM, as [`files`](Self::files) does with the content of files.
    pub fn pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self(Source::Pem {
            chain: chain.into(),
            key: key.into(),
        })
    }

    /// Describes a certificate of rustls, whose key may be in another process or in a device.
    pub fn given(certificate: Arc<CertifiedKey>) -> Self {
        Self(Source::Given(certificate))
    }

    /// Reads the certificate and its key, and checks that they belong together.
    pub(super) fn load(&self) -> io::Result<Arc<CertifiedKey>> {
        let (chain_name, key_name) = self.names();
        match &self.0 {
            Source::Given(certificate) => Ok(Arc::clone(certificate)),
            Source::Pem { chain, key } => certified(chain, &chain_name, key, &key_name),
            Source::Files { chain, key } => {
                let (chain, key) = (pem::read(chain)?, pem::read(key)?);
                certified(&chain, &chain_name, &key, &key_name)
            }
        }
    }

    /// Returns the names of chain and key, for texts.
    pub(super) fn names(&self) -> (String, String) {
        match &self.0 {
            Source::Files { chain, key } => {
                (chain.display().to_string(), key.display().to_string())
            }
            Source::Pem { .. } => ("the given chain".to_owned(), "the given key".to_owned()),
            Source::Given(_) => ("the given certificate".to_owned(), String::new()),
        }
    }
}

/// Leaves the key out.
impl fmt::Debug for TlsCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsCertificate")
            .field(&self.names().0)
            .finish()
    }
}

fn certified(
    chain: &[u8],
    chain_name: &str,
    key: &[u8],
    key_name: &str,
) -> io::Result<Arc<CertifiedKey>> {
    let chain = pem::certificates(chain, chain_name)?;
    let key = private_key(key, key_name)?;
    match CertifiedKey::from_der(chain, key, &provider()) {
        Ok(certified) => Ok(Arc::new(certified)),
        Err(error @ Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let text = format!(
                "the key in {key_name} does not belong to the first certificate in {chain_name}: \
                 the certificate comes first, and those of its issuers after it"
            );
            Err(TlsError::config(text).caused_by(&error).into())
        }
        Err(error) => {
            let text = format!("{chain_name} and {key_name} cannot be used: {error}");
            Err(TlsError::config(text).caused_by(&error).into())
        }
    }
}

fn private_key(key: &[u8], name: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(key).map_err(|error| {
        let is_encrypted = key.windows(9).any(|word| word == b"ENCRYPTED");
        let text = match is_encrypted {
            true => format!("the key in {name} has a password: store it without one"),
            false => format!("no private key in PEM is found in {name}: {error}"),
        };
        TlsError::config(text)
    })
}

/// Returns the first and the last moment at which a certificate is valid. Returns `None` if it
/// cannot be read.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(UnixTime, UnixTime)> {
    let far = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
    let not_before = match verified_at(certificate, far(0))? {
        CertificateError::NotValidYetContext { not_before, .. } => not_before,
        _ => far(0),
    };
    match verified_at(certificate, far(u64::MAX))? {
        CertificateError::ExpiredContext { not_after, .. } => Some((not_before, not_after)),
        _ => None,
    }
}

/// Verifies a certificate without any root. Its times are checked first: their error holds them.
fn verified_at(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<CertificateError> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let roots = RootCertStore::empty();
    let algorithms = provider().signature_verification_algorithms.all;
    match verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, algorithms) {
        Err(Error::InvalidCertificate(error)) => Some(error),
        _ => None,
    }
}

/// Returns a text if the certificate is not valid at this time.
pub(super) fn fault_at(certified: &CertifiedKey, name: &str, now: UnixTime) -> Option<String> {
    let (not_before, not_after) = validity(certified.cert.first()?)?;
    if now > not_after {
        let day = Day(not_after);
        Some(format!(
            "the certificate in {name} expired on {day} (UTC): renew it"
        ))
    } else if now < not_before {
        let (from, today) = (Day(not_before), Day(now));
        Some(format!(
            "the certificate in {name} is valid from {from} (UTC): the clock of this machine says \
             {today}, so check it"
        ))
    } else {
        None
    }
}
