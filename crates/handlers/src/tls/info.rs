//! The facts of a session.

use std::fmt;

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion};

use super::session::Session;

/// The facts of a session: what the peers have agreed on. All of them are known once the handshake
/// is done.
///
/// ```
/// use handlers::tls::TlsInfo;
///
/// /// Returns `true` if the client speaks HTTP/2 and has shown a certificate.
/// fn is_trusted_http2(info: TlsInfo<'_>) -> bool {
///     info.alpn() == Some(b"h2") && info.peer_certificates().is_some()
/// }
/// ```
#[derive(Clone, Copy)]
pub struct TlsInfo<'a>(&'a Session);

impl<'a> TlsInfo<'a> {
    pub(super) const fn of(session: &'a Session) -> Self {
        Self(session)
    }

    /// Returns the version of the protocol. Returns `None` before it is agreed on.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.0.state().protocol_version()
    }

    /// Returns the cipher suite. Returns `None` before it is agreed on.
    pub fn cipher_suite(&self) -> Option<CipherSuite> {
        let suite = self.0.state().negotiated_cipher_suite();
        suite.map(|suite| suite.suite())
    }

    /// Returns the application protocol (ALPN, RFC 7301). Returns `None` if none was agreed on.
    pub fn alpn(&self) -> Option<&'a [u8]> {
        self.0.state().alpn_protocol()
    }

    /// Returns the name that the client asked for (SNI, RFC 6066), in lower case. On the client's
    /// side this is the host of [`connect`](super::TlsClientConfig::connect), which may be an IP
    /// address. Returns `None` if the client asked for no name.
    pub fn server_name(&self) -> Option<&'a str> {
        self.0.server_name()
    }

    /// Returns the certificates that the peer has shown, its own first. Returns `None` if it has
    /// shown none. A resumed session has those of the first handshake.
    pub fn peer_certificates(&self) -> Option<&'a [CertificateDer<'static>]> {
        self.0.state().peer_certificates()
    }

    /// Returns `true` if the session continues an earlier one.
    pub fn is_resumed(&self) -> bool {
        self.0.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

impl fmt::Debug for TlsInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("version", &self.version())
            .field("cipher_suite", &self.cipher_suite())
            .field(
                "alpn",
                &self
                    .alpn()
                    .map(<[u8]>::escape_ascii)
                    .map(|alpn| alpn.to_string()),
            )
            .field("server_name", &self.server_name())
            .field("is_resumed", &self.is_resumed())
            .finish_non_exhaustive()
    }
}
