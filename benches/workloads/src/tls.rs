//! Echo over TLS: a server that sends back the bytes that it receives.
//!
//! All servers have the same certificate. The client chooses the rest: TLS 1.3, X25519 and AES-128
//! in GCM.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The options of a server.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// PEM file with the certificate of the server and its private key; no client checks them
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
    /// Buffer that a connection reads into
    #[arg(long, value_enum, default_value_t = Form::Usual)]
    pub form: Form,
    /// Take any number of steps of handshakes in a turn of the loop
    #[arg(long)]
    pub unlimited: bool,
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
