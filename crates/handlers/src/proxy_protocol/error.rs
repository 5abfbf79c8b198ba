//! The reasons why bytes are not a PROXY header.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

/// The reason why bytes are not a PROXY header. As an [`io::Error`] it has the kind `InvalidData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The bytes begin neither as version 1 nor as version 2.
    NoHeader,
    /// A line of version 1 is not of the form `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`.
    MalformedLine,
    /// The version, the command, the family or the transport of a binary header is not known.
    Unsupported,
    /// The header is longer than a line of 107 bytes, or than [`MAX_LENGTH`](super::MAX_LENGTH).
    TooLong,
    /// The binary header is too short for its addresses.
    TooShort,
    /// The additional fields of a binary header do not fill its rest.
    MalformedTlv,
    /// The CRC32C checksum in the header is not that of the header.
    WrongChecksum,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHeader => "no PROXY header",
            Self::MalformedLine => "malformed PROXY line",
            Self::Unsupported => "PROXY header of an unknown version, command or family",
            Self::TooLong => "PROXY header too long",
            Self::TooShort => "PROXY header too short for its addresses",
            Self::MalformedTlv => "malformed additional field in a PROXY header",
            Self::WrongChecksum => "wrong checksum in a PROXY header",
        })
    }
}

impl Error for HeaderError {}

impl From<HeaderError> for io::Error {
    fn from(error: HeaderError) -> Self {
        Self::new(ErrorKind::InvalidData, error)
    }
}
