//! Targets of connections: an address, or a name that is looked up.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(feature = "names")]
use std::net::{Ipv6Addr, SocketAddrV6};
use std::str::FromStr;

#[cfg(feature = "names")]
use super::host::{parse_name, split_interface};
#[cfg(feature = "names")]
use crate::error::named;
#[cfg(feature = "names")]
use crate::sockets::names::interface_index;
use crate::sockets::{Address, AddressParseError};

/// A target to connect to: an address, or the name of a host. It is parsed from a text in one of
/// these forms:
/// - `IP:PORT`, for example `127.0.0.1:80` or `[::1]:80`.
/// - `unix:PATH`, a Unix socket at a path.
/// - `unix:@NAME`, a Unix socket with an abstract name.
/// - `HOST:PORT`, for example `db.example:5432`.
/// - `HOST:SERVICE`, for example `localhost:http`. The port of a service is listed in
///   `/etc/services`. `HOST` can also be an IP address.
/// - `[IP%INTERFACE]:PORT`, for example `[fe80::1%eth0]:80`. A link-local IPv6 address needs the
///   network interface, given by its name or by its index.
///
/// Without the feature `names` the last three forms are refused. Parsing makes no system call. A
/// name is looked up when you connect to it: see
/// [`Connection::connect_to`](crate::Connection::connect_to). A target is displayed in the form
/// that it was parsed from.
///
/// ```
/// use std::net::SocketAddr;
/// use handlers::Target;
///
/// # fn main() -> Result<(), handlers::AddressParseError> {
/// let target: Target = "db.example:5432".parse()?;
/// assert_eq!(target.host().as_deref(), Some("db.example"));
/// assert_eq!(target.to_string(), "db.example:5432");
///
/// let address = SocketAddr::from(([127, 0, 0, 1], 80));
/// assert_eq!("127.0.0.1:80".parse::<Target>()?, Target::from(address)); // needs no lookup
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Address(Address),
    /// The index of an interface can change, so it is looked up with each connect.
    #[cfg(feature = "names")]
    Scoped {
        ip: Ipv6Addr,
        interface: String,
        port: u16,
    },
    #[cfg(feature = "names")]
    Name {
        /// A name, or an IP address without brackets.
        host: String,
        /// A number, or the name of a service.
        service: String,
    },
}

/// A step on the way to a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Connect(Address),
    #[cfg(feature = "names")]
    LookUp,
}

#[cfg(feature = "names")]
pub(super) const FORMS: &str = "expected IP:PORT, HOST:PORT, HOST:SERVICE, unix:PATH or unix:@NAME";

impl Target {
    /// Returns the name or the IP address of the host, without port, brackets or interface. This is
    /// the name that a TLS certificate of the host is for. Returns `None` for a Unix socket.
    pub fn host(&self) -> Option<String> {
        match &self.0 {
            Place::Address(Address::Tcp(address)) => Some(address.ip().to_string()),
            Place::Address(_) => None,
            #[cfg(feature = "names")]
            Place::Scoped { ip, .. } => Some(ip.to_string()),
            #[cfg(feature = "names")]
            Place::Name { host, .. } => {
                let (host, _interface) = split_interface(host);
                Some(host.to_owned())
            }
        }
    }

    /// Returns the address, or `None` if something must be looked up first: a host, a service or a
    /// network interface.
    pub fn address(&self) -> Option<&Address> {
        match &self.0 {
            Place::Address(address) => Some(address),
            #[cfg(feature = "names")]
            _ => None,
        }
    }

    /// Returns what has to be done first to connect to this target.
    ///
    /// # Errors
    /// The error of the kernel if there is no network interface of the given name.
    pub(crate) fn first_step(&self) -> io::Result<Step> {
        match &self.0 {
            Place::Address(address) => Ok(Step::Connect(address.clone())),
            #[cfg(feature = "names")]
            Place::Scoped {
                ip,
                interface,
                port,
            } => {
                let index = interface_index(interface)
                    .map_err(|error| named(format_args!("network interface {interface}"), error))?;
                let address = SocketAddrV6::new(*ip, *port, 0, index);
                Ok(Step::Connect(Address::Tcp(address.into())))
            }
            #[cfg(feature = "names")]
            Place::Name { .. } => Ok(Step::LookUp),
        }
    }

    /// Returns the host and the service, if they have to be looked up.
    #[cfg(feature = "names")]
    pub(super) fn name(&self) -> Option<(&str, &str)> {
        match &self.0 {
            Place::Name { host, service } => Some((host, service)),
            _ => None,
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self(Place::Address(Address::Tcp(address)))
    }
}

impl From<Address> for Target {
    fn from(address: Address) -> Self {
        Self(Place::Address(address))
    }
}

impl From<&Address> for Target {
    fn from(address: &Address) -> Self {
        address.clone().into()
    }
}

impl From<&Self> for Target {
    fn from(target: &Self) -> Self {
        target.clone()
    }
}

impl FromStr for Target {
    type Err = AddressParseError;

