//! The header, without the form that it has on the wire.

use std::net::SocketAddr;

use super::error::HeaderError;
use super::tlv::{self, TlvType, Tlvs};
use super::{v1, v2};

/// The greatest length of a header of version 2, with its additional fields: 4096 bytes, as in
/// nginx. A header of version 1 has at most 107 bytes.
pub const MAX_LENGTH: usize = 4096;

/// A PROXY header: the client of a proxy, and the address that the client has connected to.
///
/// ```
/// use handlers::proxy_protocol::{Addresses, Header, Progress};
///
/// let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
/// let Ok(Progress::Complete { header, length }) = Header::parse(line) else { panic!() };
/// assert_eq!(length, line.len());
/// assert_eq!(header.addresses().source().unwrap().to_string(), "192.0.2.1:56324");
/// assert_eq!(header.to_v1(), line);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) addresses: Addresses,
    /// The additional fields, all of them whole.
    pub(super) fields: Vec<u8>,
}

/// The addresses in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Addresses {
    /// The proxy has opened the connection for itself, for example to check whether the server is
    /// healthy. The addresses of the connection itself hold.
    Local,
    /// The proxy does not say for which client it has opened the connection. The addresses of the
    /// connection itself hold.
    Unknown,
    /// The client has an Internet address. For a client of the proxy that uses UDP, for example
    /// QUIC, these are the UDP addresses.
    Internet {
        /// The address of the client.
        source: SocketAddr,
        /// The address that the client has connected to.
        destination: SocketAddr,
    },
    /// The client has connected to a Unix socket. The names are paths, or begin with a NUL as
    /// abstract names do. A name is empty if the socket has none.
    Unix {
        /// The name of the client's socket.
        source: Vec<u8>,
        /// The name that the client has connected to.
        destination: Vec<u8>,
    },
}

impl Addresses {
    /// Returns the Internet address of the client.
    pub const fn source(&self) -> Option<SocketAddr> {
        match self {
            Self::Internet { source, .. } => Some(*source),
            _ => None,
        }
    }
}

/// The result of [`Header::parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The bytes begin with a whole header.
    Complete {
        /// The header.
        header: Header,
        /// The number of bytes that the header takes. The bytes after it are those of the client.
        length: usize,
    },
    /// The bytes are the beginning of a header. At least this many more bytes belong to it, so this
    /// many can be read without reading a byte of the client.
    Incomplete(usize),
}

impl Header {
    /// Returns the header of a client with an Internet address.
    pub const fn internet(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::of(Addresses::Internet {
            source,
            destination,
        })
    }

    /// Returns the header of a connection that the proxy opens for itself. Use it also for a client
    /// without an Internet address: every receiver accepts this header.
    pub const fn local() -> Self {
        Self::of(Addresses::Local)
    }

    pub(super) const fn of(addresses: Addresses) -> Self {
        Self {
            addresses,
            fields: Vec::new(),
        }
    }

    /// Adds a field, for [`to_v2`](Self::to_v2).
    ///
    /// # Errors
    /// [`HeaderError::TooLong`] if the header would be longer than [`MAX_LENGTH`].
    ///
    /// ```
    /// use handlers::proxy_protocol::{Header, TlvType};
    ///
    /// let client = "192.0.2.1:56324".parse().unwrap();
    /// let header = Header::internet(client, "192.0.2.2:443".parse().unwrap())
    ///     .with_tlv(TlvType::AUTHORITY, b"example.org")
    ///     .unwrap();
    /// assert_eq!(header.tlv(TlvType::AUTHORITY), Some(&b"example.org"[..]));
    /// ```
    pub fn with_tlv(mut self, kind: TlvType, value: &[u8]) -> Result<Self, HeaderError> {
        if v2::length(&self) + tlv::length(value) > MAX_LENGTH {
            return Err(HeaderError::TooLong);
        }
        tlv::push(&mut self.fields, kind, value);
        Ok(self)
    }

    /// Returns the addresses.
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns the additional fields of a header of version 2. A header without addresses has none,
    /// because its rest has no meaning.
    pub fn tlvs(&self) -> Tlvs<'_> {
        Tlvs::new(&self.fields)
    }

    /// Returns the value of the first additional field of this type.
    pub fn tlv(&self, kind: TlvType) -> Option<&[u8]> {
        let mut tlvs = self.tlvs();
        tlvs.find(|(other, _)| *other == kind)
            .map(|(_, value)| value)
    }

    /// Parses a header of either version at the beginning of `bytes`. The length of a header is
    /// checked before its bytes have arrived, so this function never asks for more than
    /// [`MAX_LENGTH`] bytes.
    ///
    /// # Errors
    /// [`HeaderError`] with the reason, as soon as the bytes cannot begin a header.
    pub fn parse(bytes: &[u8]) -> Result<Progress, HeaderError> {
        match bytes.first() {
            Some(b'P') => v1::parse(bytes),
            Some(b'\r') => v2::parse(bytes),
            Some(_) => Err(HeaderError::NoHeader),
            None => Ok(Progress::Incomplete(v1::MIN_LENGTH)),
        }
    }

    /// Returns the header in version 1: a line of text. It has no additional fields. A header that
    /// is not of an Internet client becomes `PROXY UNKNOWN`.
    pub fn to_v1(&self) -> Vec<u8> {
        v1::encode(&self.addresses)
    }

    /// Returns the header in version 2: binary, with its additional fields.
    pub fn to_v2(&self) -> Vec<u8> {
        v2::encode(self)
    }
}

/// Makes two addresses of one family. If only one is of IPv4, it is mapped to IPv6.
pub(super) fn of_one_family(addresses: [SocketAddr; 2]) -> [SocketAddr; 2] {
    if addresses.iter().all(SocketAddr::is_ipv4) {
        return addresses;
    }
    addresses.map(|address| match address {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        SocketAddr::V6(v6) => (*v6.ip(), v6.port()).into(),
    })
}
