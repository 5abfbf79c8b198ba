//! The certificates of a server by the name that a client asks for.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::{DnsName, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::error::TlsError;

/// Certificates by name. A name may begin with `*.`, for one label.
#[derive(Debug, Default)]
pub(super) struct Names {
    default: Option<Arc<CertifiedKey>>,
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl Names {
    pub(super) fn new(default: Option<Arc<CertifiedKey>>) -> Self {
        Self {
            default,
            by_name: HashMap::new(),
        }
    }

    /// Adds a certificate, which must be for this name.
    pub(super) fn add(&mut self, name: &str, certified: Arc<CertifiedKey>) -> Result<(), TlsError> {
        let name = name.to_ascii_lowercase();
        // A name with an asterisk is not a name that a client can ask for.
        let example = match name.strip_prefix("*.") {
            Some(parent) => format!("any.{parent}"),
            None => name.clone(),
        };
        let example = DnsName::try_from(example)
            .map_err(|_| TlsError::config(format!("{} is not a DNS name", name.escape_debug())))?;
        let certificate = certified.end_entity_cert();
        certificate
            .and_then(ParsedCertificate::try_from)
            .and_then(|parsed| verify_server_name(&parsed, &ServerName::DnsName(example)))
            .map_err(|error| {
                let text = format!("the certificate for {name} cannot be used: {error}");
                TlsError::config(text).caused_by(&error)
            })?;
        self.by_name.insert(name, certified);
        Ok(())
    }

    fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let found = name.and_then(|name| {
            let wildcard = || self.by_name.get(&format!("*{}", &name[name.find('.')?..]));
            self.by_name.get(name).or_else(wildcard)
        });
        found.or(self.default.as_ref())
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()).cloned() // rustls has changed the name to lower case
    }
}
