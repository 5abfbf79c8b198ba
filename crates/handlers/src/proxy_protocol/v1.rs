//! Version 1: a line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str;

use super::error::HeaderError;
use super::header::{Addresses, Header, Progress, of_one_family};

/// The length of the shortest line.
pub(super) const MIN_LENGTH: usize = UNKNOWN.len();
/// The length of the longest line, with its end: section 2.1 of the specification.
const MAX_LENGTH: usize = 107;
const PREFIX: &[u8] = b"PROXY ";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const END: &[u8] = b"\r\n";
/// The number of spaces in a line with addresses.
const SPACES: usize = 5;

/// Parses a header that begins with a `P`.
pub(super) fn parse(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let begun = bytes.len().min(PREFIX.len());
    if bytes[..begun] != PREFIX[..begun] {
        return Err(HeaderError::NoHeader);
    }
    let longest = &bytes[..bytes.len().min(MAX_LENGTH)];
    let text = longest.split(|byte| *byte == b'\r').next().unwrap_or(&[]);
    match &longest[text.len()..] {
        [b'\r', b'\n', ..] => Ok(Progress::Complete {
            header: Header::of(addresses(text)?),
            length: text.len() + END.len(),
        }),
        [b'\r', _, ..] => Err(HeaderError::MalformedLine),
        _ if text.len() + END.len() > MAX_LENGTH => Err(HeaderError::TooLong),
        [b'\r'] => Ok(Progress::Incomplete(1)),
        _ => missing(text).map(Progress::Incomplete),
    }
}

/// Returns how many bytes a line without its end lacks at least.
fn missing(text: &[u8]) -> Result<usize, HeaderError> {
    if text.len() < MIN_LENGTH {
        return Ok(MIN_LENGTH - text.len());
    }
    if is_unknown(text) {
        return Ok(END.len());
    }
    let spaces = text.iter().filter(|byte| **byte == b' ').count();
    let fields = SPACES
        .checked_sub(spaces)
        .ok_or(HeaderError::MalformedLine)?;
    // Each field that has not begun takes a space and a character.
    Ok(2 * fields + usize::from(text.ends_with(b" ")) + END.len())
}

fn is_unknown(text: &[u8]) -> bool {
    let name = UNKNOWN.strip_suffix(END).unwrap_or(UNKNOWN);
    text.strip_prefix(name)
        .is_some_and(|rest| matches!(rest, [] | [b' ', ..]))
}

/// Parses a line without its end.
fn addresses(text: &[u8]) -> Result<Addresses, HeaderError> {
    if is_unknown(text) {
        return Ok(Addresses::Unknown); // the rest of the line has no meaning
    }
    tcp(text).ok_or(HeaderError::MalformedLine)
}

fn tcp(text: &[u8]) -> Option<Addresses> {
    let mut fields = str::from_utf8(text).ok()?.split(' ').skip(1);
    let ip = match fields.next()? {
        "TCP4" => |text: &str| Some(IpAddr::from(text.parse::<Ipv4Addr>().ok()?)),
        "TCP6" => |text: &str| Some(IpAddr::from(text.parse::<Ipv6Addr>().ok()?)),
        _ => return None,
    };
    let (source, destination) = (ip(fields.next()?)?, ip(fields.next()?)?);
    let (from, to) = (port(fields.next()?)?, port(fields.next()?)?);
    let is_whole = fields.next().is_none();
    is_whole.then(|| Addresses::Internet {
        source: (source, from).into(),
        destination: (destination, to).into(),
    })
}

fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()); // no sign
    text.parse().ok().filter(|_| is_number)
}

/// Returns the line, with its end.
pub(super) fn encode(addresses: &Addresses) -> Vec<u8> {
    let Addresses::Internet {
        source,
        destination,
    } = addresses
    else {
        return UNKNOWN.to_vec();
    };
    let [from, to] = of_one_family([*source, *destination]);
    let family = match from {
        SocketAddr::V4(_) => "TCP4",
        SocketAddr::V6(_) => "TCP6",
    };
    format!(
        "PROXY {family} {} {} {} {}\r\n",
        from.ip(),
        to.ip(),
        from.port(),
        to.port()
    )
    .into_bytes()
}