    fn from_str(text: &str) -> Result<Self, AddressParseError> {
        if text.starts_with("unix:") {
            return text.parse::<Address>().map(Self::from);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        #[cfg(feature = "names")]
        let place = parse_name(text);
        #[cfg(not(feature = "names"))]
        let place = Err("expected IP:PORT, unix:PATH or unix:@NAME, without the feature `names`");
        place
            .map(Self)
            .map_err(|reason| AddressParseError::new(text, reason))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Address(address) => address.fmt(f),
            #[cfg(feature = "names")]
            Place::Scoped {
                ip,
                interface,
                port,
            } => write!(f, "[{ip}%{interface}]:{port}"),
            #[cfg(feature = "names")]
            Place::Name { host, service } if host.contains(':') => write!(f, "[{host}]:{service}"),
            #[cfg(feature = "names")]
            Place::Name { host, service } => write!(f, "{host}:{service}"),
        }
    }
}

#[cfg(all(test, feature = "names"))]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, AddressParseError> {
        text.parse()
    }

    #[test]
    fn targets_are_displayed_as_they_are_parsed() {
        for text in [
            "127.0.0.1:80",
            "[::1]:0",
            "[fe80::1%2]:80",
            "[fe80::1%eth0]:80",
            "[fe80::1%eth0]:http",
            "[::1]:http",
            "127.0.0.1:http",
            "localhost:1",
            "db.example:65535",
            "xn--bcher-kva.example:z39.50",
            "bücher.example:0",
            "unix:/run/x.sock",
            "unix:@name",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("localhost:080"), parse("localhost:80"));
    }

    #[test]
    fn an_address_is_known_without_a_lookup() {
        let loopback = interface_index("lo").unwrap();
        for (text, address) in [
            ("127.0.0.1:80", "127.0.0.1:80".to_owned()),
            ("unix:@name", "unix:@name".to_owned()),
            ("[fe80::1%lo]:80", format!("[fe80::1%{loopback}]:80")),
        ] {
            let target = parse(text).unwrap();
            let address = address.parse().unwrap();
            assert_eq!(target.address().is_none(), text.contains("%lo"));
            assert_eq!(target.first_step().unwrap(), Step::Connect(address));
            assert_eq!(target.name(), None);
        }
        for (text, name) in [
            ("localhost:80", ("localhost", "80")),
            ("127.0.0.1:http", ("127.0.0.1", "http")),
            ("[::1]:http", ("::1", "http")),
            ("[fe80::1%lo]:http", ("fe80::1%lo", "http")),
        ] {
            let target = parse(text).unwrap();
            assert_eq!(target.first_step().unwrap(), Step::LookUp);
            assert_eq!(target.address(), None);
            assert_eq!(target.name(), Some(name));
        }
        let error = parse("[fe80::1%none]:80")
            .unwrap()
            .first_step()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "network interface none: No such device (os error 19)"
        );
    }

    #[test]
    fn the_host_is_returned_as_a_certificate_names_it() {
        for (text, host) in [
            ("db.example:80", Some("db.example")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("[::1]:80", Some("::1")),
            ("[fe80::1%2]:80", Some("fe80::1")),
            ("[fe80::1%lo]:80", Some("fe80::1")),
            ("[fe80::1%lo]:http", Some("fe80::1")),
            ("unix:/run/x.sock", None),
        ] {
            assert_eq!(parse(text).unwrap().host().as_deref(), host, "{text}");
        }
    }

    #[test]
    fn an_invalid_target_is_kept_in_the_error() {
        for (bad, reason) in [
            ("", FORMS),
            ("localhost", FORMS),
            ("localhost:", FORMS),
            (":80", FORMS),
            ("localhost:65536", "a port is at most 65535"),
            ("localhost:99999999999999999999", "a port is at most 65535"),
            ("::1:80", "an IPv6 address needs brackets, as in [::1]:80"),
            (
                "fe80::1%eth0:80",
                "an IPv6 address needs brackets, as in [::1]:80",
            ),
            ("[localhost]:80", "expected an IPv6 address in brackets"),
            ("[127.0.0.1]:80", "expected an IPv6 address in brackets"),
            (
                "[fe80::1%]:80",
                "expected the name of a network interface after %",
            ),
            (
                "local host:80",
                "the host contains a character that is not allowed",
            ),
            (
                "a\0b:80",
                "the host contains a character that is not allowed",
            ),
            (
                "fe80%eth0:80",
                "the host contains a character that is not allowed",
            ),
            (
                "http://localhost:80",
                "the host contains a character that is not allowed",
            ),
            (
                "localhost:80/path",
                "the service contains a character that is not allowed",
            ),
            ("*:80", "the host contains a character that is not allowed"),
            (
                "localhost:*",
                "the service contains a character that is not allowed",
            ),
            (
                "localhost:+80",
                "the service contains a character that is not allowed",
            ),
            (
                "[::1]:-4294967216",
                "the service contains a character that is not allowed",
            ),
            ("unix:", "expected a path after unix:"),
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.text(), bad);
            let shown = format!("{} is not an address: {reason}", bad.escape_debug());
            assert_eq!(error.to_string(), shown);
        }
    }
}
