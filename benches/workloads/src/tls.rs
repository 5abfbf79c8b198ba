//! Echo over TLS: a server that sends back the bytes that it receives.
//!
//! All servers have the same certificate, of ECDSA with P-256. The client chooses the rest: TLS
//! 1.3, X25519 and AES-128 in GCM.

use clap::{Args, ValueEnum};

/// The options of a server.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Buffer that a connection reads into
    #[arg(long, value_enum, default_value_t = Form::Usual)]
    pub form: Form,
}

/// The buffer that plaintext is read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// The usual one of the library
    Usual,
    /// One that all tasks share
    Shared,
}

/// The exchange of a client with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Exchange {
    /// Messages over sessions that stay
    Messages,
    /// A full handshake for each message
    Full,
    /// A resumed handshake for each message
    Resumed,
}

/// The certificate of all servers, in PEM. It is valid for a hundred years. No client checks it.
pub const CERTIFICATE: &str = include_str!("../../tls/certificate.pem");
/// The private key of the certificate, which protects nothing.
pub const KEY: &str = include_str!("../../tls/key.pem");
