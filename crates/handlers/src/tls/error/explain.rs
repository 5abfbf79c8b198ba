//! The text of a failed session: the reason, and the remedy.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::plain_text::protocol_of;
use super::{Day, TlsError, TlsErrorKind};

/// A failure of rustls, and the facts of the session that explain it.
pub(in crate::tls) struct Failed<'a> {
    pub(in crate::tls) error: &'a Error,
    pub(in crate::tls) is_client: bool,
    /// The name that the client has asked for.
    pub(in crate::tls) server_name: Option<&'a str>,
    /// The server has no certificate for the name.
    pub(in crate::tls) no_certificate: bool,
    /// The first bytes of the peer, if it has sent no valid record.
    pub(in crate::tls) first_bytes: &'a [u8],
}

impl Failed<'_> {
    pub(in crate::tls) fn explain(&self) -> TlsError {
        let (kind, text) = match self.error {
            _ if self.no_certificate => (TlsErrorKind::UnknownName, self.unknown_name()),
            Error::InvalidMessage(error) => self.invalid_message(error),
            Error::InvalidCertificate(error) => (TlsErrorKind::Certificate, certificate(error)),
            Error::NoCertificatesPresented => (
                TlsErrorKind::Certificate,
                "the peer sent no certificate, and it must: configure one for it".to_owned(),
            ),
            Error::AlertReceived(alert) => (TlsErrorKind::Alert, self.alert(*alert)),
            Error::NoApplicationProtocol => (
                TlsErrorKind::Incompatible,
                "the client offers no application protocol (ALPN) of this server: configure one \
                 that both have"
                    .to_owned(),
            ),
            Error::PeerIncompatible(error) => (
                TlsErrorKind::Incompatible,
                format!(
                    "the peers have too little in common ({error:?}): allow a protocol version \
                     and cipher suites that both have, at least TLS 1.2"
                ),
            ),
            Error::DecryptError => (
                TlsErrorKind::Protocol,
                "a record cannot be decrypted: it was changed on its way, or the peer is faulty"
                    .to_owned(),
            ),
            Error::PeerSentOversizedRecord => (TlsErrorKind::Protocol, oversized()),
            error => (TlsErrorKind::Protocol, format!("TLS failed: {error}")),
        };
        TlsError::new(kind, text).caused_by(self.error)
    }

    fn unknown_name(&self) -> String {
        match self.server_name {
            Some(name) => format!(
                "the client asked for {name}, and no certificate is configured for this name: \
                 configure one, or a default"
            ),
            None => "the client asked for no name, and no default certificate is configured: \
                     configure one"
                .to_owned(),
        }
    }

    fn invalid_message(&self, error: &InvalidMessage) -> (TlsErrorKind, String) {
        if let Some(protocol) = protocol_of(self.first_bytes) {
            let remedy = match self.is_client {
                true => "connect to its TLS port, or without TLS",
                false => "it must connect with TLS, or to another port",
            };
            let text = format!("the peer speaks {protocol} and not TLS: {remedy}");
            return (TlsErrorKind::NotTls, text);
        }
        let text = match error {
            InvalidMessage::MessageTooLarge => oversized(),
            error => format!("the peer sent an invalid message ({error:?}): it is faulty"),
        };
        (TlsErrorKind::Protocol, text)
    }

    fn alert(&self, alert: AlertDescription) -> String {
        let name = self.server_name.unwrap_or("no name");
        let remedy = match alert {
            AlertDescription::UnrecognisedName => {
                return format!("the server has no certificate for {name}: check the name");
            }
            AlertDescription::CertificateRequired => "configure a certificate for this client",
            AlertDescription::NoApplicationProtocol => {
                "offer an application protocol (ALPN) that the server has"
            }
            AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => {
                "allow a protocol version and cipher suites that both peers have"
            }
            AlertDescription::UnknownCA => {
                "add the issuer of our certificate to the roots of the peer, and send the \
                 intermediate certificates"
            }
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied => {
                "replace our certificate, or check the peer's roots"
            }
            _ => "look for its reason in its log",
        };
        format!("the peer ended the session with the alert {alert:?}: {remedy}")
    }
}

fn oversized() -> String {
    "the peer sent a record that is longer than TLS allows: it is faulty, or not TLS".to_owned()
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the certificate of the peer expired on {} (UTC): the peer must renew it. The clock of \
             this machine says {}",
            Day(*not_after),
            Day(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate of the peer is valid from {} (UTC): the clock of this machine says {}, \
             so check it",
            Day(*not_before),
            Day(*time)
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "the certificate of the peer is not for {}, the name that was asked for, but for {}: \
             connect by one of its names, or replace it",
            expected.to_str(),
            list(presented)
        ),
        CertificateError::UnknownIssuer => {
            "the certificate of the peer has no issuer among our roots: add the root, or have the \
             peer send its intermediate certificates"
                .to_owned()
        }
        CertificateError::BadSignature => {
            "the certificate of the peer was not signed by the root that it names: the root was \
             replaced by another of the same name, so update the roots or the certificate"
                .to_owned()
        }
        // rustls has no variant for this error of its verifier, and does not export its type.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the certificate of the peer may issue others, as self-signed ones do by default, and \
             is not accepted as that of a peer: make one with the basic constraint CA:FALSE"
                .to_owned()
        }
        CertificateError::Revoked => {
            "the certificate of the peer is revoked: the peer must replace it".to_owned()
        }
        error => format!("the certificate of the peer is not accepted: {error}"),
    }
}

/// Returns the names of a certificate, as people write them, without control characters.
fn list(presented: &[String]) -> String {
    const SHOWN: usize = 5;
    if presented.is_empty() {
        return "no name".to_owned();
    }
    let names: Vec<_> = presented
        .iter()
        .take(SHOWN)
        .map(|name| name_of(name))
        .collect();
    let more = if presented.len() > SHOWN { ", ..." } else { "" };
    format!("{}{more}", names.join(", "))
}

/// Returns a name without the type that rustls displays: `DnsName("a.example")`.
fn name_of(presented: &str) -> String {
    let inner = presented
        .split_once('(')
        .map_or(presented, |(_, rest)| rest);
    inner
        .trim_matches(['"', ')', '('])
        .escape_debug()
        .to_string()
}
