//! Addresses of listeners, and the options that a socket is made with.

use std::fmt::{self, Write};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::sockets::SocketOptions;

/// The address of a listener. It is parsed from a text in one of these forms:
/// - `IP:PORT`, for example `127.0.0.1:80` or `[::1]:80`. With port 0 the kernel chooses a free
///   port.
/// - `unix:PATH`, a Unix socket at a path.
/// - `unix:@NAME`, a Unix socket with a name in Linux's abstract namespace. Such a name is not a
///   file.
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
    /// A TCP address. `[::]` accepts IPv4 and IPv6, unless
    /// [`ListenOptions::only_v6`](super::ListenOptions::only_v6) is set.
    Tcp(SocketAddr),
    /// A Unix socket with a path.
    Unix(PathBuf),
    /// A Unix socket with an abstract name.
    Abstract(Vec<u8>),
}

impl FromStr for Address {
    type Err = AddressParseError;

    fn from_str(text: &str) -> Result<Self, AddressParseError> {
        let refused = |reason| AddressParseError {
            text: text.to_owned(),
            reason,
        };
        let Some(name) = text.strip_prefix("unix:") else {
            return text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| refused("expected IP:PORT, unix:PATH or unix:@NAME"));
        };
        match name.strip_prefix('@') {
            _ if name.is_empty() => Err(refused("expected a path after unix:")),
            Some(name) => Ok(Self::Abstract(name.as_bytes().to_owned())),
            None => Ok(Self::Unix(name.into())),
        }
    }
}

/// The error for a text that cannot be parsed as an [`Address`], with the reason.
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

/// The part of [`ListenOptions`](super::ListenOptions) that is needed to make a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct BindOptions {
    pub(super) backlog: i32,
    pub(super) reuse_port: bool,
    pub(super) only_v6: bool,
    /// The mode of a Unix socket's file.
    pub(super) mode: Option<u32>,
}

/// The permission bits of a file that have a meaning for a socket.
const MODE_MAX: u32 = 0o777;

impl BindOptions {
    /// Refuses options that are impossible at `address`, because a mistake would go unnoticed if
    /// they were ignored.
    pub(super) fn expect_possible(
        self,
        address: &Address,
        before_bind: &SocketOptions,
    ) -> io::Result<()> {
        let is_tcp = matches!(address, Address::Tcp(_));
        let text = match self.mode {
            _ if self.reuse_port && !is_tcp => {
                "reuse_port is only for TCP: sockets cannot share a Unix address"
            }
            _ if before_bind.device.is_some() && !is_tcp => {
                "bind_device is only for TCP: a Unix socket has no network interface"
            }
            Some(_) if !matches!(address, Address::Unix(_)) => {
                "mode is only for a Unix socket with a path: this address is not a file"
            }
            Some(mode) if mode > MODE_MAX => "mode is greater than 0o777",
            _ => return Ok(()),
        };
        Err(io::Error::new(ErrorKind::InvalidInput, text))
    }
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
