//! From a text to a host and a service.

use std::net::Ipv6Addr;

use super::target::{FORMS, Place};

/// Parses a host and a service. Returns the reason if that fails.
pub(super) fn parse_name(text: &str) -> Result<Place, &'static str> {
    let (host, service) = text.rsplit_once(':').ok_or(FORMS)?;
    let port = parse_service(service)?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bracketed.unwrap_or(host);
    let scoped = match bracketed {
        Some(host) => parse_ip(host)?,
        None => expect_host(host).map(|()| None)?,
    };
    if let (Some((ip, interface)), Some(port)) = (scoped, port) {
        return Ok(Place::Scoped {
            ip,
            interface: interface.to_owned(),
            port,
        });
    }
    Ok(Place::Name {
        host: host.to_owned(),
        service: port.map_or_else(|| service.to_owned(), |port| port.to_string()),
    })
}

/// Parses the content of brackets. Returns the address with its network interface, if it has one.
fn parse_ip(host: &str) -> Result<Option<(Ipv6Addr, &str)>, &'static str> {
    let (ip, interface) = split_interface(host);
    let ip = ip
        .parse()
        .map_err(|_| "expected an IPv6 address in brackets")?;
    match interface {
        Some(interface) if interface.is_empty() || !interface.chars().all(is_of_name) => {
            Err("expected the name of a network interface after %")
        }
        interface => Ok(interface.map(|interface| (ip, interface))),
    }
}

/// Refuses a text without brackets that is no name of a host.
fn expect_host(host: &str) -> Result<(), &'static str> {
    let is_of_address = |character| character == ':' || is_of_name(character);
    match host {
        "" => Err(FORMS),
        _ if host.contains(':') && host.chars().all(is_of_address) => {
            Err("an IPv6 address needs brackets, as in [::1]:80")
        }
        _ if host.contains('%') || !host.chars().all(is_of_name) => {
            Err("the host contains a character that is not allowed")
        }
        _ => Ok(()),
    }
}

/// Returns the port if `service` is a number, or `None` if it is the name of a service.
fn parse_service(service: &str) -> Result<Option<u16>, &'static str> {
    if service.is_empty() {
        return Err(FORMS);
    }
    if service.bytes().all(|byte| byte.is_ascii_digit()) {
        let port = service.parse().map_err(|_| "a port is at most 65535")?;
        return Ok(Some(port));
    }
    // getaddrinfo(3) would take +80 for a port, and 65616 with a sign too.
    if service.starts_with(['+', '-']) || !service.chars().all(is_of_name) {
        return Err("the service contains a character that is not allowed");
    }
    Ok(None)
}

/// Returns `true` for a character that a name of a host, a service or an interface may contain.
/// Such a name is one word, so it is neither several names nor a part of a URL. It has no `*`,
/// which `getaddrinfo(3)` would take for no name: the host would be this one, and the port 0.
fn is_of_name(character: char) -> bool {
    !character.is_whitespace() && !character.is_control() && !"[]/:@*".contains(character)
}

/// Splits `fe80::1%eth0` at the `%`.
pub(super) fn split_interface(host: &str) -> (&str, Option<&str>) {
    host.split_once('%')
        .map_or((host, None), |(ip, interface)| (ip, Some(interface)))
}
