//! HTTP servers that say hello, for the clients `wrk` and `h2load`.
//!
//! All servers send the same status, headers and body. They send no date, and they limit the time
//! of a request.

use clap::{Args, ValueEnum};

/// The options of a server.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Layer between the loop and HTTP
    #[arg(long, value_enum, default_value_t = Form::Http1)]
    pub form: Form,
}

/// The layer between the loop and HTTP. Each program has only some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Callbacks, with a parser of HTTP/1.1
    Callbacks,
    /// hyper's HTTP/1.1, with a task for each connection
    Http1,
    /// The same on the bare source of the socket
    Http1Source,
    /// hyper's HTTP/2, with a task for each connection
    Http2,
}

/// The body of every response.
pub const HELLO: &str = "Hello, world!\n";
