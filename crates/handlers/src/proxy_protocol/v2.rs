//! Version 2: binary, with additional fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::crc32c::checksum;
use super::error::HeaderError;
use super::header::{Addresses, Header, MAX_LENGTH, Progress, of_one_family};
use super::tlv::{self, TlvType, expect_fields};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The length of the part that every header has.
const FIXED: usize = 16;
/// The place of version and command, after the signature.
const COMMAND: usize = 12;
/// The command of a connection that the proxy has opened for itself, with the version.
const LOCAL: u8 = 0x20;
/// The command of a connection for a client, with the version.
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const UDP4: u8 = 0x12;
const TCP6: u8 = 0x21;
const UDP6: u8 = 0x22;
const UNIX_STREAM: u8 = 0x31;
const UNIX_DATAGRAM: u8 = 0x32;
/// The greatest length of a Unix socket's name: `sun_path` of `unix(7)`.
const NAME: usize = 108;

/// Parses a header that begins with a carriage return.
pub(super) fn parse(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Err(HeaderError::NoHeader);
    }
    if !matches!(bytes.get(COMMAND), None | Some(&(LOCAL | PROXY))) {
        return Err(HeaderError::Unsupported);
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(Progress::Incomplete(FIXED - bytes.len()));
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > MAX_LENGTH {
        return Err(HeaderError::TooLong);
    }
    let Some(body) = rest.get(..length) else {
        return Ok(Progress::Incomplete(length - rest.len()));
    };
    let header = match command {
        LOCAL => Header::local(), // everything else in it has no meaning
        _ => proxied(family, body)?,
    };
    if !header.fields.is_empty() {
        verify(&bytes[..FIXED + length], &header)?;
    }
    Ok(Progress::Complete {
        header,
        length: FIXED + length,
    })
}

/// Parses the part after the length, of a connection for a client.
fn proxied(family: u8, body: &[u8]) -> Result<Header, HeaderError> {
    let (addresses, fields) = match (family >> 4, family & 0xf) {
        (0x0, 0x0..=0x2) | (0x1..=0x3, 0x0) => return Ok(Header::of(Addresses::Unknown)),
        _ => match family {
            TCP4 | UDP4 => internet::<4>(body, |ip| Ipv4Addr::from(ip).into()),
            TCP6 | UDP6 => internet::<16>(body, |ip| Ipv6Addr::from(ip).into()),
            UNIX_STREAM | UNIX_DATAGRAM => unix(body),
            _ => return Err(HeaderError::Unsupported),
        }
        .ok_or(HeaderError::TooShort)?,
    };
    expect_fields(fields)?;
    let fields = fields.to_vec();
    Ok(Header { addresses, fields })
}

fn internet<const IP: usize>(
    body: &[u8],
    ip: impl Fn([u8; IP]) -> IpAddr,
) -> Option<(Addresses, &[u8])> {
    let (source, rest) = body.split_first_chunk::<IP>()?;
    let (destination, rest) = rest.split_first_chunk::<IP>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, rest) = rest.split_first_chunk()?;
    let address = |of, port| SocketAddr::new(ip(of), u16::from_be_bytes(port));
    let addresses = Addresses::Internet {
        source: address(*source, *source_port),
        destination: address(*destination, *destination_port),
    };
    Some((addresses, rest))
}

fn unix(body: &[u8]) -> Option<(Addresses, &[u8])> {
    let (source, rest) = body.split_first_chunk::<NAME>()?;
    let (destination, rest) = rest.split_first_chunk::<NAME>()?;
    let name = |padded: &[u8]| {
        let padding = padded.iter().rev().take_while(|byte| **byte == 0).count();
        padded[..NAME - padding].to_vec()
    };
    let addresses = Addresses::Unix {
        source: name(source),
        destination: name(destination),
    };
    Some((addresses, rest))
}

/// Checks the checksum of a whole header, if it has one.
fn verify(bytes: &[u8], header: &Header) -> Result<(), HeaderError> {
    let mut at = bytes.len() - header.fields.len();
    for (kind, value) in header.tlvs() {
        let place = at + tlv::length(&[])..at + tlv::length(value);
        if kind == TlvType::CRC32C {
            // The header was summed up with zeros in the place of the checksum.
            let without = bytes.iter().enumerate().map(|(at, byte)| match at {
                at if place.contains(&at) => 0,
                _ => *byte,
            });
            let is_right = checksum(without).to_be_bytes() == *value;
            return is_right.then_some(()).ok_or(HeaderError::WrongChecksum);
        }
        at = place.end;
    }
    Ok(())
}

/// Returns the length of the encoded header.
pub(super) fn length(header: &Header) -> usize {
    let addresses = match &header.addresses {
        Addresses::Local | Addresses::Unknown => 0,
        Addresses::Unix { .. } => 2 * NAME,
        Addresses::Internet {
            source,
            destination,
        } => match of_one_family([*source, *destination]) {
            [SocketAddr::V4(_), _] => 12,
            [SocketAddr::V6(_), _] => 36,
        },
    };
    FIXED + addresses + header.fields.len()
}

/// Returns the header, with its fields.
pub(super) fn encode(header: &Header) -> Vec<u8> {
    let (command, family, addresses) = match &header.addresses {
        Addresses::Local => (LOCAL, UNSPECIFIED, Vec::new()),
        Addresses::Unknown => (PROXY, UNSPECIFIED, Vec::new()),
        Addresses::Unix {
            source,
            destination,
        } => (PROXY, UNIX_STREAM, encode_unix([source, destination])),
        Addresses::Internet {
            source,
            destination,
        } => {
            let both = of_one_family([*source, *destination]);
            let family = if both[0].is_ipv4() { TCP4 } else { TCP6 };
            (PROXY, family, encode_internet(both))
        }
    };
    let [.., high, low] = (addresses.len() + header.fields.len()).to_be_bytes();
    let fixed = [SIGNATURE, &[command, family, high, low]].concat();
    [fixed, addresses, header.fields.clone()].concat()
}

fn encode_internet(addresses: [SocketAddr; 2]) -> Vec<u8> {
    let ips = addresses.iter().flat_map(|address| match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    });
    let ports = addresses
        .iter()
        .flat_map(|address| address.port().to_be_bytes());
    ips.chain(ports).collect()
}

fn encode_unix(names: [&Vec<u8>; 2]) -> Vec<u8> {
    let padded = names.into_iter().flat_map(|name| {
        let zeros = std::iter::repeat(0);
        name.iter().copied().chain(zeros).take(NAME)
    });
    padded.collect()
}
