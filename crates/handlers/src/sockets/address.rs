//! Addresses of stream sockets, as a user writes them.

use std::fmt::{self, Write};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// An address that a listener [is bound to](crate::ListenOptions::bind), or that a connection [is
/// made to](crate::Connection::connect_to). It is parsed from a text in one of these forms:
/// - `IP:PORT`, for example `127.0.0.1:80` or `[::1]:80`. With port 0 the kernel chooses a free
///   port for a listener.
/// - `unix:PATH`, a Unix socket at a path of 1 to 107 bytes.
/// - `unix:@NAME`, a Unix socket with a name of 1 to 107 bytes in Linux's abstract namespace. Such
///   a name is not a file.
///
/// Displays in this form too, on one line: control characters, and bytes that are not UTF-8, are
/// escaped. Any other address is parsed back from its display.
///
/// ```
/// use handlers::Address;
///
/// # fn main() -> Result<(), handlers::AddressParseError> {
/// let address: Address = "unix:/run/app.sock".parse()?;
/// assert_eq!(address, Address::Unix("/run/app.sock".into()));
/// assert_eq!(address.to_string(), "unix:/run/app.sock");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A TCP address. A listener at `[::]` accepts IPv4 and IPv6, unless
    /// [`ListenOptions::only_v6`](crate::ListenOptions::only_v6) is set.
    Tcp(SocketAddr),
    /// A Unix socket with a path.
    Unix(PathBuf),
    /// A Unix socket with an abstract name.
    Abstract(Vec<u8>),
}

impl FromStr for Address {
    type Err = AddressParseError;

    fn from_str(text: &str) -> Result<Self, AddressParseError> {
        let refused = |reason| AddressParseError::new(text, reason);
        let Some(name) = text.strip_prefix("unix:") else {
            return text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| refused("expected IP:PORT, unix:PATH or unix:@NAME"));
        };
        match name.strip_prefix('@') {
            _ if name.is_empty() => Err(refused("expected a path after unix:")),
            Some("") => Err(refused("expected a name after unix:@")),
            Some(name) => Ok(Self::Abstract(name.as_bytes().to_owned())),
            None => Ok(Self::Unix(name.into())),
        }
    }
}

/// The error for a text that cannot be parsed as an [`Address`] or a [`Target`](crate::Target),
/// with the reason.
///
/// Displays as "localhost:80 is not an address: expected IP:PORT, unix:PATH or unix:@NAME".
///
/// ```
/// use handlers::Address;
///
/// let error = "localhost:80".parse::<Address>().unwrap_err(); // a name, and not an IP address
/// assert_eq!(error.text(), "localhost:80");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressParseError {
    text: String,
    reason: &'static str,
}

impl AddressParseError {
    pub(crate) fn new(text: &str, reason: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            reason,
        }
    }

    /// Returns the text that was parsed.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for AddressParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not an address: {}",
            self.text.escape_debug(),
            self.reason
        )
    }
}

impl std::error::Error for AddressParseError {}

/// Lets `?` pass the error on, with the kind [`InvalidInput`](ErrorKind::InvalidInput).
impl From<AddressParseError> for io::Error {
    fn from(error: AddressParseError) -> Self {
        Self::new(ErrorKind::InvalidInput, error)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => {
                f.write_str("unix:")?;
                write_name(path.as_os_str().as_bytes(), f)
            }
            Self::Abstract(name) => {
                f.write_str("unix:@")?;
                write_name(name, f)
            }
        }
    }
}

/// Writes a name as it is read, with escapes for control characters and for bytes that are not
/// text.
fn write_name(name: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_debug())?;
            } else {
                f.write_char(character)?;
            }
        }
        write!(f, "{}", chunk.invalid().escape_ascii())?;
    }
    Ok(())
}

