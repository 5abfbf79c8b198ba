//! TLS 1.2 and 1.3 over any stream, by [rustls].
//!
//! A server loads a [`TlsServerConfig`] and makes a [`Tls`] of each accepted stream. A client loads
//! a [`TlsClientConfig`] and makes a [`Tls`] of each stream that it has connected. Both are
//! [layered streams](crate::Stream#layered-streams): a handler is notified of its connection when
//! the handshake is complete.
//!
//! ```no_run
//! use handlers::tls::{TlsCertificate, TlsClientOptions, TlsServerOptions};
//! use handlers::{SocketStream, Connection, ConnectionOptions, ListenOptions, on_data};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut reactor = reactor::Reactor::<()>::new()?;
//! let options = ConnectionOptions::new();
//! let echo = || {
//!     on_data(|data, connection: &mut Connection<'_, ()>, _cx| {
//!         connection.write(data).map(|_flow| data.len())
//!     })
//! };
//!
//! let server = TlsServerOptions::new()
//!     .certificate(TlsCertificate::files("chain.pem", "key.pem"))
//!     .load()?;
//! let listener = ListenOptions::new().bind(&"0.0.0.0:443".parse()?)?;
//! let protect = move |stream: SocketStream| server.accept(stream.into_tcp()?);
//! listener.serve_as(&mut reactor, &options, protect, move |_peer, _cx| Ok(echo()))?;
//!
//! let client = TlsClientOptions::new().load()?;
//! let protect = move |stream| client.connect(stream, "www.example.com");
//! Connection::connect_as(&mut reactor, ["192.0.2.1:443".parse()?], &options, protect, echo());
//! # Ok(())
//! # }
//! ```
//!
//! The options cover the usual cases. For all others, make a configuration of rustls and pass it to
//! [`TlsServerConfig::from_rustls`] or [`TlsClientConfig::from_rustls`].
//!
//! The cryptography is that of *ring*. If the program has installed another provider for rustls,
//! by [`install_default`](rustls::crypto::CryptoProvider::install_default), that one is used.
//!
//! Sources: RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2), RFC 6066 (server names), RFC 7301 (ALPN).

mod certificate;
mod client;
mod error;
mod info;
mod key_log;
mod names;
mod pem;
mod reload;
mod roots;
mod server;
mod session;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

pub use rustls;

pub use self::certificate::TlsCertificate;
pub use self::client::{TlsClientConfig, TlsClientOptions};
pub use self::error::{TlsError, TlsErrorKind};
pub use self::info::TlsInfo;
pub use self::roots::TlsRoots;
pub use self::server::{TlsServerConfig, TlsServerOptions};
pub use self::stream::Tls;

use self::key_log::key_log;

/// Returns the provider that the program has installed, or *ring*.
fn provider() -> Arc<CryptoProvider> {
    let installed = CryptoProvider::get_default();
    installed.map_or_else(|| Arc::new(ring::default_provider()), Arc::clone)
}
