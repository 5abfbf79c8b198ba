//! Files of PEM, and their certificates.

use std::io;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::error::TlsError;
use crate::error::named;

pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| named(format_args!("open({})", path.display()), error))
}

/// Returns the certificates in PEM, of which there must be one.
pub(super) fn certificates(
    pem: &[u8],
    name: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(TlsError::config(format!(
            "no certificate in PEM is found in {name}: it begins with \"-----BEGIN CERTIFICATE\""
        ))),
        Err(error) => Err(TlsError::config(format!(
            "{name} is not valid PEM: {error}"
        ))),
    }
}