impl Address {
    /// Returns the address of a Unix socket. Returns `None` if it has neither a path nor a name.
    pub(crate) fn of_unix(address: &UnixAddr) -> Option<Self> {
        let path = address.as_pathname().map(|path| Self::Unix(path.into()));
        path.or_else(|| Some(Self::Abstract(address.as_abstract_name()?.into())))
    }
}

/// The greatest length of the path or the abstract name of a Unix socket: `unix(7)`. Behind a path
/// there is room for a NUL, and before a name there is one.
const NAME_MAX: usize = 107;

/// Returns the address of a Unix socket with this path.
///
/// # Errors
/// `InvalidInput` if no socket can have the path.
pub(crate) fn of_path(path: &Path) -> io::Result<UnixAddr> {
    let bytes = path.as_os_str().as_bytes();
    expect_length(bytes, "path")?;
    if bytes.contains(&0) {
        let text = "the path of a Unix socket has a NUL";
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    UnixAddr::from_pathname(path)
}

/// Returns the address of a Unix socket with this abstract name.
///
/// # Errors
/// `InvalidInput` if the name is too long. Also if it is empty: the kernel accepts such a name, but
/// it is nearly always a mistake.
pub(crate) fn of_name(name: &[u8]) -> io::Result<UnixAddr> {
    expect_length(name, "abstract name")?;
    UnixAddr::from_abstract_name(name)
}

fn expect_length(bytes: &[u8], what: &str) -> io::Result<()> {
    let length = bytes.len();
    if (1..=NAME_MAX).contains(&length) {
        return Ok(());
    }
    let text = format!("the {what} of a Unix socket has {length} bytes: expected 1 to {NAME_MAX}");
    Err(io::Error::new(ErrorKind::InvalidInput, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_shown() {
        for text in [
            "127.0.0.1:80",
            "[::1]:0",
            "unix:/run/x.sock",
            "unix:relative",
            "unix:@name",
            "unix:@it's a \\ \"näme\"",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_unix_socket_has_1_to_107_bytes_in_its_path_or_name() {
        let name = [b'x'; 108];
        for (length, is_possible) in [(0, false), (1, true), (107, true), (108, false)] {
            let path = Path::new(std::ffi::OsStr::from_bytes(&name[..length]));
            assert_eq!(of_path(path).is_ok(), is_possible, "{length}");
            assert_eq!(of_name(&name[..length]).is_ok(), is_possible, "{length}");
        }
        let (path, name) = (of_path(Path::new("x")).unwrap(), of_name(b"a\0b").unwrap());
        let read = [path, name].map(|address| Address::of_unix(&address));
        assert_eq!(read[0], Some(Address::Unix("x".into())));
        assert_eq!(read[1], Some(Address::Abstract(b"a\0b".to_vec())));
    }

    #[test]
    fn an_address_is_shown_on_one_line() {
        let shown = |bytes: &[u8]| {
            let path = Address::Unix(std::ffi::OsStr::from_bytes(bytes).into());
            [path, Address::Abstract(bytes.to_owned())].map(|address| address.to_string())
        };
        assert_eq!(
            shown(b"a\nb\x1b"),
            ["unix:a\\nb\\u{1b}", "unix:@a\\nb\\u{1b}"]
        );
        assert_eq!(shown(b"a\xffb"), ["unix:a\\xffb", "unix:@a\\xffb"]);
    }

    #[test]
    fn an_invalid_address_is_kept_in_the_error() {
        for bad in [
            "",
            "localhost:80",
            "127.0.0.1",
            "127.0.0.1:65536",
            "unix:",
            "unix:@",
            "/run/x.sock",
        ] {
            let error = bad.parse::<Address>().unwrap_err();
            assert_eq!(error.text(), bad);
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("{bad} is not an address: ")),
                "{error}"
            );
        }
        let error = io::Error::from("a\nb".parse::<Address>().unwrap_err());
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(
            error.to_string().starts_with("a\\nb is not"),
            "one line of a log: {error}"
        );
        assert!(
            error
                .get_ref()
                .is_some_and(|inner| inner.is::<AddressParseError>())
        );
    }
}
