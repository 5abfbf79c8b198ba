//! The configuration of the sessions of a client.

use std::sync::Arc;

use handlers::tls::rustls::client::Resumption;
use handlers::tls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use handlers::tls::rustls::crypto::{CryptoProvider, ring};
use handlers::tls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use handlers::tls::rustls::version::TLS13;
use handlers::tls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use workloads::Result;
use workloads::tls::Exchange;

pub(super) struct Security {
    pub(super) config: Arc<ClientConfig>,
    pub(super) exchange: Exchange,
}

impl Security {
    /// Offers one version, one cipher suite and one group, so that all servers do the same work.
    pub(super) fn new(exchange: Exchange) -> Result<Self> {
        let provider = CryptoProvider {
            cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![ring::kx_group::X25519],
            ..ring::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unchecked))
            .with_no_client_auth();
        if exchange != Exchange::Resumed {
            config.resumption = Resumption::disabled();
        }
        let config = Arc::new(config);
        Ok(Self { config, exchange })
    }
}

/// Accepts every certificate. The check would take the client longer than a handshake takes the
/// server.
#[derive(Debug)]
struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _issuers: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}
