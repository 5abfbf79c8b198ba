//! Additional fields of a binary header: type, length, value.

use super::error::HeaderError;

/// The type of an additional field. Types without a constant have the meaning that proxy and server
/// have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlvType(pub u8);

impl TlvType {
    /// The protocol that TLS has negotiated, for example `h2`.
    pub const ALPN: Self = Self(0x01);
    /// The host name that the client has asked for, as in the server name of TLS.
    pub const AUTHORITY: Self = Self(0x02);
    /// The checksum of the header. [`Header::parse`](super::Header::parse) verifies it.
    pub const CRC32C: Self = Self(0x03);
    /// Padding.
    pub const NOOP: Self = Self(0x04);
    /// An identifier of the connection, of up to 128 bytes.
    pub const UNIQUE_ID: Self = Self(0x05);
    /// Properties of the client's TLS connection.
    pub const SSL: Self = Self(0x20);
    /// The name of the network namespace.
    pub const NETNS: Self = Self(0x30);
}

/// The additional fields of a header, in their order.
#[derive(Clone, Debug)]
pub struct Tlvs<'h> {
    rest: &'h [u8],
}

/// The bytes before a value: its type and its length.
const PREFIX: usize = 3;

impl<'h> Tlvs<'h> {
    pub(super) const fn new(fields: &'h [u8]) -> Self {
        Self { rest: fields }
    }

    /// Returns the bytes that are not a whole field.
    fn into_malformed(mut self) -> &'h [u8] {
        while self.next().is_some() {}
        self.rest
    }
}

impl<'h> Iterator for Tlvs<'h> {
    type Item = (TlvType, &'h [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[kind, high, low], rest) = self.rest.split_first_chunk::<PREFIX>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some((TlvType(kind), value))
    }
}

/// Checks that the bytes are whole fields.
pub(super) fn expect_fields(fields: &[u8]) -> Result<(), HeaderError> {
    match Tlvs::new(fields).into_malformed() {
        [] => Ok(()),
        _ => Err(HeaderError::MalformedTlv),
    }
}

/// Appends a field. Its value has at most 65535 bytes.
pub(super) fn push(fields: &mut Vec<u8>, kind: TlvType, value: &[u8]) {
    let [.., high, low] = value.len().to_be_bytes();
    fields.extend([kind.0, high, low]);
    fields.extend(value);
}

/// Returns the length that a field with this value takes.
pub(super) const fn length(value: &[u8]) -> usize {
    PREFIX + value.len()
}
