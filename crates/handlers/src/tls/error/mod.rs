//! The error of TLS: its kind for the program, and its text for the person who has to act.

mod day;
mod explain;
mod plain_text;

use std::fmt;
use std::io::{self, ErrorKind};

pub(super) use self::day::Day;
pub(super) use self::explain::Failed;
pub(super) use self::plain_text::protocol_of;

/// An error of a TLS session or of its configuration. The functions of this crate return it inside
/// of an [`io::Error`], where [`TlsError::of`] finds it.
///
/// Displays the reason and the remedy, on one line: "the certificate of the peer expired on
/// 2026-03-01 (UTC): the peer must renew it. The clock of this machine says 2026-11-29".
///
/// [`source`](std::error::Error::source) returns the [`rustls::Error`], if there is one.
///
/// ```
/// use handlers::tls::{TlsCertificate, TlsError, TlsErrorKind, TlsServerOptions};
///
/// let certificate = TlsCertificate::pem("no certificate", "no key");
/// let error = TlsServerOptions::new().certificate(certificate).load().unwrap_err();
/// let error = TlsError::of(&error).expect("an error of TLS");
/// assert_eq!(error.kind(), TlsErrorKind::Configuration);
/// ```
#[derive(Clone, Debug)]
pub struct TlsError {
    kind: TlsErrorKind,
    text: Box<str>,
    source: Option<rustls::Error>,
}

/// The kind of a [`TlsError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// The peer has sent a fatal alert: it has ended the session, and the alert is its reason.
    Alert,
    /// The certificate of the peer is not accepted, or the peer has sent none and must.
    Certificate,
    /// A certificate, a key, a root or a name of the configuration cannot be used.
    Configuration,
    /// The stream ended during the handshake. Port scans and health checks do this.
    HandshakeEnded,
    /// The peers have no protocol version, cipher suite or application protocol in common.
    Incompatible,
    /// The peer speaks another protocol than TLS, for example plain HTTP.
    NotTls,
    /// The peer has violated the protocol, or the bytes were changed on their way.
    Protocol,
    /// The stream ended without close_notify. Bytes may be missing at its end.
    Truncated,
    /// A client has asked for a name for which this server has no certificate.
    UnknownName,
}

impl TlsError {
    /// Returns the error of TLS inside of an error.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Returns the kind of the error.
    pub const fn kind(&self) -> TlsErrorKind {
        self.kind
    }

    pub(super) fn new(kind: TlsErrorKind, text: impl Into<Box<str>>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: None,
        }
    }

    /// Returns an error of the configuration.
    pub(super) fn config(text: impl Into<Box<str>>) -> Self {
        Self::new(TlsErrorKind::Configuration, text)
    }

    /// Returns an error of rustls about the configuration.
    pub(super) fn of_config(error: &rustls::Error) -> Self {
        Self::config(format!("TLS cannot be configured so: {error}")).caused_by(error)
    }

    pub(super) fn caused_by(self, error: &rustls::Error) -> Self {
        Self {
            source: Some(error.clone()),
            ..self
        }
    }

    /// Returns the error for a stream that ended without close_notify.
    #[cold]
    pub(super) fn cut(is_established: bool, speaks_tls: bool) -> Self {
        let (kind, text) = match (is_established, speaks_tls) {
            (true, _) => (
                TlsErrorKind::Truncated,
                "the stream ended without close_notify: bytes may be missing, because the peer or \
                 the network cut it",
            ),
            (false, true) => (
                TlsErrorKind::HandshakeEnded,
                "the peer closed the stream during the handshake: look for its reason in its log",
            ),
            (false, false) => (
                TlsErrorKind::HandshakeEnded,
                "the peer closed the stream and sent nothing of TLS: it may expect another protocol",
            ),
        };
        Self::new(kind, text)
    }

    pub(super) fn keys_used_up() -> Self {
        let text = "the keys of the session have encrypted as much as they may: open a new session";
        Self::new(TlsErrorKind::Protocol, text)
    }

    pub(super) fn no_traffic() -> Self {
        let text = "nothing can be sent: the handshake is not done, or both peers have ended";
        Self::new(TlsErrorKind::Protocol, text)
    }

    const fn io_kind(&self) -> ErrorKind {
        match self.kind {
            TlsErrorKind::Configuration => ErrorKind::InvalidInput,
            TlsErrorKind::HandshakeEnded | TlsErrorKind::Truncated => ErrorKind::UnexpectedEof,
            _ => ErrorKind::InvalidData,
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|error| error as _)
    }
}

/// Lets `?` pass the error on. The kind is [`UnexpectedEof`](ErrorKind::UnexpectedEof) for a stream
/// that was cut, [`InvalidInput`](ErrorKind::InvalidInput) for a configuration, and otherwise
/// [`InvalidData`](ErrorKind::InvalidData).
impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(error.io_kind(), error)
    }
}
