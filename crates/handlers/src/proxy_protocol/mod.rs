//! The PROXY protocol, in its versions 1 and 2: a proxy says at the beginning of each connection
//! for which client it has opened the connection.
//!
//! A listener expects such a header with [`ListenOptions::proxy_protocol`]. Its handlers then see
//! the address of the client, and not that of the proxy. The header is removed, so plain text or
//! TLS follows from its first byte.
//!
//! To send a header, open the connection on a stream [`WithHeader`]. To read a header in a handler
//! of your own, use [`Header::parse`].
//!
//! # Trust
//! Anyone can write a header. A client that reaches the listener without passing through the proxy
//! can claim any address, so address checks and logs would be worthless. [`ProxyProtocol`]
//! therefore needs to know the proxies, and connections of all others are closed. A header is never
//! optional: if it were, a client could choose which of the two a check sees.
//!
//! # Source
//! "The PROXY protocol, versions 1 & 2", `doc/proxy-protocol.txt` of HAProxy.

mod crc32c;
mod error;
mod header;
mod options;
#[cfg(test)]
mod tests;
mod tlv;
mod v1;
mod v2;
mod with_header;

pub use self::error::HeaderError;
pub use self::header::{Addresses, Header, MAX_LENGTH, Progress};
pub use self::options::ProxyProtocol;
pub use self::tlv::{TlvType, Tlvs};
pub use self::with_header::WithHeader;
#[cfg(doc)]
use crate::ListenOptions;
